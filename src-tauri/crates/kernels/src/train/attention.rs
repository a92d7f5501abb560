//! Causal self-attention over a packed batch, with rope, grouped key/value heads and, where a base has one, a sliding window.
//!
//! Each (sequence, head) is one task over 64 query rows at a time. Probabilities are not kept: the backward pass
//! computes them again, which costs one small product and saves `tokens² · heads` floats.

use super::matrix::{ALONE, Matrix, MatrixMut, Store, product};
use super::pack::Side;
use super::rope::RopeTable;
use super::vector::{exp, largest, rows_per_task, sum, vectorized};
use crate::scratch;
use rayon::prelude::*;
use std::ops::Range;
use std::sync::Arc;

/// Where each sequence of a packed batch begins; positions restart at 0 in each, and none sees another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packing {
    /// First row of each sequence, then the number of rows.
    starts: Vec<usize>,
    /// The sequence of each row.
    sequence: Vec<u32>,
}

impl Packing {
    /// `lengths` in rows.
    pub fn new(lengths: &[usize]) -> Self {
        let mut starts = vec![0];
        let mut sequence = Vec::with_capacity(lengths.iter().sum());
        for (index, &length) in lengths.iter().enumerate() {
            sequence.resize(sequence.len() + length, index as u32);
            starts.push(sequence.len());
        }
        Self { starts, sequence }
    }

    /// Rows of the whole batch.
    pub fn rows(&self) -> usize {
        self.sequence.len()
    }

    /// First row and length of each sequence.
    pub fn sequences(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        self.starts.windows(2).map(|pair| (pair[0], pair[1] - pair[0]))
    }
}

/// The shape of one attention block. Rows of the fused projections are
/// `[heads · head_dim (queries), kv_heads · head_dim (keys), kv_heads · head_dim (values)]`.
#[derive(Debug, Clone, Copy)]
pub struct Attention<'a> {
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    /// Positions that a position sees, itself counted in; `None` means all before it.
    pub window: Option<usize>,
    /// Of each sequence: with some scalings angles depend on its length.
    pub ropes: &'a [Arc<RopeTable>],
}

/// Buffers that attention needs besides its inputs and outputs; kept between calls to spare page faults.
#[derive(Debug, Default)]
pub struct AttentionScratch {
    a: Vec<f32>,
    b: Vec<f32>,
    c: Vec<f32>,
}

/// Query rows handled at once: a tile of probabilities stays in the L2 cache.
const TILE: usize = 64;

impl Attention<'_> {
    /// Columns of the fused projections.
    pub fn fused_width(&self) -> usize {
        (self.heads + 2 * self.kv_heads) * self.head_dim
    }

    /// `out[rows, heads · head_dim] = softmax(q kᵀ / sqrt(head_dim), causal) v`, given `qkv` `[rows, fused_width]`.
    pub fn forward(&self, qkv: &[f32], packing: &Packing, scratch: &mut AttentionScratch, out: &mut [f32]) {
        self.check(packing, qkv.len(), out.len());
        let d = self.head_dim;
        let per_head = sized(&mut scratch.a, packing.rows() * self.heads * d);
        let tasks: Vec<_> = self.tasks(packing).zip(split_tasks(per_head, self, packing)).collect();
        tasks.into_par_iter().with_max_len(1).for_each(|(task, out)| {
            let (rows, tile) = (task.length * d, TILE.min(task.length) * task.length);
            scratch::with(2 * rows + tile, |room| {
                let (queries, room) = room.split_at_mut(rows);
                let (keys, tile) = room.split_at_mut(rows);
                self.gather(qkv, task, task.head * d, self.scale(), queries);
                self.gather(qkv, task, self.key_column(task.head), 1.0, keys);
                for first in (0..task.length).step_by(TILE) {
                    let last = (first + TILE).min(task.length);
                    let seen = self.first_seen(first)..last;
                    self.probabilities(queries, keys, first, seen.clone(), tile);
                    product(
                        MatrixMut::new(&mut out[first * d..last * d], last - first, d),
                        Matrix::new(tile, last - first, seen.len()),
                        Side::Plain,
                        self.values(qkv, task, seen),
                        Side::Plain,
                        Store::Replace,
                        ALONE,
                    );
                }
            });
        });
        // Heads of a row were computed apart; put them side by side.
        let per_head = &scratch.a[..];
        let width = self.heads * d;
        let block = rows_per_task(packing.rows());
        out.par_chunks_mut(block * width).enumerate().for_each(|(index, out)| {
            for (offset, out) in out.chunks_exact_mut(width).enumerate() {
                for head in 0..self.heads {
                    let source = self.per_head_row(packing, index * block + offset, head);
                    out[head * d..][..d].copy_from_slice(&per_head[source * d..][..d]);
                }
            }
        });
    }

    /// Writes `dqkv`, the gradient of `qkv`, given `dout`, the gradient of [`Self::forward`]'s output.
    pub fn backward(&self, qkv: &[f32], packing: &Packing, dout: &[f32], scratch: &mut AttentionScratch, dqkv: &mut [f32]) {
        self.check(packing, qkv.len(), dout.len());
        assert_eq!(qkv.len(), dqkv.len(), "attention: gradient of another shape");
        let (d, rows) = (self.head_dim, packing.rows());
        let per_head = rows * self.heads * d;
        let tasks: Vec<_> = self
            .tasks(packing)
            .zip(split_tasks(sized(&mut scratch.a, per_head), self, packing))
            .zip(split_tasks(sized(&mut scratch.b, per_head), self, packing))
            .zip(split_tasks(sized(&mut scratch.c, per_head), self, packing))
            .collect();
        tasks.into_par_iter().with_max_len(1).for_each(|(((task, dq), dk), dv)| self.backward_task(qkv, dout, task, dq, dk, dv));

        let (dq, dk, dv) = (&scratch.a[..], &scratch.b[..], &scratch.c[..]);
        let width = self.fused_width();
        let block = rows_per_task(rows);
        dqkv.par_chunks_mut(block * width).enumerate().for_each(|(index, dqkv)| {
            let mut sums = vec![0f32; d];
            vectorized(
                #[inline(always)]
                || {
                    for (offset, dqkv) in dqkv.chunks_exact_mut(width).enumerate() {
                        self.combine_row(packing, index * block + offset, dq, dk, dv, &mut sums, dqkv);
                    }
                },
            );
        });
    }

    /// Gradients of one head over one sequence, before rope is undone; keys and values still per *query* head.
    fn backward_task(&self, qkv: &[f32], dout: &[f32], task: Task, dq: &mut [f32], dk: &mut [f32], dv: &mut [f32]) {
        let (rows, tile) = (task.length * self.head_dim, TILE.min(task.length) * task.length);
        scratch::with(2 * (rows + tile), |room| {
            let (queries, room) = room.split_at_mut(rows);
            let (keys, room) = room.split_at_mut(rows);
            let (p, dp) = room.split_at_mut(tile);
            self.backward_in(qkv, dout, task, [queries, keys, p, dp], dq, dk, dv);
        });
    }

    fn backward_in(
        &self,
        qkv: &[f32],
        dout: &[f32],
        task: Task,
        [queries, keys, p, dp]: [&mut [f32]; 4],
        dq: &mut [f32],
        dk: &mut [f32],
        dv: &mut [f32],
    ) {
        let (d, width) = (self.head_dim, self.heads * self.head_dim);
        self.gather(qkv, task, task.head * d, self.scale(), queries);
        self.gather(qkv, task, self.key_column(task.head), 1.0, keys);
        dk.fill(0.0);
        dv.fill(0.0);
        for first in (0..task.length).step_by(TILE) {
            let last = (first + TILE).min(task.length);
            let rows = last - first;
            let seen = self.first_seen(first)..last;
            let (columns, inside) = (seen.len(), seen.start * d..seen.end * d);
            self.probabilities(queries, keys, first, seen.clone(), p);
            let dout = Matrix::strided(&dout[(task.start + first) * width + task.head * d..], rows, d, width);
            let probabilities = Matrix::new(p, rows, columns);
            // dv += pᵀ dout; dp = dout vᵀ
            let dv = MatrixMut::new(&mut dv[inside.clone()], columns, d);
            product(dv, probabilities, Side::Transposed, dout, Side::Plain, Store::Add, ALONE);
            let values = self.values(qkv, task, seen);
            product(MatrixMut::new(dp, rows, columns), dout, Side::Plain, values, Side::Transposed, Store::Replace, ALONE);
            // Through the softmax: ds = p (dp − Σ p dp)
            vectorized(
                #[inline(always)]
                || {
                    for (p, dp) in p.chunks_exact(columns).zip(dp.chunks_exact_mut(columns)).take(rows) {
                        let mean = sum(
                            columns,
                            #[inline(always)]
                            |j| p[j] * dp[j],
                        );
                        for j in 0..columns {
                            dp[j] = p[j] * (dp[j] - mean);
                        }
                    }
                },
            );
            // dk += dsᵀ q; dq = ds k
            let ds = Matrix::new(dp, rows, columns);
            let queries = Matrix::new(&queries[first * d..last * d], rows, d);
            let dk = MatrixMut::new(&mut dk[inside.clone()], columns, d);
            product(dk, ds, Side::Transposed, queries, Side::Plain, Store::Add, ALONE);
            let keys = Matrix::new(&keys[inside], columns, d);
            product(MatrixMut::new(&mut dq[first * d..last * d], rows, d), ds, Side::Plain, keys, Side::Plain, Store::Replace, ALONE);
        }
    }

    /// One row of `dqkv`: rope undone, gradients of shared key/value heads added up over their query heads.
    #[inline(always)]
    fn combine_row(&self, packing: &Packing, row: usize, dq: &[f32], dk: &[f32], dv: &[f32], sums: &mut [f32], dqkv: &mut [f32]) {
        let (d, group) = (self.head_dim, self.heads / self.kv_heads);
        let sequence = packing.sequence[row] as usize;
        let (position, rope) = (row - packing.starts[sequence], &self.ropes[sequence]);
        for head in 0..self.heads {
            let source = self.per_head_row(packing, row, head) * d;
            rope.rotate_back(position, &dq[source..][..d], self.scale(), &mut dqkv[head * d..][..d]);
        }
        for kv_head in 0..self.kv_heads {
            let key = (self.heads + kv_head) * d;
            let value = (self.heads + self.kv_heads + kv_head) * d;
            sums.fill(0.0);
            dqkv[value..][..d].fill(0.0);
            for head in kv_head * group..(kv_head + 1) * group {
                let source = self.per_head_row(packing, row, head) * d;
                for i in 0..d {
                    sums[i] += dk[source + i];
                    dqkv[value + i] += dv[source + i];
                }
            }
            rope.rotate_back(position, sums, 1.0, &mut dqkv[key..][..d]);
        }
    }

    /// The first position that a position sees.
    fn first_seen(&self, position: usize) -> usize {
        self.window.map_or(0, |window| (position + 1).saturating_sub(window))
    }

    /// Causal softmax of rows `first..seen.end` over the keys `seen` into `tile` `[rows, keys]`.
    fn probabilities(&self, queries: &[f32], keys: &[f32], first: usize, seen: Range<usize>, tile: &mut [f32]) {
        let (d, rows, columns) = (self.head_dim, seen.end - first, seen.len());
        product(
            MatrixMut::new(tile, rows, columns),
            Matrix::new(&queries[first * d..seen.end * d], rows, d),
            Side::Plain,
            Matrix::new(&keys[seen.start * d..seen.end * d], columns, d),
            Side::Transposed,
            Store::Replace,
            ALONE,
        );
        vectorized(
            #[inline(always)]
            || {
                for (offset, row) in tile.chunks_exact_mut(columns).take(rows).enumerate() {
                    let position = first + offset;
                    let (row, unseen) = row.split_at_mut(position + 1 - seen.start);
                    let (left_behind, seen) = row.split_at_mut(self.first_seen(position) - seen.start);
                    left_behind.fill(0.0);
                    let top = largest(seen);
                    for score in seen.iter_mut() {
                        *score = exp(*score - top);
                    }
                    let total = sum(
                        seen.len(),
                        #[inline(always)]
                        |j| seen[j],
                    );
                    let inverse = 1.0 / total;
                    for score in seen.iter_mut() {
                        *score *= inverse;
                    }
                    unseen.fill(0.0);
                }
            },
        );
    }

    /// One head's rows of one sequence, rotated and scaled: `[length, head_dim]`.
    fn gather(&self, qkv: &[f32], task: Task, column: usize, scale: f32, out: &mut [f32]) {
        let (d, width, rope) = (self.head_dim, self.fused_width(), &self.ropes[task.sequence]);
        vectorized(
            #[inline(always)]
            || {
                for (position, out) in out.chunks_exact_mut(d).enumerate() {
                    rope.rotate(position, &qkv[(task.start + position) * width + column..][..d], scale, out);
                }
            },
        );
    }

    fn values<'b>(&self, qkv: &'b [f32], task: Task, rows: Range<usize>) -> Matrix<'b> {
        let (d, width) = (self.head_dim, self.fused_width());
        let column = self.key_column(task.head) + self.kv_heads * d;
        Matrix::strided(&qkv[(task.start + rows.start) * width + column..], rows.len(), d, width)
    }

    fn key_column(&self, head: usize) -> usize {
        (self.heads + head / (self.heads / self.kv_heads)) * self.head_dim
    }

    fn scale(&self) -> f32 {
        1.0 / (self.head_dim as f32).sqrt()
    }

    fn tasks<'b>(&'b self, packing: &'b Packing) -> impl Iterator<Item = Task> + 'b {
        let of = |(sequence, (start, length))| (0..self.heads).map(move |head| Task { sequence, start, length, head });
        packing.sequences().enumerate().flat_map(of)
    }

    /// Row of `(row, head)` in buffers laid out sequence by sequence, then head by head.
    #[inline(always)]
    fn per_head_row(&self, packing: &Packing, row: usize, head: usize) -> usize {
        let sequence = packing.sequence[row] as usize;
        let (start, end) = (packing.starts[sequence], packing.starts[sequence + 1]);
        start * self.heads + head * (end - start) + row - start
    }

    fn check(&self, packing: &Packing, qkv: usize, out: usize) {
        let rows = packing.rows();
        assert!(
            self.heads > 0 && self.kv_heads > 0 && self.heads.is_multiple_of(self.kv_heads) && self.window != Some(0),
            "attention: {} heads over {} of {}",
            self.heads,
            self.kv_heads,
            self.head_dim
        );
        assert!(
            qkv == rows * self.fused_width() && out == rows * self.heads * self.head_dim,
            "attention: {qkv} and {out} elements for {rows} rows"
        );
        assert_eq!(self.ropes.len(), packing.sequences().count(), "attention: a rope table for each sequence");
        for ((_, length), rope) in packing.sequences().zip(self.ropes) {
            assert!(rope.head_dim() == self.head_dim && length <= rope.positions(), "attention: {length} rows exceed the rope table");
        }
    }
}

/// One head over one sequence.
#[derive(Debug, Clone, Copy)]
struct Task {
    sequence: usize,
    start: usize,
    length: usize,
    head: usize,
}

/// Cuts a `[rows · heads, head_dim]` buffer into one slice per task, in the order of `tasks`.
fn split_tasks<'b>(mut buffer: &'b mut [f32], attention: &Attention, packing: &Packing) -> Vec<&'b mut [f32]> {
    let mut parts = Vec::new();
    for task in attention.tasks(packing) {
        let (part, rest) = std::mem::take(&mut buffer).split_at_mut(task.length * attention.head_dim);
        parts.push(part);
        buffer = rest;
    }
    parts
}

/// The first `len` elements, whatever they hold: callers overwrite all of them.
fn sized(buffer: &mut Vec<f32>, len: usize) -> &mut [f32] {
    if buffer.len() < len {
        // Exactly, so that memory stays what was estimated.
        buffer.reserve_exact(len - buffer.len());
        buffer.resize(len, 0.0);
    }
    &mut buffer[..len]
}
