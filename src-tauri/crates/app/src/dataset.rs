//! What a training learns from: liked texts, split by prompt, frozen in the run's folder so that a resume sees the same.

use crate::folder;
use domain::{ApiError, BaseId, ErrorCode, GenreMix, Hyperparameters, Style};
use model::{StoryFormat, Tokenizer};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use training::{Dataset, Example};

/// One prompt of this many is kept back to measure on.
const HELD_OUT_EVERY: usize = 5;

/// With fewer prompts than this, all are needed for learning and nothing is kept back.
const FEWEST_PROMPTS_TO_SPLIT: usize = 3;

/// A liked text with what it was written for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct LikedExample {
    pub prompt: String,
    pub genres: GenreMix,
    pub style: Option<Style>,
    pub text: String,
}

/// The texts of one run, in order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct FrozenDataset {
    pub base: BaseId,
    pub train: Vec<LikedExample>,
    pub heldout: Vec<LikedExample>,
}

impl FrozenDataset {
    /// Splits by prompt: all texts of a prompt are on the same side, so that no held-out prompt is ever trained on.
    ///
    /// Which prompts are held out depends on their words alone, so the same thumbs always give the same split.
    pub fn split(base: BaseId, mut texts: Vec<LikedExample>, max_samples: usize) -> Self {
        // The newest texts stand first; when there are too many, the oldest are left out.
        texts.truncate(max_samples);
        let mut by_hash = BTreeMap::new();
        for text in &texts {
            let key = prompt_key(&text.prompt);
            by_hash.insert(folder::sha256_hex(key.as_bytes()), key);
        }
        let count = match by_hash.len() {
            few if few < FEWEST_PROMPTS_TO_SPLIT => 0,
            prompts => (prompts / HELD_OUT_EVERY).max(1),
        };
        let held: BTreeSet<String> = by_hash.into_values().take(count).collect();
        let (heldout, train) = texts.into_iter().partition(|text| held.contains(&prompt_key(&text.prompt)));
        Self { base, train, heldout }
    }

    pub fn save(&self, run_folder: &Path) -> Result<(), ApiError> {
        std::fs::create_dir_all(run_folder).map_err(|error| folder::storage(run_folder, &error))?;
        let json = serde_json::to_vec_pretty(self).map_err(ApiError::internal)?;
        folder::write_whole(&run_folder.join("dataset.json"), &json)
    }

    pub fn load(run_folder: &Path) -> Result<Self, ApiError> {
        let path = run_folder.join("dataset.json");
        let json = std::fs::read(&path).map_err(|error| folder::storage(&path, &error))?;
        serde_json::from_slice(&json).map_err(|error| {
            ApiError::new(ErrorCode::Damaged, format!("{} cannot be read: {error}.", path.display()))
                .hint("This run cannot go on; start a new training. Your thumbs are safe.")
        })
    }

    /// The same texts as tokens.
    pub fn tokenised(&self, tokenizer: &Tokenizer, hyperparameters: &Hyperparameters) -> Dataset {
        let all = |texts: &[LikedExample]| texts.iter().map(|text| text.tokenised(tokenizer, hyperparameters)).collect();
        Dataset { train: all(&self.train), heldout: all(&self.heldout) }
    }
}

impl LikedExample {
    fn tokenised(&self, tokenizer: &Tokenizer, hyperparameters: &Hyperparameters) -> Example {
        let mut prompt = tokenizer.encode(&StoryFormat::prompt_text(&self.genres, self.style, &self.prompt));
        // The format's frame stands at both ends of the prompt; a prompt too long loses its middle words, not its frame.
        let most = (hyperparameters.source_max_tokens as usize).max(8);
        if prompt.len() > most {
            let tail = prompt.split_off(prompt.len() - most / 2);
            prompt.truncate(most - tail.len());
            prompt.extend(tail);
        }
        let mut answer = tokenizer.encode(StoryFormat::plain(&self.text).as_str());
        let most = hyperparameters.target_max_tokens as usize;
        if answer.len() >= most {
            // Without its end token: the model must not learn to stop in the middle.
            answer.truncate(most);
        } else if let Some(end) = tokenizer.special(StoryFormat::END) {
            answer.push(end);
        }
        Example { prompt, answer, weight: 1.0 }
    }
}

fn prompt_key(prompt: &str) -> String {
    prompt.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase()
}

/// Whether a prompt is among those trained on.
pub(crate) fn trains_on(dataset: &FrozenDataset, prompt: &str) -> bool {
    let key = prompt_key(prompt);
    dataset.train.iter().any(|text| prompt_key(&text.prompt) == key)
}
