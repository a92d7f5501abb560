//! What an adapter learns from: examples (SFT), or judgements about texts (DPO and KTO).
//!
//! With `r = log p(text) − log p_base(text)`, summed over the answer's tokens: a pair costs `−log σ(β (r_chosen − r_rejected))`
//! (DPO, arXiv 2305.18290); a single text costs `1 − σ(β r)` if it was liked and `σ(β r)` if not. The latter is KTO
//! (arXiv 2402.01306) with its reference point at 0, TRL's `apo_zero_unpaired` (arXiv 2408.06266): the point that KTO estimates
//! from other texts of the batch is mere noise at batches this small.

use crate::data::{Split, fault, hex};
use crate::{Control, Dataset, Example, LoraLayout, PackedBatch, Stop, TrainError, TrainableLlama, Workspace};
use model::LlamaConfig;
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
    /// # Errors
    /// `NoExamples`, or `Example` for the first one that this base cannot take.
    pub fn check(&self, base: &LlamaConfig) -> Result<(), TrainError> {
        if self.train.is_empty() {
            return Err(TrainError::NoExamples);
        }
        for (split, judgements) in [(Split::Train, &self.train), (Split::Heldout, &self.heldout)] {
            for (index, judgement) in judgements.iter().enumerate() {
                if let Some(problem) = judgement.texts().into_iter().find_map(|text| fault(text, base, 0)) {
                    return Err(TrainError::Example { split, index, problem });
                }
            }
        }
        Ok(())
    }

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

    fn weight(&self) -> f64 {
        match self {
            Self::Pair { chosen: text, .. } | Self::Single { text, .. } => f64::from(text.weight),
        }
    }

    /// The loss, and its derivatives by the log-probability of each text, given every text's `r`.
    fn cost(&self, beta: f64, r: &[f64]) -> (f64, Vec<f64>) {
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        match self {
            Self::Pair { .. } => {
                let margin = beta * (r[0] - r[1]);
                let slope = beta * sigmoid(-margin);
                // ln(1 + e⁻ˣ) without overflow.
                ((-margin).max(0.0) + (-margin.abs()).exp().ln_1p(), vec![-slope, slope])
            }
            Self::Single { liked, .. } => {
                let share = sigmoid(beta * r[0]);
                let slope = beta * share * (1.0 - share);
                if *liked { (1.0 - share, vec![-slope]) } else { (share, vec![slope]) }
            }
        }
    }
}

/// The data of a run, with what its loss compares to.
pub(crate) enum Task<'a> {
    Examples(&'a Dataset),
    /// With the log-probabilities of all texts under the bare base, once they are known.
    Judgements {
        data: &'a Judgements,
        beta: f64,
        reference: Option<Reference>,
    },
}

/// By judgement, then by text.
pub(crate) struct Reference {
    train: Vec<Vec<f64>>,
    heldout: Vec<Vec<f64>>,
}

/// What every pass of a run needs.
pub(crate) struct Passes<'a> {
    pub base: &'a TrainableLlama,
    pub layout: &'a LoraLayout,
    pub rows_at_once: usize,
    pub recompute: bool,
    pub control: &'a Control,
}

impl Task<'_> {
    pub fn check(&self, base: &LlamaConfig) -> Result<(), TrainError> {
        match self {
            Self::Examples(data) => data.check(base, 0),
            Self::Judgements { data, .. } => data.check(base),
        }
    }

    pub fn identity(&self) -> String {
        match self {
            Self::Examples(data) => data.identity(),
            Self::Judgements { data, .. } => data.identity(),
        }
    }

    /// What a batch is drawn from.
    pub fn train_len(&self) -> usize {
        match self {
            Self::Examples(data) => data.train.len(),
            Self::Judgements { data, .. } => data.train.len(),
        }
    }

    pub fn has_heldout(&self) -> bool {
        match self {
            Self::Examples(data) => !data.heldout.is_empty(),
            Self::Judgements { data, .. } => !data.heldout.is_empty(),
        }
    }

    /// Looks up once what the bare base thinks of all texts; nothing to do for examples.
    pub fn prepare(&mut self, passes: &Passes, workspace: &mut Workspace) -> Result<(), Stop> {
        if let Self::Judgements { data, reference, .. } = self {
            let mut look_up = |judgements: &[Judgement]| {
                let mut found = Vec::with_capacity(judgements.len());
                for (chunk, batch) in passes.packed(judgements.iter().collect()) {
                    let logprobs = passes.base.log_probabilities(None, &batch, workspace, passes.control)?;
                    found.extend(by_judgement(&chunk, &logprobs));
                }
                Ok(found)
            };
            *reference = Some(Reference { train: look_up(&data.train)?, heldout: look_up(&data.heldout)? });
        }
        Ok(())
    }

    /// Mean loss over what is held out, by weight.
    pub fn heldout_loss(&self, passes: &Passes, weights: &[f32], workspace: &mut Workspace) -> Result<f64, Stop> {
        let mut loss = 0.0;
        match self {
            Self::Examples(data) => {
                let batches = PackedBatch::split(&data.heldout, 0, passes.rows_at_once);
                let normalizer: f64 = batches.iter().map(PackedBatch::total_weight).sum();
                for batch in &batches {
                    loss += passes.base.lora_loss(passes.layout, weights, batch, normalizer, workspace, passes.control)?;
                }
            }
            Self::Judgements { data, beta, reference } => {
                let total: f64 = data.heldout.iter().map(Judgement::weight).sum();
                let mut reference = reference.iter().flat_map(|reference| &reference.heldout);
                for (chunk, batch) in passes.packed(data.heldout.iter().collect()) {
                    let logprobs = passes.base.log_probabilities(Some((passes.layout, weights)), &batch, workspace, passes.control)?;
                    for ((judgement, logprobs), reference) in chunk.iter().zip(by_judgement(&chunk, &logprobs)).zip(&mut reference) {
                        loss += judgement.weight() / total * judgement.cost(*beta, &difference(&logprobs, reference)).0;
                    }
                }
            }
        }
        Ok(loss)
    }

    /// The loss of a batch, whose gradient is added to `gradient`, and the rows that it took.
    pub fn loss_and_gradient(
        &self,
        passes: &Passes,
        weights: &[f32],
        batch: &[usize],
        workspace: &mut Workspace,
        gradient: &mut [f32],
    ) -> Result<(f64, usize), Stop> {
        let (mut loss, mut rows) = (0.0, 0);
        match self {
            Self::Examples(data) => {
                let parts = PackedBatch::split(batch.iter().map(|index| &data.train[*index]), 0, passes.rows_at_once);
                let normalizer: f64 = parts.iter().map(PackedBatch::total_weight).sum();
                for part in &parts {
                    let (layout, recompute) = (passes.layout, passes.recompute);
                    let control = passes.control;
                    loss +=
                        passes.base.lora_loss_and_gradient(layout, weights, part, normalizer, recompute, workspace, control, gradient)?;
                    rows += part.rows();
                }
            }
            Self::Judgements { data, beta, reference } => {
                let judgements: Vec<&Judgement> = batch.iter().map(|index| &data.train[*index]).collect();
                let total: f64 = judgements.iter().map(|judgement| judgement.weight()).sum();
                let mut reference = batch.iter().filter_map(|index| reference.as_ref().map(|reference| &reference.train[*index]));
                for (chunk, part) in passes.packed(judgements) {
                    let mut weigh = |logprobs: &[f64]| {
                        let mut factors = Vec::with_capacity(logprobs.len());
                        for ((judgement, logprobs), reference) in chunk.iter().zip(by_judgement(&chunk, logprobs)).zip(&mut reference) {
                            let (cost, slopes) = judgement.cost(*beta, &difference(&logprobs, reference));
                            let share = judgement.weight() / total;
                            loss += share * cost;
                            // The head weighs −log p, hence the sign.
                            factors.extend(slopes.into_iter().map(|slope| -share * slope));
                        }
                        factors
                    };
                    let recompute = passes.recompute;
                    passes.base.weighed_gradient(
                        passes.layout,
                        weights,
                        &part,
                        &mut weigh,
                        recompute,
                        workspace,
                        passes.control,
                        gradient,
                    )?;
                    rows += part.rows();
                }
            }
        }
        Ok((loss, rows))
    }
}

impl Passes<'_> {
    /// Cuts judgements into batches of at most `rows_at_once` rows; the texts of a pair stay together.
    fn packed<'j>(&self, judgements: Vec<&'j Judgement>) -> Vec<(Vec<&'j Judgement>, PackedBatch)> {
        let mut chunks: Vec<Vec<&Judgement>> = Vec::new();
        let mut filled = 0;
        for judgement in judgements {
            let rows: usize = judgement.texts().iter().map(|text| text.tokens().saturating_sub(1)).sum();
            match chunks.last_mut() {
                Some(chunk) if filled + rows <= self.rows_at_once => {
                    chunk.push(judgement);
                    filled += rows;
                }
                _ => {
                    chunks.push(vec![judgement]);
                    filled = rows;
                }
            }
        }
        let pack = |chunk: Vec<&'j Judgement>| {
            let texts: Vec<&Example> = chunk.iter().flat_map(|judgement| judgement.texts()).collect();
            (chunk, PackedBatch::new(texts, 0))
        };
        chunks.into_iter().map(pack).collect()
    }
}

/// Splits values of texts by the judgements that they belong to.
fn by_judgement(judgements: &[&Judgement], values: &[f64]) -> Vec<Vec<f64>> {
    let mut values = values.iter().copied();
    judgements.iter().map(|judgement| values.by_ref().take(judgement.texts().len()).collect()).collect()
}

fn difference(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a - b).collect()
}
