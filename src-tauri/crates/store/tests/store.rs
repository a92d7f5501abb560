//! Tests of the store, one module per file of `src` or promise of TRUST.md.

// In tests a failed unwrap is a failed test, in the helpers too, where clippy does not see that.
#![allow(clippy::unwrap_used)]

#[path = "store/adapters.rs"]
mod adapters;
#[path = "store/bases.rs"]
mod bases;
#[path = "store/changes.rs"]
mod changes;
#[path = "store/damage.rs"]
mod damage;
#[path = "store/examples.rs"]
mod examples;
#[path = "store/failing_disk.rs"]
mod failing_disk;
#[path = "store/golden.rs"]
mod golden;
#[path = "store/history.rs"]
mod history;
#[path = "store/opening.rs"]
mod opening;
#[path = "store/preferences.rs"]
mod preferences;
#[path = "store/queue.rs"]
mod queue;
#[path = "store/sample.rs"]
mod sample;
#[path = "store/searches.rs"]
mod searches;
