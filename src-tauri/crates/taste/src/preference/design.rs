//! From texts and verdicts to the rows of a regression.

use super::{Priors, TasteData};
use crate::features::{self, STYLE, STYLE_FEATURES};
use crate::lexicon::{STOP, WordMap, lists, rarity, stem};
use crate::reading::Reading;
use std::collections::HashMap;

/// Rows `label ~ dense · θ[..dense] + sparse · θ[dense..]`.
pub(super) struct Design {
    pub terms: Vec<String>,
    pub vocabulary: Vec<String>,
    /// Number of dense columns: the bias and the style terms.
    pub dense: usize,
    pub rows: Vec<Row>,
    /// `[items, dense]` and word columns of every text; the first `data.thumbs.len()` belong to the thumbs.
    pub items: Vec<Item>,
    /// Prior precision of each parameter.
    pub precision: Vec<f64>,
}

pub(super) struct Item {
    pub dense: Vec<f64>,
    pub words: Vec<(u32, f64)>,
}

/// A thumb (one item) or a Bradley–Terry pair (two: `item` over `other`).
pub(super) struct Row {
    pub item: usize,
    pub other: Option<usize>,
    pub liked: bool,
    pub weight: f64,
}

impl Design {
    pub fn new(data: &TasteData, max_vocabulary: usize, priors: &Priors) -> Self {
        let mut interner = Interner::default();
        let mut items = Vec::with_capacity(data.thumbs.len() + 2 * data.comparisons.len());
        let comparisons = data.comparisons.iter().flat_map(|one| [&one.better, &one.worse]);
        for text in data.thumbs.iter().map(|thumb| &thumb.text).chain(comparisons) {
            let reading = Reading::new(text);
            items.push(Item { dense: dense_terms(&reading, priors), words: interner.vector(&reading) });
        }
        let vocabulary = if priors.word > 0.0 { interner.keep(max_vocabulary, &mut items) } else { Vec::new() };
        if priors.word <= 0.0 {
            items.iter_mut().for_each(|item| item.words.clear());
        }
        let terms = term_names(priors);
        let mut precision: Vec<f64> = term_sds(priors).into_iter().map(|sd| 1.0 / (sd * sd)).collect();
        let dense = precision.len();
        precision.resize(dense + vocabulary.len(), 1.0 / (priors.word * priors.word).max(1e-12));
        Self { terms, vocabulary, dense, rows: rows(data, priors), items, precision }
    }

    pub fn parameters(&self) -> usize {
        self.precision.len()
    }
}

/// Every thumb; inside each generation its liked texts against its disliked ones, each text of the larger side once,
/// so that rows grow with thumbs and not with their square; every comparison.
fn rows(data: &TasteData, priors: &Priors) -> Vec<Row> {
    let thumb = |(item, thumb): (usize, &super::Thumb)| Row { item, other: None, liked: thumb.liked, weight: 1.0 };
    let mut rows: Vec<Row> = data.thumbs.iter().enumerate().map(thumb).collect();
    let mut generations: HashMap<&str, usize> = HashMap::new();
    let mut sides: Vec<[Vec<usize>; 2]> = Vec::new();
    for (item, thumb) in data.thumbs.iter().enumerate() {
        let at = *generations.entry(&thumb.generation).or_insert_with(|| {
            sides.push(Default::default());
            sides.len() - 1
        });
        sides[at][usize::from(thumb.liked)].push(item);
    }
    for [disliked, liked] in sides.iter().filter(|[disliked, liked]| !disliked.is_empty() && !liked.is_empty()) {
        for at in 0..liked.len().max(disliked.len()) {
            let (item, other) = (liked[at % liked.len()], disliked[at % disliked.len()]);
            rows.push(Row { item, other: Some(other), liked: true, weight: priors.pair_weight });
        }
    }
    for at in 0..data.comparisons.len() {
        let item = data.thumbs.len() + 2 * at;
        rows.push(Row { item, other: Some(item + 1), liked: true, weight: 1.0 });
    }
    rows.retain(|row| row.weight > 0.0);
    rows
}

/// Names of the dense terms: "bias", the style features, "x²", "x × y".
pub(super) fn term_names(priors: &Priors) -> Vec<String> {
    let mut names = vec!["bias".to_owned()];
    names.extend(STYLE_FEATURES.iter().map(|feature| feature.name.to_owned()));
    if priors.curve > 0.0 {
        names.extend(STYLE_FEATURES.iter().map(|feature| format!("{}²", feature.name)));
    }
    if priors.together > 0.0 {
        names.extend(pairs().map(|(a, b)| format!("{} × {}", STYLE_FEATURES[a].name, STYLE_FEATURES[b].name)));
    }
    names
}

fn term_sds(priors: &Priors) -> Vec<f64> {
    let mut sds = vec![priors.bias];
    sds.extend([priors.style; STYLE]);
    if priors.curve > 0.0 {
        sds.extend([priors.curve; STYLE]);
    }
    if priors.together > 0.0 {
        sds.extend(pairs().map(|_| priors.together));
    }
    sds
}

pub(super) fn dense_terms(reading: &Reading, priors: &Priors) -> Vec<f64> {
    let style = features::standardised(features::raw(reading));
    let mut terms = vec![1.0];
    terms.extend(style);
    if priors.curve > 0.0 {
        // Centred and scaled like the features themselves; the square of a far outlier must not outshout the rest.
        terms.extend(style.map(|z| ((z * z - 1.0) / std::f64::consts::SQRT_2).min(3.0)));
    }
    if priors.together > 0.0 {
        terms.extend(pairs().map(|(a, b)| (style[a] * style[b]).clamp(-3.0, 3.0)));
    }
    terms
}

fn pairs() -> impl Iterator<Item = (usize, usize)> {
    (0..STYLE).flat_map(|a| (a + 1..STYLE).map(move |b| (a, b)))
}

/// The content stems of a text, each once, weighted by rarity; the vector has length 1.
pub(super) fn word_vector(reading: &Reading) -> Vec<(String, f64)> {
    let mut interner = Interner::default();
    let vector = interner.vector(reading);
    vector.into_iter().map(|(id, value)| (std::mem::take(&mut interner.stems[id as usize]), value)).collect()
}

/// Gives every stem a number, and counts in how many texts it stands.
#[derive(Default)]
struct Interner {
    /// Words as written → number of their stem, or `None` for those that do not count.
    words: WordMap<String, Option<u32>>,
    numbers: WordMap<String, u32>,
    stems: Vec<String>,
    rarity: Vec<f64>,
    texts: Vec<u32>,
}

impl Interner {
    fn vector(&mut self, reading: &Reading) -> Vec<(u32, f64)> {
        let mut numbers: Vec<u32> = reading.iter().filter_map(|word| self.number(word)).collect();
        numbers.sort_unstable();
        numbers.dedup();
        let length = numbers.iter().map(|id| self.rarity[*id as usize].powi(2)).sum::<f64>().sqrt();
        if length <= 0.0 {
            return Vec::new();
        }
        for id in &numbers {
            self.texts[*id as usize] += 1;
        }
        numbers.into_iter().map(|id| (id, self.rarity[id as usize] / length)).collect()
    }

    fn number(&mut self, word: &str) -> Option<u32> {
        if let Some(known) = self.words.get(word) {
            return *known;
        }
        let number = if word.len() < 3 || word.len() > 40 || lists(word) & STOP != 0 {
            None
        } else {
            let stem = stem(word);
            Some(self.numbers.get(stem.as_ref()).copied().unwrap_or_else(|| {
                let number = self.stems.len() as u32;
                self.rarity.push(rarity(&stem));
                self.texts.push(0);
                self.stems.push(stem.to_string());
                self.numbers.insert(stem.into_owned(), number);
                number
            }))
        };
        self.words.insert(word.to_owned(), number);
        number
    }

    /// Keeps the `most` stems that stand in the most texts, in two at least, and renumbers the items' words.
    fn keep(self, most: usize, items: &mut [Item]) -> Vec<String> {
        let mut order: Vec<usize> = (0..self.stems.len()).filter(|id| self.texts[*id] >= 2).collect();
        order.sort_by(|a, b| self.texts[*b].cmp(&self.texts[*a]).then_with(|| self.stems[*a].cmp(&self.stems[*b])));
        order.truncate(most);
        let mut renumbered = vec![None; self.stems.len()];
        for (new, old) in order.iter().enumerate() {
            renumbered[*old] = Some(new as u32);
        }
        for item in items {
            item.words.retain_mut(|(id, _)| renumbered[*id as usize].map(|new| *id = new).is_some());
        }
        let mut stems = self.stems;
        order.into_iter().map(|id| std::mem::take(&mut stems[id])).collect()
    }
}
