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

/// Where verdicts are learned from, so many texts of each kind, or pairs, are kept back if they can be: one verdict says a bit, and
/// of one kind alone nothing can be told apart.
const ENOUGH_TO_MEASURE: usize = 3;

/// For that, up to one prompt of this many is kept back.
const MOST_HELD_OUT: usize = 3;

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
    /// Generations that are still to be written, for taste to make pairs of; 0 once they stand in `pairs`.
    #[serde(default)]
    pub to_write: u32,
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
    /// Which prompts are held out depends on their words, and where there are verdicts both ways on these, so the same thumbs always
    /// give the same split.
    pub fn split(base: BaseId, mut texts: Vec<JudgedText>, mut pairs: Vec<JudgedPair>, max_samples: usize) -> Self {
        // The newest texts stand first; when there are too many, the oldest are left out.
        texts.truncate(max_samples);
        pairs.truncate(max_samples);
        let held = held_out(&texts, &pairs);
        let (heldout, train) = texts.into_iter().partition(|text| held.contains(&split_key(&text.prompt, &text.text)));
        let (held_pairs, train_pairs) = pairs.into_iter().partition(|pair| held.contains(&split_key(&pair.prompt, &pair.better)));
        Self { base, train, heldout, pairs: Some(SplitPairs { train: train_pairs, heldout: held_pairs }), to_write: 0, personal: None }
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

/// The prompts that are kept back, as [`split_key`] has them.
fn held_out(texts: &[JudgedText], pairs: &[JudgedPair]) -> BTreeSet<String> {
    // By a hash of its words: an order that is always the same and has nothing to do with what they say. With each, how many texts
    // it has that were not liked and that were, or how many pairs.
    let mut prompts: BTreeMap<String, (String, [usize; 2])> = BTreeMap::new();
    let mut count = |key: String, kind: usize, one: usize| {
        let (_, kinds) = prompts.entry(folder::sha256_hex(key.as_bytes())).or_insert((key, [0; 2]));
        kinds[kind] += one;
    };
    texts.iter().for_each(|text| count(split_key(&text.prompt, &text.text), usize::from(text.liked), usize::from(pairs.is_empty())));
    pairs.iter().for_each(|pair| count(split_key(&pair.prompt, &pair.better), 0, 1));
    let first = match prompts.len() {
        few if few < FEWEST_PROMPTS_TO_SPLIT => return BTreeSet::new(),
        prompts => (prompts / HELD_OUT_EVERY).max(1),
    };
    let all = prompts.values().fold([0, 0], |[a, b], (_, [c, d])| [a + c, b + d]);
    // Liked texts alone are measured word by word, and need no more.
    let verdicts = !pairs.is_empty() || !all.contains(&0);
    let wanted = all.map(|all| if verdicts { ENOUGH_TO_MEASURE.min((all + 1) / MOST_HELD_OUT) } else { 0 });
    let most = prompts.len() / MOST_HELD_OUT;
    let mut held: BTreeSet<String> = prompts.values().take(first).map(|(key, _)| key.clone()).collect();
    let mut has = prompts.values().take(first).fold([0, 0], |[a, b], (_, [c, d])| [a + c, b + d]);
    // One of each kind before a second of any.
    for least in [1, ENOUGH_TO_MEASURE] {
        for (key, kinds) in prompts.values() {
            let missing = (0..2).any(|kind| kinds[kind] > 0 && has[kind] < wanted[kind].min(least));
            if missing && held.len() < most && held.insert(key.clone()) {
                (0..2).for_each(|kind| has[kind] += kinds[kind]);
            }
        }
    }
    held
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pairs::PairSource;

    fn text(prompt: usize, liked: bool) -> JudgedText {
        let (prompt, text) = (format!("prompt {prompt}"), "A text.".to_owned());
        JudgedText { prompt, genres: GenreMix::default(), style: None, text, liked, generation: None, original: None, weight: 1.0 }
    }

    #[test]
    fn of_verdicts_both_kinds_are_kept_back_and_of_liked_texts_a_fifth() {
        for prompts in 3..60 {
            // Every fifth was not liked.
            let texts: Vec<JudgedText> = (0..prompts).map(|prompt| text(prompt, prompt % 5 != 0)).collect();
            let split = FrozenDataset::split(BaseId("b".to_owned()), texts.clone(), Vec::new(), 1000);
            let count = |texts: &[JudgedText], liked| texts.iter().filter(|text| text.liked == liked).count();
            assert_eq!(split.heldout.len() + split.train.len(), prompts);
            assert!(split.heldout.len() <= prompts / MOST_HELD_OUT && !split.heldout.is_empty(), "{prompts}: {}", split.heldout.len());
            if prompts > 9 {
                assert!(count(&split.heldout, false) > 0 && count(&split.heldout, true) > 0, "{prompts}: of both kinds");
                assert!(count(&split.train, false) > 0, "{prompts}: and some are left to learn from");
            }
            let liked: Vec<JudgedText> = texts.into_iter().map(|text| JudgedText { liked: true, ..text }).collect();
            let split = FrozenDataset::split(BaseId("b".to_owned()), liked, Vec::new(), 1000);
            assert_eq!(split.heldout.len(), (prompts / HELD_OUT_EVERY).max(1), "{prompts}");
        }
    }

    #[test]
    fn some_pairs_are_kept_back_where_there_are_enough() {
        let texts: Vec<JudgedText> = (0..30).map(|prompt| text(prompt, true)).collect();
        let pair = |prompt: usize| JudgedPair {
            source: PairSource::Thumbs,
            prompt: format!("prompt {prompt}"),
            genres: GenreMix::default(),
            style: None,
            better: "A text.".to_owned(),
            worse: "Another.".to_owned(),
            weight: 1.0,
        };
        let pairs: Vec<JudgedPair> = (0..8).map(pair).collect();
        let split = FrozenDataset::split(BaseId("b".to_owned()), texts, pairs, 1000);
        let pairs = split.pairs.expect("pairs");
        assert!(pairs.heldout.len() >= 3 && pairs.train.len() >= 4, "{} and {}", pairs.heldout.len(), pairs.train.len());
        for pair in &pairs.train {
            assert!(split.heldout.iter().all(|text| text.prompt != pair.prompt), "no prompt is on both sides");
        }
    }
}
