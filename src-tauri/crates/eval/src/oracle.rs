//! What simulated users like: their own reading of a text, which shares nothing with taste's features.

mod drawn;
mod fresh;
mod others;
mod users;

use std::collections::HashSet;

pub use drawn::DRAWN;
pub use fresh::FRESH;
pub use others::OTHERS;
pub use users::USERS;

/// A text as the oracle reads it.
pub struct Seen<'t> {
    pub text: &'t str,
    /// Lower case, letters and apostrophes only, in order.
    pub words: Vec<String>,
    /// Words of each sentence.
    pub sentences: Vec<usize>,
}

impl<'t> Seen<'t> {
    pub fn new(text: &'t str) -> Self {
        let lower = text.to_lowercase().replace('’', "'");
        let split = |part: &str| -> Vec<String> {
            let words = part.split(|c: char| !(c.is_alphabetic() || c == '\'')).map(|word| word.trim_matches('\''));
            words.filter(|word| !word.is_empty()).map(str::to_owned).collect()
        };
        let sentences = lower.split(['.', '!', '?']).map(|part| split(part).len()).filter(|words| *words > 0).collect();
        Self { text, words: split(&lower), sentences }
    }

    /// Words of a list in a hundred.
    pub fn rate(&self, list: &str) -> f64 {
        let list: HashSet<&str> = list.split_whitespace().collect();
        100.0 * self.words.iter().filter(|word| list.contains(word.as_str())).count() as f64 / self.words.len().max(1) as f64
    }

    /// Share of characters between double quotes.
    pub fn spoken(&self) -> f64 {
        let plain = self.text.replace(['“', '”'], "\"");
        let inside: usize = plain.split('"').skip(1).step_by(2).map(str::len).sum();
        inside as f64 / plain.len().max(1) as f64
    }

    /// Mean words of a sentence.
    pub fn sentence_length(&self) -> f64 {
        self.words.len() as f64 / self.sentences.len().max(1) as f64
    }

    /// The last words.
    pub fn ending(&self, words: usize) -> Seen<'t> {
        let last = self.words[self.words.len().saturating_sub(words)..].to_vec();
        Seen { text: self.text, words: last, sentences: Vec::new() }
    }
}

/// What stands behind a user's verdicts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Taste has a feature near this trait.
    Featured,
    /// It has none.
    Unfeatured,
    /// Likes the opposite from half of the thumbs on.
    Changing,
    /// Throws a coin for every thumb.
    Random,
}

/// A simulated user: the larger the trait, the better liked; texts above the pool's median are thumbed up.
#[derive(Debug, Clone, Copy)]
pub struct User {
    pub name: &'static str,
    pub kind: Kind,
    /// Share of thumbs that slip.
    pub slips: f64,
    pub trait_of: fn(&Seen) -> f64,
}

impl User {
    const fn new(name: &'static str, kind: Kind, trait_of: fn(&Seen) -> f64) -> Self {
        Self { name, kind, slips: 0.10, trait_of }
    }

    /// Whether there is one lasting taste to find.
    pub fn learnable(&self) -> bool {
        matches!(self.kind, Kind::Featured | Kind::Unfeatured)
    }
}

fn per_hundred(seen: &Seen, count: usize) -> f64 {
    100.0 * share(count, seen.words.len())
}

fn share(part: usize, whole: usize) -> f64 {
    part as f64 / whole.max(1) as f64
}

/// A user's verdicts before slips, given the traits of the texts that set the bar.
#[derive(Debug, Clone, Copy)]
pub struct Bar(f64);

impl Bar {
    /// The median, on the side of it that leaves likes and dislikes more even.
    pub fn new(traits: &[f64]) -> Self {
        let mut sorted = traits.to_vec();
        sorted.sort_by(f64::total_cmp);
        let median = sorted.get(sorted.len() / 2).copied().unwrap_or(0.0);
        let above = sorted.iter().filter(|value| **value > median).count();
        let with_it = sorted.iter().filter(|value| **value >= median).count();
        let half = sorted.len() / 2;
        Self(if half.abs_diff(with_it) < half.abs_diff(above) { median - 1e-9 } else { median })
    }

    pub fn likes(self, trait_value: f64) -> bool {
        trait_value > self.0
    }
}
