//! What every handler shares.

use crate::{guard::Guard, queue::Queue, refusal::Refusal};
use app::App;
use domain::ApiError;
use std::sync::Arc;

pub(crate) struct Surface {
    pub app: Arc<App>,
    pub guard: Guard,
    /// Generations: two at once (they share the processor), 32 waiting.
    pub writing: Queue,
    /// All other calls; most take milliseconds.
    pub calls: Queue,
    /// Open event streams, each with a thread of its own; none waits.
    pub streams: Queue,
    pub in_flight: InFlight,
}

impl Surface {
    pub fn new(app: Arc<App>, guard: Guard, in_flight: InFlight) -> Self {
        Self {
            app,
            guard,
            writing: Queue::new("texts being written", 2, 32),
            calls: Queue::new("requests", 16, 256),
            streams: Queue::new("event streams", 64, 0),
            in_flight,
        }
    }

    /// Runs a use case on a blocking thread, in its turn.
    pub async fn call<T: Send + 'static>(&self, work: impl FnOnce(&App) -> Result<T, ApiError> + Send + 'static) -> Result<T, Refusal> {
        let slot = self.calls.enter().await?;
        let app = self.app.clone();
        blocking(move || {
            // Held until the work is done, not until the client has lost patience.
            let _slot = slot;
            work(&app)
        })
        .await
    }
}

/// Runs work on a blocking thread; a panic in it becomes an `Internal` error.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, ApiError> + Send + 'static) -> Result<T, Refusal> {
    let outcome = tokio::task::spawn_blocking(work).await.unwrap_or_else(|failed| Err(ApiError::internal(failed)));
    Ok(outcome?)
}

/// Counts requests under way, streams included: every one holds a clone.
#[derive(Clone, Default)]
pub(crate) struct InFlight(Arc<()>);

impl InFlight {
    /// Requests under way, given that `holders` clones belong to no request.
    pub fn count(&self, holders: usize) -> usize {
        Arc::strong_count(&self.0).saturating_sub(holders)
    }
}
