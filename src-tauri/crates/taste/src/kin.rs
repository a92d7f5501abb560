//! Groups of words of kindred meaning: what a text is about, as far as taste can name it.

use crate::lexicon::{self, WordMap};
use crate::reading::Reading;
use std::sync::LazyLock;

/// A group of `assets/words/groups.txt` (made by `assets/words/groups.py`).
struct Group {
    /// Its commonest words.
    words: [&'static str; 3],
    /// Of the square root of its words in a hundred, over ordinary stories.
    mean: f64,
    deviation: f64,
}

struct Groups {
    /// How many of them are coarse.
    coarse: usize,
    /// The coarse ones, then the fine ones; each fine group is part of a coarse one.
    all: Vec<Group>,
    /// Word → fine and coarse group; also from the stems of those words.
    of: WordMap<String, [u16; 2]>,
}

static GROUPS: LazyLock<Groups> = LazyLock::new(|| {
    let mut groups = Groups { coarse: 0, all: Vec::new(), of: WordMap::default() };
    let mut stems: WordMap<String, [u16; 2]> = WordMap::default();
    for line in include_str!("../../../../assets/words/groups.txt").lines().filter(|line| !line.starts_with('#')) {
        let mut parts = line.split(' ');
        let (Some(kind), Some(coarse), Some(mean), Some(deviation)) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
            continue;
        };
        let number = |text: &str| text.parse::<f64>().unwrap_or(0.0);
        let members: Vec<&'static str> = parts.collect();
        let word = |at: usize| members.get(at).copied().unwrap_or_default();
        if kind == "fine" {
            let both = [groups.all.len() as u16, coarse.parse().unwrap_or(0)];
            for member in &members {
                groups.of.insert((*member).to_owned(), both);
                // The commonest member of a stem says where its other forms belong.
                stems.entry(lexicon::stem(member).into_owned()).or_insert(both);
            }
        }
        groups.coarse += usize::from(kind == "coarse");
        groups.all.push(Group { words: [word(0), word(1), word(2)], mean: number(mean), deviation: number(deviation).max(0.05) });
    }
    for (stem, both) in stems {
        groups.of.entry(stem).or_insert(both);
    }
    groups
});

/// The fine groups.
pub(crate) fn fine() -> std::ops::Range<usize> {
    GROUPS.coarse..GROUPS.all.len()
}

/// Number of groups.
pub(crate) fn count() -> usize {
    GROUPS.all.len()
}

/// How much of each group a text holds, in standard deviations from the mean of ordinary stories, each within ±3.
pub(crate) fn kin(reading: &Reading) -> Vec<f64> {
    let groups = &*GROUPS;
    let mut counts = vec![0u32; groups.all.len()];
    for word in reading.iter() {
        let found = groups.of.get(word).or_else(|| groups.of.get(lexicon::stem(word).as_ref()));
        if let Some([fine, coarse]) = found {
            counts[*fine as usize] += 1;
            counts[*coarse as usize] += 1;
        }
    }
    let n = reading.words.len().max(1) as f64;
    let standardised = |(group, count): (&Group, &u32)| {
        let share = (100.0 * f64::from(*count) / n).sqrt();
        ((share - group.mean) / group.deviation).clamp(-3.0, 3.0)
    };
    groups.all.iter().zip(&counts).map(standardised).collect()
}

/// How much of each fine group a text holds, in the same deviations but counted from none; those it holds none of are left out.
pub(crate) fn held(kin: &[f64]) -> impl Iterator<Item = (usize, f64)> + '_ {
    let fine = GROUPS.all.iter().enumerate().zip(kin).skip(GROUPS.coarse);
    fine.map(|((group, of), z)| (group, z + of.mean / of.deviation)).filter(|(_, value)| *value > 1e-9)
}

/// A group as a person reads it: `words such as “sea”, “boat” and “river”`.
pub(crate) fn label(group: usize) -> String {
    let [a, b, c] = GROUPS.all[group].words.map(|word| format!("\u{201c}{word}\u{201d}"));
    format!("words such as {a}, {b} and {c}")
}

/// The key of a group in `preference_model.json`: `words sea boat river`, or `kin night dark window` for a coarse one.
pub(crate) fn key(group: usize) -> String {
    let kind = if group < GROUPS.coarse { "kin" } else { "words" };
    format!("{kind} {}", GROUPS.all[group].words.join(" "))
}

/// The group with this key.
pub(crate) fn find(wanted: &str) -> Option<usize> {
    (0..count()).find(|group| key(*group) == wanted)
}
