//! T5 against transformers and PEFT (`tests/reference/t5.py`): logits, greedy text, soft prompts, buckets, and damaged files.

use domain::FinishReason;
use model::{LoadOptions, ModelError, Precision, Sampler, SoftPrompt, T5Config, T5Generate, T5Model};
use safetensors::SafeTensors;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

fn reference(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference/t5").join(name)
}

fn load(kind: &str, precision: Precision) -> T5Model {
    T5Model::load(&reference(kind), &LoadOptions { precision, ..LoadOptions::new(2) }).unwrap()
}

fn described() -> Value {
    serde_json::from_slice(&fs::read(reference("expected.json")).unwrap()).unwrap()
}

/// Pairs of prompt and answer, of lengths from 1 to 150.
fn pairs() -> Vec<(Vec<u32>, Vec<u32>)> {
    serde_json::from_value(described()["pairs"].clone()).unwrap()
}

fn expected(name: &str) -> Vec<f32> {
    let bytes = fs::read(reference("expected.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    file.tensor(name).unwrap().data().as_chunks::<4>().0.iter().map(|raw| f32::from_le_bytes(*raw)).collect()
}

fn borrowed(pairs: &[(Vec<u32>, Vec<u32>)]) -> Vec<(&[u32], &[u32])> {
    pairs.iter().map(|(prompt, answer)| (&prompt[..], &answer[..])).collect()
}

/// The largest difference in shares of the largest logit, and the smallest cosine of a row, over all pairs.
fn compare(model: &T5Model, soft_prompt: Option<&SoftPrompt>, name: &str) -> (f32, f64) {
    let pairs = pairs();
    let found = model.logits(soft_prompt, &borrowed(&pairs)).unwrap();
    let (mut worst, mut lowest) = (0.0f32, 1.0f64);
    for (index, found) in found.iter().enumerate() {
        let expected = expected(&format!("{name}.{index}"));
        assert_eq!(found.len(), expected.len(), "one row for each token of the answer");
        let largest = expected.iter().fold(0.0f32, |most, value| most.max(value.abs()));
        worst = found.iter().zip(&expected).fold(worst, |worst, (a, b)| worst.max((a - b).abs() / largest));
        for (a, b) in found.chunks_exact(101).zip(expected.chunks_exact(101)) {
            let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
            lowest = lowest.min(dot(a, b) / (dot(a, a) * dot(b, b)).sqrt());
        }
    }
    (worst, lowest)
}

fn greedy(model: &T5Model, prompt: &[u32], soft_prompt: Option<SoftPrompt>) -> Vec<u32> {
    let request = T5Generate { prompt: prompt.to_vec(), members: vec![Sampler::greedy()], soft_prompt, max_tokens: 100, stop: Vec::new() };
    model.generate(&request, &AtomicBool::new(false), &mut |_| {}).unwrap().remove(0).token_ids
}

#[test]
fn logits_are_those_of_transformers() {
    for kind in ["flan", "first"] {
        let (worst, _) = compare(&load(kind, Precision::F32), None, kind);
        let (_, lowest) = compare(&load(kind, Precision::Int8), None, kind);
        println!("{kind}: f32 off by {worst:.1e} of the largest logit at most, int8 lowest cosine {lowest:.5}");
        assert!(worst <= 1e-4, "{kind} in f32: {worst}");
        assert!(lowest >= 0.999, "{kind} in int8: {lowest}");
    }
}

#[test]
fn greedy_text_is_that_of_transformers_for_100_tokens() {
    let (described, pairs) = (described(), pairs());
    for kind in ["flan", "first"] {
        let model = load(kind, Precision::F32);
        let wanted: Vec<Vec<u32>> = serde_json::from_value(described[format!("greedy_{kind}")].clone()).unwrap();
        for ((prompt, _), wanted) in pairs.iter().zip(&wanted) {
            assert_eq!(greedy(&model, prompt, None), *wanted, "{kind}, a prompt of {}", prompt.len());
        }
    }
}

#[test]
fn soft_prompts_of_peft_act_as_in_peft() {
    let model = load("flan", Precision::F32);
    for name in ["prompt_1", "prompt_2"] {
        let soft = SoftPrompt::load(&reference(name)).unwrap();
        assert_eq!((soft.tokens, soft.hidden, soft.vectors.len()), (20, 48, 20 * 48));
        let (worst, _) = compare(&model, Some(&soft), name);
        println!("{name}: off by {worst:.1e} of the largest logit at most");
        assert!(worst <= 1e-4, "{name}: {worst}");
        let (plain, _) = compare(&model, None, name);
        assert!(plain > 1e-2, "without the vectors it is another text: {plain}");
    }
    let wide = SoftPrompt { tokens: 1, hidden: 47, vectors: vec![0.0; 47] };
    let (prompt, answer) = &pairs()[0];
    let refused = model.logits(Some(&wide), &[(prompt, answer)]);
    assert!(matches!(refused, Err(ModelError::SoftPromptWidth { found: 47, expected: 48 })));
    let short = SoftPrompt { tokens: 2, hidden: 48, vectors: vec![0.0; 48] };
    assert!(matches!(model.logits(Some(&short), &[(prompt, answer)]), Err(ModelError::InvalidRequest { .. })));
}

#[test]
fn step_by_step_gives_the_same_bits_as_all_at_once() {
    let soft = SoftPrompt::load(&reference("prompt_2")).unwrap();
    for precision in [Precision::F32, Precision::Int8] {
        let model = load("flan", precision);
        let (prompt, _) = &pairs()[1];
        let answer = greedy(&model, prompt, Some(soft.clone()));
        let logits = model.logits(Some(&soft), &[(prompt, &answer)]).unwrap().remove(0);
        let best = |row: &[f32]| row.iter().position(|value| *value >= row.iter().copied().fold(f32::MIN, f32::max)).unwrap() as u32;
        let again: Vec<u32> = logits.chunks_exact(101).map(best).collect();
        assert_eq!(again, answer, "the cache holds what a whole pass computes");
    }
}

#[test]
fn a_text_does_not_depend_on_what_is_computed_beside_it() {
    let model = load("first", Precision::Int8);
    let pairs = pairs();
    let together = model.logits(None, &borrowed(&pairs)).unwrap();
    for (pair, together) in borrowed(&pairs).iter().zip(&together) {
        assert!(model.logits(None, &[*pair]).unwrap()[0] == *together, "neighbours of any length change nothing, to the bit");
    }
    let samplers: Vec<Sampler> = (0..5).map(|seed| Sampler { seed, temperature: 1.5, top_p: 1.0, ..Sampler::default() }).collect();
    let request =
        |members: Vec<Sampler>| T5Generate { prompt: pairs[1].0.clone(), members, soft_prompt: None, max_tokens: 30, stop: vec![1] };
    let never = AtomicBool::new(false);
    let all = model.generate(&request(samplers.clone()), &never, &mut |_| {}).unwrap();
    for (sampler, together) in samplers.into_iter().zip(&all) {
        assert_eq!(model.generate(&request(vec![sampler]), &never, &mut |_| {}).unwrap()[0], *together);
    }
    assert!(all.iter().any(|one| one.token_ids != all[0].token_ids), "seeds give different texts");
}

#[test]
fn generation_streams_stops_and_can_be_cancelled() {
    let model = load("flan", Precision::Int8);
    let (prompt, _) = &pairs()[0];
    let answer = greedy(&model, prompt, None);
    let request =
        |max_tokens, stop| T5Generate { prompt: prompt.clone(), members: vec![Sampler::greedy()], soft_prompt: None, max_tokens, stop };
    let never = AtomicBool::new(false);
    let stop = *answer.last().unwrap();
    let until = answer.iter().position(|token| *token == stop).unwrap();
    let mut streamed = String::new();
    let done = model.generate(&request(100, vec![stop]), &never, &mut |event| streamed.push_str(event.text)).unwrap().remove(0);
    assert_eq!((&done.token_ids[..], done.finish), (&answer[..until], FinishReason::End));
    assert_eq!(done.logprobs.len(), until);
    assert_eq!(streamed, done.text, "the stream adds up to the text");
    let (cancel, seen) = (AtomicBool::new(false), AtomicUsize::new(0));
    let stopped = model.generate(&request(100, Vec::new()), &cancel, &mut |_| {
        if seen.fetch_add(1, Ordering::Relaxed) == 4 {
            cancel.store(true, Ordering::Relaxed);
        }
    });
    let stopped = stopped.unwrap().remove(0);
    assert_eq!((&stopped.token_ids[..], stopped.finish), (&answer[..5], FinishReason::Cancelled), "what was written is kept");
    let none = model.generate(&request(0, Vec::new()), &never, &mut |_| {}).unwrap().remove(0);
    assert_eq!((none.token_ids.len(), none.finish), (0, FinishReason::Length));
    let refused = |request: T5Generate| model.generate(&request, &never, &mut |_| {}).unwrap_err();
    assert!(matches!(refused(T5Generate { prompt: Vec::new(), ..request(5, Vec::new()) }), ModelError::InvalidRequest { .. }));
    assert!(matches!(refused(T5Generate { prompt: vec![101], ..request(5, Vec::new()) }), ModelError::InvalidRequest { .. }));
    assert!(matches!(refused(T5Generate { members: Vec::new(), ..request(5, Vec::new()) }), ModelError::InvalidRequest { .. }));
    assert!(matches!(refused(request(5_000, Vec::new())), ModelError::ContextExceeded { needed: 5_000, context: T5Config::CONTEXT }));
}

#[test]
fn tokens_are_those_of_the_reference() {
    let model = load("flan", Precision::Int8);
    let torture: Vec<(String, Vec<u32>)> = serde_json::from_value(described()["torture"].clone()).unwrap();
    for (text, ids) in torture {
        assert_eq!(model.tokenizer().encode(&text), ids, "{text:?}");
        assert_eq!(model.prompt(&text), [&ids[..], &[1]].concat(), "a prompt ends with the end token");
    }
}

/// A copy of a reference base that can be damaged.
fn copy(kind: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(reference(kind)).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), dir.path().join(entry.file_name())).unwrap();
    }
    dir
}

fn refusal(dir: &Path) -> ModelError {
    T5Model::load(dir, &LoadOptions::new(1)).err().unwrap()
}

#[test]
fn a_damaged_or_foreign_base_is_refused() {
    let dir = copy("flan");
    let path = dir.path().join("config.json");
    let config = fs::read_to_string(&path).unwrap();
    let changes = [
        (r#""model_type": "t5""#, r#""model_type": "bart""#),
        (r#""gated-gelu""#, r#""gated-silu""#),
        (r#""feed_forward_proj": "gated-gelu""#, r#""feed_forward_proj": "relu""#),
        (r#""num_layers": 2"#, r#""num_layers": 3"#),
        (r#""num_decoder_layers": 3"#, r#""num_decoder_layers": 2"#),
        (r#""num_decoder_layers": 3"#, r#""num_decoder_layers": 255"#),
        (r#""d_model": 48"#, r#""d_model": 64"#),
        (r#""d_model": 48"#, r#""d_model": 0"#),
        (r#""d_kv": 16"#, r#""d_kv": 8"#),
        (r#""vocab_size": 101"#, r#""vocab_size": 99999999999"#),
        (r#""vocab_size": 101"#, r#""vocab_size": 102"#),
        (r#""relative_attention_num_buckets": 32"#, r#""relative_attention_num_buckets": 2"#),
        (r#""relative_attention_max_distance": 128"#, r#""relative_attention_max_distance": 4"#),
        (r#""decoder_start_token_id": 0"#, r#""decoder_start_token_id": 500"#),
        ("{", "{{"),
    ];
    for (from, to) in changes {
        assert!(config.contains(from), "{from} is in the config");
        fs::write(&path, config.replacen(from, to, 1)).unwrap();
        let error = refusal(dir.path());
        assert!(matches!(error, ModelError::Damaged { .. } | ModelError::Unsupported { .. }), "{to}: {error}");
    }
    fs::write(&path, &config).unwrap();
    let weights = dir.path().join("model.safetensors");
    let bytes = fs::read(&weights).unwrap();
    for cut in (0..bytes.len()).step_by(bytes.len() / 97) {
        fs::write(&weights, &bytes[..cut]).unwrap();
        assert!(matches!(refusal(dir.path()), ModelError::Damaged { .. }), "cut at {cut}");
    }
    fs::write(&weights, &bytes).unwrap();
    fs::remove_file(dir.path().join("tokenizer.json")).unwrap();
    assert!(matches!(refusal(dir.path()), ModelError::Missing { .. }));

    let prompt = copy("prompt_2");
    let path = prompt.path().join("adapter_config.json");
    let config = fs::read_to_string(&path).unwrap();
    let changes = [
        (r#""num_virtual_tokens": 20"#, r#""num_virtual_tokens": 21"#),
        (r#""num_virtual_tokens": 20"#, r#""num_virtual_tokens": 0"#),
        (r#""num_transformer_submodules": 2"#, r#""num_transformer_submodules": 1"#),
        ("PROMPT_TUNING", "LORA"),
    ];
    for (from, to) in changes {
        assert!(config.contains(from), "{from} is in the config");
        fs::write(&path, config.replacen(from, to, 1)).unwrap();
        let error = SoftPrompt::load(prompt.path()).unwrap_err();
        assert!(matches!(error, ModelError::Damaged { .. } | ModelError::Unsupported { .. }), "{to}: {error}");
    }
}
