//! Steering a training from outside: stop it, pause it, make it step aside while somebody waits for text.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Handle on a running training; clones steer the same one.
#[derive(Debug, Clone, Default)]
pub struct Control {
    flags: Arc<Flags>,
    /// Of the work that this is a part of: what stops the whole stops the part.
    whole: Option<Arc<Flags>>,
    gate: ForegroundGate,
}

#[derive(Debug, Default)]
struct Flags {
    cancelled: AtomicBool,
    paused: AtomicBool,
    /// Nanoseconds spent waiting for the foreground.
    waited: AtomicU64,
}

/// Why a training was asked to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    Cancelled,
    Paused,
}

impl Control {
    /// A control that yields to whoever enters `gate`.
    pub fn new(gate: ForegroundGate) -> Self {
        Self { flags: Arc::default(), whole: None, gate }
    }

    /// A control for a part of the work, which can be stopped by itself and stops with the whole.
    pub fn part(&self) -> Self {
        Self { flags: Arc::default(), whole: Some(self.flags.clone()), gate: self.gate.clone() }
    }

    /// Asks the training to stop for good; it keeps its checkpoint.
    pub fn cancel(&self) {
        self.flags.cancelled.store(true, Ordering::Relaxed);
        self.gate.wake();
    }

    /// Asks the training to write a checkpoint and return.
    pub fn pause(&self) {
        self.flags.paused.store(true, Ordering::Relaxed);
        self.gate.wake();
    }

    /// Takes a pause back, so that the training can be started again with `resume`.
    pub fn resume(&self) {
        self.flags.paused.store(false, Ordering::Relaxed);
    }

    pub fn gate(&self) -> &ForegroundGate {
        &self.gate
    }

    /// What was asked for; a cancel outweighs a pause.
    pub fn stop(&self) -> Option<Stop> {
        let asked = |flag: fn(&Flags) -> &AtomicBool| {
            flag(&self.flags).load(Ordering::Relaxed) || self.whole.as_ref().is_some_and(|whole| flag(whole).load(Ordering::Relaxed))
        };
        if asked(|flags| &flags.cancelled) {
            Some(Stop::Cancelled)
        } else if asked(|flags| &flags.paused) {
            Some(Stop::Paused)
        } else {
            None
        }
    }

    /// Called between layers and batches: waits while the foreground is busy.
    ///
    /// # Errors
    /// The stop that was asked for, also while waiting.
    pub fn breathe(&self) -> Result<(), Stop> {
        // The time limit covers a wake-up that came just before the wait began.
        const RECHECK: Duration = Duration::from_millis(20);
        loop {
            if let Some(stop) = self.stop() {
                return Err(stop);
            }
            let guests = self.gate.guests();
            if *guests == 0 {
                return Ok(());
            }
            let began = Instant::now();
            drop(self.gate.shared.left.wait_timeout(guests, RECHECK));
            self.flags.waited.fetch_add(began.elapsed().as_nanos() as u64, Ordering::Relaxed);
        }
    }

    /// How long training stood aside so far; not part of its speed.
    pub fn waited(&self) -> Duration {
        Duration::from_nanos(self.flags.waited.load(Ordering::Relaxed))
    }
}

/// Counts those who wait for text now; training stands still while there is one.
#[derive(Debug, Clone, Default)]
pub struct ForegroundGate {
    shared: Arc<Gate>,
}

#[derive(Debug, Default)]
struct Gate {
    guests: Mutex<usize>,
    left: Condvar,
}

impl ForegroundGate {
    /// Holds training back until the guard is dropped.
    pub fn enter(&self) -> ForegroundGuard {
        *self.guests() += 1;
        ForegroundGuard { gate: self.clone() }
    }

    pub fn is_busy(&self) -> bool {
        *self.guests() > 0
    }

    fn wake(&self) {
        self.shared.left.notify_all();
    }

    /// A panic elsewhere cannot leave a count half-changed, so a poisoned lock is still right.
    fn guests(&self) -> MutexGuard<'_, usize> {
        self.shared.guests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Somebody waits for text as long as this lives.
#[derive(Debug)]
pub struct ForegroundGuard {
    gate: ForegroundGate,
}

impl Drop for ForegroundGuard {
    fn drop(&mut self) {
        *self.gate.guests() -= 1;
        self.gate.wake();
    }
}
