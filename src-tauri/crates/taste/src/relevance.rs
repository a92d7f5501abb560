//! Whether a text is about its prompt.

use crate::lexicon::{STOP, WordMap, lists, rarity, stem};
use crate::reading::Reading;

/// How much of the prompt's content the text takes up, 0–1.
///
/// Compares stems of content words, each counting as much as it is rare in ordinary stories; a word that meets only a
/// kin with the same five first letters ("mysterious", "mystery") counts 0.7. A prompt without content words asks for
/// nothing and gives 1. With `nearness`, the cosine of the embeddings of prompt and text, a text that says it all in
/// synonyms is found too; without, it scores low.
pub fn on_prompt(prompt: &str, text: &str, nearness: Option<f64>) -> f64 {
    let words = match found_and_wanted(&Reading::new(prompt), &Reading::new(text)) {
        (_, 0.0) => return 1.0,
        // A good story takes up some of the prompt's words and says the rest in others: the first ones count most.
        (found, wanted) => (found / wanted).sqrt().min(1.0),
    };
    match nearness.filter(|cosine| cosine.is_finite()) {
        Some(cosine) => 0.3 * words + 0.7 * ((cosine - UNRELATED) / (CLOSE - UNRELATED)).clamp(0.0, 1.0),
        None => words,
    }
}

/// Cosines of a story with another's prompt and with its own: the lowest tenth of the former and the highest of the latter
/// among the probe stories, by all-MiniLM-L6-v2.
const UNRELATED: f64 = 0.06;
const CLOSE: f64 = 0.62;

/// Weight of the prompt's content words found in the text, and of all of them.
pub(crate) fn found_and_wanted(prompt: &Reading, text: &Reading) -> (f64, f64) {
    let mut there: WordMap<String, f64> = WordMap::default();
    for word in text.iter().filter(|word| lists(word) & STOP == 0) {
        let stem = stem(word);
        if let Some(start) = kin(&stem) {
            there.entry(format!("{start}-")).or_insert(0.7);
        }
        there.insert(stem.into_owned(), 1.0);
    }
    let mut asked: WordMap<String, f64> = WordMap::default();
    for word in prompt.iter().filter(|word| lists(word) & STOP == 0) {
        let stem = stem(word);
        let weight = 0.2 + 0.8 * rarity(&stem);
        asked.insert(stem.into_owned(), weight);
    }
    let mut stems: Vec<(&String, &f64)> = asked.iter().collect();
    stems.sort_by(|a, b| a.0.cmp(b.0));
    let mut sums = (0.0, 0.0);
    for (stem, weight) in stems {
        let kin = || kin(stem).and_then(|start| there.get(&format!("{start}-")));
        sums.0 += weight * there.get(stem).or_else(kin).copied().unwrap_or(0.0);
        sums.1 += weight;
    }
    sums
}

fn kin(stem: &str) -> Option<&str> {
    if stem.len() >= 6 { stem.get(..5) } else { None }
}
