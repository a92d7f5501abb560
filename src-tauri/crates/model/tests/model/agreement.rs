//! Logits against candle-transformers 0.11.1's Llama in f32, on the shipped weights and on a random base of an odd shape; and
//! those of the shipped weights against what transformers and llama.cpp said, kept by `src-tauri/crates/model/story-model/agree.py`.

use crate::bases::{fresh, odd_config, story, story_dir, story_prompt, write_odd_base};
use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::llama::{Cache, Config, Llama};
use model::{
    DenseWeights, Generate, Guidance, LanguageModel, LlamaConfig, LoadOptions, MemberSpec, Precision, Sampler, SoftPrompt, Tokenizer,
};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::path::Path;
use std::sync::atomic::AtomicBool;

/// Logits of each position, by candle.
fn candle_logits(dir: &Path, config: &LlamaConfig, tokens: &[u32]) -> Vec<Vec<f32>> {
    let device = Device::Cpu;
    let candle = Config {
        hidden_size: config.hidden,
        intermediate_size: config.intermediate,
        vocab_size: config.vocab,
        num_hidden_layers: config.layers,
        num_attention_heads: config.heads,
        num_key_value_heads: config.kv_heads,
        use_flash_attn: false,
        rms_norm_eps: f64::from(config.rms_eps),
        rope_theta: config.rope_theta,
        bos_token_id: None,
        eos_token_id: None,
        rope_scaling: None,
        max_position_embeddings: config.context,
        tie_word_embeddings: config.tied,
    };
    let bytes = std::fs::read(dir.join("model.safetensors")).unwrap();
    let weights = VarBuilder::from_buffered_safetensors(bytes, DType::F32, &device).unwrap();
    let llama = Llama::load(weights, &candle).unwrap();
    let mut cache = Cache::new(true, DType::F32, &candle, &device).unwrap();
    let mut step = |(position, token): (usize, &u32)| {
        let input = Tensor::new(&[[*token]], &device).unwrap();
        llama.forward(&input, position, &mut cache).unwrap().flatten_all().unwrap().to_vec1().unwrap()
    };
    tokens.iter().enumerate().map(&mut step).collect()
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

fn best(logits: &[f32]) -> usize {
    (0..logits.len()).max_by(|a, b| logits[*a].total_cmp(&logits[*b])).unwrap()
}

/// The smallest cosine over all positions, and the share of positions with the same best token.
fn compare(expected: &[Vec<f32>], found: &[f32]) -> (f64, f64) {
    let rows: Vec<&[f32]> = found.chunks(expected[0].len()).collect();
    assert_eq!(rows.len(), expected.len(), "one row of logits for each token");
    let pairs = || expected.iter().zip(&rows);
    let lowest = pairs().map(|(a, b)| cosine(a, b)).fold(1.0, f64::min);
    let same = pairs().filter(|(a, b)| best(a) == best(b)).count();
    (lowest, same as f64 / expected.len() as f64)
}

const TEXT: &str = "Once upon a time a girl found a small door behind the stove. \"Who lives here?\" she asked, and knocked twice. \
    Nobody answered, but the door opened by itself, and a cold wind came out of the dark.";

#[test]
fn the_built_in_base_gives_candles_logits() {
    let tokens = [story_prompt("a small door"), story().tokenizer().encode(TEXT)].concat();
    let expected = candle_logits(&story_dir(), story().config(), &tokens);
    let (lowest, same) = compare(&expected, &fresh(2, Precision::F32).logits(None, &tokens).unwrap());
    println!("f32: lowest cosine {lowest:.7}, same best token {same:.3} of {}", tokens.len());
    assert!(lowest > 0.999_99 && same > 0.98, "f32 weights: {lowest}, {same}");
    let (lowest, same) = compare(&expected, &story().logits(None, &tokens).unwrap());
    println!("int8: lowest cosine {lowest:.7}, same best token {same:.3} of {}", tokens.len());
    assert!(lowest > 0.999 && same > 0.9, "int8 weights: {lowest}, {same}");
}

#[test]
fn the_built_in_base_gives_the_tokens_and_logits_of_transformers_and_llama_cpp() {
    let reference: Value = serde_json::from_str(include_str!("../reference/story.json")).unwrap();
    let weights = std::fs::read(story_dir().join("model.safetensors")).unwrap();
    let hash: String = Sha256::digest(&weights).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(
        hash, reference["weights_sha256"],
        "these are not the weights that they read; run src-tauri/crates/model/story-model/agree.py --dump"
    );
    let tokens: Vec<u32> = serde_json::from_value(reference["tokens"].clone()).unwrap();
    assert_eq!(story().tokenizer().encode(reference["text"].as_str().unwrap()), tokens);
    let found = fresh(2, Precision::F32).logits(None, &tokens).unwrap();
    let rows: Vec<&[f32]> = found.chunks(story().config().vocab).collect();
    // transformers computes in f32 as we do; llama.cpp with activations in f16.
    for (program, most) in [("transformers", 1e-3), ("llama_cpp", 0.05)] {
        let expected: Vec<Vec<f32>> = serde_json::from_value(reference[program].clone()).unwrap();
        let last = &rows[rows.len() - expected.len()..];
        let apart = expected.iter().zip(last).flat_map(|(a, b)| a.iter().zip(*b)).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        println!("{program}: at most {apart:.5} apart");
        assert!(apart < most, "{program}: {apart}");
    }
}

#[test]
fn a_guided_text_is_that_of_transformers() {
    let reference: Value = serde_json::from_str(include_str!("../reference/story.json")).unwrap();
    let (text, guided) = (reference["text"].as_str().unwrap(), &reference["guided"]);
    let expected: Vec<u32> = serde_json::from_value(guided["tokens"].clone()).unwrap();
    let encode = |text: &str| story().tokenizer().encode(text);
    let prompt = encode(&text[..text.find("The fox").unwrap()]);
    let guidance = Guidance::away_from(encode(guided["away_from"].as_str().unwrap()), guided["scale"].as_f64().unwrap() as f32);
    let members = vec![MemberSpec::plain(Sampler::greedy())];
    let request = Generate { prompt, written: 0, members, max_tokens: expected.len(), stop: Vec::new(), stop_texts: Vec::new(), guidance };
    let write = |request: &Generate| fresh(2, Precision::F32).generate(request, &AtomicBool::new(false), &mut |_| {}).unwrap().remove(0);
    let found = write(&request);
    assert_eq!(found.token_ids, expected);
    // The log-probabilities are the base's own, whoever chose the token.
    let scores = story().score(None, &request.prompt, &expected).unwrap();
    assert!(found.logprobs.iter().zip(&scores).all(|(a, b)| (a - b).abs() < 0.1), "{:?} {scores:?}", found.logprobs);
    assert_ne!(write(&Generate { guidance: Guidance::default(), ..request }).token_ids, expected, "it is the guidance that makes the text");
}

#[test]
fn a_base_of_an_odd_shape_gives_candles_logits() {
    let dir = tempfile::tempdir().unwrap();
    write_odd_base(dir.path());
    let weights = DenseWeights::load(dir.path()).unwrap();
    assert_eq!(weights.config, odd_config(), "the config is read as it was meant");
    let tokens: Vec<u32> = (0..40).map(|index| index * 37 % 101).collect();
    let expected = candle_logits(dir.path(), &weights.config, &tokens);
    // Random weights carry noise on where trained ones damp it: f16 keys alone cost 3e-6 here.
    for (precision, least) in [(Precision::F32, 0.999_99), (Precision::Int8, 0.995)] {
        let tokenizer = Tokenizer::load(&story_dir()).unwrap();
        let options = LoadOptions { precision, ..LoadOptions::new(1) };
        let base = LanguageModel::from_weights(weights.clone(), tokenizer, &options).unwrap();
        let (lowest, same) = compare(&expected, &base.logits(None, &tokens).unwrap());
        println!("{precision:?}: lowest cosine {lowest:.7}, same best token {same:.3}");
        assert!(lowest > least, "{precision:?}: {lowest}");
    }
}

#[test]
fn a_score_is_the_log_softmax_of_the_logits() {
    let (prefix, continuation) = (story_prompt("a fox"), story().tokenizer().encode(" The fox sat down."));
    let vocab = story().config().vocab;
    let all = story().logits(None, &[prefix.clone(), continuation.clone()].concat()).unwrap();
    let scores = story().score(None, &prefix, &continuation).unwrap();
    assert_eq!(scores.len(), continuation.len());
    for (index, (score, token)) in scores.iter().zip(&continuation).enumerate() {
        let row = &all[(prefix.len() + index - 1) * vocab..][..vocab];
        let sum: f64 = row.iter().map(|logit| f64::from(*logit).exp()).sum();
        let expected = f64::from(row[*token as usize]) - sum.ln();
        assert!((f64::from(*score) - expected).abs() < 1e-4, "{score} for {expected}");
    }
}

#[test]
fn a_soft_prompt_made_of_embeddings_acts_as_those_tokens() {
    let weights = DenseWeights::load(&story_dir()).unwrap();
    let hidden = weights.config.hidden;
    let (head, tail) = (story_prompt("a lost ring"), story().tokenizer().encode("The ring lay in the"));
    let vectors = head.iter().flat_map(|token| weights.embedding[*token as usize * hidden..][..hidden].to_vec()).collect();
    let soft = SoftPrompt { tokens: head.len(), hidden, vectors };
    let vocab = weights.config.vocab;
    let expected = story().logits(None, &[head.clone(), tail.clone()].concat()).unwrap();
    let found = story().logits(Some(&soft), &tail).unwrap();
    // The same arithmetic on the same numbers: not just close, but equal.
    assert!(found == expected[head.len() * vocab..], "a vector at a position is as good as its token");
}
