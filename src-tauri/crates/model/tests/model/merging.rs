//! Adapters that leave: merged into a base of their own, and as GGUF for llama.cpp.

use crate::adapters::{furthest, lora, merge, with};
use crate::bases::{fresh, odd_config, story, story_dir, story_prompt};
use model::{DenseWeights, LanguageModel, LoadOptions, ModelError, Precision, Projection};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::path::Path;
use std::sync::Arc;

#[test]
fn merging_is_the_formula_of_the_papers_on_every_matrix() {
    for (seed, dora, strength) in [(1, false, 1.0), (2, true, 1.0), (3, true, 0.5)] {
        let base = DenseWeights::load(&story_dir()).unwrap();
        let lora = lora(&base.config, seed, dora, &Projection::ALL);
        let (mut expected, mut found) = (base.clone(), base);
        merge(&mut expected, &lora, strength);
        found.merge(&lora, strength as f32).unwrap();
        for (expected, found) in expected.layers.iter().zip(&found.layers) {
            for target in Projection::ALL {
                let error = furthest(expected.matrix(target), found.matrix(target));
                assert!(error < 1e-6, "seed {seed}, {target:?}: {error}");
            }
        }
    }
}

#[test]
fn a_merged_base_is_saved_loads_again_and_writes_as_the_adapter_does() {
    let dir = tempfile::tempdir().unwrap();
    let mut merged = DenseWeights::load(&story_dir()).unwrap();
    let lora = Arc::new(lora(&merged.config, 4, true, &Projection::ALL));
    merged.merge(&lora, 1.0).unwrap();
    merged.save(&story_dir(), dir.path()).unwrap();
    let options = LoadOptions { precision: Precision::F32, ..LoadOptions::new(2) };
    let saved = LanguageModel::load(dir.path(), &options).unwrap();
    let (base, tokens) = (fresh(2, Precision::F32), story_prompt("a small door"));
    let (with_adapter, plain) = (base.logits_with(&with(&lora, 1.0), &tokens).unwrap(), base.logits(None, &tokens).unwrap());
    let found = saved.logits(None, &tokens).unwrap();
    let (error, effect) = (furthest(&with_adapter, &found), furthest(&with_adapter, &plain));
    println!("error {error:.4} of an effect of {effect:.2}: the rounding of weights to f16");
    assert!(error < 0.05 && effect > 20.0 * error, "{error} of {effect}");
}

#[test]
fn a_weight_beyond_f16_is_refused_and_leaves_no_base_behind() {
    let dir = tempfile::tempdir().unwrap();
    let mut weights = DenseWeights::load(&story_dir()).unwrap();
    weights.layers[0].q[7] = 1e6;
    assert!(matches!(weights.save(&story_dir(), dir.path()), Err(ModelError::InvalidRequest { .. })));
    assert!(!dir.path().join("config.json").exists());
}

#[test]
fn dora_and_adapters_of_another_base_have_no_gguf() {
    let config = story().config();
    assert!(matches!(lora(config, 1, true, &Projection::ALL).gguf(config, "x"), Err(ModelError::InvalidRequest { .. })));
    assert!(lora(&odd_config(), 1, false, &Projection::ALL).gguf(config, "x").is_err());
}

/// llama.cpp's logits with the very file that is written here, from `reference/llama_cpp_lora.py`.
#[test]
fn llama_cpp_computes_the_same_with_the_exported_file() {
    let base = fresh(2, Precision::F32);
    let lora = Arc::new(lora(base.config(), 3, false, &Projection::ALL));
    let bytes = lora.gguf(base.config(), "reference").unwrap();
    // Where the script takes it from.
    std::fs::write(Path::new(env!("CARGO_TARGET_TMPDIR")).join("lora.gguf"), &bytes).unwrap();
    let reference: Value = serde_json::from_str(include_str!("../reference/llama_cpp_lora.json")).unwrap();
    let hash: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hash, reference["adapter_sha256"], "the file differs from the one that llama.cpp read; run reference/llama_cpp_lora.py");
    let tokens: Vec<u32> = serde_json::from_value(reference["tokens"].clone()).unwrap();
    let logits = |name: &str| serde_json::from_value::<Vec<f32>>(reference[name].clone()).unwrap();
    let (expected, plain) = (logits("logits"), logits("logits_without"));
    let first = |logits: Vec<f32>| logits[logits.len() - base.config().vocab..][..expected.len()].to_vec();
    let found = first(base.logits_with(&with(&lora, 1.0), &tokens).unwrap());
    let (error, effect) = (furthest(&expected, &found), furthest(&expected, &plain));
    println!("error {error:.4} of an effect of {effect:.2}");
    assert!(error < 0.03 && effect > 30.0 * error, "{error} of {effect}");
}
