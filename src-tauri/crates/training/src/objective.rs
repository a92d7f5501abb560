//! What is learned from: examples (SFT), or judgements about texts ([`Preference`]).

use crate::data::{Split, hex};
use crate::preference::{KeptBack, Text};
use crate::run::Desk;
use crate::tuned::Tuned;
use crate::{Dataset, Example, PairLoss, Preference, SingleLoss, Stop, TrainError};
use sha2::{Digest, Sha256};

/// What a person thought of one or two texts.
#[derive(Debug, Clone, PartialEq)]
pub enum Judgement {
    /// Two texts for one prompt; counts by the weight of `chosen`.
    Pair {
        chosen: Example,
        rejected: Example,
    },
    Single {
        text: Example,
        liked: bool,
    },
}

/// Judgements to learn from, and others that only measure. Both kinds may be mixed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Judgements {
    pub train: Vec<Judgement>,
    pub heldout: Vec<Judgement>,
}

impl Judgements {
    /// SHA-256 over everything in it, in hexadecimal.
    pub fn identity(&self) -> String {
        let mut hash = Sha256::new();
        for judgements in [&self.train, &self.heldout] {
            hash.update((judgements.len() as u64).to_le_bytes());
            for judgement in judgements {
                hash.update(match judgement {
                    Judgement::Pair { .. } => b"pair",
                    Judgement::Single { liked: true, .. } => b"good",
                    Judgement::Single { liked: false, .. } => b"poor",
                });
                let texts = judgement.texts().into_iter().cloned().collect();
                hash.update(Dataset { train: texts, heldout: Vec::new() }.identity());
            }
        }
        hex(&hash.finalize())
    }
}

impl Judgement {
    pub(crate) fn texts(&self) -> Vec<&Example> {
        match self {
            Self::Pair { chosen, rejected } => vec![chosen, rejected],
            Self::Single { text, .. } => vec![text],
        }
    }
}

/// The data of a run, as its loss sees it.
pub(crate) struct Task<'a> {
    train: Vec<Item<'a>>,
    heldout: Vec<Item<'a>>,
    preference: Preference,
    identity: String,
}

/// One or two texts that cost something together.
struct Item<'a> {
    kind: Kind,
    texts: Vec<&'a Example>,
    /// Log-probability of each text under the bare base; zeros where no loss asks for it.
    base: Vec<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Example,
    Pair,
    Single { liked: bool },
}

impl<'a> Task<'a> {
    pub fn of_examples(data: &'a Dataset) -> Self {
        let items = |examples: &'a [Example]| examples.iter().map(|example| Item::new(Kind::Example, vec![example])).collect();
        Self { train: items(&data.train), heldout: items(&data.heldout), preference: Preference::default(), identity: data.identity() }
    }

    pub fn of_judgements(data: &'a Judgements, preference: Preference) -> Self {
        let item = |judgement: &'a Judgement| {
            let kind = match judgement {
                Judgement::Pair { .. } => Kind::Pair,
                Judgement::Single { liked, .. } => Kind::Single { liked: *liked },
            };
            Item::new(kind, judgement.texts())
        };
        let items = |judgements: &'a [Judgement]| judgements.iter().map(item).collect();
        Self { train: items(&data.train), heldout: items(&data.heldout), preference, identity: data.identity() }
    }

    /// # Errors
    /// `NoExamples`, or `Example` for the first one that this base or objective cannot take.
    pub fn check(&self, tuned: &dyn Tuned) -> Result<(), TrainError> {
        if self.train.is_empty() {
            return Err(TrainError::NoExamples);
        }
        for (split, items) in [(Split::Train, &self.train), (Split::Heldout, &self.heldout)] {
            for (index, item) in items.iter().enumerate() {
                let alone = matches!(item.kind, Kind::Single { .. }) && self.preference.pairs == PairLoss::Orpo;
                let problem = item.texts.iter().find_map(|text| tuned.fault(text));
                if let Some(problem) = problem.or(alone.then(|| "ORPO compares two texts, and this one is alone".to_owned())) {
                    return Err(TrainError::Example { split, index, problem });
                }
            }
        }
        Ok(())
    }

    pub fn identity(&self) -> String {
        self.identity.clone()
    }

    /// What a batch is drawn from.
    pub fn len(&self) -> usize {
        self.train.len()
    }

    pub fn has_heldout(&self) -> bool {
        !self.heldout.is_empty()
    }

    /// Looks up once what the bare base thinks of all texts, where a loss compares with that.
    pub fn ask_base(&mut self, tuned: &dyn Tuned, desk: &mut Desk) -> Result<(), Stop> {
        let preference = self.preference;
        for items in [&mut self.train, &mut self.heldout] {
            let mut found = Vec::new();
            let asked: Vec<&Item> = items.iter().filter(|item| item.compares(&preference)).collect();
            for chunk in chunks(asked, tuned, desk.rows_at_once) {
                found.extend(tuned.log_probabilities(None, &texts(&chunk), &mut desk.workspace, desk.control)?);
            }
            let mut found = found.into_iter();
            for item in items.iter_mut().filter(|item| item.compares(&preference)) {
                item.base = found.by_ref().take(item.texts.len()).collect();
            }
        }
        Ok(())
    }

    /// Mean loss over what is held out, by weight; without `weights`, that of the bare base. Single texts are told apart instead.
    pub fn heldout_loss(&self, tuned: &dyn Tuned, weights: Option<&[f32]>, desk: &mut Desk) -> Result<f64, Stop> {
        let total: f64 = self.heldout.iter().map(Item::weight).sum();
        let (mut loss, mut singles) = (0.0, Vec::new());
        for chunk in chunks(self.heldout.iter().collect(), tuned, desk.rows_at_once) {
            let found = tuned.log_probabilities(weights, &texts(&chunk), &mut desk.workspace, desk.control)?;
            for (item, found) in by_item(&chunk, &found) {
                match item.kind {
                    Kind::Single { liked } => {
                        let (reward, tokens) = (found[0] - item.base[0], item.texts[0].answer.len() as f64);
                        singles.push(KeptBack { liked, weight: item.weight(), reward, tokens });
                    }
                    Kind::Example | Kind::Pair => loss += item.weight() / total * item.cost(&self.preference, 0.0, found).0,
                }
            }
        }
        if !singles.is_empty() {
            let share = singles.iter().map(|text| text.weight).sum::<f64>() / total;
            loss += share * self.preference.told_apart(&singles);
        }
        Ok(loss)
    }

    /// The loss of a batch, whose gradient is added to `gradient`, and the rows that it took.
    pub fn loss_and_gradient(
        &self,
        tuned: &dyn Tuned,
        weights: &[f32],
        batch: &[usize],
        step: u64,
        desk: &mut Desk,
        gradient: &mut [f32],
    ) -> Result<(f64, usize), Stop> {
        let items: Vec<&Item> = batch.iter().map(|index| &self.train[*index]).collect();
        let total: f64 = items.iter().map(|item| item.weight()).sum();
        let shift = self.shift(&items, tuned, weights, desk)?;
        let (mut loss, mut rows) = (0.0, 0);
        for (part, chunk) in chunks(items, tuned, desk.rows_at_once).into_iter().enumerate() {
            let texts = texts(&chunk);
            rows += texts.iter().map(|text| tuned.rows(text)).sum::<usize>();
            let mut slopes = |found: &[f64]| {
                let mut slopes = Vec::with_capacity(found.len());
                for (item, found) in by_item(&chunk, found) {
                    let (cost, by_text) = item.cost(&self.preference, shift, found);
                    let share = item.weight() / total;
                    loss += share * cost;
                    slopes.extend(by_text.into_iter().map(|slope| share * slope));
                }
                slopes
            };
            // Parts of an update are far fewer than 2²⁰.
            let pass = step << 20 | part as u64;
            tuned.gradient(weights, &texts, pass, &mut slopes, &mut desk.workspace, desk.control, gradient)?;
        }
        Ok((loss, rows))
    }

    /// KTO's `z₀` over these items; 0 for every other loss.
    fn shift(&self, items: &[&Item], tuned: &dyn Tuned, weights: &[f32], desk: &mut Desk) -> Result<f64, Stop> {
        let singles: Vec<&Example> =
            items.iter().filter(|item| matches!(item.kind, Kind::Single { .. })).flat_map(|item| item.texts.iter().copied()).collect();
        if self.preference.singles != SingleLoss::Kto || singles.len() < 2 {
            return Ok(0.0);
        }
        // Each prompt with the answer of the text before it, as TRL pairs them, as far as that fits.
        let others = singles.iter().zip(singles.iter().cycle().skip(singles.len() - 1));
        let mismatched: Vec<Example> = others
            .map(|(text, other)| Example { answer: other.answer.clone(), ..(*text).clone() })
            .filter(|text| tuned.fault(text).is_none())
            .collect();
        let items: Vec<Item> = mismatched.iter().map(|text| Item::new(Kind::Example, vec![text])).collect();
        let mut sum = 0.0;
        for chunk in chunks(items.iter().collect(), tuned, desk.rows_at_once) {
            let texts = texts(&chunk);
            let mut ask = |weights| tuned.log_probabilities(weights, &texts, &mut desk.workspace, desk.control);
            sum += ask(Some(weights))?.iter().sum::<f64>() - ask(None)?.iter().sum::<f64>();
        }
        Ok((sum / mismatched.len().max(1) as f64).max(0.0))
    }
}

impl<'a> Item<'a> {
    fn new(kind: Kind, texts: Vec<&'a Example>) -> Self {
        Self { kind, base: vec![0.0; texts.len()], texts }
    }

    /// Whether its loss asks what the bare base thinks of it.
    fn compares(&self, preference: &Preference) -> bool {
        match self.kind {
            Kind::Example => false,
            Kind::Pair => preference.pairs == PairLoss::Dpo,
            Kind::Single { .. } => true,
        }
    }

    /// What it counts in a mean: examples by their tokens, judgements by themselves.
    fn weight(&self) -> f64 {
        match self.kind {
            Kind::Example => self.texts[0].total_weight(),
            Kind::Pair | Kind::Single { .. } => f64::from(self.texts[0].weight),
        }
    }

    /// The loss, and its derivatives by the log-probability of each text.
    fn cost(&self, preference: &Preference, shift: f64, logprobs: &[f64]) -> (f64, Vec<f64>) {
        let text = |index: usize| {
            let tokens = self.texts[index].answer.len() as f64;
            Text { logprob: logprobs[index], base: self.base[index], tokens }
        };
        match self.kind {
            Kind::Example => {
                let Text { logprob, tokens, .. } = text(0);
                (-logprob / tokens, vec![-1.0 / tokens])
            }
            Kind::Pair => {
                let (cost, slopes) = preference.pair(text(0), text(1));
                (cost, slopes.to_vec())
            }
            Kind::Single { liked } => {
                let (cost, slope) = preference.single(text(0), liked, shift);
                (cost, vec![slope])
            }
        }
    }
}

/// Cuts items into passes of at most `rows` rows each; the texts of an item stay together, and a longer one goes alone.
fn chunks<'i, 'a>(items: Vec<&'i Item<'a>>, tuned: &dyn Tuned, rows: usize) -> Vec<Vec<&'i Item<'a>>> {
    let mut chunks: Vec<Vec<&Item>> = Vec::new();
    let mut filled = 0;
    for item in items {
        let length: usize = item.texts.iter().map(|text| tuned.rows(text)).sum();
        match chunks.last_mut() {
            Some(chunk) if filled + length <= rows => {
                chunk.push(item);
                filled += length;
            }
            _ => {
                chunks.push(vec![item]);
                filled = length;
            }
        }
    }
    chunks
}

fn texts<'a>(items: &[&Item<'a>]) -> Vec<&'a Example> {
    items.iter().flat_map(|item| item.texts.iter().copied()).collect()
}

/// Splits values of texts by the items that they belong to.
fn by_item<'i, 'a, 'v>(items: &'i [&'i Item<'a>], mut values: &'v [f64]) -> impl Iterator<Item = (&'i Item<'a>, &'v [f64])> {
    items.iter().map(move |item| {
        let (own, rest) = values.split_at(item.texts.len());
        values = rest;
        (*item, own)
    })
}
