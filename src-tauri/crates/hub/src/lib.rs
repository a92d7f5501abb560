//! Everything that reaches another machine, and only when the person asked for it: downloads from a model hub, and a writing
//! server that they entered.
//!
//! A hub is not trusted. Names that come from it become paths in one function ([`RemoteName`]), every byte is hashed, every
//! redirect is looked at, and a model is visible in the cache when all of its files are there and right, not before. The cache
//! has the hub's own layout, so that other programs on this machine find what was downloaded here and the other way round.
//! Nothing here knows the store or the app.

#![forbid(unsafe_code)]

mod cache;
mod chat;
mod error;
mod fetch;
mod listing;
mod name;
mod select;
mod settings;
mod transport;

pub use cache::Cache;
pub use chat::{ChatRequest, ChatServer, ChatText};
pub use error::HubError;
pub use fetch::{Fetch, Progress, Snapshot};
pub use listing::{Hash, Listing, RemoteFile};
pub use name::{RemoteName, RepoId};
pub use select::{Selection, Weights, select};
pub use settings::{Pace, Settings};

use std::sync::atomic::AtomicBool;
use transport::Transport;

/// A model hub at an address, with the cache that its files go to.
#[derive(Debug, Clone)]
pub struct Hub {
    settings: Settings,
    pace: Pace,
}

impl Hub {
    pub fn new(settings: Settings) -> Self {
        Self::with_pace(settings, Pace::default())
    }

    /// [`Hub::new`] with other waiting times, such as a test's.
    pub fn with_pace(settings: Settings, pace: Pace) -> Self {
        Self { settings, pace }
    }

    pub fn cache(&self) -> Cache {
        Cache::at(self.settings.cache.clone())
    }

    /// What a repository holds at a revision (`main`, a tag or a commit), with sizes and hashes.
    ///
    /// # Errors
    /// `NotFound`, `Unauthorized`, `Gated`, `UnsafeName` for a listing that names a path, `NotAListing`, and what the network
    /// does after [`Pace::retries`] tries.
    pub fn list(&self, repo: &RepoId, revision: &str, cancel: &AtomicBool) -> Result<Listing, HubError> {
        let transport = Transport::open(&self.settings, &self.pace)?;
        transport.block_on(listing::list(&transport, repo, revision, cancel))
    }

    /// Downloads the chosen files into the cache, verified, going on where an earlier try ended.
    ///
    /// Returns when all of them are there; then the snapshot leads to them and the revision's name leads to the snapshot.
    ///
    /// # Errors
    /// `NoSpace` before anything is written; `WrongLength`, `WrongHash`, `UnsafeRedirect` from a hub that lies; `Cancelled`, which
    /// keeps what has arrived for the next try; what the disk and the network do.
    pub fn fetch(&self, fetch: &Fetch<'_>, cancel: &AtomicBool, on_progress: &mut dyn FnMut(&Progress)) -> Result<Snapshot, HubError> {
        let transport = Transport::open(&self.settings, &self.pace)?;
        transport.block_on(fetch::fetch(&transport, &self.cache(), fetch, cancel, on_progress))
    }
}
