//! Every architecture against transformers 5.23.0 (tests/reference/decoders.py), from the files that it wrote.

use model::{
    Architecture, DenseWeights, Generate, Guidance, LanguageModel, LoadOptions, MemberSpec, ModelError, Precision, RopeScaling, Sampler,
    inspect,
};
use safetensors::SafeTensors;
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

pub fn reference(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference").join(name)
}

const NAMES: [&str; 9] = ["llama", "llama3", "linear", "dynamic", "yarn", "qwen2", "mistral", "phi3", "phi3-long"];

#[derive(Deserialize)]
struct Expected {
    sequences: Vec<Vec<u32>>,
    greedy_start: Vec<u32>,
    greedy: Vec<u32>,
}

fn folder(name: &str) -> PathBuf {
    reference("decoders").join(name)
}

fn expected(name: &str) -> Expected {
    serde_json::from_slice(&std::fs::read(reference("decoders").join(format!("{name}.json"))).unwrap()).unwrap()
}

fn load(name: &str, precision: Precision) -> LanguageModel {
    LanguageModel::load(&folder(name), &LoadOptions { precision, ..LoadOptions::new(2) }).unwrap()
}

/// A tensor of a dump, in f32.
pub fn dumped(dump: &SafeTensors, name: &str) -> Vec<f32> {
    let tensor = dump.tensor(name).unwrap();
    match tensor.dtype() {
        safetensors::Dtype::F32 => tensor.data().as_chunks::<4>().0.iter().map(|raw| f32::from_le_bytes(*raw)).collect(),
        _ => tensor.data().as_chunks::<2>().0.iter().map(|raw| half::f16::from_le_bytes(*raw).to_f32()).collect(),
    }
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

pub fn cosine(a: &[f32], b: &[f32]) -> f64 {
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

/// The length of the difference over the length of the expected row.
fn relative(found: &[f32], expected: &[f32]) -> f64 {
    let difference: Vec<f32> = found.iter().zip(expected).map(|(a, b)| a - b).collect();
    (dot(&difference, &difference) / dot(expected, expected)).sqrt()
}

/// Calls `each` with found and expected logits of every dumped position.
fn rows(name: &str, base: &LanguageModel, mut each: impl FnMut(&[f32], &[f32])) {
    let bytes = std::fs::read(reference("decoders").join(format!("{name}.safetensors"))).unwrap();
    let dump = SafeTensors::deserialize(&bytes).unwrap();
    let vocab = base.config().vocab;
    for (index, tokens) in expected(name).sequences.iter().enumerate() {
        let wanted = dumped(&dump, &format!("logits.{index}"));
        let found = base.logits(None, tokens).unwrap();
        let skipped = found.len() - wanted.len();
        found[skipped..].chunks(vocab).zip(wanted.chunks(vocab)).for_each(|(found, wanted)| each(found, wanted));
    }
}

#[test]
fn logits_are_those_of_transformers_in_f32_and_close_in_int8() {
    for name in NAMES {
        let mut worst = 0.0f64;
        rows(name, &load(name, Precision::F32), |found, wanted| worst = worst.max(relative(found, wanted)));
        let mut lowest = 1.0f64;
        rows(name, &load(name, Precision::Int8), |found, wanted| lowest = lowest.min(cosine(found, wanted)));
        println!("{name}: f32 relative {worst:.1e}, int8 cosine {lowest:.5}");
        assert!(worst <= 1e-4, "{name} in f32: {worst}");
        assert!(lowest >= 0.999, "{name} in int8: {lowest}");
    }
}

#[test]
fn greedy_text_is_that_of_transformers() {
    for name in NAMES {
        let (base, Expected { greedy_start, greedy, .. }) = (load(name, Precision::F32), expected(name));
        // Beyond their original context, frequencies follow the length that a text may reach, known here from the start;
        // transformers changes them on the way.
        let tokens = match &base.config().variant.rope {
            RopeScaling::Dynamic { original, .. } | RopeScaling::Long { original, .. } => original - greedy_start.len(),
            _ => greedy.len(),
        };
        let member = || MemberSpec::plain(Sampler::greedy());
        // Two at once: a batch must not change a text.
        let members = vec![member(), member()];
        let request = Generate {
            prompt: greedy_start,
            written: 0,
            members,
            max_tokens: tokens,
            stop: Vec::new(),
            stop_texts: Vec::new(),
            guidance: Guidance::default(),
        };
        for one in base.generate(&request, &AtomicBool::new(false), &mut |_| {}).unwrap() {
            assert_eq!(one.token_ids, greedy[..tokens], "{name}");
        }
    }
}

#[test]
fn a_text_read_at_once_and_one_written_step_by_step_agree_in_a_window_and_beyond_the_context() {
    for name in ["mistral", "phi3", "phi3-long", "dynamic"] {
        let base = load(name, Precision::F32);
        let start = expected(name).sequences[0][..40].to_vec();
        let member = MemberSpec::plain(Sampler::greedy());
        let request = Generate {
            prompt: start.clone(),
            written: 0,
            members: vec![member],
            max_tokens: 50,
            stop: Vec::new(),
            stop_texts: Vec::new(),
            guidance: Guidance::default(),
        };
        let written = base.generate(&request, &AtomicBool::new(false), &mut |_| {}).unwrap().remove(0);
        let scores = base.score(None, &start, &written.token_ids).unwrap();
        for (score, logprob) in scores.iter().zip(&written.logprobs) {
            assert!((score - logprob).abs() < 1e-3, "{name}: {score} and {logprob}");
        }
    }
}

#[test]
fn a_base_is_inspected_without_its_weights() {
    let facts = inspect(&folder("qwen2")).unwrap();
    assert_eq!((facts.architecture, facts.format, facts.numbers, facts.chat), ("qwen2", "safetensors", "BF16", true));
    assert_eq!(facts.parameters, 69_696, "what transformers counts");
    let sizes = std::fs::read_dir(folder("qwen2")).unwrap().map(|entry| entry.unwrap());
    let shards: Vec<_> = sizes.filter(|entry| entry.file_name().to_string_lossy().ends_with(".safetensors")).collect();
    assert!(shards.len() > 1, "its weights are split");
    assert_eq!(facts.bytes, shards.iter().map(|entry| entry.metadata().unwrap().len()).sum::<u64>());
    let loaded = load("qwen2", Precision::Int8).memory_bytes() as u64;
    let estimated = facts.weight_bytes(Precision::Int8);
    assert!(loaded <= estimated && estimated < loaded + loaded / 20, "{loaded} loaded, {estimated} expected");
    assert!(facts.memory_bytes(Precision::Int8, 4, 100) > estimated);
    let facts = inspect(&folder("phi3-long")).unwrap();
    assert_eq!((facts.architecture, facts.parameters, facts.context, facts.chat), ("phi3", 85_312, 512, false));
    let variant = &facts.config.decoder("it is a decoder").unwrap().variant;
    assert_eq!(variant.architecture, Architecture::Phi3);
    assert_eq!(variant.rotary_dim, Some(8), "half of each head turns");
}

#[test]
fn several_end_tokens_are_read_from_the_generation_config() {
    assert_eq!(load("llama", Precision::Int8).end_tokens(), [2, 117]);
}

#[test]
fn for_training_fused_matrices_are_taken_apart() {
    let weights = DenseWeights::load(&folder("phi3")).unwrap();
    assert_eq!(weights.layers[0].gate.len(), 96 * 64, "fused matrices are taken apart");
}

#[test]
fn shards_that_do_not_fit_their_index_are_damaged() {
    let dir = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(folder("qwen2")).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), dir.path().join(entry.file_name())).unwrap();
    }
    let index = dir.path().join("model.safetensors.index.json");
    let text = std::fs::read_to_string(&index).unwrap();
    let load = || LanguageModel::load(dir.path(), &LoadOptions::new(1)).err();
    assert!(load().is_none());
    let outside = text.replacen("model-00001-of", "../model-00001-of", 1);
    for wrong in [text.replacen("model-00001", "model-00002", 1), outside, text.replacen("q_proj", "z_proj", 1), "{}".to_owned()] {
        std::fs::write(&index, wrong).unwrap();
        assert!(matches!(load(), Some(ModelError::Damaged { .. })), "{:?}", load());
    }
    std::fs::write(&index, text).unwrap();
    std::fs::remove_file(dir.path().join("model-00001-of-00003.safetensors")).unwrap();
    assert!(matches!(load(), Some(ModelError::Missing { .. })));
}
