//! What is known of a word, looked up once however often texts say it.

use crate::lexicon::{self, Lists, STOP, WordMap};
use crate::reading::Reading;
use crate::{diversity, kin, single};

/// The words of some texts.
#[derive(Default)]
pub(crate) struct Words {
    numbers: WordMap<String, u32>,
    known: Vec<Known>,
    /// Where each word stood last: the number of the text, and the place in it.
    last: Vec<[u32; 2]>,
    texts: u32,
    stem_numbers: WordMap<String, u32>,
    pub stems: Vec<String>,
    /// Of each stem.
    pub rarity: Vec<f64>,
}

pub(crate) struct Known {
    pub lists: Lists,
    pub letters: usize,
    pub small: Small,
    /// Of its stem.
    pub rarity: f64,
    /// Its stem, if it is one to learn from: no small word, none of one or two letters and none endlessly long.
    pub stem: Option<u32>,
    pub kin: kin::Places,
    pub single: Option<u32>,
    pub hash: u64,
}

/// Words that do not name anything, but say how it is told.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Small {
    None,
    She,
    He,
    Turn,
    Denial,
}

/// A word of a text.
#[derive(Clone, Copy)]
pub(crate) struct Said {
    pub number: u32,
    /// Words since it was said before in the same text.
    pub ago: Option<u32>,
}

impl Words {
    pub fn read(&mut self, reading: &Reading) -> Vec<Said> {
        self.texts += 1;
        let mut said = Vec::with_capacity(reading.words.len());
        for (at, word) in reading.iter().enumerate() {
            let number = self.number(word);
            let last = &mut self.last[number as usize];
            let ago = (last[0] == self.texts).then(|| at as u32 - last[1]);
            *last = [self.texts, at as u32];
            said.push(Said { number, ago });
        }
        said
    }

    pub fn known(&self, said: Said) -> &Known {
        &self.known[said.number as usize]
    }

    /// The stems of a text, each once, weighted by rarity; the vector has length 1.
    pub fn vector(&self, said: &[Said]) -> Vec<(u32, f64)> {
        let mut stems: Vec<u32> = said.iter().filter_map(|said| self.known(*said).stem).collect();
        stems.sort_unstable();
        stems.dedup();
        // Summed in their own order, so that a text's vector does not depend on what was read before it.
        let mut squares: Vec<f64> = stems.iter().map(|stem| self.rarity[*stem as usize].powi(2)).collect();
        squares.sort_unstable_by(f64::total_cmp);
        let length = squares.iter().sum::<f64>().sqrt();
        if length <= 0.0 {
            return Vec::new();
        }
        stems.into_iter().map(|stem| (stem, self.rarity[stem as usize] / length)).collect()
    }

    fn number(&mut self, word: &str) -> u32 {
        if let Some(number) = self.numbers.get(word) {
            return *number;
        }
        let number = self.known.len() as u32;
        let known = self.look_up(word);
        self.known.push(known);
        self.last.push([0, 0]);
        self.numbers.insert(word.to_owned(), number);
        number
    }

    fn look_up(&mut self, word: &str) -> Known {
        let (lists, stem) = (lexicon::lists(word), lexicon::stem(word));
        let rarity = lexicon::rarity(&stem);
        let kin = kin::places(word, &stem);
        let learned = word.len() >= 3 && word.len() <= 40 && lists & STOP == 0;
        let stem = learned.then(|| match self.stem_numbers.get(stem.as_ref()) {
            Some(number) => *number,
            None => {
                let number = self.stems.len() as u32;
                self.stems.push(stem.to_string());
                self.rarity.push(rarity);
                self.stem_numbers.insert(stem.into_owned(), number);
                number
            }
        });
        let (letters, hash) = (word.chars().count(), diversity::hash(word));
        Known { lists, letters, small: Small::of(word), rarity, stem, kin, single: single::place(word), hash }
    }
}

impl Small {
    fn of(word: &str) -> Self {
        match word {
            "she" | "her" | "hers" | "herself" => Self::She,
            "he" | "him" | "his" | "himself" => Self::He,
            "but" | "yet" | "however" | "instead" | "suddenly" | "until" | "though" | "although" => Self::Turn,
            "no" | "not" | "never" | "nothing" | "nobody" | "none" | "nor" | "neither" | "cannot" | "without" => Self::Denial,
            _ if word.ends_with("n't") => Self::Denial,
            _ => Self::None,
        }
    }
}
