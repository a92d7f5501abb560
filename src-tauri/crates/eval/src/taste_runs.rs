//! E1, E2, E6 and E8: what taste makes of thumbs on the frozen pool.

use crate::estimate::{Estimate, calibration_error};
use crate::oracle::{Kind, User};
use crate::thumbs::{Judge, fit};
use crate::{EvalError, Pool};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Thumbs after which is measured.
pub const AFTER: [usize; 3] = [25, 50, 100];

/// Thumbs of E8: the taste turns round after the first figure, and is measured after each of the others.
pub const TURN: usize = 50;
pub const SINCE_TURN: [usize; 3] = [20, 40, 50];

/// What one user's taste model reached.
#[derive(Debug, Clone)]
pub struct UserResult {
    pub user: User,
    /// E1: area under the curve over held-out prompts after each number of thumbs, a value for each seed.
    pub auc: [Vec<f64>; 3],
    /// E2: share of comparisons on held-out prompts in which best-of-eight pleased more than a single sample, a value for each seed.
    pub wins: [Vec<f64>; 3],
    /// E2 if the user chose.
    pub ceiling: f64,
    /// Fits of each size that believed in a taste.
    pub confident: [usize; 3],
    /// Calibration error at the most thumbs, all seeds together.
    pub calibration: f64,
    /// E8: area under the curve of the new taste so many thumbs after the turn, a value for each seed; empty for others.
    pub since_turn: [Vec<f64>; 3],
}

/// Runs the users over the pool, `seeds` times each.
///
/// # Errors
/// `Pool` when it is damaged.
pub fn run(users: &[User], seeds: u64) -> Result<Vec<UserResult>, EvalError> {
    let pool = Pool::frozen()?;
    let next = AtomicUsize::new(0);
    let results: Mutex<Vec<Option<UserResult>>> = Mutex::new(users.iter().map(|_| None).collect());
    let threads = std::thread::available_parallelism().map_or(1, |cores| cores.get()).min(users.len());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(user) = users.get(at) else { return };
                    let result = one(user, &pool, seeds);
                    results.lock().unwrap_or_else(|poisoned| poisoned.into_inner())[at] = Some(result);
                }
            });
        }
    });
    let results = results.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
    Ok(results.into_iter().flatten().collect())
}

fn one(user: &User, pool: &Pool, seeds: u64) -> UserResult {
    let judge = Judge::new(user, pool);
    let mut result = UserResult {
        user: *user,
        auc: Default::default(),
        wins: Default::default(),
        ceiling: mean(&judge.best_of_eight(|entry, candidate| judge.traits[entry][candidate])),
        confident: [0; 3],
        calibration: 0.0,
        since_turn: Default::default(),
    };
    let mut predictions = Vec::new();
    for seed in 0..seeds {
        for (at, n) in AFTER.into_iter().enumerate() {
            // One who changes is measured before the turn here, and after it below.
            let model = fit(&judge.thumbs(n, usize::MAX, seed));
            result.auc[at].push(judge.auc(&model, false, seed));
            result.wins[at].push(mean(&judge.best_of_eight(|entry, candidate| model.predict(&pool.entries[entry].texts[candidate]).logit)));
            result.confident[at] += usize::from(model.confident);
            if at + 1 == AFTER.len() {
                predictions.extend(judge.predictions(&model, seed));
            }
        }
        if user.kind == Kind::Changing {
            for (at, since) in SINCE_TURN.into_iter().enumerate() {
                let model = fit(&judge.thumbs(TURN + since, TURN, seed));
                result.since_turn[at].push(judge.auc(&model, true, seed));
            }
        }
    }
    result.calibration = calibration_error(&predictions);
    result
}

/// The mean over learnable users, its interval over users, and the worst of them.
pub fn over_users(results: &[UserResult], value: impl Fn(&UserResult) -> f64) -> (Estimate, f64) {
    let values: Vec<f64> = results.iter().filter(|result| result.user.learnable()).map(value).collect();
    (Estimate::bootstrap(&values), values.iter().copied().fold(f64::INFINITY, f64::min))
}

pub fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}
