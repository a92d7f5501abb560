//! Repetition inside a text, variety between texts, and fluency.

use crate::lexicon::Fnv;
use crate::reading::Reading;
use std::collections::HashSet;
use std::hash::Hasher;

/// Share of a text's word 4-grams that stood in it before, 0–1; 0 for texts under five words.
pub fn repetition(text: &str) -> f64 {
    repeated_4_grams(&Reading::new(text))
}

pub(crate) fn repeated_4_grams(reading: &Reading) -> f64 {
    repeated(&reading.iter().map(hash).collect::<Vec<u64>>())
}

/// The same of the words' hashes.
pub(crate) fn repeated(words: &[u64]) -> f64 {
    if words.len() < 5 {
        return 0.0;
    }
    // Sorted hashes instead of a set of slices: this runs for every text that taste learns from.
    let mut grams: Vec<u64> = words
        .windows(4)
        .map(|four| four.iter().fold(0, |sum: u64, word| (sum ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23)))
        .collect();
    let all = grams.len();
    grams.sort_unstable();
    grams.dedup();
    (all - grams.len()) as f64 / all as f64
}

pub(crate) fn hash(word: &str) -> u64 {
    let mut hasher = Fnv::default();
    hasher.write(word.as_bytes());
    hasher.finish()
}

/// Distinct-2: different word pairs over all word pairs of all texts together, 0–1 (Li et al., arXiv 1510.03055);
/// 0 when there is no pair.
pub fn distinct_2(texts: &[&str]) -> f64 {
    let readings: Vec<Reading> = texts.iter().map(|text| Reading::new(text)).collect();
    let words: Vec<Vec<&str>> = readings.iter().map(|reading| reading.iter().collect()).collect();
    let mut distinct = HashSet::new();
    let mut all = 0usize;
    for pair in words.iter().flat_map(|words| words.windows(2)) {
        distinct.insert(pair);
        all += 1;
    }
    if all == 0 { 0.0 } else { distinct.len() as f64 / all as f64 }
}

/// How natural a text reads, 0–1, from its mean log-probability a token under the plain base (nats, at temperature 1)
/// and its [`repetition`].
///
/// Calibrated on the built-in base, whose ordinary text has −2.7 (held-out stories: 0.60) to −1.5 (its own likeliest
/// writing: 0.94); −4 is noise (0.10). A loop is likely too, so repetition beyond the 2% that ordinary stories reach
/// lowers the result. Without a probability (not a number) only repetition counts, from a middling 0.5.
pub fn fluency(mean_logprob: f64, repetition: f64) -> f64 {
    let likely = if mean_logprob.is_nan() { 0.5 } else { 1.0 / (1.0 + (-(mean_logprob + 2.9) / 0.5).exp()) };
    let repeated = if repetition.is_finite() { (repetition - 0.02).clamp(0.0, 1.0) } else { 0.0 };
    likely * (-8.0 * repeated).exp()
}
