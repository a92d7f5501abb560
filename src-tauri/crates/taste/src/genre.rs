//! Which genre a text reads like.

use crate::lexicon::{STOP, WordMap, lists, stem};
use crate::reading::Reading;
use domain::{Genre, GenreMix};
use serde::Deserialize;
use std::collections::{BTreeMap, HashSet};
use std::sync::LazyLock;

/// The genre word model of `assets/words/genres.json`, made by `examples/word_statistics.rs`.
#[derive(Deserialize)]
struct GenreWords {
    /// Log-odds are multiplied by this and rounded.
    scale: f64,
    genres: Vec<String>,
    prior: Vec<f64>,
    /// Stem → log-odds of each genre, times `scale`.
    words: WordMap<String, Vec<i16>>,
}

static WORDS: LazyLock<GenreWords> = LazyLock::new(|| {
    serde_json::from_str(include_str!("../../../../assets/words/genres.json")).unwrap_or(GenreWords {
        scale: 1.0,
        genres: Vec::new(),
        prior: Vec::new(),
        words: WordMap::default(),
    })
});

/// Probability of each genre given the words of `text`; they sum to 1. Without a known word all are equally likely.
pub fn genre_probabilities(text: &str) -> BTreeMap<Genre, f64> {
    probabilities(&Reading::new(text))
}

/// How well a text fits the genre sliders, 0–1: the overlap Σ min(wanted, read) of the wanted mix and the genres it
/// reads like. An empty mix means any genre, which every text fits.
pub fn genre_fit(genres: &GenreMix, text: &str) -> f64 {
    fit(genres, &Reading::new(text))
}

/// The stems of the content words of a text, each once, in alphabetical order.
pub fn content_stems(text: &str) -> Vec<String> {
    let reading = Reading::new(text);
    let stems = reading.iter().filter(|word| lists(word) & STOP == 0).map(|word| stem(word).into_owned());
    stems.collect::<std::collections::BTreeSet<String>>().into_iter().collect()
}

pub(crate) fn fit(genres: &GenreMix, reading: &Reading) -> f64 {
    let wanted: f64 = genres.0.values().filter(|weight| weight.is_finite() && **weight > 0.0).sum();
    if !(wanted > 0.0 && wanted.is_finite()) {
        return 1.0;
    }
    let read = probabilities(reading);
    let overlap: f64 = genres.0.iter().map(|(genre, weight)| (weight / wanted).max(0.0).min(read.get(genre).copied().unwrap_or(0.0))).sum();
    if overlap.is_finite() { overlap.clamp(0.0, 1.0) } else { 0.0 }
}

pub(crate) fn probabilities(reading: &Reading) -> BTreeMap<Genre, f64> {
    let model = &*WORDS;
    let genres = Genre::ALL;
    // Column of each genre in the file, which names its own order.
    let column: Vec<Option<usize>> = genres.iter().map(|genre| model.genres.iter().position(|name| name == genre.name())).collect();
    let mut sums: Vec<f64> = column.iter().map(|at| at.and_then(|at| model.prior.get(at)).copied().unwrap_or(0.0)).collect();
    let mut seen = HashSet::new();
    for word in reading.iter().filter(|word| lists(word) & STOP == 0) {
        let stem = stem(word);
        let Some(odds) = model.words.get(stem.as_ref()) else { continue };
        if !seen.insert(stem) {
            continue;
        }
        for (sum, at) in sums.iter_mut().zip(&column) {
            *sum += at.and_then(|at| odds.get(at)).map_or(0.0, |odds| f64::from(*odds) / model.scale);
        }
    }
    let highest = sums.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let weights: Vec<f64> = sums.iter().map(|sum| (sum - highest).exp()).collect();
    let all: f64 = weights.iter().sum();
    genres.iter().zip(weights).map(|(genre, weight)| (*genre, weight / all)).collect()
}
