//! The event hub: passes what the store announces to every open surface.

use crate::lock;
use domain::Event;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex};

/// Changes replayed at most to a surface that was away; past that it reloads.
pub(crate) const REPLAY: u32 = 10_000;

/// Events a slow surface may lag behind before it loses some (and resyncs by sequence number).
const BACKLOG: usize = 4096;

/// A surface's end of the stream.
pub type EventReceiver = Receiver<Event>;

#[derive(Default)]
pub(crate) struct Hub {
    surfaces: Arc<Mutex<Vec<SyncSender<Event>>>>,
}

impl Hub {
    pub fn subscribe(&self) -> EventReceiver {
        let (sender, receiver) = sync_channel(BACKLOG);
        lock(&self.surfaces).push(sender);
        receiver
    }

    /// Forwards one store's announcements until that store is closed.
    ///
    /// The hub outlives the store because the data folder can be moved while surfaces listen.
    pub fn forward(&self, source: store::Subscription) {
        let surfaces = self.surfaces.clone();
        let forwarding = std::thread::Builder::new().name("events".into()).spawn(move || {
            while let Ok(event) = source.recv() {
                lock(&surfaces).retain(|surface| match surface.try_send(event.clone()) {
                    Ok(()) | Err(TrySendError::Full(_)) => true,
                    Err(TrySendError::Disconnected(_)) => false,
                });
            }
        });
        if let Err(error) = forwarding {
            tracing::error!(%error, "no thread for events: open surfaces will not follow changes");
        }
    }
}
