//! Thumbs that a simulated user gives, and what taste makes of them.

use crate::oracle::{Bar, Kind, Seen, User};
use crate::pool::SINGLE;
use crate::{Pool, Random};
use taste::{TasteData, TasteModel, Thumb};

/// Texts of one generation that are thumbed.
const THUMBED: usize = 4;

/// A user over the pool: the trait of every text.
pub struct Judge<'p> {
    pub user: User,
    pub pool: &'p Pool,
    /// `[entries][candidates]`.
    pub traits: Vec<Vec<f64>>,
    pub bar: Bar,
    learning: Vec<usize>,
    pub held_out: Vec<usize>,
}

impl<'p> Judge<'p> {
    pub fn new(user: &User, pool: &'p Pool) -> Self {
        let of = |text: &String| (user.trait_of)(&Seen::new(text));
        let traits: Vec<Vec<f64>> = pool.entries.iter().map(|entry| entry.texts.iter().map(of).collect()).collect();
        let learning = pool.learning();
        let bar = Bar::new(&learning.iter().flat_map(|entry| traits[*entry].iter().copied()).collect::<Vec<_>>());
        Self { user: *user, pool, traits, bar, learning, held_out: pool.held_out() }
    }

    /// `n` thumbs, four a generation, on learning prompts only. A changing user turns round at thumb `change`.
    pub fn thumbs(&self, n: usize, change: usize, seed: u64) -> TasteData {
        let mut random = Random::for_purpose(self.user.name, seed);
        let mut order = self.learning.clone();
        random.shuffle(&mut order);
        let mut thumbs = Vec::with_capacity(n);
        // More thumbs than prompts times four: the remaining candidates in a second round.
        for round in 0..2 {
            for entry in &order {
                for candidate in (0..SINGLE).skip(round * THUMBED).take(THUMBED) {
                    if thumbs.len() == n {
                        return TasteData { thumbs, comparisons: Vec::new() };
                    }
                    let liked = self.verdict(*entry, candidate, thumbs.len() >= change, &mut random);
                    let text = self.pool.entries[*entry].texts[candidate].clone();
                    thumbs.push(Thumb { generation: format!("{entry}-{round}"), text, liked });
                }
            }
        }
        TasteData { thumbs, comparisons: Vec::new() }
    }

    fn verdict(&self, entry: usize, candidate: usize, changed: bool, random: &mut Random) -> bool {
        if self.user.kind == Kind::Random {
            return random.chance(0.5);
        }
        let turned = changed && self.user.kind == Kind::Changing;
        self.likes(entry, candidate) != (turned != random.chance(self.user.slips))
    }

    pub fn likes(&self, entry: usize, candidate: usize) -> bool {
        self.bar.likes(self.traits[entry][candidate])
    }

    /// Area under the ROC curve over held-out prompts, against verdicts without slips (a random user's are coins).
    pub fn auc(&self, model: &TasteModel, turned: bool, seed: u64) -> f64 {
        let mut random = Random::for_purpose("coins", seed);
        let (mut scores, mut liked) = (Vec::new(), Vec::new());
        for entry in &self.held_out {
            for (candidate, text) in self.pool.entries[*entry].texts.iter().enumerate() {
                scores.push(model.predict(text).logit);
                liked.push(match self.user.kind {
                    Kind::Random => random.chance(0.5),
                    _ => self.likes(*entry, candidate) != turned,
                });
            }
        }
        taste::auc(&scores, &liked).unwrap_or(0.5)
    }

    /// Predicted probability and verdict (with slips) of every held-out text.
    pub fn predictions(&self, model: &TasteModel, seed: u64) -> Vec<(f64, bool)> {
        let mut random = Random::for_purpose("slips", seed);
        let mut pairs = Vec::new();
        for entry in &self.held_out {
            for (candidate, text) in self.pool.entries[*entry].texts.iter().enumerate() {
                pairs.push((model.predict(text).probability, self.verdict(*entry, candidate, false, &mut random)));
            }
        }
        pairs
    }

    /// How often the best of eight by the model pleases more than a single sample, for each held-out prompt; a tie is a half. Each of
    /// the nine texts is the single sample in turn: they were written alike, and one of them alone would leave much to luck.
    pub fn best_of_eight(&self, score: impl Fn(usize, usize) -> f64) -> Vec<f64> {
        let won = |entry: &usize| {
            let traits = &self.traits[*entry];
            let scores: Vec<f64> = (0..traits.len()).map(|candidate| score(*entry, candidate)).collect();
            let against = |single: usize| {
                let others = (0..scores.len()).filter(|other| *other != single);
                let best = others.max_by(|a, b| scores[*a].total_cmp(&scores[*b])).unwrap_or(single);
                if traits[best] == traits[single] { 0.5 } else { f64::from(traits[best] > traits[single]) }
            };
            (0..traits.len()).map(against).sum::<f64>() / traits.len() as f64
        };
        self.held_out.iter().map(won).collect()
    }
}

/// The model that the product would fit.
pub fn fit(data: &TasteData) -> TasteModel {
    TasteModel::fit(data, &Default::default())
}
