//! Changes, told to whoever listens.

use crate::lock;
use domain::Event;
use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex};

/// Events that wait for one subscriber; more are dropped and counted.
const QUEUE: usize = 1024;

/// A listener's bounded queue; use it like the `Receiver<Event>` it derefs to.
///
/// A listener that falls more than 1,024 events behind loses the newest ones: the writer never waits for it. It notices by
/// [`Subscription::take_dropped`] or by a gap in `Event::seq`, which is otherwise gap-free, and then calls
/// [`crate::Store::changes_after`] with the last number it has seen.
pub struct Subscription {
    receiver: Receiver<Event>,
    dropped: Arc<AtomicU64>,
}

impl Subscription {
    /// How many events were lost since the last call; more than zero means: catch up from the change log.
    pub fn take_dropped(&self) -> u64 {
        self.dropped.swap(0, Ordering::AcqRel)
    }
}

impl Deref for Subscription {
    type Target = Receiver<Event>;

    fn deref(&self) -> &Receiver<Event> {
        &self.receiver
    }
}

#[derive(Default)]
pub(crate) struct Announcer {
    subscribers: Mutex<Vec<Subscriber>>,
}

struct Subscriber {
    sender: SyncSender<Event>,
    dropped: Arc<AtomicU64>,
}

impl Announcer {
    pub(crate) fn subscribe(&self) -> Subscription {
        let (sender, receiver) = sync_channel(QUEUE);
        let dropped = Arc::new(AtomicU64::new(0));
        lock(&self.subscribers).push(Subscriber { sender, dropped: dropped.clone() });
        Subscription { receiver, dropped }
    }

    /// Never blocks; forgets subscribers that are gone.
    pub(crate) fn announce(&self, event: &Event) {
        lock(&self.subscribers).retain(|subscriber| match subscriber.sender.try_send(event.clone()) {
            Ok(()) => true,
            Err(TrySendError::Full(_)) => {
                subscriber.dropped.fetch_add(1, Ordering::AcqRel);
                true
            }
            Err(TrySendError::Disconnected(_)) => false,
        });
    }
}
