//! The knobs of prompt tuning, each with its reason.

use crate::data::hex;
use crate::{Preference, PromptBase, RunConfig, TrainError};
use model::SoftPrompt;
use sha2::{Digest, Sha256};

/// Where a soft prompt starts.
#[derive(Debug, Clone, PartialEq)]
pub enum PromptStart {
    /// Embeddings of these tokens, repeated until there are enough (§3.2 of arXiv 2104.08691): the words of a text or of a task.
    Tokens(Vec<u32>),
    /// Embeddings of class labels, one vector a label (the mean over its tokens), repeated until there are enough
    /// (§3.2 of the same paper).
    Labels(Vec<Vec<u32>>),
    /// Embeddings of tokens drawn from the vocabulary by the seed.
    Vocabulary,
    /// A soft prompt that was trained before.
    Trained(SoftPrompt),
}

#[derive(Debug, Clone, PartialEq)]
pub struct SoftPromptConfig {
    /// Vectors before the text. More hold more, and every one is a row of every sequence.
    pub virtual_tokens: usize,
    pub start: PromptStart,
    /// How judgements become a loss; examples do not use it.
    pub preference: Preference,
    pub run: RunConfig,
}

/// For 10–40 texts on the built-in base. Of the rates tried there (0.003 to 0.1), 0.01 learned a plain trait (text in lower
/// case) almost as fast as 0.03 and fitted single texts less.
impl Default for SoftPromptConfig {
    fn default() -> Self {
        Self {
            virtual_tokens: 16,
            start: PromptStart::Vocabulary,
            preference: Preference::default(),
            run: RunConfig { learning_rate: 0.01, ..RunConfig::default() },
        }
    }
}

impl SoftPromptConfig {
    /// # Errors
    /// `Config` with the first field that makes no sense for this base.
    pub fn check(&self, base: &dyn PromptBase) -> Result<(), TrainError> {
        let fault = |field, value: String, allowed| Err(TrainError::Config { field, value, allowed });
        if self.virtual_tokens == 0 || self.virtual_tokens >= base.context() {
            return fault("virtual_tokens", self.virtual_tokens.to_string(), "from 1 up to the context of the base");
        }
        self.run.check()?;
        self.preference.check()?;
        let known = |tokens: &[u32]| match tokens.iter().find(|token| **token as usize >= base.vocab()) {
            Some(token) => fault("start", format!("token {token}"), "in the vocabulary of the base"),
            None if tokens.is_empty() => fault("start", "no token".to_owned(), "at least one token"),
            None => Ok(()),
        };
        match &self.start {
            PromptStart::Vocabulary => Ok(()),
            PromptStart::Tokens(tokens) => known(tokens),
            PromptStart::Labels(labels) if labels.is_empty() => fault("start", "no label".to_owned(), "at least one label"),
            PromptStart::Labels(labels) => labels.iter().try_for_each(|label| known(label)),
            PromptStart::Trained(prompt)
                if prompt.tokens != self.virtual_tokens
                    || prompt.hidden != base.hidden()
                    || prompt.vectors.len() != self.virtual_tokens * base.hidden() =>
            {
                fault("start", format!("a soft prompt of {} × {}", prompt.tokens, prompt.hidden), "as large as the new one")
            }
            PromptStart::Trained(_) => Ok(()),
        }
    }

    /// SHA-256 over all that a result depends on, in hexadecimal.
    pub fn identity(&self) -> String {
        let mut hash = Sha256::new();
        hash.update((self.virtual_tokens as u64).to_le_bytes());
        self.run.hash_into(&mut hash);
        self.preference.hash_into(&mut hash);
        match &self.start {
            PromptStart::Vocabulary => hash.update(b"vocabulary"),
            PromptStart::Tokens(tokens) => {
                hash.update(b"tokens");
                tokens.iter().for_each(|token| hash.update(token.to_le_bytes()));
            }
            PromptStart::Labels(labels) => {
                hash.update(b"labels");
                for label in labels {
                    hash.update((label.len() as u64).to_le_bytes());
                    label.iter().for_each(|token| hash.update(token.to_le_bytes()));
                }
            }
            PromptStart::Trained(prompt) => {
                hash.update(b"trained");
                prompt.vectors.iter().for_each(|value| hash.update(value.to_le_bytes()));
            }
        }
        hex(&hash.finalize())
    }
}
