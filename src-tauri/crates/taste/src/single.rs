//! The commonest words one by one: small ones (`the`, `but`, `you`), which say how something is told, and others.

use crate::lexicon::WordMap;
use crate::words::{Said, Words};
use std::ops::Range;
use std::sync::LazyLock;

struct Single {
    word: &'static str,
    /// Of the square root of its share in a hundred words, over ordinary stories.
    mean: f64,
    deviation: f64,
}

struct Singles {
    /// The small ones first.
    words: Vec<Single>,
    small: usize,
    places: WordMap<&'static str, u32>,
}

/// `assets/words/single.txt`, made by `company.py`: kind, word, mean and deviation a line.
static SINGLES: LazyLock<Singles> = LazyLock::new(|| {
    let number = |text: Option<&str>| text.and_then(|text| text.parse::<f64>().ok());
    let mut singles = Singles { words: Vec::new(), small: 0, places: WordMap::default() };
    for line in include_str!("../../../../assets/words/single.txt").lines().filter(|line| !line.starts_with('#')) {
        let mut parts = line.split(' ');
        let (kind, word) = (parts.next(), parts.next());
        let (Some(word), Some(mean), Some(deviation)) = (word, number(parts.next()), number(parts.next())) else { continue };
        singles.small += usize::from(kind == Some("small"));
        singles.places.insert(word, singles.words.len() as u32);
        singles.words.push(Single { word, mean, deviation: deviation.max(0.05) });
    }
    singles
});

/// Those that say how, and those that name something.
pub(crate) fn kinds() -> [Range<usize>; 2] {
    let singles = &*SINGLES;
    [0..singles.small, singles.small..singles.words.len()]
}

/// Which of them a word is.
pub(crate) fn place(word: &str) -> Option<u32> {
    SINGLES.places.get(word).copied()
}

/// How often a text says each of them, in standard deviations from the mean of ordinary stories, each within ±3.
pub(crate) fn single(words: &Words, said: &[Said]) -> Vec<f32> {
    let singles = &*SINGLES;
    let mut counts = vec![0u32; singles.words.len()];
    for at in said.iter().filter_map(|said| words.known(*said).single) {
        counts[at as usize] += 1;
    }
    let n = said.len().max(1) as f64;
    let standardised = |(single, count): (&Single, &u32)| {
        let share = if *count == 0 { 0.0 } else { (100.0 * f64::from(*count) / n).sqrt() };
        ((share - single.mean) / single.deviation).clamp(-3.0, 3.0) as f32
    };
    singles.words.iter().zip(&counts).map(standardised).collect()
}

const KEY: &str = "says ";

/// The key of a word in `preference_model.json`.
pub(crate) fn key(at: usize) -> String {
    format!("{KEY}{}", SINGLES.words[at].word)
}

/// The word with this key.
pub(crate) fn find(key: &str) -> Option<usize> {
    key.strip_prefix(KEY).and_then(|word| SINGLES.places.get(word)).map(|at| *at as usize)
}

/// As a person reads it: `the word “but”`.
pub(crate) fn label(at: usize) -> String {
    format!("the word \u{201c}{}\u{201d}", SINGLES.words[at].word)
}
