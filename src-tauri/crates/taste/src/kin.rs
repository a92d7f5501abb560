//! Groups of words of kindred meaning, or that keep company, and themes that overlap: what a text is about, as far as taste can name it.

use crate::lexicon::{self, WordMap};
use crate::words::{Said, Words};
use std::ops::Range;
use std::sync::LazyLock;

/// A group of `assets/words/groups.txt`, `company.txt` or `themes.txt` (made by `groups.py`, `company.py` and `themes.py` there).
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
    /// How many are coarse or fine.
    kin: usize,
    /// How many are no themes.
    apart: usize,
    /// The coarse ones, then the fine ones, each of them part of a coarse one, then those that keep company, then the themes.
    all: Vec<Group>,
    /// Word → its groups; also from the stems of those words.
    of: WordMap<String, Places>,
}

/// The groups that a word is in.
pub(crate) type Places = Vec<u16>;

static GROUPS: LazyLock<Groups> = LazyLock::new(|| {
    let mut groups = Groups { coarse: 0, kin: 0, apart: 0, all: Vec::new(), of: WordMap::default() };
    for line in include_str!("../../../../assets/words/groups.txt").lines().filter(|line| !line.starts_with('#')) {
        let mut parts = line.split(' ');
        let (Some(kind), Some(coarse), Some(mean), Some(deviation)) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
            continue;
        };
        let members: Vec<&'static str> = parts.collect();
        if kind == "fine" {
            for member in &members {
                groups.of.insert((*member).to_owned(), vec![groups.all.len() as u16, coarse.parse().unwrap_or(0)]);
            }
        }
        groups.coarse += usize::from(kind == "coarse");
        groups.all.push(Group::new(mean, deviation, &members));
    }
    groups.kin = groups.all.len();
    groups.add(include_str!("../../../../assets/words/company.txt"));
    groups.apart = groups.all.len();
    groups.add(include_str!("../../../../assets/words/themes.txt"));
    // The first form of a stem says where its other forms belong.
    let mut stems: Vec<(String, &String, &Places)> =
        groups.of.iter().map(|(word, groups)| (lexicon::stem(word).into_owned(), word, groups)).collect();
    stems.sort();
    let stems: Vec<(String, Places)> = stems.into_iter().map(|(stem, _, groups)| (stem, groups.clone())).collect();
    for (stem, of) in stems {
        groups.of.entry(stem).or_insert(of);
    }
    groups
});

impl Groups {
    /// Adds the groups of a file: kind, mean, deviation and words a line.
    fn add(&mut self, file: &'static str) {
        for line in file.lines().filter(|line| !line.starts_with('#')) {
            let mut parts = line.split(' ').skip(1);
            let (Some(mean), Some(deviation)) = (parts.next(), parts.next()) else { continue };
            let members: Vec<&'static str> = parts.collect();
            for member in &members {
                self.of.entry((*member).to_owned()).or_default().push(self.all.len() as u16);
            }
            self.all.push(Group::new(mean, deviation, &members));
        }
    }
}

impl Group {
    fn new(mean: &str, deviation: &str, members: &[&'static str]) -> Self {
        let number = |text: &str| text.parse::<f64>().unwrap_or(0.0);
        let word = |at: usize| members.get(at).copied().unwrap_or_default();
        Self { words: [word(0), word(1), word(2)], mean: number(mean), deviation: number(deviation).max(0.05) }
    }
}

/// The coarse groups, the fine ones, those that keep company and the themes.
pub(crate) fn kinds() -> [Range<usize>; 4] {
    let groups = &*GROUPS;
    [0..groups.coarse, groups.coarse..groups.kin, groups.kin..groups.apart, groups.apart..groups.all.len()]
}

/// The groups of a word, else those of its stem.
pub(crate) fn places(word: &str, stem: &str) -> Places {
    let groups = &*GROUPS;
    groups.of.get(word).or_else(|| groups.of.get(stem)).cloned().unwrap_or_default()
}

/// How much of each group a text holds, in standard deviations from the mean of ordinary stories, each within ±3.
pub(crate) fn kin(words: &Words, said: &[Said]) -> Vec<f32> {
    let groups = &*GROUPS;
    let mut counts = vec![0u32; groups.all.len()];
    for said in said {
        for group in &words.known(*said).kin {
            counts[usize::from(*group)] += 1;
        }
    }
    let n = said.len().max(1) as f64;
    let standardised = |(group, count): (&Group, &u32)| {
        let share = if *count == 0 { 0.0 } else { (100.0 * f64::from(*count) / n).sqrt() };
        ((share - group.mean) / group.deviation).clamp(-3.0, 3.0) as f32
    };
    groups.all.iter().zip(&counts).map(standardised).collect()
}

/// How much of each fine group a text holds, in the same deviations but counted from none; those it holds none of are left out.
pub(crate) fn held(kin: &[f32]) -> impl Iterator<Item = (usize, f64)> + '_ {
    let fine = GROUPS.all.iter().enumerate().zip(kin).take(GROUPS.kin).skip(GROUPS.coarse);
    fine.map(|((group, of), z)| (group, f64::from(*z) + of.mean / of.deviation)).filter(|(_, value)| *value > 1e-9)
}

/// A group as a person reads it: `words such as “sea”, “boat” and “river”`.
pub(crate) fn label(group: usize) -> String {
    let [a, b, c] = GROUPS.all[group].words.map(|word| format!("\u{201c}{word}\u{201d}"));
    format!("words such as {a}, {b} and {c}")
}

/// The key of a group in `preference_model.json`: `words sea boat river`, `kin night dark window` for a coarse one, `company
/// boat shore sail`, `theme night nights evening`.
pub(crate) fn key(group: usize) -> String {
    let kind = match group {
        _ if group < GROUPS.coarse => "kin",
        _ if group < GROUPS.kin => "words",
        _ if group < GROUPS.apart => "company",
        _ => "theme",
    };
    format!("{kind} {}", GROUPS.all[group].words.join(" "))
}

/// The group with this key.
pub(crate) fn find(wanted: &str) -> Option<usize> {
    static PLACES: LazyLock<WordMap<String, usize>> =
        LazyLock::new(|| (0..GROUPS.all.len()).rev().map(|group| (key(group), group)).collect());
    PLACES.get(wanted).copied()
}
