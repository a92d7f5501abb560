//! Text to tokens and back, also piece by piece while a text grows.

use crate::ModelError;
use crate::files::read_capped;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

const MAX_TOKENIZER_BYTES: u64 = 64 << 20;

/// The tokenizer of a base, from its `tokenizer.json`.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
}

impl Tokenizer {
    /// Loads `tokenizer.json` of `dir`, at most 64 MB.
    ///
    /// # Errors
    /// `Missing`, `Io`, or `Damaged` when it cannot be parsed.
    pub fn load(dir: &Path) -> Result<Self, ModelError> {
        let path = dir.join("tokenizer.json");
        let bytes = read_capped(&path, MAX_TOKENIZER_BYTES)?;
        // The parser panics on some crafted files (tokenizers 0.23); that must not take the program along.
        let parsed = catch_unwind(AssertUnwindSafe(|| tokenizers::Tokenizer::from_bytes(&bytes)));
        match parsed {
            Ok(Ok(inner)) => Ok(Self { inner }),
            Ok(Err(error)) => Err(ModelError::damaged(&path, error.to_string())),
            Err(_) => Err(ModelError::damaged(&path, "its parser gave up")),
        }
    }

    /// Tokens of a text; special tokens written out in it are recognised, none are added.
    ///
    /// A text that the tokenizer cannot encode (none is known for byte-level ones) gives no tokens.
    pub fn encode(&self, text: &str) -> Vec<u32> {
        let encoded = catch_unwind(AssertUnwindSafe(|| self.inner.encode_fast(text, false)));
        match encoded {
            Ok(Ok(encoding)) => encoding.get_ids().to_vec(),
            _ => Vec::new(),
        }
    }

    /// Text of tokens, without special ones; bytes that are no UTF-8 become U+FFFD.
    pub fn decode(&self, ids: &[u32]) -> String {
        self.inner.decode(ids, true).unwrap_or_default()
    }

    /// The id of a token by its exact spelling, such as `<|end|>`.
    pub fn special(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// Number of tokens, added ones included.
    pub fn vocab(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// A decoder for one growing text.
    pub fn stream(&self) -> TextStream<'_> {
        TextStream { tokenizer: self, ids: Vec::new(), settled: String::new(), context: 0 }
    }
}

/// Turns tokens into text as they come, holding back bytes until their character is complete.
///
/// What [`TextStream::push`] and [`TextStream::finish`] return adds up to [`Tokenizer::decode`] of all tokens.
pub struct TextStream<'a> {
    tokenizer: &'a Tokenizer,
    /// The tokens since the last two settled points: enough for decoders that look one token back.
    ids: Vec<u32>,
    /// Text of `ids[..context]`, already returned.
    settled: String,
    context: usize,
}

impl TextStream<'_> {
    /// Adds a token; returns the text that is complete now, which may be empty.
    pub fn push(&mut self, id: u32) -> String {
        self.ids.push(id);
        let text = self.tokenizer.decode(&self.ids);
        // U+FFFD at the end is a character cut in two, as long as more tokens may come.
        if text.ends_with('\u{fffd}') {
            return String::new();
        }
        self.settle(text)
    }

    /// The rest, with U+FFFD for a character that was never completed.
    pub fn finish(&mut self) -> String {
        let text = self.tokenizer.decode(&self.ids);
        self.settle(text)
    }

    fn settle(&mut self, text: String) -> String {
        let new = text.get(self.settled.len()..).unwrap_or_default().to_owned();
        self.ids.drain(..self.context);
        self.context = self.ids.len();
        self.settled = self.tokenizer.decode(&self.ids);
        new
    }
}
