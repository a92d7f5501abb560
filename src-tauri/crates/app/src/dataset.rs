//! What a training learns from: judged texts, split by prompt, frozen in the run's folder so that a resume sees the same.

use crate::base::LoadedBase;
use crate::folder;
use crate::pairs::{JudgedPair, own_pairs};
use domain::{ApiError, BaseId, ErrorCode, GenerationId, GenreMix, Hyperparameters, Objective, Style};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use store::RatedText;
use training::{Dataset, Example, Judgement, Judgements};

/// One prompt of this many is kept back to measure on.
const HELD_OUT_EVERY: usize = 5;

/// With fewer prompts than this, all are needed for learning and nothing is kept back.
const FEWEST_PROMPTS_TO_SPLIT: usize = 3;

/// A text with what it was written for and what the person thought of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct JudgedText {
    pub prompt: String,
    pub genres: GenreMix,
    pub style: Option<Style>,
    pub text: String,
    #[serde(default = "yes")]
    pub liked: bool,
    /// Texts of one generation can be compared.
    #[serde(default)]
    pub generation: Option<GenerationId>,
    /// What it was before the person edited it.
    #[serde(default)]
    pub original: Option<String>,
    /// How much it counts against other texts.
    #[serde(default = "one")]
    pub weight: f32,
}

fn yes() -> bool {
    true
}

pub(crate) fn one() -> f32 {
    1.0
}

impl From<RatedText> for JudgedText {
    fn from(rated: RatedText) -> Self {
        Self {
            prompt: rated.prompt,
            genres: rated.genres,
            style: rated.style,
            liked: rated.verdict > 0,
            generation: Some(rated.generation_id),
            original: rated.original_text.filter(|original| *original != rated.text),
            weight: 1.0,
            text: rated.text,
        }
    }
}

impl From<domain::Example> for JudgedText {
    fn from(example: domain::Example) -> Self {
        let (prompt, style, text) = (example.prompt, example.style, example.text);
        let genres = GenreMix([(example.genre, 1.0)].into());
        Self { prompt, genres, style, text, liked: true, generation: None, original: None, weight: 1.0 }
    }
}

/// What a training is fed: examples for SFT, judgements for DPO, ORPO and KTO.
pub(crate) enum TrainingData {
    Examples(Dataset),
    Judgements(Judgements),
}

impl TrainingData {
    /// How many are learned from, and how many are kept back.
    pub fn counts(&self) -> (usize, usize) {
        match self {
            Self::Examples(data) => (data.train.len(), data.heldout.len()),
            Self::Judgements(data) => (data.train.len(), data.heldout.len()),
        }
    }

    /// All texts as examples, for a recipe that knows nothing else.
    pub fn as_examples(&self) -> Dataset {
        let all = |judgements: &[Judgement]| {
            let texts = judgements.iter().flat_map(|judgement| match judgement {
                Judgement::Pair { chosen, rejected } => vec![chosen.clone(), rejected.clone()],
                Judgement::Single { text, .. } => vec![text.clone()],
            });
            texts.collect()
        };
        match self {
            Self::Examples(data) => data.clone(),
            Self::Judgements(data) => Dataset { train: all(&data.train), heldout: all(&data.heldout) },
        }
    }
}

/// The texts of one run, in order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct FrozenDataset {
    pub base: BaseId,
    pub train: Vec<JudgedText>,
    pub heldout: Vec<JudgedText>,
    /// For DPO and ORPO. Absent in runs older than these, which learned from the pairs that thumbs and edits make.
    #[serde(default)]
    pub pairs: Option<SplitPairs>,
    /// Set for a personal adapter.
    #[serde(default)]
    pub personal: Option<Personal>,
}

/// Pairs, split by the same prompts as the texts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct SplitPairs {
    pub train: Vec<JudgedPair>,
    pub heldout: Vec<JudgedPair>,
}

/// Whose adapter a run makes, and which examples it learns from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Personal {
    pub user_id: String,
    /// Sequence number of the newest example there was.
    pub up_to: u32,
}

impl FrozenDataset {
    /// Splits by prompt: all texts of a prompt are on the same side, so that no held-out prompt is ever trained on.
    ///
    /// Which prompts are held out depends on their words alone, so the same thumbs always give the same split.
    pub fn split(base: BaseId, mut texts: Vec<JudgedText>, mut pairs: Vec<JudgedPair>, max_samples: usize) -> Self {
        // The newest texts stand first; when there are too many, the oldest are left out.
        texts.truncate(max_samples);
        pairs.truncate(max_samples);
        let mut by_hash = BTreeMap::new();
        let pair_key = |pair: &JudgedPair| split_key(&pair.prompt, &pair.better);
        for key in texts.iter().map(|text| split_key(&text.prompt, &text.text)).chain(pairs.iter().map(pair_key)) {
            by_hash.insert(folder::sha256_hex(key.as_bytes()), key);
        }
        let count = match by_hash.len() {
            few if few < FEWEST_PROMPTS_TO_SPLIT => 0,
            prompts => (prompts / HELD_OUT_EVERY).max(1),
        };
        let held: BTreeSet<String> = by_hash.into_values().take(count).collect();
        let (heldout, train) = texts.into_iter().partition(|text| held.contains(&split_key(&text.prompt, &text.text)));
        let (held_pairs, train_pairs) = pairs.into_iter().partition(|pair| held.contains(&pair_key(pair)));
        Self { base, train, heldout, pairs: Some(SplitPairs { train: train_pairs, heldout: held_pairs }), personal: None }
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

    /// The same texts as tokens, in the form that the objective learns from, asked for as the base is asked when it writes.
    ///
    /// # Errors
    /// What the base's own conversation format reports.
    pub fn tokenised(&self, base: &LoadedBase, hyperparameters: &Hyperparameters) -> Result<TrainingData, ApiError> {
        let tokens =
            |text: &JudgedText, words: &str| tokenised(&text.prompt, &text.genres, text.style, words, text.weight, base, hyperparameters);
        let examples = |texts: &[JudgedText]| -> Result<Vec<Example>, ApiError> {
            texts.iter().filter(|text| text.liked).map(|text| tokens(text, &text.text)).collect()
        };
        let singles = |texts: &[JudgedText]| -> Result<Vec<Judgement>, ApiError> {
            texts.iter().map(|text| Ok(Judgement::Single { text: tokens(text, &text.text)?, liked: text.liked })).collect()
        };
        let pairs = |pairs: &[JudgedPair]| -> Result<Vec<Judgement>, ApiError> {
            let tokens = |pair: &JudgedPair, words: &str| {
                tokenised(&pair.prompt, &pair.genres, pair.style, words, pair.weight, base, hyperparameters)
            };
            let pair =
                |pair: &JudgedPair| Ok(Judgement::Pair { chosen: tokens(pair, &pair.better)?, rejected: tokens(pair, &pair.worse)? });
            pairs.iter().map(pair).collect()
        };
        Ok(match hyperparameters.objective {
            Objective::Sft => TrainingData::Examples(Dataset { train: examples(&self.train)?, heldout: examples(&self.heldout)? }),
            Objective::Kto => TrainingData::Judgements(Judgements { train: singles(&self.train)?, heldout: singles(&self.heldout)? }),
            Objective::Dpo | Objective::Orpo => TrainingData::Judgements(match &self.pairs {
                Some(split) => Judgements { train: pairs(&split.train)?, heldout: pairs(&split.heldout)? },
                None => Judgements { train: pairs(&own_pairs(&self.train))?, heldout: pairs(&own_pairs(&self.heldout))? },
            }),
        })
    }
}

/// An example that writes `words` for a prompt.
fn tokenised(
    prompt: &str,
    genres: &GenreMix,
    style: Option<Style>,
    words: &str,
    weight: f32,
    base: &LoadedBase,
    hyperparameters: &Hyperparameters,
) -> Result<Example, ApiError> {
    let mut prompt = base.asked(genres, style, prompt)?;
    // The format's frame stands at both ends of the prompt; a prompt too long loses its middle words, not its frame.
    let most = (hyperparameters.source_max_tokens as usize).max(8);
    if prompt.len() > most {
        let tail = prompt.split_off(prompt.len() - most / 2);
        prompt.truncate(most - tail.len());
        prompt.extend(tail);
    }
    let mut answer = base.text(words);
    let most = hyperparameters.target_max_tokens as usize;
    if answer.len() >= most {
        // Without its end token: the model must not learn to stop in the middle.
        answer.truncate(most);
    } else if let Some(end) = base.end() {
        answer.push(end);
    }
    Ok(Example { prompt, answer, weight })
}

/// What keeps texts on the same side of the split: their prompt, or the text itself where there is none.
fn split_key(prompt: &str, text: &str) -> String {
    let key = prompt_key(prompt);
    if key.is_empty() { prompt_key(text) } else { key }
}

fn prompt_key(prompt: &str) -> String {
    prompt.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase()
}

/// Whether a prompt is among those trained on.
pub(crate) fn trains_on(dataset: &FrozenDataset, prompt: &str) -> bool {
    let key = prompt_key(prompt);
    let pairs = dataset.pairs.iter().flat_map(|pairs| &pairs.train).map(|pair| &pair.prompt);
    dataset.train.iter().map(|text| &text.prompt).chain(pairs).any(|prompt| prompt_key(prompt) == key)
}
