//! The knobs that every training has, each with its reason.

use crate::{Decay, TrainError};
use sha2::{Digest, Sha256};

#[derive(Debug, Clone, PartialEq)]
pub struct RunConfig {
    /// Updates.
    pub steps: u32,
    /// Examples or judgements of an update.
    pub batch_size: usize,
    /// Peak rate. Soft prompts want some hundred times the rate of weights: there are few of them and each is used everywhere.
    pub learning_rate: f64,
    /// Updates until the peak: AdamW's first ones are signs, not sizes.
    pub warmup_steps: u32,
    /// How the rate falls from its peak.
    pub decay: Decay,
    /// Share of the peak rate that is left at the end.
    pub final_rate: f64,
    pub weight_decay: f64,
    /// Longest gradient.
    pub clip_norm: f64,
    /// Rows that go through the base at once: fewer yields sooner and needs less memory, below some hundred is slower.
    pub rows_at_once: usize,
    /// Updates between two measurements on held-out examples.
    pub heldout_every: u32,
    /// Measurements without a new best after which training ends; `None` never ends early.
    pub patience: Option<u32>,
    /// Updates between two checkpoints; 0 keeps only the last.
    pub checkpoint_steps: u32,
    pub checkpoints_kept: usize,
    pub seed: u64,
    /// Worker threads; 0 takes one per core.
    pub threads: usize,
    /// Computes each layer twice rather than keep what its backward pass needs: a third more time, far less memory.
    pub recompute: bool,
}

/// For 10–40 texts on the built-in base. Held-out loss of texts that the base knows is at its best after 10–60 updates and
/// rises from there, hence the frequent measurements and the patience.
impl Default for RunConfig {
    fn default() -> Self {
        Self {
            steps: 120,
            batch_size: 4,
            learning_rate: 1e-3,
            warmup_steps: 10,
            decay: Decay::Cosine,
            final_rate: 0.1,
            weight_decay: 0.0,
            clip_norm: 1.0,
            rows_at_once: 512,
            heldout_every: 10,
            patience: Some(4),
            checkpoint_steps: 25,
            checkpoints_kept: 3,
            seed: 0,
            threads: 0,
            recompute: false,
        }
    }
}

impl RunConfig {
    /// # Errors
    /// `Config` with the first field that makes no sense.
    pub fn check(&self) -> Result<(), TrainError> {
        let counts = [
            ("steps", self.steps as usize),
            ("batch_size", self.batch_size),
            ("rows_at_once", self.rows_at_once),
            ("heldout_every", self.heldout_every as usize),
            ("checkpoints_kept", self.checkpoints_kept),
        ];
        if let Some((field, _)) = counts.into_iter().find(|(_, count)| *count == 0) {
            return Err(TrainError::Config { field, value: "0".to_owned(), allowed: "at least 1" });
        }
        above_0("learning_rate", self.learning_rate)?;
        in_range("final_rate", self.final_rate, 0.0..=1.0, "from 0 to 1")?;
        in_range("weight_decay", self.weight_decay, 0.0..=f64::MAX, "0 or above")?;
        above_0("clip_norm", self.clip_norm)
    }

    /// Takes in all that a result depends on. Threads, checkpoints and recomputation are left out: a run may go on with others.
    pub(crate) fn hash_into(&self, hash: &mut Sha256) {
        for number in [
            u64::from(self.steps),
            self.batch_size as u64,
            self.learning_rate.to_bits(),
            u64::from(self.warmup_steps),
            self.decay as u64,
            self.final_rate.to_bits(),
            self.weight_decay.to_bits(),
            self.clip_norm.to_bits(),
            self.rows_at_once as u64,
            u64::from(self.heldout_every),
            self.patience.map_or(u64::MAX, u64::from),
            self.seed,
        ] {
            hash.update(number.to_le_bytes());
        }
    }
}

pub(crate) fn above_0(field: &'static str, value: f64) -> Result<(), TrainError> {
    in_range(field, value, f64::MIN_POSITIVE..=f64::MAX, "above 0")
}

pub(crate) fn in_range(
    field: &'static str,
    value: f64,
    range: std::ops::RangeInclusive<f64>,
    allowed: &'static str,
) -> Result<(), TrainError> {
    // A range contains no NaN.
    if range.contains(&value) { Ok(()) } else { Err(TrainError::Config { field, value: value.to_string(), allowed }) }
}
