//! Ctrl-C as a wish, not as an end: work stops where nothing is lost. A second one ends at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};

/// Whether somebody asked us to stop.
#[derive(Debug, Clone, Default)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Takes over Ctrl-C and SIGTERM for the rest of this process.
    pub fn watch(runtime: &Handle) -> Self {
        let interrupt = Self::default();
        for kind in [SignalKind::interrupt(), SignalKind::terminate()] {
            let asked = interrupt.0.clone();
            let _context = runtime.enter();
            match signal(kind) {
                Ok(mut signals) => drop(runtime.spawn(async move {
                    while signals.recv().await.is_some() {
                        if asked.swap(true, Ordering::AcqRel) {
                            std::process::exit(1);
                        }
                    }
                })),
                Err(error) => tracing::warn!(%error, "Ctrl-C ends this command at once"),
            }
        }
        interrupt
    }

    pub fn asked(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}
