//! Pairs of a better and a worse text, for DPO: where they come from, and how many of each there are.

use crate::App;
use crate::base::LoadedBase;
use crate::dataset::{FrozenDataset, JudgedText};
use crate::write::candidate_seed;
use domain::{ApiError, GenreMix, Hyperparameters, Objective, Preference, Settings, Style};
use model::{MemberSpec, Sampler};
use serde::{Deserialize, Serialize};
use taste::TasteModel;
use training::Control;

/// What says that one text is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum PairSource {
    /// A thumb up and a thumb down inside one generation.
    Thumbs,
    /// An edit the person kept, over its original.
    Edit,
    /// Answered comparisons and blind tests.
    Comparison,
    /// The best against the worst by the person's taste, in a generation they did not judge or one written for this.
    Taste,
}

/// Two texts for one prompt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct JudgedPair {
    pub source: PairSource,
    pub prompt: String,
    pub genres: GenreMix,
    pub style: Option<Style>,
    pub better: String,
    pub worse: String,
    /// How much it counts against other pairs.
    #[serde(default = "crate::dataset::one")]
    pub weight: f32,
}

/// Generations that taste looks through for pairs of its own.
const LOOKED_THROUGH: u32 = 400;

/// Texts of a generation that is written for taste to choose from, and the longest of them in tokens.
pub(crate) const WRITTEN: usize = 8;
pub(crate) const LENGTH: usize = 180;

/// Taste must find the better text this much likelier to be liked, in log-odds: about 3 to 1.
const CLEARLY_BETTER: f64 = 1.1;

impl App {
    /// Every pair there is to learn from, the newest first within each source: the person's own, then taste's, of which there are
    /// never more than the setting allows, and none before a taste is found on real thumbs.
    pub(crate) fn pairs_to_learn(&self, settings: &Settings, judged: &[JudgedText]) -> Result<Vec<JudgedPair>, ApiError> {
        let store = &self.home().store;
        let mut pairs = own_pairs(judged);
        pairs.extend(store.preferences()?.into_iter().rev().map(JudgedPair::from));
        let cap = settings.taste_pairs as usize;
        let Some(taste) = self.confident_taste().filter(|_| cap > 0) else { return Ok(pairs) };
        let mut chosen = Vec::new();
        for generation in store.unjudged_generations(LOOKED_THROUGH)? {
            let request = generation.request;
            let place = Place { prompt: request.prompt, genres: request.genres, style: request.style };
            chosen.extend(best_against_worst(&taste, &place, generation.texts));
        }
        chosen.sort_by(|a, b| b.0.total_cmp(&a.0));
        pairs.extend(chosen.into_iter().take(cap).map(|(_, pair)| pair));
        Ok(pairs)
    }

    /// How many more generations are to be written for a training from verdicts, so that taste has as many pairs as the setting allows.
    pub(crate) fn pairs_to_write(&self, settings: &Settings, objective: Objective, judged: &[JudgedText], pairs: &[JudgedPair]) -> u32 {
        let of_taste = pairs.iter().filter(|pair| pair.source == PairSource::Taste).count();
        // Without a verdict of the person's own there is no prompt of theirs to write for. From liked texts alone is learned what was
        // liked, not what is thought to be.
        let own = match objective {
            Objective::Dpo | Objective::Orpo => pairs.len() - of_taste,
            Objective::Kto => judged.len(),
            Objective::Sft => 0,
        };
        if own == 0 || self.confident_taste().is_none() { 0 } else { settings.taste_pairs.saturating_sub(of_taste as u32) }
    }
}

/// What a pair is written for.
#[derive(Debug, Clone, PartialEq)]
struct Place {
    prompt: String,
    genres: GenreMix,
    style: Option<Style>,
}

/// The best and the worst text by taste, with how far they are apart; `None` where it does not tell them apart.
fn best_against_worst(taste: &TasteModel, place: &Place, texts: Vec<String>) -> Option<(f64, JudgedPair)> {
    let mut scored: Vec<(f64, String)> = texts.into_iter().map(|text| (taste.predict(&text).logit, text)).collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0));
    let ((best, better), (worst, worse)) = (scored.first()?, scored.last()?);
    let Place { prompt, genres, style } = place.clone();
    let (better, worse) = (better.clone(), worse.clone());
    let pair = JudgedPair { source: PairSource::Taste, prompt, genres, style, better, worse, weight: 1.0 };
    (best - worst >= CLEARLY_BETTER).then_some((best - worst, pair))
}

/// Writes the generations that the dataset asks for, on its own prompts in turns, and adds what taste makes of each, on the side of
/// the split on which its prompt stands: a pair, or with KTO a text that is liked and one that is not. `false` when it was stopped;
/// nothing is added then.
///
/// The plain base writes: an adapter learns most from what would be written without it.
pub(crate) fn write_more(
    dataset: &mut FrozenDataset,
    base: &LoadedBase,
    taste: &TasteModel,
    numbers: &Hyperparameters,
    control: &Control,
    told: &mut dyn FnMut(f64),
) -> Result<bool, ApiError> {
    let Some(pairs) = &dataset.pairs else { return Ok(true) };
    let mut places: Vec<(Place, bool)> = Vec::new();
    for (texts, pairs, held) in [(&dataset.train, &pairs.train, false), (&dataset.heldout, &pairs.heldout, true)] {
        let of_texts = texts.iter().map(|text| (&text.prompt, &text.genres, text.style));
        for (prompt, genres, style) in of_texts.chain(pairs.iter().map(|pair| (&pair.prompt, &pair.genres, pair.style))) {
            let place = Place { prompt: prompt.clone(), genres: genres.clone(), style };
            if !prompt.trim().is_empty() && !places.iter().any(|(known, _)| *known == place) {
                places.push((place, held));
            }
        }
    }
    let mut found = (Vec::new(), Vec::new());
    let wanted = dataset.to_write as usize;
    for (round, (place, held)) in places.iter().cycle().take(wanted).enumerate() {
        let texts = loop {
            if control.breathe().is_err() {
                return Ok(false);
            }
            // What a person's text interrupts is written again, with the same seeds.
            if let Some(texts) = write_some(base, place, candidate_seed(numbers.seed, round) as u32, control)? {
                break texts;
            }
        };
        if let Some((_, pair)) = best_against_worst(taste, place, texts) {
            if *held { found.1.push(pair) } else { found.0.push(pair) }
        }
        told((round + 1) as f64 / wanted as f64);
    }
    if numbers.objective == Objective::Kto {
        dataset.train.extend(found.0.into_iter().flat_map(both));
        dataset.heldout.extend(found.1.into_iter().flat_map(both));
    } else if let Some(pairs) = &mut dataset.pairs {
        pairs.train.extend(found.0);
        pairs.heldout.extend(found.1);
    }
    dataset.to_write = 0;
    Ok(true)
}

/// The two texts of a pair, each by itself.
fn both(pair: JudgedPair) -> [JudgedText; 2] {
    let JudgedPair { prompt, genres, style, better, worse, weight, .. } = pair;
    let text = |text, liked| JudgedText {
        prompt: prompt.clone(),
        genres: genres.clone(),
        style,
        text,
        liked,
        generation: None,
        original: None,
        weight,
    };
    [text(better, true), text(worse, false)]
}

/// Texts for one prompt, in one batch; `None` when it had to stop half-way.
fn write_some(base: &LoadedBase, place: &Place, seed: u32, control: &Control) -> Result<Option<Vec<String>>, ApiError> {
    let usual = Settings::default();
    let members = (0..WRITTEN).map(|index| MemberSpec::plain(Sampler::of(&usual, candidate_seed(seed, index))));
    let must_stop = || control.stop().is_some() || control.gate().is_busy();
    let texts = base.write_as_usual((&place.genres, place.style, &place.prompt), members.collect(), LENGTH, &must_stop)?;
    Ok(texts.map(|texts| texts.into_iter().map(|text| text.trim().to_owned()).collect()))
}

/// Disliked texts of other generations that a liked text is held against when its own generation has none.
const RIVALS_ELSEWHERE: usize = 2;

/// The pairs that thumbs and edits make: every liked text over every disliked one of its generation, else over the first ones that
/// were written for the very same request, and over its original.
pub(crate) fn own_pairs(judged: &[JudgedText]) -> Vec<JudgedPair> {
    let mut pairs = Vec::new();
    for better in judged.iter().filter(|text| text.liked) {
        let pair = |source, worse: &str| JudgedPair {
            source,
            prompt: better.prompt.clone(),
            genres: better.genres.clone(),
            style: better.style,
            better: better.text.clone(),
            worse: worse.to_owned(),
            weight: better.weight,
        };
        let disliked = || judged.iter().filter(|other| !other.liked && other.generation.is_some() && better.generation.is_some());
        let before = pairs.len();
        pairs.extend(disliked().filter(|other| other.generation == better.generation).map(|other| pair(PairSource::Thumbs, &other.text)));
        if pairs.len() == before {
            let same = |other: &&JudgedText| (&other.prompt, &other.genres, other.style) == (&better.prompt, &better.genres, better.style);
            pairs.extend(disliked().filter(same).take(RIVALS_ELSEWHERE).map(|other| pair(PairSource::Thumbs, &other.text)));
        }
        pairs.extend(better.original.as_deref().map(|original| pair(PairSource::Edit, original)));
    }
    pairs
}

/// `5 from your thumbs, 2 from your edits`; only sources that gave some.
pub(crate) fn counted(pairs: &[JudgedPair]) -> String {
    let named = [
        (PairSource::Thumbs, "from your thumbs"),
        (PairSource::Edit, "from your edits"),
        (PairSource::Comparison, "from comparisons you answered"),
        (PairSource::Taste, "chosen by your taste"),
    ];
    let parts = named.iter().map(|(source, words)| (pairs.iter().filter(|pair| pair.source == *source).count(), words));
    parts.filter(|(count, _)| *count > 0).map(|(count, words)| format!("{count} {words}")).collect::<Vec<_>>().join(", ")
}

impl From<Preference> for JudgedPair {
    fn from(preference: Preference) -> Self {
        Self {
            source: PairSource::Comparison,
            prompt: preference.prompt,
            genres: preference.genres,
            style: preference.style,
            better: preference.better,
            worse: preference.worse,
            weight: 1.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base;
    use crate::dataset::SplitPairs;
    use crate::hyperparameters::resolved;
    use domain::{BaseId, BaseKind, Recipe, TrainRequest};
    use taste::{TasteData, Thumb};

    fn pair(prompt: &str) -> JudgedPair {
        let (better, worse) = ("A good one.".to_owned(), "A bad one.".to_owned());
        let prompt = prompt.to_owned();
        JudgedPair { source: PairSource::Thumbs, prompt, genres: GenreMix::default(), style: None, better, worse, weight: 1.0 }
    }

    /// Likes short texts.
    fn taste() -> TasteModel {
        let thumb = |at: usize| {
            let words = if at.is_multiple_of(2) { 20 } else { 120 };
            let text = "the lamp went out and nobody said a word ".repeat(words / 9 + 1 + at % 5);
            Thumb { generation: format!("{}", at / 2), text, liked: at.is_multiple_of(2) }
        };
        TasteModel::fit(&TasteData { thumbs: (0..60).map(thumb).collect(), comparisons: Vec::new() }, &Default::default())
    }

    #[test]
    fn taste_makes_pairs_of_what_is_written_for_each_prompt_on_its_side_of_the_split() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../assets/models/story");
        let base = LoadedBase::new(base::load(&path).expect("the built-in base"), BaseKind::Story, &path);
        let frozen = FrozenDataset {
            base: BaseId::from(base::BUILT_IN),
            train: Vec::new(),
            heldout: Vec::new(),
            pairs: Some(SplitPairs { train: vec![pair("a fox in the snow"), pair("two brothers")], heldout: vec![pair("a lost key")] }),
            to_write: 6,
            personal: None,
        };
        let taste = taste();
        let numbers = |seed, objective| {
            let request = TrainRequest::of(Recipe::Lora);
            Hyperparameters { seed, ..resolved(&Settings::default(), &request, objective).expect("the settings' own numbers") }
        };
        let written_for = |seed, objective, control: &Control| {
            let mut dataset = frozen.clone();
            let done = write_more(&mut dataset, &base, &taste, &numbers(seed, objective), control, &mut |_| {}).expect("written");
            (done, dataset)
        };
        let written = |seed, control: &Control| written_for(seed, Objective::Dpo, control);
        let (done, dataset) = written(1, &Control::default());
        let pairs = dataset.pairs.clone().expect("pairs");
        assert!(done && dataset.to_write == 0 && pairs.train.len() + pairs.heldout.len() > 5, "{} more", pairs.train.len());
        for (side, held) in [(&pairs.train, false), (&pairs.heldout, true)] {
            for pair in side.iter().filter(|pair| pair.source == PairSource::Taste) {
                assert_eq!(pair.prompt == "a lost key", held, "no prompt is on both sides");
                assert!(taste.predict(&pair.better).logit >= taste.predict(&pair.worse).logit + CLEARLY_BETTER);
            }
        }
        assert_eq!(written(1, &Control::default()).1, dataset, "the same seed writes the same pairs");
        assert_ne!(written(2, &Control::default()).1, dataset);
        let (_, singly) = written_for(1, Objective::Kto, &Control::default());
        assert_eq!(singly.pairs, frozen.pairs);
        assert_eq!(singly.train.len() + singly.heldout.len(), 2 * (pairs.train.len() + pairs.heldout.len() - 3), "each text by itself");
        let control = Control::default();
        control.cancel();
        assert_eq!(written(1, &control), (false, frozen.clone()), "what was stopped half-way adds nothing");
    }
}
