//! Memory that a thread keeps for the next call, so that hot loops do not allocate.

use std::cell::Cell;

/// Numbers in a line of the cache: what is lent begins on one.
const LINE: usize = 16;

thread_local! {
    /// What is not lent out. The last one given back is lent first, so calls of the same depth get the same piece again.
    static KEPT: Cell<Vec<Vec<f32>>> = const { Cell::new(Vec::new()) };
}

/// Calls `work` with `length` numbers of unspecified value.
pub(crate) fn with<T>(length: usize, work: impl FnOnce(&mut [f32]) -> T) -> T {
    let mut pieces = KEPT.take();
    // Taken out while in use: a call inside another gets a piece of its own.
    let mut piece = pieces.pop().unwrap_or_default();
    KEPT.set(pieces);
    if piece.len() < length + LINE {
        // Not grown in place: that would copy what nobody reads.
        piece = vec![0.0; length + LINE];
    }
    let start = piece.as_ptr().align_offset(4 * LINE).min(LINE);
    let result = work(&mut piece[start..start + length]);
    let mut pieces = KEPT.take();
    pieces.push(piece);
    KEPT.set(pieces);
    result
}
