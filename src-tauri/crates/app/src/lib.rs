//! Use cases: everything that a surface (window, CLI, HTTP) can do, one file per noun.
//!
//! One [`App`] is opened at start and shared; there is no other state. Its methods are synchronous and may block on
//! files and arithmetic, so asynchronous surfaces call them from a blocking thread. Nothing here knows a surface.

mod adapter;
mod auto_train;
mod base;
pub mod bench;
mod bench_startup;
mod bench_train;
mod blind;
pub mod calls;
mod chart;
mod dataset;
mod disarray;
mod doctor;
mod draft;
mod embedder;
mod ensemble;
mod evaluate;
mod events;
mod example;
mod export;
mod feedback;
mod folder;
mod generation;
mod hyperparameters;
mod job;
mod member;
mod memory;
mod pairs;
mod personal;
mod preference;
mod prompt;
mod recipe;
mod relocate;
mod run;
mod search;
mod settings;
mod shuffle;
mod taste_model;
mod train;
mod trainable;
mod training_file;
mod worker;
mod write;

pub use bench_startup::{StartupBench, StartupReport, bench_startup};
pub use bench_train::{TrainBench, TrainBenchResult, bench_train};
pub use events::EventReceiver;
pub use folder::{Assets, Holder, data_folder};
pub use hub::Settings as HubSettings;
pub use memory::{available_mb, peak_process_mb, process_mb};

use domain::{ApiError, ErrorCode, Event};
use folder::{DataFolder, FolderLock};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, RwLock};
use store::Store;

/// Where to open the app; the default is the person's own data folder and the assets beside the program.
#[derive(Debug, Clone, Default)]
pub struct OpenOptions {
    pub data_dir: Option<PathBuf>,
    pub assets_dir: Option<PathBuf>,
    /// Leave queued jobs alone until this process queues or resumes one: for a command that only looks.
    pub defer_jobs: bool,
    /// The model hub and its cache; the default is what the environment says.
    pub hub: Option<HubSettings>,
}

/// Either this process owns the data folder now, or another one does and takes requests on its socket.
pub enum Opened {
    Owner(Arc<App>),
    HeldBy(Holder),
}

/// The open application.
pub struct App {
    home: RwLock<Arc<Home>>,
    assets: Assets,
    models: base::Models,
    taste: taste_model::CurrentTaste,
    disarray: disarray::Found,
    writing: write::Writing,
    worker: worker::Worker,
    downloads: base::download::Downloads,
    hub: Option<HubSettings>,
    events: events::Hub,
    /// Where this process takes requests; it stays there when the data folder moves.
    socket: PathBuf,
    /// Held while settings change, so that two updates do not lose each other's keys.
    settings: Mutex<()>,
}

/// The open data folder: replaced as a whole when the person moves it.
pub(crate) struct Home {
    pub folder: DataFolder,
    pub store: Store,
    _lock: FolderLock,
}

impl App {
    /// Opens the data folder, or says who holds it.
    ///
    /// Runs that were under way when the last owner ended are marked interrupted, and the worker thread starts.
    ///
    /// # Errors
    /// `NewerData`, `Damaged`, `DiskFull`, `Storage` as the folder is found. A missing or damaged model is not an
    /// error here: the person's texts must open without it. It is reported by `status` and by writing.
    pub fn open(options: OpenOptions) -> Result<Opened, ApiError> {
        let folder = DataFolder::at(match options.data_dir {
            Some(path) => path,
            None => folder::data_folder()?,
        });
        folder.create()?;
        let socket = folder.socket();
        let lock = match FolderLock::take(&folder, &socket)? {
            folder::Taken::Ours(lock) => lock,
            folder::Taken::HeldBy(holder) => return Ok(Opened::HeldBy(holder)),
        };
        let (store, report) = Store::open(folder.root())?;
        store.mark_interrupted_at_start()?;
        store.mark_pulls_interrupted_at_start()?;
        if let Some(backup) = &report.backup {
            tracing::info!(from = report.migrated_from, backup = %backup.display(), "the database was brought up to date after a backup");
        }
        let events = events::Hub::default();
        events.forward(store.subscribe());
        let app = Arc::new(Self {
            home: RwLock::new(Arc::new(Home { folder, store, _lock: lock })),
            assets: Assets::find(options.assets_dir),
            models: base::Models::default(),
            taste: taste_model::CurrentTaste::default(),
            disarray: disarray::Found::default(),
            writing: write::Writing::default(),
            worker: worker::Worker::new(options.defer_jobs),
            downloads: base::download::Downloads::new(options.defer_jobs),
            hub: options.hub,
            events,
            socket,
            settings: Mutex::new(()),
        });
        app.load_taste()?;
        worker::start(&app)?;
        base::download::start(&app)?;
        Ok(Opened::Owner(app))
    }

    /// Puts a backup of the database in the place of a damaged one, which is kept beside it. Returns where that is.
    ///
    /// # Errors
    /// `Busy` while an Inkling holds the folder, and what reading the backup reports.
    pub fn restore(options: OpenOptions, backup: &std::path::Path) -> Result<PathBuf, ApiError> {
        let folder = DataFolder::at(match options.data_dir {
            Some(path) => path,
            None => folder::data_folder()?,
        });
        match FolderLock::take(&folder, &folder.socket())? {
            folder::Taken::Ours(_lock) => Ok(Store::restore(folder.root(), backup)?),
            folder::Taken::HeldBy(holder) => {
                let message = format!("Inkling is open (process {}) and uses that folder.", holder.pid);
                Err(ApiError::new(ErrorCode::Busy, message).hint("Close it, then restore."))
            }
        }
    }

    /// Every change from now on, as the store announces it.
    pub fn subscribe(&self) -> EventReceiver {
        self.events.subscribe()
    }

    /// Announced changes after a sequence number, for a surface that was away.
    pub fn changes_after(&self, seq: u32) -> Result<Vec<Event>, ApiError> {
        Ok(self.home().store.changes_after(seq, events::REPLAY)?)
    }

    pub fn data_dir(&self) -> PathBuf {
        self.home().folder.root().to_owned()
    }

    /// Where the owner serves the HTTP API for other processes of the same person.
    pub fn socket_path(&self) -> PathBuf {
        self.socket.clone()
    }

    /// Takes up queued jobs now, if opening deferred them.
    pub fn take_up_jobs(&self) {
        self.worker.wake();
    }

    /// Stops a running training at its next checkpoint (it can be resumed) and the worker thread.
    pub fn shutdown(&self) {
        base::download::stop(self);
        worker::stop(self);
    }

    pub(crate) fn home(&self) -> Arc<Home> {
        // A poisoned lock means that a writer panicked between two whole values; the value itself is intact.
        self.home.read().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }
}

/// Locks a mutex whose value stays valid even if a holder panicked.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
