//! Nouns of Inkling: ids, states, requests, results, the settings schema and errors.
//!
//! Everything here is plain data that crosses a seam: the store writes it, the use cases return it, the window, the
//! CLI and HTTP show it. No IO, no clock but [`Timestamp::now`], no numeric code. TypeScript types are generated from
//! these definitions, so a change here changes the UI's types.

pub mod adapter;
pub mod auto_train;
pub mod base;
pub mod call;
pub mod doctor;
pub mod error;
pub mod event;
pub mod export;
pub mod feedback;
pub mod genre;
pub mod hyperparameters;
pub mod id;
pub mod job;
pub mod preference;
pub mod run;
pub mod search;
pub mod settings;
pub mod time;
pub mod train;
pub mod write;

pub use adapter::*;
pub use auto_train::*;
pub use base::*;
pub use call::*;
pub use doctor::*;
pub use error::*;
pub use event::*;
pub use export::*;
pub use feedback::*;
pub use genre::*;
pub use hyperparameters::*;
pub use id::*;
pub use job::*;
pub use preference::*;
pub use run::*;
pub use search::*;
pub use settings::*;
pub use time::*;
pub use train::*;
pub use write::*;
