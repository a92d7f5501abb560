//! What is trained on and measured on, as tokens.

use model::LlamaConfig;
use sha2::{Digest, Sha256};
use std::fmt;

/// A prompt with the wanted continuation.
#[derive(Debug, Clone, PartialEq)]
pub struct Example {
    pub prompt: Vec<u32>,
    /// The loss is taken over these tokens only; end it with the token that ends a text.
    pub answer: Vec<u32>,
    /// How much each answer token counts, above 0.
    pub weight: f32,
}

impl Example {
    pub fn tokens(&self) -> usize {
        self.prompt.len() + self.answer.len()
    }

    /// Weight of the whole example in a mean over answer tokens.
    pub fn total_weight(&self) -> f64 {
        f64::from(self.weight) * self.answer.len() as f64
    }
}

/// Examples to learn from, and others that only measure.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Dataset {
    pub train: Vec<Example>,
    pub heldout: Vec<Example>,
}

/// Which half of a dataset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Split {
    Train,
    Heldout,
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Self::Train => "training",
            Self::Heldout => "held-out",
        })
    }
}

impl Dataset {
    /// SHA-256 over everything in it, in hexadecimal.
    pub fn identity(&self) -> String {
        let mut hash = Sha256::new();
        for examples in [&self.train, &self.heldout] {
            hash.update((examples.len() as u64).to_le_bytes());
            for example in examples {
                for tokens in [&example.prompt, &example.answer] {
                    hash.update((tokens.len() as u64).to_le_bytes());
                    tokens.iter().for_each(|token| hash.update(token.to_le_bytes()));
                }
                hash.update(example.weight.to_le_bytes());
            }
        }
        hex(&hash.finalize())
    }
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn fault(example: &Example, base: &LlamaConfig, virtual_tokens: usize) -> Option<String> {
    let length = virtual_tokens + example.tokens();
    if example.answer.is_empty() {
        return Some("its answer is empty".to_owned());
    }
    if virtual_tokens + example.prompt.len() == 0 {
        return Some("nothing stands before its answer".to_owned());
    }
    if !(example.weight.is_finite() && example.weight > 0.0) {
        return Some(format!("its weight is {}, but must be above 0", example.weight));
    }
    if length > base.context {
        return Some(format!("{length} tokens with the soft prompt do not fit the context of {}", base.context));
    }
    let token = example.prompt.iter().chain(&example.answer).find(|token| **token as usize >= base.vocab)?;
    Some(format!("token {token} is outside the vocabulary of {}", base.vocab))
}
