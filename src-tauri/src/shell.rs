//! The one `App` behind the window: opened once, tried again while it could not be opened, closed at the end.

use app::{App, OpenOptions, Opened};
use domain::{ApiError, ErrorCode};
use http::ServedSocket;
use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tauri::async_runtime;

/// How long the reason why the data folder could not be opened stands before a call looks again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

pub struct Shell {
    pub started: Instant,
    state: Mutex<State>,
    subscription: AtomicU64,
}

enum State {
    Waiting,
    Open(Open),
    Refused { reason: ApiError, at: Instant },
    Closed,
}

struct Open {
    app: Arc<App>,
    /// Lets `inkling` in a terminal work with the data folder that this window holds. It stays where it is when the folder
    /// moves: the lock in the new folder names it.
    socket: Option<ServedSocket>,
}

impl Shell {
    pub fn new(started: Instant) -> Self {
        Self { started, state: Mutex::new(State::Waiting), subscription: AtomicU64::new(0) }
    }

    /// The app; waits while it opens.
    ///
    /// # Errors
    /// Why the data folder cannot be opened: held by another process, of a newer version, damaged.
    pub fn app(&self) -> Result<Arc<App>, ApiError> {
        let mut state = self.state();
        match &*state {
            State::Open(open) => return Ok(Arc::clone(&open.app)),
            State::Refused { reason, at } if at.elapsed() < RETRY_AFTER => return Err(reason.clone()),
            State::Closed => return Err(ApiError::new(ErrorCode::Cancelled, "Inkling is closing.")),
            State::Waiting | State::Refused { .. } => {}
        }
        match open() {
            Ok(app) => {
                *state = State::Open(Open { socket: serve_terminal(&app), app: Arc::clone(&app) });
                Ok(app)
            }
            Err(reason) => {
                *state = State::Refused { reason: reason.clone(), at: Instant::now() };
                Err(reason)
            }
        }
    }

    /// Stops training at a checkpoint and releases the data folder. Calls that come later are refused.
    pub fn close(&self) {
        let former = std::mem::replace(&mut *self.state(), State::Closed);
        if let State::Open(Open { app, socket }) = former {
            if let Some(socket) = socket {
                async_runtime::block_on(socket.finish());
            }
            app.shutdown();
        }
    }

    /// A new number; the stream of events that holds an older one ends, because the page was loaded again.
    pub fn next_subscription(&self) -> u64 {
        self.subscription.fetch_add(1, Ordering::SeqCst) + 1
    }

    pub fn is_current(&self, subscription: u64) -> bool {
        self.subscription.load(Ordering::SeqCst) == subscription
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic while opening leaves the former state, from which opening can be tried again.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn open() -> Result<Arc<App>, ApiError> {
    match App::open(OpenOptions::default())? {
        Opened::Owner(app) => {
            // Loaded while the page is being shown, so that the first text does not wait for it.
            app.warm_up();
            Ok(app)
        }
        // A second window never comes here, it brings the first to the front; so the holder is a terminal.
        Opened::HeldBy(holder) => {
            let message = format!("Another Inkling (process {}) holds the data folder. Nothing was changed.", holder.pid);
            Err(ApiError::new(ErrorCode::Busy, message).hint("End `inkling serve` or the training in the terminal, then try again."))
        }
    }
}

fn serve_terminal(app: &Arc<App>) -> Option<ServedSocket> {
    async_runtime::block_on(http::serve_socket(Arc::clone(app), &app.socket_path()))
        .map_err(|error| tracing::warn!("the terminal cannot share this data folder: {error}"))
        .ok()
}
