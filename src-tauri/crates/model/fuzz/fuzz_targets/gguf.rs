//! A GGUF file: header, metadata and table of tensors, then its tokenizer.
#![no_main]

use fuzzing::{folder, let_panics_unwind, put, reference};
use libfuzzer_sys::fuzz_target;
use model::{LanguageModel, LoadOptions, Tokenizer};

/// Room for the tensors of a small base, so that a table of tensors can fit its file.
const LENGTH: u64 = 400_000;

fuzz_target!(init: let_panics_unwind(), |bytes: &[u8]| {
    let path = put(folder(&reference(""), &[]), "input.gguf", bytes, LENGTH);
    // Both what can be read and why it cannot are fine; a panic, a hang or a large allocation is not.
    let _ = model::inspect(&path);
    if let Ok(tokenizer) = Tokenizer::load(&path) {
        tokenizer.decode(&tokenizer.encode("a fox, 日本 and <|x|>"));
    }
    let _ = LanguageModel::load(&path, &LoadOptions::new(1));
});
