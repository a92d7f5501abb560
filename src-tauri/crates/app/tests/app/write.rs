use crate::{Desk, PROMPTS, feedback, short};
use domain::*;

#[test]
fn the_startup_bench_writes_while_a_training_goes_on() {
    let report = app::bench_startup(&app::StartupBench { sequences: 2, generate: 12, rounds: 3 }).expect("measured");
    assert!(report.open_ms > 0.0 && report.idle_memory_mb > 0.0, "{report:?}");
    assert!(report.first_word_warm_ms <= report.write_ms && report.first_word_training_ms <= report.write_training_ms, "{report:?}");
    assert!(report.training_ratio.is_finite() && report.training_ratio > 0.0, "{report:?}");
}

#[test]
fn the_sliders_reach_the_weights_when_the_setting_says_so_but_not_a_base_that_was_asked_for_plain() {
    let desk = Desk::open();
    let texts = |request: WriteRequest| -> Vec<String> {
        desk.app.write(request).expect("written").candidates.into_iter().map(|one| one.text).collect()
    };
    let asked = || short("a dragon who keeps bees", 7);
    let plain = || WriteRequest { adapters: Some(Vec::new()), ..asked() };
    let (words_alone, without) = (texts(asked()), texts(plain()));
    let on = serde_json::json!({ "genrePrompts": true }).as_object().expect("an object").clone();
    desk.app.update_settings(SettingsUpdate(on)).expect("saved");
    assert_ne!(texts(asked()), words_alone);
    assert_eq!(texts(plain()), without);
    let any = || WriteRequest { genres: GenreMix::default(), ..asked() };
    assert_eq!(texts(any()), texts(WriteRequest { adapters: Some(Vec::new()), ..any() }), "any genre is no genre");
}

#[test]
fn the_same_seed_gives_the_same_texts_and_another_seed_others() {
    let desk = Desk::open();
    let texts = |seed| -> Vec<String> {
        let mut candidates = desk.app.write(short(PROMPTS[0], seed)).expect("written").candidates;
        candidates.sort_by(|a, b| a.text.cmp(&b.text));
        candidates.into_iter().map(|one| one.text).collect()
    };
    let first = texts(7);
    assert_eq!(first, texts(7), "a seeded run repeats exactly");
    assert_ne!(first, texts(8), "another seed writes something else");
}

#[test]
fn streamed_tokens_add_up_to_the_stored_texts() {
    let desk = Desk::open();
    let mut streamed = [String::new(), String::new()];
    let mut in_order = Vec::new();
    let result = desk
        .app
        .write_streaming(short(PROMPTS[1], 3), &mut |event| match event {
            WriteEvent::Token { index, text } => streamed[index as usize].push_str(&text),
            WriteEvent::Candidate { index, candidate } => in_order.push((index, candidate.text)),
            WriteEvent::Started { .. } | WriteEvent::Retrying { .. } | WriteEvent::Chosen { .. } => {}
        })
        .expect("written");
    for (index, text) in in_order {
        assert_eq!(streamed[index as usize], text, "what was shown while writing is what is kept");
    }
    let stored = desk.app.generation(GenerationRef { generation_id: result.generation_id.clone() }).expect("stored");
    assert_eq!(stored.result.candidates, result.candidates);
    assert_eq!(result.chosen, result.candidates[0].id, "the winner of the vote stands first");
    assert!(result.candidates[0].scores.total >= result.candidates[1].scores.total);
}

#[test]
fn feedback_is_there_after_a_restart_and_teaches_taste() {
    let desk = Desk::open();
    let liked = desk.like(&PROMPTS[..2]);
    let disliked = &liked[0].candidates[1].id;
    let told = desk.thumb(disliked, -1);
    assert!(told.taste.trained, "by default every thumb is learned from");
    assert_eq!(told.taste.thumbs, 3);
    assert!(!told.taste.confident, "three thumbs are no taste");
    let card = desk.app.taste(Nothing {}).expect("a card");
    assert!(card.sentence.to_lowercase().contains("no taste found yet"), "{}", card.sentence);
    let desk = desk.reopened();
    let card = desk.app.taste(Nothing {}).expect("a card");
    assert_eq!((card.liked_texts, card.disliked_texts), (2, 1));
    assert!(desk.folder.path().join("preference_model.json").is_file(), "the readable model is there");
}

#[test]
fn an_edit_is_kept_exported_and_continued_from() {
    let desk = Desk::open();
    let result = desk.app.write(short(PROMPTS[2], 1)).expect("written");
    let edit = FeedbackRequest { verdict: None, edited_text: Some("My own ending.".to_owned()), ..feedback(&result.chosen, 1) };
    desk.app.feedback(edit).expect("an edit alone is a verdict");
    let file =
        desk.app.export_candidate(CandidateExport { candidate_id: result.chosen.clone(), format: TextFormat::Txt }).expect("exported");
    assert_eq!(file.text, "My own ending.\n");
    assert_eq!(file.file_name, "a-letter-that-came-too-late.txt");
    let request = WriteRequest { continue_from: Some(result.chosen), prompt: String::new(), ..short("", 5) };
    let longer = desk.app.write(request).expect("continued");
    for candidate in &longer.candidates {
        assert!(candidate.text.starts_with("My own ending."), "{}", candidate.text);
        assert_eq!(candidate.continued_chars as usize, "My own ending.\n\n".len(), "a finished text goes on in a new paragraph");
        assert!(candidate.tokens > 0, "it does go on");
    }
}

#[test]
fn a_prompt_longer_than_the_context_is_cut_and_the_cut_is_named() {
    let desk = Desk::open();
    let prompt = format!("a wizard {}", "walks on and on through the old forest ".repeat(300));
    let result = desk.app.write(short(&prompt, 1)).expect("written all the same");
    let notice = result.notices.iter().find(|notice| notice.code == NoticeCode::PromptCut).expect("a notice");
    assert!(notice.message.contains("words were cut"), "{}", notice.message);
    let stored = desk.app.generation(GenerationRef { generation_id: result.generation_id }).expect("stored");
    assert_eq!(stored.request.prompt, prompt, "the person's own words are kept whole");
}

#[test]
fn removed_generations_leave_the_history_and_come_back() {
    let desk = Desk::open();
    let result = desk.app.write(short(PROMPTS[3], 1)).expect("written");
    let which = || GenerationRef { generation_id: result.generation_id.clone() };
    let listed =
        || desk.app.generations(GenerationQuery { search: Some("thieves".into()), ..Default::default() }).expect("a page").items.len();
    assert_eq!(listed(), 1);
    desk.app.remove_generation(which()).expect("removed");
    assert_eq!(listed(), 0);
    desk.app.restore_generation(which()).expect("restored");
    assert_eq!(listed(), 1);
}

#[test]
fn a_cancelled_generation_keeps_what_was_written() {
    let desk = Desk::open();
    let mut id = None;
    let mut tokens = 0;
    let request = WriteRequest { max_tokens: Some(900), ..short(PROMPTS[4], 1) };
    let result = desk
        .app
        .write_streaming(request, &mut |event| match event {
            WriteEvent::Started { generation_id, .. } => id = Some(generation_id),
            WriteEvent::Token { .. } => {
                tokens += 1;
                if tokens == 10 {
                    desk.app.cancel_write(GenerationRef { generation_id: id.clone().expect("started first") }).expect("cancelled");
                }
            }
            _ => {}
        })
        .expect("a cancelled text is a result");
    assert!(result.candidates.iter().any(|one| one.finish_reason == FinishReason::Cancelled), "it stopped early");
    assert!(result.candidates.iter().all(|one| one.tokens < 20), "within a few tokens");
}
