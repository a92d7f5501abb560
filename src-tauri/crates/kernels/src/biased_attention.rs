//! Attention over f32 keys and values with any scale and a bias by distance: BERT (no bias) and T5 (no scale).
//!
//! A row's result does not depend on the rows beside it, nor on the number of threads.

use crate::isa::Isa;
use crate::pool::{Disjoint, Pool};
use crate::scratch;
use crate::simd::{Lanes, dispatch, queries_at_once};
pub use crate::spans::SPAN;
use crate::spans::{exponentiate, gather_batch, rescale, score_batch};

/// Keys and values of one sequence in one layer, in f32.
///
/// Keys `[heads, capacity / 16, head_dim, 16]`, so that 16 positions are scored at once; values `[heads, capacity, head_dim]`.
pub struct Memory {
    heads: usize,
    head_dim: usize,
    capacity: usize,
    keys: Vec<f32>,
    values: Vec<f32>,
}

impl Memory {
    /// Room for `capacity` positions, rounded up to 16. Panics when `head_dim` is not a multiple of 16.
    pub fn new(heads: usize, head_dim: usize, capacity: usize) -> Self {
        assert!(head_dim > 0 && head_dim.is_multiple_of(SPAN), "heads of {head_dim} are not a multiple of {SPAN}");
        let capacity = capacity.next_multiple_of(SPAN);
        let size = heads * head_dim * capacity;
        Self { heads, head_dim, capacity, keys: vec![0.0; size], values: vec![0.0; size] }
    }

    pub fn capacity(&self) -> usize {
        self.capacity
    }

    pub fn bytes(&self) -> usize {
        4 * (self.keys.len() + self.values.len())
    }

    /// Makes room for `capacity` positions; what was written is lost when it was less.
    pub fn reserve(&mut self, capacity: usize) {
        if capacity > self.capacity {
            *self = Self::new(self.heads, self.head_dim, capacity);
        }
    }

    /// Stores keys and values `[heads, head_dim]` of one position. Panics when it is outside or the lengths differ.
    pub fn write(&mut self, position: usize, keys: &[f32], values: &[f32]) {
        let head_dim = self.head_dim;
        assert!(position < self.capacity && keys.len() == self.heads * head_dim && values.len() == keys.len());
        for head in 0..self.heads {
            let start = head * self.capacity * head_dim;
            let span = start + position / SPAN * SPAN * head_dim + position % SPAN;
            for (dim, key) in keys[head * head_dim..][..head_dim].iter().enumerate() {
                self.keys[span + dim * SPAN] = *key;
            }
            self.values[start + position * head_dim..][..head_dim].copy_from_slice(&values[head * head_dim..][..head_dim]);
        }
    }
}

/// What one row attends to: the first `seen` positions of a memory.
#[derive(Clone, Copy)]
pub struct BiasedRow<'a> {
    /// Neighbours with the same memory are computed together.
    pub memory: &'a Memory,
    pub seen: usize,
    /// Where in each head's biases the one of position 0 is; those of the next positions follow it.
    pub first_bias: usize,
}

/// Terms added to the scores, `[heads, length]`.
#[derive(Clone, Copy)]
pub struct Biases<'a> {
    pub values: &'a [f32],
    /// Numbers of each head; a row reads `seen` from `first_bias`, rounded up to 16.
    pub length: usize,
}

/// `softmax(scale * q · k + bias) · v` for each row and head.
///
/// `queries` is `[rows, stride]`, of which the first `heads * head_dim` of each row are used; `out` is
/// `[rows, heads * head_dim]`. Panics when sizes do not fit or a row attends to nothing.
pub fn attend_biased(
    isa: Isa,
    pool: &Pool,
    rows: &[BiasedRow],
    scale: f32,
    biases: Option<Biases>,
    queries: &[f32],
    stride: usize,
    out: &mut [f32],
) {
    let Some(first) = rows.first() else { return };
    let Memory { heads, head_dim, .. } = *first.memory;
    let width = heads * head_dim;
    assert!(stride >= width && queries.len() >= (rows.len() - 1) * stride + width && out.len() == rows.len() * width);
    for row in rows {
        assert!(row.memory.heads == heads && row.memory.head_dim == head_dim && row.seen > 0 && row.seen <= row.memory.capacity);
        let end = row.first_bias + row.seen.next_multiple_of(SPAN);
        assert!(biases.is_none_or(|biases| end <= biases.length && biases.values.len() == heads * biases.length));
    }
    let batches = batches(rows, queries_at_once(isa), heads, pool.threads());
    let out = Disjoint::new(out);
    pool.run(heads * batches.len(), 1, &|range| {
        for index in range {
            let (head, (first, count)) = (index / batches.len(), batches[index % batches.len()]);
            let task = Task { rows: &rows[first..first + count], first, head, head_dim, scale, biases, queries, stride, width, out: &out };
            let task = &task;
            scratch::with(count.next_power_of_two() * task.spans() * SPAN, |scores| {
                // SAFETY: sizes were checked above; an `Isa` proves its instructions; a (row, head) belongs to one task only.
                unsafe { dispatch!(isa, run_task(task: &Task<'_>, scores: &mut [f32])) };
            });
        }
    });
}

/// First row and number of rows of each batch: neighbours with one memory, as many as registers allow, but enough batches to
/// keep every thread busy.
fn batches(rows: &[BiasedRow], most: usize, heads: usize, threads: usize) -> Vec<(usize, usize)> {
    let mut size = most;
    while size > 1 && heads * rows.len().div_ceil(size) < 2 * threads {
        size /= 2;
    }
    let (mut batches, mut row) = (Vec::new(), 0);
    for same in rows.chunk_by(|a, b| std::ptr::eq(a.memory, b.memory)) {
        let end = row + same.len();
        batches.extend((row..end).step_by(size).map(|first| (first, size.min(end - first))));
        row = end;
    }
    batches
}

/// One head of some rows with the same memory.
struct Task<'a> {
    rows: &'a [BiasedRow<'a>],
    /// Index of the first row.
    first: usize,
    head: usize,
    head_dim: usize,
    scale: f32,
    biases: Option<Biases<'a>>,
    queries: &'a [f32],
    stride: usize,
    width: usize,
    out: &'a Disjoint<'a, f32>,
}

impl Task<'_> {
    fn longest(&self) -> usize {
        self.rows.iter().map(|row| row.seen).max().unwrap_or(0)
    }

    fn spans(&self) -> usize {
        self.longest().div_ceil(SPAN)
    }
}

/// # Safety
/// The task must be as `attend_biased` checks it; `scores` must hold a row of spans for each query, in a power of two.
#[inline(always)]
unsafe fn run_task<V: Lanes>(task: &Task<'_>, scores: &mut [f32]) {
    let Some(row) = task.rows.first() else { return };
    let (memory, spans, stride) = (row.memory, task.spans(), task.spans() * SPAN);
    let start = task.head * memory.capacity * task.head_dim;
    unsafe {
        let (keys, values) = (memory.keys.as_ptr().add(start), memory.values.as_ptr().add(start));
        // Unused places repeat the first query, so that every batch is a power of two.
        let mut queries = [task.queries.as_ptr(); 8];
        let mut outputs = [std::ptr::null_mut(); 8];
        for place in 0..8 {
            let row = task.first + if place < task.rows.len() { place } else { 0 };
            queries[place] = task.queries.as_ptr().add(row * task.stride + task.head * task.head_dim);
            outputs[place] = task.out.pointer().add(row * task.width + task.head * task.head_dim);
        }
        let at = scores.as_mut_ptr();
        score_batch::<V, f32>(task.rows.len(), &queries, keys, task.head_dim, spans, at, stride, task.scale);
        let mut inverse = [0.0f32; 8];
        for (place, row) in task.rows.iter().enumerate() {
            let mine = at.add(place * stride);
            if let Some(biases) = task.biases {
                let bias = biases.values.as_ptr().add(task.head * biases.length + row.first_bias);
                for index in (0..row.seen).step_by(SPAN) {
                    V::load(mine.add(index)).add(V::load(bias.add(index))).store(mine.add(index));
                }
            }
            for hidden in row.seen..stride {
                *mine.add(hidden) = f32::NEG_INFINITY;
            }
            inverse[place] = 1.0 / exponentiate::<V>(mine, stride);
        }
        // Rows of one batch may see different numbers of positions; weights of what one does not see are zero.
        gather_batch::<V, f32>(task.rows.len(), &outputs, values, task.head_dim, task.longest(), at, stride);
        for place in 0..task.rows.len() {
            rescale::<V>(outputs[place], task.head_dim, inverse[place]);
        }
    }
}
