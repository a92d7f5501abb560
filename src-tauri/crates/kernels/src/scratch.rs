//! Memory that a thread keeps for the next call, so that hot loops do not allocate.

use std::cell::Cell;

thread_local! {
    static KEPT: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
}

/// Calls `work` with `length` numbers of unspecified value.
pub(crate) fn with<T>(length: usize, work: impl FnOnce(&mut [f32]) -> T) -> T {
    // Taken out while in use: a nested call gets memory of its own.
    let mut kept = KEPT.take();
    if kept.len() < length {
        kept.resize(length, 0.0);
    }
    let result = work(&mut kept[..length]);
    KEPT.set(kept);
    result
}
