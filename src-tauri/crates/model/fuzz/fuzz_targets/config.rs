//! A base's config.json beside sound weights and a sound tokenizer.
#![no_main]

use fuzzing::{folder, let_panics_unwind, put, reference};
use libfuzzer_sys::fuzz_target;
use model::{LanguageModel, LoadOptions};

const BESIDE: [&str; 3] = ["model.safetensors", "tokenizer.json", "tokenizer_config.json"];

fuzz_target!(init: let_panics_unwind(), |bytes: &[u8]| {
    let folder = folder(&reference("decoders/llama"), &BESIDE);
    put(folder, "config.json", bytes, 0);
    let _ = model::inspect(folder);
    let _ = LanguageModel::load(folder, &LoadOptions::new(1));
});
