//! Pairs of a better and a worse text, for DPO: where they come from, and how many of each there are.

use crate::App;
use crate::dataset::JudgedText;
use domain::{ApiError, GenreMix, Preference, Settings, Style};
use serde::{Deserialize, Serialize};

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
    /// The best against the worst by the person's taste, in a generation they did not judge.
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

/// Taste must find the better text this much likelier to be liked, in log-odds: about 3 to 1.
const CLEARLY_BETTER: f64 = 1.1;

impl App {
    /// Every pair there is to learn from, the newest first within each source: the person's own, then taste's, of which there
    /// are never more than the person's, nor more than the setting allows, and none before a taste is found on real thumbs.
    pub(crate) fn pairs_to_learn(&self, settings: &Settings, judged: &[JudgedText]) -> Result<Vec<JudgedPair>, ApiError> {
        let store = &self.home().store;
        let mut pairs = own_pairs(judged);
        pairs.extend(store.preferences()?.into_iter().rev().map(JudgedPair::from));
        let cap = pairs.len().min(settings.taste_pairs as usize);
        let Some(taste) = self.confident_taste().filter(|_| cap > 0) else { return Ok(pairs) };
        let mut chosen = Vec::new();
        for generation in store.unjudged_generations(LOOKED_THROUGH)? {
            let mut scored: Vec<(f64, String)> = generation.texts.into_iter().map(|text| (taste.predict(&text).logit, text)).collect();
            scored.sort_by(|a, b| b.0.total_cmp(&a.0));
            if let (Some((best, better)), Some((worst, worse))) = (scored.first(), scored.last())
                && best - worst >= CLEARLY_BETTER
            {
                let request = generation.request;
                let (better, worse) = (better.clone(), worse.clone());
                let (source, prompt) = (PairSource::Taste, request.prompt);
                chosen.push((
                    best - worst,
                    JudgedPair { source, prompt, genres: request.genres, style: request.style, better, worse, weight: 1.0 },
                ));
            }
        }
        chosen.sort_by(|a, b| b.0.total_cmp(&a.0));
        pairs.extend(chosen.into_iter().take(cap).map(|(_, pair)| pair));
        Ok(pairs)
    }
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
