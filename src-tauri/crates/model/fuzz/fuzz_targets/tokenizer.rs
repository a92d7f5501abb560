//! A tokenizer.json.
#![no_main]

use fuzzing::{folder, let_panics_unwind, put, reference};
use libfuzzer_sys::fuzz_target;
use model::Tokenizer;

fuzz_target!(init: let_panics_unwind(), |bytes: &[u8]| {
    let folder = folder(&reference(""), &[]);
    put(folder, "tokenizer.json", bytes, 0);
    if let Ok(tokenizer) = Tokenizer::load(folder) {
        tokenizer.decode(&tokenizer.encode("a fox, 日本 and <|x|>  aaaaaaaaaaaaaaaaaaaaaaaaaaaa!"));
    }
});
