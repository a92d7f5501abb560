//! Bounded waiting: so many at once, so many in line, the rest is told to come back.

use domain::{ApiError, ErrorCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Slots with a line of limited length in front of them.
pub(crate) struct Queue {
    noun: &'static str,
    slots: Arc<Semaphore>,
    waiting: AtomicUsize,
    most_waiting: usize,
}

impl Queue {
    pub fn new(noun: &'static str, slots: usize, most_waiting: usize) -> Self {
        Self { noun, slots: Arc::new(Semaphore::new(slots)), waiting: AtomicUsize::new(0), most_waiting }
    }

    /// Waits for a slot; dropping the permit frees it, dropping the future leaves the line.
    ///
    /// # Errors
    /// `Overloaded` when the line is full.
    pub async fn enter(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        if let Ok(slot) = self.slots.clone().try_acquire_owned() {
            return Ok(slot);
        }
        let _place = Place::take(self).ok_or_else(|| self.full())?;
        self.slots.clone().acquire_owned().await.map_err(ApiError::internal)
    }

    fn full(&self) -> ApiError {
        ApiError::new(ErrorCode::Overloaded, format!("Too many {} already: nothing was started.", self.noun)).hint("Try again in a moment.")
    }
}

/// A place in the line.
struct Place<'a>(&'a AtomicUsize);

impl<'a> Place<'a> {
    fn take(queue: &'a Queue) -> Option<Self> {
        let more = |waiting: usize| (waiting < queue.most_waiting).then_some(waiting + 1);
        queue.waiting.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).ok().map(|_| Self(&queue.waiting))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_full_line_refuses_and_a_freed_slot_serves_the_next() {
        let queue = Arc::new(Queue::new("things", 1, 1));
        let first = queue.enter().await.unwrap();
        let waiting = tokio::spawn({
            let queue = queue.clone();
            async move { queue.enter().await }
        });
        while queue.waiting.load(Ordering::Acquire) == 0 {
            tokio::task::yield_now().await;
        }
        let refused = queue.enter().await.unwrap_err();
        assert_eq!(refused.code, ErrorCode::Overloaded, "one runs, one waits, the third is refused");
        drop(first);
        assert!(waiting.await.unwrap().is_ok(), "the waiting one gets the slot");
    }

    #[tokio::test]
    async fn who_gives_up_waiting_leaves_the_line() {
        let queue = Queue::new("things", 1, 1);
        let _first = queue.enter().await.unwrap();
        let gave_up = tokio::time::timeout(std::time::Duration::from_millis(5), queue.enter()).await;
        assert!(gave_up.is_err(), "there is no slot");
        assert_eq!(queue.waiting.load(Ordering::Acquire), 0, "its place is free again");
    }
}
