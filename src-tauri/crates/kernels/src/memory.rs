//! Memory for weights, which are read from end to end for every token.
//!
//! They lie close together in large pages where the system has them: with small ones, looking up where a page is costs a tenth
//! of the speed at which one sequence is written.

use crate::packed::Line;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes that small matrices share.
const CHUNK: usize = 32 << 20;
/// A large page, and where one may begin.
const PAGE: usize = 2 << 20;
const LINES_OF_CHUNK: usize = CHUNK / size_of::<Line>();

/// Where the weights of one base go, one matrix behind the other; clones share it.
#[derive(Clone, Default)]
pub struct WeightMemory(Arc<Mutex<Option<Rest>>>);

/// What is left of the last chunk.
struct Rest {
    chunk: Arc<Chunk>,
    used: usize,
}

impl WeightMemory {
    /// Zeros.
    pub(crate) fn take(&self, lines: usize) -> Lines {
        // What fills a chunk gets one of its own, and the rest of the last one stays.
        if lines > LINES_OF_CHUNK / 2 {
            return Lines::alone(lines);
        }
        let mut rest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fitting = rest.take().filter(|rest| rest.used + lines <= LINES_OF_CHUNK);
        let Rest { chunk, used } = fitting.unwrap_or_else(|| Rest { chunk: Arc::new(Chunk::zeroed(LINES_OF_CHUNK)), used: 0 });
        *rest = Some(Rest { chunk: chunk.clone(), used: used + lines });
        Lines { first: used, count: lines, chunk: Some(chunk) }
    }
}

/// Lines that nobody else has.
///
/// **Invariant**: `first..first + count` is inside the chunk and overlaps no other `Lines`.
#[derive(Default)]
pub(crate) struct Lines {
    chunk: Option<Arc<Chunk>>,
    first: usize,
    count: usize,
}

impl Lines {
    /// Zeros in a chunk of their own.
    pub fn alone(lines: usize) -> Self {
        Self { chunk: Some(Arc::new(Chunk::zeroed(lines))), first: 0, count: lines }
    }
}

impl Deref for Lines {
    type Target = [Line];

    fn deref(&self) -> &[Line] {
        match &self.chunk {
            // SAFETY: inside the chunk, which is initialised and lives as long as this; written to by nobody, as the only one
            // who could is borrowed.
            Some(chunk) => unsafe { std::slice::from_raw_parts(chunk.start.add(self.first), self.count) },
            None => &[],
        }
    }
}

impl DerefMut for Lines {
    fn deref_mut(&mut self) -> &mut [Line] {
        match &self.chunk {
            // SAFETY: as in `deref`, and nobody else has these lines.
            Some(chunk) => unsafe { std::slice::from_raw_parts_mut(chunk.start.add(self.first), self.count) },
            None => &mut [],
        }
    }
}

/// Lines from the system, zero at first.
struct Chunk {
    start: *mut Line,
    /// What was asked of the system, and how much.
    #[cfg(target_os = "linux")]
    mapped: (*mut libc::c_void, usize),
    #[cfg(not(target_os = "linux"))]
    _held: Vec<Line>,
}

// SAFETY: `Lines` are disjoint parts of it, each shared and written to by the rules of a slice.
unsafe impl Send for Chunk {}
// SAFETY: as above.
unsafe impl Sync for Chunk {}

#[cfg(target_os = "linux")]
impl Chunk {
    fn zeroed(lines: usize) -> Self {
        let bytes = lines.saturating_mul(size_of::<Line>()).max(1);
        // Enough to begin at the start of a large page; memory that is never touched costs nothing.
        let whole = if bytes >= PAGE { bytes.saturating_add(PAGE) } else { bytes };
        let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping, which touches nothing that exists.
        let at = unsafe { libc::mmap(std::ptr::null_mut(), whole, access, kind, -1, 0) };
        if at == libc::MAP_FAILED {
            // Where `Vec` would end, too: there is no memory.
            let layout = std::alloc::Layout::array::<Line>(lines).unwrap_or(std::alloc::Layout::new::<Line>());
            std::alloc::handle_alloc_error(layout);
        }
        let skipped = if bytes >= PAGE { at.align_offset(PAGE) } else { 0 };
        // SAFETY: inside the mapping, which is a large page longer than what is used.
        let start = unsafe { at.byte_add(skipped) };
        if bytes >= PAGE {
            // SAFETY: a part of the mapping. It is a wish; where it is not granted, the pages are small ones.
            unsafe { libc::madvise(start, bytes, libc::MADV_HUGEPAGE) };
        }
        Self { start: start.cast(), mapped: (at, whole) }
    }
}

#[cfg(target_os = "linux")]
impl Drop for Chunk {
    fn drop(&mut self) {
        // SAFETY: this mapping was made by `zeroed` and nobody has a part of it any more.
        unsafe { libc::munmap(self.mapped.0, self.mapped.1) };
    }
}

#[cfg(not(target_os = "linux"))]
impl Chunk {
    fn zeroed(lines: usize) -> Self {
        let mut held = vec![Line([0; 64]); lines];
        Self { start: held.as_mut_ptr(), _held: held }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matrices_get_zeros_that_nobody_else_has() {
        let memory = WeightMemory::default();
        let counts = [1, 70_000, LINES_OF_CHUNK / 2, 0, LINES_OF_CHUNK / 2 - 70_001, 1, LINES_OF_CHUNK / 2 + 1, 3];
        let mut all: Vec<Lines> = counts.iter().map(|count| memory.take(*count)).collect();
        for (index, lines) in all.iter_mut().enumerate() {
            assert_eq!(lines.len(), counts[index]);
            assert!(lines.iter().all(|line| line.0.iter().all(|byte| *byte == 0)), "matrix {index} is zero before it is written");
            lines.fill(Line([index as u8 + 1; 64]));
        }
        drop(memory);
        for (index, lines) in all.iter().enumerate() {
            assert!(lines.iter().all(|line| line.0 == [index as u8 + 1; 64]), "matrix {index} holds what was written to it");
        }
    }
}
