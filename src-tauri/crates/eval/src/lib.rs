//! Simulated users and the experiments of LEARNING.md. Nothing of the product depends on this crate.
//!
//! [`oracle`] holds the users; [`Pool`] what the built-in base once wrote; [`taste_runs`] E1, E2, E6 and E8 on it,
//! [`tuned`] E3–E5 with real adapters, [`gate`] E7 through the app's own promotion check. [`story_model`] measures how a base writes.

pub mod belief;
mod error;
pub mod estimate;
pub mod figure;
pub mod gate;
pub mod lessons;
pub mod oracle;
pub mod pool;
mod prompts;
mod random;
pub mod records;
pub mod report;
pub mod report_weights;
pub mod story_model;
pub mod taste_runs;
pub mod text_figures;
pub mod thumbs;
pub mod tuned;

pub use error::EvalError;
pub use pool::{Entry, Pool};
pub use prompts::{Prompt, prompts};
pub use random::Random;
