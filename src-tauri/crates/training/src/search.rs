//! Search by successive halving (Jamieson and Talwalkar, arXiv 1502.07943; the rungs of Hyperband, arXiv 1603.06560).
//!
//! Many configurations are trained for few updates, the better third of them for three times as many, and so on. Trial 0 is the
//! default configuration and climbs every rung, so that the others are compared with it after as many updates as theirs.
//! What a configuration *is* and how it is trained is the caller's; here are numbers of trials and their held-out losses.
//!
//! Every rung trains anew instead of going on from the one below: the learning rate then falls to its end at every rung, as it
//! will in the training that the winner is for. That costs a third more than going on would.
//!
//! The next thing to do follows from what was measured alone. So a search that was killed goes on with the trials that it has.

use crate::seed::Draws;
use std::time::Duration;

/// Of the trials of a rung, one in so many climbs on; each rung trains so many times as long as the one below.
const HALVING: usize = 3;

/// A winner's held-out loss must be below the default's by this share: less is within what another seed does to it.
const LEAST_GAIN: f64 = 0.005;

/// Judgements say a bit each where a text says its every word, so one of `n` that were kept back may turn by chance.
const LEAST_GAIN_OF_ONE: f64 = 0.05;

/// Fewer updates than this say nothing about a configuration: the warm-up alone takes ten.
const FEWEST_STEPS: u32 = 12;

/// The share of the budget that is planned with; speeds differ between configurations.
const PLANNED_SHARE: f64 = 0.85;

/// The stream of the draws of configurations.
const TRIALS: u64 = 0x5345_4152_4348;

/// How many trials begin, the default among them, and the updates of each rung.
#[derive(Debug, Clone, PartialEq)]
pub struct Halving {
    pub trials: usize,
    /// Rising.
    pub rungs: Vec<u32>,
    /// The share by which a winner's held-out loss must be below the default's.
    pub least_gain: f64,
}

/// What a trial reached at a rung.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measured {
    pub trial: usize,
    pub rung: usize,
    /// `None` when it failed: its loss was not finite, or it needs more memory than there is.
    pub heldout_loss: Option<f64>,
    pub seconds: f64,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum NextTrial {
    Train { trial: usize, rung: usize },
    Over(Found),
}

/// What a search found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Found {
    /// 0 when nothing beat the default.
    pub winner: usize,
    /// The best of the others, with its loss at the rung where it was compared.
    pub best: Option<(usize, f64)>,
    /// The default's loss at that rung.
    pub default_loss: Option<f64>,
    /// The rung where they were compared.
    pub rung: usize,
    /// Whether the time was over before the last rung was complete.
    pub out_of_time: bool,
}

impl Halving {
    /// The largest search that fits into `budget`, when a training of `steps` updates takes `whole`.
    ///
    /// With too little time for any, the smallest one: [`Self::next`] then ends it when the time is over.
    pub fn plan(steps: u32, whole: Duration, budget: Duration) -> Self {
        let rungs = |shares: &[u32]| {
            let mut rungs: Vec<u32> = shares.iter().map(|share| (steps / share).max(FEWEST_STEPS.min(steps))).collect();
            rungs.dedup();
            rungs
        };
        let shapes: [(usize, &[u32]); 8] =
            [(27, &[9, 3, 1]), (18, &[9, 3, 1]), (12, &[9, 3, 1]), (9, &[9, 3, 1]), (9, &[9, 3]), (6, &[9, 3]), (6, &[9]), (4, &[9])];
        let all = shapes.map(|(trials, shares)| Self { trials, rungs: rungs(shares), least_gain: Self::least_gain(None) });
        let affordable = budget.mul_f64(PLANNED_SHARE).as_secs_f64();
        let second = whole.as_secs_f64() / f64::from(steps.max(1));
        let [.., smallest] = &all;
        all.iter().find(|halving| halving.updates() as f64 * second <= affordable).unwrap_or(smallest).clone()
    }

    /// The share of the default's held-out loss that counts as a gain, when it is taken over texts, or over so many judgements.
    pub fn least_gain(judgements: Option<usize>) -> f64 {
        judgements.map_or(LEAST_GAIN, |count| LEAST_GAIN.max(LEAST_GAIN_OF_ONE / (count.max(1) as f64).sqrt()))
    }

    /// Updates of all its trials.
    pub fn updates(&self) -> u64 {
        let rung = |(rung, steps): (usize, &u32)| self.places(rung) as u64 * u64::from(*steps);
        self.rungs.iter().enumerate().map(rung).sum()
    }

    /// Trials of a rung: what climbed, and the default beside them unless it is among them anyway.
    fn places(&self, rung: usize) -> usize {
        match rung {
            0 => self.trials,
            rung => (self.trials - 1).div_ceil(HALVING.pow(rung as u32)) + 1,
        }
    }

    /// What to do after what was `measured`, in any order; `spent` of `budget` is over.
    pub fn next(&self, measured: &[Measured], spent: Duration, budget: Duration) -> NextTrial {
        for rung in 0..self.rungs.len() {
            let missing = self.climbers(rung, measured).into_iter().find(|trial| at(measured, *trial, rung).is_none());
            match missing {
                Some(_) if spent >= budget => return NextTrial::Over(self.found(measured, true)),
                Some(trial) => return NextTrial::Train { trial, rung },
                None => {}
            }
        }
        NextTrial::Over(self.found(measured, false))
    }

    /// The trials that train at a rung: the default first, then the best of the rung below.
    pub fn climbers(&self, rung: usize, measured: &[Measured]) -> Vec<usize> {
        let Some(below) = rung.checked_sub(1) else { return (0..self.trials).collect() };
        let mut others: Vec<(f64, usize)> = self
            .climbers(below, measured)
            .into_iter()
            .skip(1)
            .filter_map(|trial| Some((at(measured, trial, below)?.heldout_loss?, trial)))
            .collect();
        // Ties fall to the trial that was drawn first.
        others.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        [0].into_iter().chain(others.into_iter().map(|(_, trial)| trial).take(self.places(rung) - 1)).collect()
    }

    /// The best of the highest rung at which the default and another one were measured.
    fn found(&self, measured: &[Measured], out_of_time: bool) -> Found {
        let loss = |trial: usize, rung: usize| at(measured, trial, rung).and_then(|found| found.heldout_loss);
        for rung in (0..self.rungs.len()).rev() {
            let others = self.climbers(rung, measured).into_iter().skip(1).filter_map(|trial| Some((loss(trial, rung)?, trial)));
            let best = others.min_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            let default = at(measured, 0, rung);
            if let (Some((best_loss, trial)), Some(default)) = (best, default) {
                // A default that fails is beaten by whatever does not.
                let better = default.heldout_loss.is_none_or(|loss| best_loss < loss * (1.0 - self.least_gain));
                let winner = if better { trial } else { 0 };
                return Found { winner, best: Some((trial, best_loss)), default_loss: default.heldout_loss, rung, out_of_time };
            }
        }
        Found { winner: 0, best: None, default_loss: loss(0, 0), rung: 0, out_of_time }
    }
}

fn at(measured: &[Measured], trial: usize, rung: usize) -> Option<&Measured> {
    measured.iter().find(|one| (one.trial, one.rung) == (trial, rung))
}

/// `count` configurations, each a choice on every axis, given how many choices each has.
///
/// Drawn so that every choice of an axis comes up equally often (a Latin hypercube): few draws then try all of them. The same
/// seed gives the same, and a longer list does not begin like a shorter one.
pub fn draw_configurations(choices: &[usize], count: usize, seed: u64) -> Vec<Vec<usize>> {
    let mut drawn = vec![Vec::with_capacity(choices.len()); count];
    for (axis, choices) in choices.iter().enumerate() {
        let order = Draws::new(seed ^ TRIALS, axis as u64).permutation(count);
        for (configuration, place) in drawn.iter_mut().zip(order) {
            configuration.push(place % (*choices).max(1));
        }
    }
    drawn
}
