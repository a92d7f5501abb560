//! Attention of new rows over f16 keys and values: a prefix that many rows share, then what each row has of its own.
//!
//! A row's result does not depend on the rows beside it: each query's lanes see the same operations in the same order,
//! however many queries share a pass over the keys.

use crate::attention_exact::attend_exact;
use crate::isa::Isa;
pub use crate::kv_cache::{KvPlace, KvSlot, NewHeads, make_ready};
use crate::pool::{Disjoint, Pool};
use crate::scratch;
use crate::simd::{Lanes, dispatch, queries_at_once};
use crate::spans::{SPAN, exponentiate, gather, gather_batch, rescale, score, score_batch};

/// What one row attends to.
#[derive(Clone, Copy)]
pub struct AttentionRow<'a> {
    /// Shared with other rows; neighbours with the same slot are computed together.
    pub prefix: &'a KvSlot,
    pub prefix_length: usize,
    /// The row's own continuation of the prefix.
    pub own: Option<(&'a KvSlot, usize)>,
    /// The first position that it sees, counted over prefix and continuation: 0, or where a sliding window begins.
    pub first: usize,
    /// The first positions of the prefix whose attention is weighted, and the logarithm of their weight.
    pub weighted: usize,
    pub log_weight: f32,
}

/// Scaled dot-product attention with grouped key heads, softmax in f32.
///
/// `queries` is `[rows, stride]`, of which the first `heads * head_dim` of each row are used; `out` is
/// `[rows, heads * head_dim]`. Panics when sizes do not fit or a row attends to nothing.
pub fn attend(isa: Isa, pool: &Pool, layer: usize, rows: &[AttentionRow], heads: usize, queries: &[f32], stride: usize, out: &mut [f32]) {
    let Some(first) = rows.first() else { return };
    let (kv_heads, head_dim) = first.prefix.head_shape();
    let width = heads * head_dim;
    assert!(heads.is_multiple_of(kv_heads) && stride >= width);
    assert!(queries.len() >= rows.len() * stride && out.len() == rows.len() * width);
    for row in rows {
        let fits = |slot: &KvSlot, length| slot.fits(layer, length, kv_heads, head_dim, first.prefix.is_exact());
        assert!(row.prefix_length > 0 && row.weighted < row.prefix_length && fits(row.prefix, row.prefix_length));
        assert!(row.own.is_none_or(|(slot, length)| fits(slot, length)));
        assert!(row.first < row.prefix_length + row.own.map_or(0, |(_, length)| length), "a row sees at least itself");
    }
    if first.prefix.is_exact() {
        return attend_exact(isa, pool, layer, rows, heads, queries, stride, out);
    }
    let group = heads / kv_heads;
    let batches = batches(rows, group, queries_at_once(isa), kv_heads, pool.threads());
    let out = Disjoint::new(out);
    pool.run(kv_heads * batches.len(), 1, &|range| {
        for task in range {
            let (kv_head, batch) = (task / batches.len(), batches[task % batches.len()]);
            let task = Task { rows, batch, layer, kv_head, group, head_dim, queries, stride, width, out: &out };
            let task = &task;
            scratch::with(task.scratch_length(), |scores| {
                // SAFETY: sizes were checked above; an `Isa` proves its instructions; a (row, head) belongs to one task only.
                unsafe { dispatch!(isa, run_task(task: &Task<'_>, scores: &mut [f32])) };
            });
        }
    });
}

/// Queries of one key head, counted as `row * group + head in the group`, that share a prefix.
#[derive(Clone, Copy)]
struct Batch {
    first: usize,
    count: usize,
}

/// Cuts the rows into batches that share a prefix, as large as registers allow but enough to keep every thread busy.
fn batches(rows: &[AttentionRow], group: usize, most: usize, kv_heads: usize, threads: usize) -> Vec<Batch> {
    let mut size = most;
    while size > 1 && kv_heads * (rows.len() * group).div_ceil(size) < 2 * threads {
        size /= 2;
    }
    let mut batches = Vec::new();
    let mut row = 0;
    for same in rows.chunk_by(|a, b| std::ptr::eq(a.prefix, b.prefix)) {
        let (first, end) = (row * group, (row + same.len()) * group);
        batches.extend((first..end).step_by(size).map(|first| Batch { first, count: size.min(end - first) }));
        row += same.len();
    }
    batches
}

struct Task<'a> {
    rows: &'a [AttentionRow<'a>],
    batch: Batch,
    layer: usize,
    kv_head: usize,
    group: usize,
    head_dim: usize,
    queries: &'a [f32],
    stride: usize,
    width: usize,
    out: &'a Disjoint<'a, f32>,
}

impl Task<'_> {
    /// The row and the head of a query of this batch.
    fn place(&self, query: usize) -> (usize, usize) {
        let index = self.batch.first + query;
        (index / self.group, self.kv_head * self.group + index % self.group)
    }

    fn row(&self, query: usize) -> &AttentionRow<'_> {
        &self.rows[self.place(query).0]
    }

    /// Positions of the prefix that at least one query sees, in whole spans.
    fn shared(&self) -> usize {
        (0..self.batch.count).map(|query| self.row(query).prefix_length).max().unwrap_or(0)
    }

    /// Scores of one query: prefix, then own, each in whole spans.
    fn score_stride(&self) -> usize {
        let own = (0..self.batch.count).filter_map(|query| self.row(query).own).map(|(_, length)| length).max().unwrap_or(0);
        self.shared().next_multiple_of(SPAN) + own.next_multiple_of(SPAN)
    }

    fn scratch_length(&self) -> usize {
        self.batch.count.next_power_of_two() * self.score_stride()
    }
}

/// # Safety
/// The task must be as `attend` checks it; `scores` must hold `scratch_length` numbers.
#[inline(always)]
unsafe fn run_task<V: Lanes>(task: &Task<'_>, scores: &mut [f32]) {
    let count = task.batch.count;
    let (shared, stride) = (task.shared(), task.score_stride());
    let shared_spans = shared.div_ceil(SPAN);
    let scale = 1.0 / (task.head_dim as f32).sqrt();
    unsafe {
        // Unused places repeat the first query, so that every batch is a power of two.
        let mut queries = [task.queries.as_ptr(); 8];
        let mut outputs = [std::ptr::null_mut(); 8];
        for query in 0..8 {
            let (row, head) = task.place(if query < count { query } else { 0 });
            queries[query] = task.queries.as_ptr().add(row * task.stride + head * task.head_dim);
            outputs[query] = task.out.pointer().add(row * task.width + head * task.head_dim);
        }
        let prefix = task.row(0).prefix.head(task.layer, task.kv_head);
        let at = scores.as_mut_ptr();
        score_batch::<V, u16>(count, &queries, prefix.keys, task.head_dim, shared_spans, at, stride, scale);
        let mut inverse = [0.0f32; 8];
        for query in 0..count {
            let row = task.row(query);
            let mine = at.add(query * stride);
            let mut total = shared_spans * SPAN;
            // In log space a factor on a position's attention is a term on its score.
            for position in 0..row.weighted {
                *mine.add(position) += row.log_weight;
            }
            for hidden in (0..row.first.min(row.prefix_length)).chain(row.prefix_length..total) {
                *mine.add(hidden) = f32::NEG_INFINITY;
            }
            if let Some((slot, length)) = row.own {
                let (spans, only) = (length.div_ceil(SPAN), [queries[query]; 8]);
                let keys = slot.head(task.layer, task.kv_head).keys;
                score::<V, u16, 1, 4>(&only, keys, task.head_dim, spans, mine.add(total), 0, scale);
                for hidden in (0..row.first.saturating_sub(row.prefix_length)).chain(length..spans * SPAN) {
                    *mine.add(total + hidden) = f32::NEG_INFINITY;
                }
                total += spans * SPAN;
            }
            inverse[query] = 1.0 / exponentiate::<V>(mine, total);
        }
        gather_batch::<V, u16>(count, &outputs, prefix.values, task.head_dim, shared, at, stride);
        for query in 0..count {
            if let Some((slot, length)) = task.row(query).own {
                let values = slot.head(task.layer, task.kv_head).values;
                let mine = at.add(query * stride + shared_spans * SPAN);
                gather::<V, u16, 1>(&[outputs[query]; 8], values, task.head_dim, length, mine, stride, false);
            }
            rescale::<V>(outputs[query], task.head_dim, inverse[query]);
        }
    }
}
