//! The header of a base's safetensors file beside a sound config and tokenizer.
#![no_main]

use fuzzing::{folder, let_panics_unwind, put, reference};
use libfuzzer_sys::fuzz_target;
use model::{DenseWeights, LanguageModel, LoadOptions};

const BESIDE: [&str; 3] = ["config.json", "tokenizer.json", "tokenizer_config.json"];
/// Of the sound file: its header is the seed, its numbers may be zeros.
const LENGTH: u64 = 140_920;

fuzz_target!(init: let_panics_unwind(), |bytes: &[u8]| {
    let folder = folder(&reference("decoders/llama"), &BESIDE);
    put(folder, "model.safetensors", bytes, LENGTH);
    let _ = LanguageModel::load(folder, &LoadOptions::new(1));
    let _ = DenseWeights::load(folder);
});
