//! The fixture: 400 stories held out of the genre words, and a small seeded generator.

use domain::{Genre, GenreMix};
use serde_json::Value;
use std::sync::LazyLock;

pub struct Story {
    pub prompt: String,
    pub text: String,
    pub genres: GenreMix,
}

pub static STORIES: LazyLock<Vec<Story>> = LazyLock::new(|| {
    include_str!("fixtures/stories.jsonl")
        .lines()
        .map(|line| {
            let line: Value = serde_json::from_str(line).expect("a JSON object a line");
            let genres = Genre::ALL.iter().filter_map(|genre| line["genres"][genre.name()].as_f64().map(|weight| (*genre, weight)));
            Story {
                prompt: line["prompt"].as_str().expect("a prompt").to_owned(),
                text: line["story"].as_str().expect("a story").to_owned(),
                genres: GenreMix(genres.collect()),
            }
        })
        .collect()
});

/// SplitMix64 (Steele, Lea & Flood 2014).
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1))
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    pub fn chance(&mut self, probability: f64) -> bool {
        (self.next() >> 11) as f64 / ((1u64 << 53) as f64) < probability
    }

    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for at in (1..items.len()).rev() {
            items.swap(at, self.below(at + 1));
        }
    }
}
