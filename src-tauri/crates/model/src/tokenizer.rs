//! Text to tokens and back, also piece by piece while a text grows.

use crate::files::read_capped;
use crate::gguf::Gguf;
use crate::{ModelError, gguf_tokenizer};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

const MAX_TOKENIZER_BYTES: u64 = 64 << 20;

/// The tokenizer of a base, from its `tokenizer.json`.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
}

impl Tokenizer {
    /// Loads `tokenizer.json` of a folder, at most 64 MB, or the tokenizer of a GGUF file.
    ///
    /// # Errors
    /// `Missing`, `Io`, `Damaged` when it cannot be parsed, `Unsupported` for a GGUF file with another kind.
    pub fn load(path: &Path) -> Result<Self, ModelError> {
        if path.is_file() {
            return gguf_tokenizer::tokenizer(&Gguf::open(path)?);
        }
        let path = path.join("tokenizer.json");
        Self::parse(&read_capped(&path, MAX_TOKENIZER_BYTES)?, &path)
    }

    /// Parses the bytes of a `tokenizer.json`; `path` is for the error only.
    pub(crate) fn parse(bytes: &[u8], path: &Path) -> Result<Self, ModelError> {
        // The parser panics on some crafted files (tokenizers 0.23); that must not take the program along.
        let parsed = catch_unwind(AssertUnwindSafe(|| tokenizers::Tokenizer::from_bytes(bytes)));
        match parsed {
            Ok(Ok(inner)) => Ok(Self { inner }),
            Ok(Err(error)) => Err(ModelError::damaged(path, error.to_string())),
            Err(_) => Err(ModelError::damaged(path, "its parser gave up")),
        }
    }

    /// Tokens of a text as the base expects a text to begin: with its special token for that, if it has one.
    pub fn encode_start(&self, text: &str) -> Vec<u32> {
        self.tokens(text, true)
    }

    /// Tokens of a text; special tokens written out in it are recognised, none are added.
    ///
    /// A text that the tokenizer cannot encode (none is known for byte-level ones) gives no tokens.
    pub fn encode(&self, text: &str) -> Vec<u32> {
        self.tokens(text, false)
    }

    fn tokens(&self, text: &str, framed: bool) -> Vec<u32> {
        let encoded = catch_unwind(AssertUnwindSafe(|| self.inner.encode_fast(text, framed)));
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

    /// A text without special tokens that are written out in it.
    pub fn without_special(&self, text: &str) -> String {
        let special: Vec<String> =
            self.inner.get_added_tokens_decoder().into_values().filter(|token| token.special).map(|token| token.content).collect();
        let mut plain = text.to_owned();
        // Taking one out can join the halves of another, hence until none is left.
        while let Some(token) = special.iter().find(|token| !token.is_empty() && plain.contains(token.as_str())) {
            plain = plain.replace(token.as_str(), "");
        }
        plain
    }

    /// Number of tokens, added ones included.
    pub fn vocab(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// One more than the highest id, which may be more than [`Tokenizer::vocab`] where ids have gaps.
    pub fn ids(&self) -> usize {
        self.inner.get_vocab(true).values().max().map_or(0, |id| *id as usize + 1)
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
