//! From examples to packed batches, in an order that a resumed run repeats.

use crate::Example;
use crate::seed::Draws;
use kernels::train::{Packing, Target};

/// Which examples make up the batch of each update: epochs are shuffled by (seed, epoch) and follow each other without
/// a gap, so every batch is full and the order needs no stored state beyond the update's number.
#[derive(Debug, Clone, Copy)]
pub struct BatchOrder {
    seed: u64,
    examples: usize,
    batch: usize,
}

impl BatchOrder {
    /// A batch is at most as large as the dataset.
    pub fn new(seed: u64, examples: usize, batch: usize) -> Self {
        Self { seed, examples, batch: batch.min(examples) }
    }

    /// Examples of a batch.
    pub fn batch_size(&self) -> usize {
        self.batch
    }

    /// Indices of the examples of update `update` (0 = first).
    pub fn batch(&self, update: u32) -> Vec<usize> {
        let (epoch, used) = self.position(update);
        let order = |epoch: u32| Draws::new(self.seed, u64::from(epoch)).permutation(self.examples);
        let mut batch: Vec<usize> = order(epoch).into_iter().skip(used as usize).take(self.batch).collect();
        if batch.len() < self.batch {
            batch.extend(order(epoch + 1).into_iter().take(self.batch - batch.len()));
        }
        batch
    }

    /// Epochs completed before update `update`, and how many examples of the current one are used.
    pub fn position(&self, update: u32) -> (u32, u32) {
        let used = update as usize * self.batch;
        let examples = self.examples.max(1);
        ((used / examples) as u32, (used % examples) as u32)
    }
}

/// Sequences of different lengths, one after the other without padding; each begins with the soft prompt.
#[derive(Debug, Clone)]
pub struct PackedBatch {
    pub(crate) inputs: Vec<Input>,
    pub(crate) packing: Packing,
    pub(crate) targets: Vec<Target>,
    pub(crate) virtual_tokens: usize,
    /// Of each sequence, its targets and what each of them counts.
    answers: Vec<(usize, f32)>,
}

/// What a row of a packed batch embeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Input {
    Virtual(usize),
    Token(u32),
}

impl PackedBatch {
    /// The last token of an example is only predicted, never read, and so takes no row.
    pub fn new<'a>(examples: impl IntoIterator<Item = &'a Example>, virtual_tokens: usize) -> Self {
        let (mut inputs, mut lengths, mut targets, mut answers) = (Vec::new(), Vec::new(), Vec::<Target>::new(), Vec::new());
        for example in examples {
            let start = inputs.len();
            inputs.extend((0..virtual_tokens).map(Input::Virtual));
            let tokens = example.prompt.iter().chain(&example.answer).copied();
            inputs.extend(tokens.take(example.tokens().saturating_sub(1)).map(Input::Token));
            lengths.push(inputs.len() - start);
            let (predicted, before) = (virtual_tokens + example.prompt.len(), targets.len());
            targets.extend(example.answer.iter().enumerate().filter(|(place, _)| predicted + place > 0).map(|(place, token)| Target {
                row: start + predicted + place - 1,
                token: *token,
                weight: 1.0,
            }));
            answers.push((targets.len() - before, example.weight));
        }
        Self { inputs, packing: Packing::new(&lengths), targets, virtual_tokens, answers }
    }

    /// Cuts examples into batches of at most `rows` rows each; a longer example gets one of its own.
    pub fn split<'a>(examples: impl IntoIterator<Item = &'a Example>, virtual_tokens: usize, rows: usize) -> Vec<Self> {
        let mut batches = Vec::new();
        let (mut part, mut filled) = (Vec::new(), 0);
        for example in examples {
            let length = rows_of(example, virtual_tokens);
            if filled + length > rows && !part.is_empty() {
                batches.push(Self::new(part.drain(..), virtual_tokens));
                filled = 0;
            }
            part.push(example);
            filled += length;
        }
        if !part.is_empty() {
            batches.push(Self::new(part, virtual_tokens));
        }
        batches
    }

    /// The sum of each sequence's values, given one for each target.
    pub(crate) fn by_answer(&self, values: &[f64]) -> Vec<f64> {
        let mut values = values.iter();
        self.answers.iter().map(|(targets, _)| values.by_ref().take(*targets).sum()).collect()
    }

    /// `Σ weight · −log p / normalizer`, given the log-probability of each answer.
    pub(crate) fn loss(&self, logprobs: &[f64], normalizer: f64) -> f64 {
        self.answers.iter().zip(logprobs).map(|((_, weight), logprob)| -f64::from(*weight) * logprob).sum::<f64>() / normalizer
    }

    /// The derivatives of [`Self::loss`].
    pub(crate) fn slopes(&self, normalizer: f64) -> Vec<f64> {
        self.answers.iter().map(|(_, weight)| -f64::from(*weight) / normalizer).collect()
    }

    /// Rows that go through the base.
    pub fn rows(&self) -> usize {
        self.inputs.len()
    }

    /// Sum of the weights of all predicted tokens.
    pub fn total_weight(&self) -> f64 {
        self.answers.iter().map(|(targets, weight)| *targets as f64 * f64::from(*weight)).sum()
    }
}

/// Rows that one example takes.
pub(crate) fn rows_of(example: &Example, virtual_tokens: usize) -> usize {
    virtual_tokens + example.tokens().saturating_sub(1)
}
