//! What a generation promises: repeatable, independent of its neighbours, stoppable.

use crate::bases::{fresh, soft_prompt, story, story_dir, story_prompt};
use domain::FinishReason;
use kernels::isa::Isa;
use model::{
    Completion, Generate, Guidance, LanguageModel, LoadOptions, MemberSpec, ModelError, Precision, Sampler, SoftPrompt, StoryFormat,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

fn member(seed: u64) -> MemberSpec {
    MemberSpec::plain(Sampler { seed, ..Sampler::default() })
}

fn request(members: Vec<MemberSpec>) -> Generate {
    let stop = StoryFormat::stop(story().tokenizer());
    Generate {
        prompt: story_prompt("two sisters and a dragon"),
        written: 0,
        members,
        max_tokens: 60,
        stop,
        stop_texts: Vec::new(),
        guidance: Guidance::default(),
    }
}

fn write(base: &LanguageModel, request: &Generate) -> Vec<Completion> {
    base.generate(request, &AtomicBool::new(false), &mut |_| {}).unwrap()
}

/// Members of every kind: plain, two soft prompts, two strengths, another sampler.
fn mixed() -> Vec<MemberSpec> {
    let (first, second) = (Arc::new(soft_prompt(1, 8)), Arc::new(soft_prompt(2, 5)));
    let with = |seed, soft: &Arc<SoftPrompt>, strength| MemberSpec { soft_prompt: Some(soft.clone()), strength, ..member(seed) };
    let mut penalised = member(5);
    penalised.sampler = Sampler { top_k: 40, min_p: 0.05, repetition_penalty: 1.2, ..penalised.sampler };
    vec![member(1), with(2, &first, 1.0), member(3), with(4, &first, 0.5), penalised, with(6, &second, 1.0), with(7, &first, 1.0)]
}

#[test]
fn a_candidate_does_not_depend_on_the_others_nor_on_what_ran_before() {
    let together = write(story(), &request(mixed()));
    assert!(together.iter().all(|one| !one.text.is_empty()), "everybody wrote something");
    for (index, alone) in mixed().into_iter().enumerate() {
        let one = write(&fresh(1, Precision::Int8), &request(vec![alone]));
        assert_eq!(one[0], together[index], "candidate {index}, alone on a fresh base with one thread");
    }
    let mut turned = mixed();
    turned.reverse();
    let mut again = write(story(), &request(turned));
    again.reverse();
    assert_eq!(again, together, "in another order, with prompts that are remembered");
}

#[test]
fn guidance_doubles_each_candidate_and_changes_none_of_its_promises() {
    let nothing_asked = story().tokenizer().encode(&StoryFormat::prompt_text(&Default::default(), None, ""));
    let guided = |members, scale| Generate { guidance: Guidance::away_from(nothing_asked.clone(), scale), ..request(members) };
    let plain = write(story(), &request(mixed()));
    let together = write(story(), &guided(mixed(), 2.0));
    assert!(together.iter().zip(&plain).all(|(one, other)| one.text != other.text), "it does something");
    for (index, alone) in mixed().into_iter().enumerate() {
        assert_eq!(write(&fresh(1, Precision::Int8), &guided(vec![alone], 2.0))[0], together[index], "candidate {index} alone");
    }
    assert_eq!(write(story(), &guided(mixed(), 1.0)), plain, "a scale of 1 is none");
    assert_eq!(write(story(), &guided(mixed(), 2.0)), together, "again");
    let refused = |guidance| story().generate(&Generate { guidance, ..request(mixed()) }, &AtomicBool::new(false), &mut |_| {});
    for wrong in [Guidance::away_from(nothing_asked.clone(), f32::NAN), Guidance::away_from(Vec::new(), 2.0)] {
        assert!(matches!(refused(wrong), Err(ModelError::InvalidRequest { .. })));
    }
}

#[test]
fn a_guided_text_holds_only_what_is_plausible_after_the_asked_prompt() {
    let nothing_asked = story().tokenizer().encode(&StoryFormat::prompt_text(&Default::default(), None, ""));
    let guided = |plausible| {
        let guidance = Guidance::away_from(nothing_asked.clone(), 4.0).among_plausible(plausible);
        write(story(), &Generate { guidance, max_tokens: 20, ..request(vec![member(1), member(2)]) })
    };
    // The least share of the likeliest token's probability that any drawn token has.
    let least = |texts: &[Completion]| -> f32 {
        let prompt = request(Vec::new()).prompt;
        let of = |text: &Completion| {
            let logits = story().logits(None, &[prompt.as_slice(), &text.token_ids].concat()).unwrap();
            let after_each = logits.chunks(story().config().vocab).skip(prompt.len() - 1);
            let share = |(logits, token): (&[f32], &u32)| {
                (logits[*token as usize] - logits.iter().copied().fold(f32::NEG_INFINITY, f32::max)).exp()
            };
            after_each.zip(&text.token_ids).map(share).fold(1.0, f32::min)
        };
        texts.iter().map(of).fold(1.0, f32::min)
    };
    assert!(least(&guided(0.0)) < 0.05, "without a bound it draws what the prompt makes unlikely");
    assert!(least(&guided(0.1)) >= 0.099);
    let refused = Generate { guidance: Guidance::default().among_plausible(1.5), ..request(mixed()) };
    assert!(matches!(story().generate(&refused, &AtomicBool::new(false), &mut |_| {}), Err(ModelError::InvalidRequest { .. })));
}

#[test]
fn every_tier_of_instructions_writes_the_same_text() {
    let request = Generate { max_tokens: 12, ..request(mixed()) };
    let expected = write(story(), &request);
    for isa in Isa::available() {
        let options = LoadOptions { isa, ..LoadOptions::new(2) };
        let base = LanguageModel::load(&story_dir(), &options).unwrap();
        assert_eq!(base.isa(), isa.name());
        assert_eq!(write(&base, &request), expected, "{}", isa.name());
    }
}

#[test]
fn the_same_seed_gives_the_same_text_and_another_seed_another() {
    let texts = write(story(), &request(vec![member(1), member(1), member(2)]));
    assert_eq!(texts[0], texts[1]);
    assert_ne!(texts[0].text, texts[2].text);
}

#[test]
fn a_remembered_prompt_gives_the_text_of_a_fresh_one() {
    let base = fresh(2, Precision::Int8);
    let long = request(vec![member(9)]);
    let mut prompt = long.prompt.clone();
    prompt.truncate(prompt.len() - 3);
    let short = Generate { prompt, ..long.clone() };
    for request in [&long, &long, &short, &long] {
        assert_eq!(write(&base, request), write(&fresh(2, Precision::Int8), request));
    }
}

#[test]
fn scoring_and_generating_agree_on_log_probabilities() {
    for spec in [member(3), MemberSpec { soft_prompt: Some(Arc::new(soft_prompt(4, 6))), ..member(4) }] {
        let soft = spec.soft_prompt.clone();
        let request = request(vec![spec]);
        let written = write(story(), &request).remove(0);
        let scores = story().score(soft.as_deref(), &request.prompt, &written.token_ids).unwrap();
        assert_eq!(scores.len(), written.logprobs.len());
        for (score, logprob) in scores.iter().zip(&written.logprobs) {
            // Not bit for bit: a prefix and a continuation add up their attention in another order, and int8 rounding of
            // activations can carry that to the third digit.
            assert!((score - logprob).abs() < 0.05, "{score} and {logprob}");
            assert!(*logprob <= 0.0);
        }
    }
}

#[test]
fn strength_goes_from_the_plain_base_to_the_soft_prompt() {
    // In f32, since int8 rounding would hide how near is near.
    let base = fresh(2, Precision::F32);
    let soft = Arc::new(soft_prompt(11, 10));
    let greedy = |soft_prompt: Option<_>, strength| {
        let spec = MemberSpec { soft_prompt, strength, ..MemberSpec::plain(Sampler::greedy()) };
        write(&base, &request(vec![spec])).remove(0)
    };
    let plain = greedy(None, 1.0);
    assert_eq!(greedy(Some(soft.clone()), 0.0), plain, "0 is exactly the plain base");
    let tiny = greedy(Some(soft.clone()), 1e-6);
    let first = |one: &Completion| one.logprobs[0];
    assert!((first(&tiny) - first(&plain)).abs() < 0.005, "nearly 0 is nearly the plain base");
    let full = base.score(Some(&soft), &request(vec![]).prompt, &greedy(Some(soft.clone()), 1.0).token_ids[..1]).unwrap();
    assert!((full[0] - first(&greedy(Some(soft.clone()), 1.0))).abs() < 1e-6, "1 is the soft prompt as trained");
    let half = greedy(Some(soft), 0.5);
    assert!(first(&half) != full[0] && first(&half) != first(&plain), "and 0.5 is neither");
}

#[test]
fn a_short_batch_of_many_leaves_room_for_a_long_one() {
    let base = fresh(2, Precision::Int8);
    let of = |count, max_tokens| Generate { max_tokens, stop: Vec::new(), ..request((0..count).map(member).collect()) };
    write(&base, &of(1, 40));
    write(&base, &of(3, 5));
    let texts = write(&base, &of(3, 40));
    assert!(texts.iter().all(|one| one.token_ids.len() == 40), "each cache holds the longest text");
}

#[test]
fn streamed_pieces_add_up_to_the_text() {
    let mut texts = vec![String::new(); 4];
    let mut ids = vec![Vec::new(); 4];
    let request = request((0..4).map(member).collect());
    let done = story().generate(&request, &AtomicBool::new(false), &mut |event| {
        texts[event.candidate].push_str(event.text);
        ids[event.candidate].push(event.token);
    });
    for (index, one) in done.unwrap().iter().enumerate() {
        assert_eq!(one.text, texts[index]);
        assert_eq!(one.text, story().tokenizer().decode(&one.token_ids), "pieces are the text of all tokens");
        assert_eq!(one.token_ids, ids[index]);
        assert_eq!(one.logprobs.len(), ids[index].len());
    }
}

#[test]
fn a_text_ends_by_its_stop_token_its_length_or_the_context() {
    let ended = write(story(), &Generate { max_tokens: 400, ..request((0..4).map(member).collect()) });
    let stop = StoryFormat::stop(story().tokenizer());
    assert!(ended.iter().any(|one| one.finish == FinishReason::End), "stories of this base end");
    assert!(ended.iter().all(|one| !one.token_ids.iter().any(|id| stop.contains(id))), "the stop token is not part of the text");
    let cut = write(story(), &Generate { max_tokens: 5, ..request(vec![member(1)]) }).remove(0);
    assert_eq!((cut.finish, cut.token_ids.len()), (FinishReason::Length, 5));
    let nothing = write(story(), &Generate { max_tokens: 0, ..request(vec![member(1)]) }).remove(0);
    assert_eq!((nothing.finish, nothing.token_ids.len()), (FinishReason::Length, 0));
    let context = story().config().context;
    let prompt: Vec<u32> = story_prompt("a very long prompt").into_iter().cycle().take(context - 3).collect();
    let full = write(
        story(),
        &Generate {
            prompt,
            written: 0,
            max_tokens: 50,
            stop: Vec::new(),
            members: vec![member(1)],
            stop_texts: Vec::new(),
            guidance: Guidance::default(),
        },
    )
    .remove(0);
    assert_eq!((full.finish, full.token_ids.len()), (FinishReason::Length, 3), "the context holds three more");
}

#[test]
fn a_text_may_use_the_words_that_were_asked_for_but_a_continued_one_repeats_less() {
    let prompt = story_prompt("two sisters and a dragon, and the dragon's old sister");
    let member = |seed| MemberSpec::plain(Sampler { repetition_penalty: 50.0, seed, ..Sampler::default() });
    let asked = Generate { prompt: prompt.clone(), ..request((0..8).map(member).collect()) };
    let uses_prompt = |request: &Generate| {
        write(story(), request).iter().flat_map(|one| one.token_ids.clone()).filter(|token| prompt.contains(token)).count()
    };
    assert!(uses_prompt(&asked) > 8, "what stands before the text is not penalised");
    let continued = Generate { written: prompt.len(), ..asked };
    assert_eq!(uses_prompt(&continued), 0, "what stands in the text is, and this penalty leaves nothing of it");
}

#[test]
fn cancelling_keeps_what_was_written() {
    let cancel = AtomicBool::new(false);
    let mut steps = 0;
    let request = Generate { stop: Vec::new(), max_tokens: 500, ..request(vec![member(1), member(2)]) };
    let done = story().generate(&request, &cancel, &mut |_| {
        steps += 1;
        cancel.store(steps >= 20, Ordering::Relaxed);
    });
    let free = write(story(), &request);
    for (one, free) in done.unwrap().iter().zip(&free) {
        assert_eq!(one.finish, FinishReason::Cancelled);
        assert_eq!(one.token_ids, free.token_ids[..10], "the text so far, as it would have been");
        assert!(free.text.starts_with(&one.text));
    }
    let before = story().generate(&request, &AtomicBool::new(true), &mut |_| {}).unwrap();
    assert!(before.iter().all(|one| one.finish == FinishReason::Cancelled), "cancelled before it began");
    assert_eq!(write(story(), &request), free, "a cancelled reading leaves nothing wrong behind");
}

#[test]
fn several_threads_may_ask_at_once() {
    let expected = write(story(), &request(vec![member(1)]));
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..4).map(|_| scope.spawn(|| write(story(), &request(vec![member(1)])))).collect();
        all.into_iter().for_each(|one| assert_eq!(one.join().unwrap(), expected));
    });
}

#[test]
fn requests_that_cannot_be_used_are_refused() {
    let refused = |request: Generate| story().generate(&request, &AtomicBool::new(false), &mut |_| {}).unwrap_err();
    let bad = |change: &dyn Fn(&mut Generate)| {
        let mut request = request(vec![member(1)]);
        change(&mut request);
        refused(request)
    };
    assert!(matches!(bad(&|r| r.members.clear()), ModelError::InvalidRequest { .. }));
    assert!(matches!(bad(&|r| r.prompt.clear()), ModelError::InvalidRequest { .. }));
    assert!(matches!(bad(&|r| r.prompt.push(8192)), ModelError::InvalidRequest { .. }));
    assert!(matches!(bad(&|r| r.members[0].strength = f32::NAN), ModelError::InvalidRequest { .. }));
    assert!(matches!(bad(&|r| r.members[0].sampler.temperature = -1.0), ModelError::InvalidRequest { .. }));
    assert!(matches!(bad(&|r| r.prompt = vec![7; 1024]), ModelError::ContextExceeded { needed: 1025, context: 1024 }));
    let narrow = SoftPrompt { tokens: 2, hidden: 8, vectors: vec![0.0; 16] };
    let narrow = Arc::new(narrow);
    let error = bad(&|r| r.members[0].soft_prompt = Some(narrow.clone()));
    assert!(matches!(error, ModelError::SoftPromptWidth { found: 8, expected: 256 }));
    let scored = story().score(None, &[], &[1, 2]);
    assert!(matches!(scored, Err(ModelError::InvalidRequest { .. })), "there is nothing before the first token");
    assert_eq!(story().score(None, &[5], &[]).unwrap(), Vec::<f32>::new());
}

#[test]
fn memory_is_counted() {
    let base = fresh(1, Precision::Int8);
    let loaded = base.memory_bytes();
    let dense = fresh(1, Precision::F32).memory_bytes();
    assert!(loaded > 6_800_000 && loaded < 13_000_000, "6.8 M weights in int8 and the embedding again in f16: {loaded}");
    assert!(dense > 2 * loaded, "f32 takes more: {dense}");
    write(&base, &request(vec![member(1)]));
    assert!(base.memory_bytes() > loaded, "caches count too");
}
