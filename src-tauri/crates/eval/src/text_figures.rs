//! Repetition and diversity of a set of texts; definitions after arXiv 2403.00553.

use flate2::Compression;
use flate2::write::GzEncoder;
use std::collections::{HashMap, HashSet};
use std::io::Write;

/// Texts that self-BLEU compares at most; it grows with their square.
const COMPARED: usize = 40;

fn words(text: &str) -> Vec<String> {
    text.to_lowercase().split(|c: char| !(c.is_alphanumeric() || c == '\'')).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// Share of 4-grams that stood in the same text before, in all texts together, plus a thousandth so that ratios exist.
pub fn repeated_4_grams(texts: &[String]) -> f64 {
    let (mut repeated, mut all) = (0, 0);
    for text in texts {
        let words = words(text);
        let mut seen = HashSet::new();
        repeated += words.windows(4).filter(|gram| !seen.insert(gram.to_vec())).count();
        all += words.len().saturating_sub(3);
    }
    repeated as f64 / f64::from(all.max(1) as u32) + 0.001
}

/// Different word pairs over all word pairs.
pub fn distinct_2(texts: &[String]) -> f64 {
    let mut seen = HashSet::new();
    let mut all = 0;
    for text in texts {
        let words = words(text);
        all += words.len().saturating_sub(1);
        seen.extend(words.windows(2).map(<[String]>::to_vec));
    }
    seen.len() as f64 / all.max(1) as f64
}

/// Size of all texts over their size packed by gzip.
pub fn compression_ratio(texts: &[String]) -> f64 {
    let all = texts.join("\n");
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    let packed = encoder.write_all(all.as_bytes()).and_then(|()| encoder.finish()).map_or(1, |packed| packed.len());
    all.len() as f64 / packed.max(1) as f64
}

/// Mean over texts of how many of a text's 1- to 4-grams stand in the others (geometric mean of clipped precisions;
/// the brevity penalty is left out, as lengths are compared elsewhere).
pub fn self_bleu(texts: &[String]) -> f64 {
    let texts: Vec<Vec<String>> = texts.iter().take(COMPARED).map(|text| words(text)).collect();
    let counts = |words: &[String], n: usize| {
        let mut counts: HashMap<Vec<String>, u32> = HashMap::new();
        words.windows(n).for_each(|gram| *counts.entry(gram.to_vec()).or_default() += 1);
        counts
    };
    let mut log_sums = vec![0.0; texts.len()];
    for n in 1..=4 {
        let all: Vec<HashMap<Vec<String>, u32>> = texts.iter().map(|words| counts(words, n)).collect();
        for (at, own) in all.iter().enumerate() {
            let most = |gram: &Vec<String>| {
                all.iter()
                    .enumerate()
                    .filter(|(other, _)| *other != at)
                    .filter_map(|(_, counts)| counts.get(gram))
                    .max()
                    .copied()
                    .unwrap_or(0)
            };
            let found: u32 = own.iter().map(|(gram, count)| (*count).min(most(gram))).sum();
            let total: u32 = own.values().sum();
            log_sums[at] += (f64::from(found).max(0.1) / f64::from(total.max(1))).ln() / 4.0;
        }
    }
    log_sums.iter().map(|sum| sum.exp()).sum::<f64>() / texts.len().max(1) as f64
}
