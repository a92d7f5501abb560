//! When taste is believed: how soon for users who have one, and how often for those who throw coins (E6).
//!
//! A person looks after every few thumbs, so luck has many chances: looks are counted one by one and by person.

use crate::oracle::{Kind, User};
use crate::thumbs::{Judge, fit};
use crate::{EvalError, Pool};
use serde::Serialize;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Thumbs after which a random user is looked at.
pub const LOOKS: std::ops::RangeInclusive<usize> = 10..=100;
pub const EVERY: usize = 5;

/// One look at one person.
#[derive(Debug, Clone, Serialize)]
pub struct Look {
    pub user: String,
    pub seed: u64,
    pub thumbs: usize,
    pub believed: bool,
    pub chance: f64,
    pub evidence: f64,
    /// Cross-validated, and the least it can be said to be.
    pub auc: Option<f64>,
    pub auc_low: Option<f64>,
    /// On held-out prompts.
    pub held_out: f64,
}

/// Fits every user after each of `looks` thumbs, with `seeds` draws of prompts and slips, in the order of users and seeds.
///
/// # Errors
/// `Pool` when it is damaged.
pub fn looks(users: &[User], seeds: std::ops::Range<u64>, looks: &[usize]) -> Result<Vec<Look>, EvalError> {
    let pool = Pool::frozen()?;
    let tasks: Vec<(&User, u64)> = users.iter().flat_map(|user| seeds.clone().map(move |seed| (user, seed))).collect();
    let next = AtomicUsize::new(0);
    let found: Mutex<Vec<Vec<Look>>> = Mutex::new(vec![Vec::new(); tasks.len()]);
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(tasks.len());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some((user, seed)) = tasks.get(at) else { return };
                    let judge = Judge::new(user, &pool);
                    let all: Vec<Look> = looks.iter().map(|thumbs| look(&judge, *thumbs, *seed)).collect();
                    found.lock().unwrap_or_else(|poisoned| poisoned.into_inner())[at] = all;
                }
            });
        }
    });
    Ok(found.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner()).into_iter().flatten().collect())
}

fn look(judge: &Judge<'_>, thumbs: usize, seed: u64) -> Look {
    let model = fit(&judge.thumbs(thumbs, usize::MAX, seed));
    Look {
        user: judge.user.name.to_owned(),
        seed,
        thumbs,
        believed: model.confident,
        chance: model.chance,
        evidence: model.evidence,
        auc: model.auc,
        auc_low: model.auc_low,
        held_out: judge.auc(&model, false, seed),
    }
}

/// Throws a coin for every thumb.
pub fn random() -> Option<User> {
    crate::oracle::USERS.iter().find(|user| user.kind == Kind::Random).copied()
}
