//! Simulated users: a hidden trait decides whom a text pleases; a tenth of their thumbs is a slip.

use crate::stories::{Random, STORIES};
use domain::TasteTraining;
use taste::{TasteData, TasteModel, Thumb, auc};

/// A hidden preference; it reads texts with its own code, not with the features under test.
pub struct User {
    pub name: &'static str,
    /// The larger, the better liked; texts above the median are liked.
    trait_of: fn(&str) -> f64,
}

fn words(text: &str) -> f64 {
    text.split_whitespace().count() as f64
}

fn spoken(text: &str) -> f64 {
    text.split('"').skip(1).step_by(2).map(str::len).sum::<usize>() as f64 / text.len() as f64
}

fn sentence_letters(text: &str) -> f64 {
    text.len() as f64 / text.matches(['.', '!', '?']).count().max(1) as f64
}

fn family(text: &str, members: &[&str]) -> f64 {
    let lower = text.to_lowercase();
    lower.split(|c: char| !c.is_alphabetic()).filter(|word| members.contains(word)).count() as f64
}

/// Users whose trait stands behind a feature, more or less directly.
pub const FEATURE_USERS: [User; 7] = [
    User { name: "dialogue", trait_of: spoken },
    User { name: "short sentences", trait_of: |text| -sentence_letters(text) },
    User {
        name: "first person",
        trait_of: |text| text.matches(" I ").count() as f64 + text.matches(" my ").count() as f64 - spoken(text) * 20.0,
    },
    User { name: "long", trait_of: words },
    User { name: "questions", trait_of: |text| text.matches('?').count() as f64 },
    User {
        name: "past over present",
        trait_of: |text| family(text, &["was", "had", "were", "did"]) - family(text, &["is", "are", "has", "does"]),
    },
    User {
        name: "gloom",
        trait_of: |text| family(text, &["dark", "cold", "dead", "alone", "empty", "afraid", "blood", "black", "silence", "never"]),
    },
];

/// Users whose trait has no feature of its own.
pub const OTHER_USERS: [User; 5] = [
    User {
        name: "water",
        trait_of: |text| {
            family(text, &["sea", "boat", "river", "water", "rain", "wave", "waves", "ship", "lake", "harbour", "wet", "fish"])
        },
    },
    User {
        name: "animals",
        trait_of: |text| family(text, &["dog", "cat", "horse", "bird", "birds", "fox", "wolf", "goat", "hen", "mouse", "bear", "cow"]),
    },
    User { name: "middle length", trait_of: |text| -(words(text) - 130.0).abs() },
    User { name: "dialogue and short", trait_of: |text| f64::from(spoken(text) > 0.08) + f64::from(sentence_letters(text) < 45.0) * 0.9 },
    User { name: "paragraphs", trait_of: |text| text.matches("\n\n").count() as f64 },
];

impl User {
    /// Whether each story of the fixture pleases.
    pub fn likes(&self) -> Vec<bool> {
        let traits: Vec<f64> = STORIES.iter().map(|story| (self.trait_of)(&story.text)).collect();
        let mut sorted = traits.clone();
        sorted.sort_by(f64::total_cmp);
        let median = sorted[sorted.len() / 2];
        // Where half of the texts have none of the trait, any of it is liked.
        let bar = if median == sorted[0] { median } else { median - 1e-9 };
        traits.iter().map(|value| *value > bar).collect()
    }
}

/// `n` thumbs, two a generation, and the indices of the stories that were not shown.
pub fn thumbs(likes: &[bool], n: usize, slips: f64, seed: u64) -> (TasteData, Vec<usize>) {
    let mut random = Random::new(seed);
    let mut order: Vec<usize> = (0..likes.len()).collect();
    random.shuffle(&mut order);
    let thumb = |(at, story): (usize, &usize)| Thumb {
        generation: format!("g{}", at / 2),
        text: STORIES[*story].text.clone(),
        liked: likes[*story] != random.chance(slips),
    };
    let thumbs = order[..n].iter().enumerate().map(thumb).collect();
    (TasteData { thumbs, comparisons: Vec::new() }, order[n..].to_vec())
}

fn heldout_auc(model: &TasteModel, likes: &[bool], heldout: &[usize]) -> f64 {
    let scores: Vec<f64> = heldout.iter().map(|story| model.predict(&STORIES[*story].text).logit).collect();
    let liked: Vec<bool> = heldout.iter().map(|story| likes[*story]).collect();
    auc(&scores, &liked).expect("both verdicts are held out")
}

/// Held-out AUC after `n` thumbs, and whether the model is confident.
pub fn judged(user: &User, n: usize, seed: u64) -> (f64, bool) {
    let likes = user.likes();
    let (data, heldout) = thumbs(&likes, n, 0.1, seed);
    let model = TasteModel::fit(&data, &TasteTraining::default());
    (heldout_auc(&model, &likes, &heldout), model.confident)
}
