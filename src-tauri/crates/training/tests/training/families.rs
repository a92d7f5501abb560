//! Every architecture and pack that writes here, as it is trained: against PyTorch + transformers + PEFT, and against the engine that
//! writes. The bases are those of the crate `model`.

use crate::fixture::{Recorder, noise};
use model::{Adapters, LanguageModel, LoadOptions, Lora, LoraShape, Projection, SoftPrompt, WeightedLora};
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use training::{
    Control, Example, Judgement, Judgements, LoraConfig, LoraLayout, Outcome, PackedBatch, Precision, Preference, Quantisation, RunConfig,
    TrainableLlama, Workspace, lora_from_judgements,
};

/// tests/reference/families.json, made by the script beside it (versions are in both).
#[derive(Deserialize)]
struct Reference {
    decoders: Vec<Case>,
    packs: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    lora: Expected,
    dora: Expected,
    soft_prompt: Expected,
}

#[derive(Deserialize)]
struct Expected {
    loss: f64,
    /// Of each tensor: its gradient's length, then its products with vectors of noise.
    gradient: Vec<[f64; 1 + PRODUCTS]>,
}

const PRODUCTS: usize = 4;
const VIRTUAL: usize = 4;
const LENGTHS: [(usize, usize); 2] = [(5, 65), (3, 20)];

fn reference() -> Reference {
    serde_json::from_str(include_str!("../reference/families.json")).unwrap()
}

fn files(name: &str) -> PathBuf {
    let all = Path::new(env!("CARGO_MANIFEST_DIR")).join("../model/tests/reference");
    let folder = all.join("decoders").join(name);
    if folder.is_dir() { folder } else { all.join("gguf").join(format!("{name}.gguf")) }
}

fn load(name: &str, quantisation: Option<Quantisation>) -> TrainableLlama {
    TrainableLlama::load(&files(name), quantisation).unwrap()
}

fn examples(base: &TrainableLlama) -> Vec<Example> {
    let vocab = base.config().vocab;
    // In f32, as the script.
    let token = |value: f32| (((value + 1.0) / 2.0 * vocab as f32) as u32).min(vocab as u32 - 1);
    let example = |(seed, (prompt, answer)): (u64, (usize, usize))| {
        let mut tokens: Vec<u32> = noise(seed, prompt + answer).into_iter().map(token).collect();
        let answer = tokens.split_off(prompt);
        Example { prompt: tokens, answer, weight: 1.0 }
    };
    (1000..).zip(LENGTHS).map(example).collect()
}

fn layout(base: &TrainableLlama, dora: bool) -> LoraLayout {
    let rank = if dora { 1 } else { 2 };
    let shape = LoraShape { rank, alpha: 2.0 * rank as f32, rank_stabilised: false, dora, targets: Projection::ALL.to_vec() };
    LoraLayout::new(&shape, base.config()).unwrap()
}

/// As in the script: one seed for each tensor, in order.
fn weights(layout: &LoraLayout) -> Vec<f32> {
    let mut weights = vec![0.0; layout.parameters()];
    for ((name, place), seed) in layout.tensors().into_iter().zip(3000..) {
        let centre = if name.ends_with("magnitude_vector") { 1.0 } else { 0.0 };
        let values: Vec<f32> = noise(seed, place.len()).into_iter().map(|value| centre + value / 4.0).collect();
        weights[place].copy_from_slice(&values);
    }
    weights
}

fn low_rank(base: &TrainableLlama, dora: bool) -> (f64, Vec<Vec<f32>>) {
    let (layout, examples) = (layout(base, dora), examples(base));
    let (weights, batch) = (weights(&layout), PackedBatch::new(&examples, 0));
    let (mut workspace, mut gradient, control) = (Workspace::default(), vec![0.0; weights.len()], Control::default());
    let normalizer = batch.total_weight();
    let loss = base.lora_loss_and_gradient(&layout, &weights, None, &batch, normalizer, false, &mut workspace, &control, &mut gradient);
    (loss.unwrap(), layout.tensors().into_iter().map(|(_, place)| gradient[place].to_vec()).collect())
}

fn soft_prompt(base: &TrainableLlama) -> (f64, Vec<Vec<f32>>) {
    let prompt: Vec<f32> = noise(2000, VIRTUAL * base.config().hidden).into_iter().map(|value| value / 4.0).collect();
    let examples = examples(base);
    let batch = PackedBatch::new(&examples, VIRTUAL);
    let mut gradient = vec![0.0; prompt.len()];
    let (mut workspace, control) = (Workspace::default(), Control::default());
    let loss = base.loss_and_gradient(&prompt, &batch, batch.total_weight(), false, &mut workspace, &control, &mut gradient);
    (loss.unwrap(), vec![gradient])
}

impl Expected {
    /// Length of the gradients' difference over their length, told from the products: noise has a variance of 1/3, so the square
    /// of a product with it is a third of the difference's squared length, on average.
    fn error(&self, found: &[Vec<f32>]) -> f64 {
        assert_eq!(found.len(), self.gradient.len(), "as many tensors");
        let (mut difference, mut length) = (0.0, 0.0);
        for (index, (gradient, [norm, products @ ..])) in found.iter().zip(&self.gradient).enumerate() {
            assert!(gradient.iter().any(|value| *value != 0.0), "tensor {index} receives a gradient");
            let own = gradient.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
            assert!((own / norm - 1.0).abs() < 1e-3, "tensor {index}: a gradient of length {own}, not {norm}");
            for (k, wanted) in products.iter().enumerate() {
                let noise = noise((9000 + PRODUCTS * index + k) as u64, gradient.len());
                let product: f64 = gradient.iter().zip(noise).map(|(a, b)| f64::from(*a) * f64::from(b)).sum();
                difference += 3.0 * (product - wanted).powi(2) / PRODUCTS as f64;
            }
            length += norm * norm;
        }
        (difference / length).sqrt()
    }

    fn check(&self, what: &str, (loss, gradient): (f64, Vec<Vec<f32>>)) {
        let loss_error = (loss / self.loss - 1.0).abs();
        assert!(loss_error < 1e-5, "{what}: loss {loss}, PEFT {}", self.loss);
        let error = self.error(&gradient);
        println!("{what}: relative error of the loss {loss_error:.1e}, of the gradient {error:.1e}");
        assert!(error < 1e-4, "{what}: the gradient differs from PEFT's by {error}");
    }
}

#[test]
fn every_architecture_has_the_loss_and_the_gradients_of_peft() {
    let cases = reference().decoders;
    assert_eq!(cases.len(), 9);
    for case in cases {
        let base = load(&case.name, None);
        case.lora.check(&format!("{}, LoRA", case.name), low_rank(&base, false));
        case.dora.check(&format!("{}, DoRA", case.name), low_rank(&base, true));
        case.soft_prompt.check(&format!("{}, soft prompt", case.name), soft_prompt(&base));
    }
}

#[test]
fn every_pack_has_the_loss_and_the_gradients_that_peft_finds_on_its_numbers() {
    let cases = reference().packs;
    assert_eq!(cases.len(), 8);
    for case in cases {
        let base = load(&case.name, None);
        case.lora.check(&format!("{}, LoRA", case.name), low_rank(&base, false));
        case.dora.check(&format!("{}, DoRA", case.name), low_rank(&base, true));
        case.soft_prompt.check(&format!("{}, soft prompt", case.name), soft_prompt(&base));
    }
}

#[test]
fn packs_of_eight_and_four_bits_are_held_in_as_many_without_any_loss() {
    for (name, quantisation) in [
        ("llama-q8_0", Quantisation::Int8),
        ("qwen2-q8_0", Quantisation::Int8),
        ("llama-q4_0", Quantisation::Int4),
        ("phi3-q4_0", Quantisation::Int4),
        ("llama-f16", Quantisation::Bf16),
    ] {
        let (dense, held) = (load(name, None), load(name, Some(quantisation)).with_precision(Precision::F32));
        let same = low_rank(&dense, false) == low_rank(&held, false) && soft_prompt(&dense) == soft_prompt(&held);
        // f16 has three bits more than bf16.
        assert_eq!(same, quantisation != Quantisation::Bf16, "{name} in {quantisation:?}");
    }
}

#[test]
fn packs_of_other_formats_lose_little_in_eight_bits() {
    for name in ["llama-f16", "llama-q5_0", "llama-q4_k_m", "qwen2-q5_k_m"] {
        let flat = |(loss, gradient): (f64, Vec<Vec<f32>>)| (loss, gradient.concat());
        let (loss, gradient) = flat(low_rank(&load(name, None), false));
        for quantisation in [Quantisation::Bf16, Quantisation::Int8] {
            let (held_loss, held) = flat(low_rank(&load(name, Some(quantisation)), false));
            let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
            let cosine = dot(&gradient, &held) / (dot(&gradient, &gradient) * dot(&held, &held)).sqrt();
            println!("{name} in {quantisation:?}: loss {held_loss} for {loss}, cosine of the gradients {cosine:.5}");
            assert!((held_loss / loss - 1.0).abs() < 0.01 && cosine > 0.99, "{name} in {quantisation:?}: {held_loss} for {loss}, {cosine}");
        }
    }
}

#[test]
fn what_was_trained_writes_with_the_same_probabilities() {
    for case in reference().decoders.iter().chain(&reference().packs) {
        let (base, name) = (load(&case.name, None), &case.name);
        let writer = LanguageModel::load(&files(name), &LoadOptions { precision: model::Precision::F32, ..LoadOptions::new(2) }).unwrap();
        let examples = examples(&base);
        let mut workspace = Workspace::default();
        let compare = |what: &str, trained: Vec<f64>, adapters: &Adapters| {
            for (example, trained) in examples.iter().zip(trained) {
                let scores = writer.score_with(adapters, &example.prompt, &example.answer).unwrap();
                let written: f64 = scores.iter().map(|score| f64::from(*score)).sum();
                let apart = (trained - written).abs() / trained.abs();
                assert!(apart < 1e-5, "{name}, {what}: {trained} trained, {written} written");
            }
        };
        let batch = PackedBatch::new(&examples, 0);
        for dora in [false, true] {
            let layout = layout(&base, dora);
            let weights = weights(&layout);
            let found = base.log_probabilities(Some((&layout, &weights)), &batch, &mut workspace, &Control::default()).unwrap();
            let dir = tempfile::tempdir().unwrap();
            layout.adapter(&weights).save(dir.path(), base.config(), name).unwrap();
            if base.config().joins_projections() {
                // As PEFT 0.21.2 names and cuts them.
                let bytes = std::fs::read(dir.path().join("adapter_model.safetensors")).unwrap();
                let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
                let shape = |tensor: &str| file.tensor(&format!("base_model.model.model.layers.1.{tensor}")).unwrap().shape().to_vec();
                let (config, rank) = (base.config(), layout.shape().rank);
                let fused = config.query_width() + 2 * config.kv_width();
                assert_eq!(shape("self_attn.qkv_proj.lora_A.weight"), [rank, config.hidden]);
                assert_eq!(shape("self_attn.qkv_proj.lora_B.weight"), [fused, rank]);
                assert_eq!(shape("mlp.gate_up_proj.lora_B.weight"), [2 * config.intermediate, rank]);
                assert_eq!(file.len(), config.layers * 4 * if dora { 3 } else { 2 });
            }
            let lora = Arc::new(Lora::load(dir.path(), base.config()).unwrap());
            assert_eq!(layout.flatten(&lora), weights, "{name}, DoRA {dora}: through its file");
            let adapters = Adapters { lora: Some(WeightedLora { lora, strength: 1.0 }), ..Adapters::default() };
            compare(if dora { "DoRA" } else { "LoRA" }, found, &adapters);
        }
        let vectors: Vec<f32> = noise(2000, VIRTUAL * base.config().hidden).into_iter().map(|value| value / 4.0).collect();
        for example in &examples {
            let batch = PackedBatch::new([example], VIRTUAL);
            let loss = base.loss(&vectors, &batch, 1.0, &mut workspace, &Control::default()).unwrap();
            let soft = SoftPrompt { tokens: VIRTUAL, hidden: base.config().hidden, vectors: vectors.clone() };
            let scores = writer.score(Some(&soft), &example.prompt, &example.answer).unwrap();
            let written: f64 = scores.iter().map(|score| f64::from(*score)).sum();
            assert!((loss + written).abs() / loss < 1e-5, "{name}, soft prompt: {loss} trained, {written} written");
        }
    }
}

#[test]
fn other_architectures_and_packs_learn_from_pairs_and_thumbs() {
    for (name, quantisation, dora) in [
        ("qwen2", None, true),
        ("mistral", Some(Quantisation::Bf16), false),
        ("phi3-long", None, false),
        ("phi3-q4_0", Some(Quantisation::Int4), true),
    ] {
        let base = load(name, quantisation);
        let [chosen, rejected] = &examples(&base)[..] else { panic!("two texts") };
        let rejected = Example { prompt: chosen.prompt.clone(), ..rejected.clone() };
        let pair = Judgement::Pair { chosen: chosen.clone(), rejected: rejected.clone() };
        let single = |text: &Example, liked| Judgement::Single { text: text.clone(), liked };
        let data = Judgements { train: vec![pair, single(chosen, true), single(&rejected, false)], heldout: Vec::new() };
        let config = LoraConfig {
            shape: LoraShape { rank: 2, alpha: 4.0, rank_stabilised: false, dora, targets: Projection::ALL.to_vec() },
            preference: Preference::default(),
            run: RunConfig { steps: 12, learning_rate: 0.01, warmup_steps: 1, threads: 1, ..RunConfig::default() },
            ..LoraConfig::default()
        };
        let dir = tempfile::tempdir().unwrap();
        let outcome = lora_from_judgements(&base, &data, &config, dir.path(), false, &Control::default(), &mut Recorder::default());
        let Outcome::Finished(trained) = outcome.unwrap() else { panic!("it was not stopped") };
        trained.adapter.check(base.config()).unwrap();
        let (first, last) = (trained.history[0].loss, trained.final_loss);
        assert!(last < 0.9 * first, "{name}: {first} -> {last}");
    }
}

#[test]
fn parts_of_a_joined_module_are_refused() {
    let base = load("phi3", None);
    let shape = |targets: &[Projection]| LoraShape { rank: 2, alpha: 4.0, rank_stabilised: false, dora: false, targets: targets.to_vec() };
    let error = LoraLayout::new(&shape(&[Projection::Q, Projection::V]), base.config()).unwrap_err().to_string();
    assert!(error.contains("qkv_proj") && error.contains("gate_up_proj"), "{error}");
    let whole = shape(&[Projection::Q, Projection::K, Projection::V, Projection::Down]);
    let layout = LoraLayout::new(&whole, base.config()).unwrap();
    assert_eq!(layout.parameters(), whole.parameters(base.config()));
}
