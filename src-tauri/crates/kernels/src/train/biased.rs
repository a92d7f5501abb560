//! Attention with a bias by distance and no scale (T5), over packed batches: of texts to themselves, or of answers to texts.
//!
//! Probabilities are not kept: the backward pass computes them again. Biases are frozen, as all weights of a base are.

use super::attention::Packing;
use super::matrix::{ALONE, Matrix, MatrixMut, Store, product};
use super::pack::Side;
use super::vector::{exp, largest, sum, vectorized};
use crate::pool::Disjoint;
use crate::scratch;
use rayon::prelude::*;

/// The shape of one attention block; all heads of a row stand side by side.
#[derive(Debug, Clone, Copy)]
pub struct BiasedAttention<'a> {
    pub heads: usize,
    pub head_dim: usize,
    /// A query sees the keys at its own position and before.
    pub causal: bool,
    pub biases: Option<DistanceBiases<'a>>,
}

/// Biases `[heads, length]`; that of a key `distance` behind its query is at `center + distance` of each head.
#[derive(Debug, Clone, Copy)]
pub struct DistanceBiases<'a> {
    pub values: &'a [f32],
    pub length: usize,
    pub center: usize,
}

/// The columns `first..first + heads · head_dim` of a row-major matrix with rows of `stride`.
#[derive(Debug, Clone, Copy)]
pub struct Columns<'a> {
    pub data: &'a [f32],
    pub stride: usize,
    pub first: usize,
}

/// What is attended from and to. Query sequence i sees key sequence i only.
#[derive(Debug, Clone, Copy)]
pub struct Attended<'a> {
    pub queries: Columns<'a>,
    pub query_packing: &'a Packing,
    pub keys: Columns<'a>,
    pub values: Columns<'a>,
    pub key_packing: &'a Packing,
}

/// Where gradients of queries, keys and values go; all heads of a row stand side by side.
#[derive(Debug)]
pub enum AttendedGradient<'a> {
    /// `[rows, 3 · heads · head_dim]`: queries, keys, values of a row.
    Joined(&'a mut [f32]),
    /// `[rows, heads · head_dim]`, and of other rows keys and values, twice as wide.
    Apart { queries: &'a mut [f32], keys_values: &'a mut [f32] },
}

/// One head of one sequence.
#[derive(Clone, Copy)]
struct Task {
    head: usize,
    query_start: usize,
    queries: usize,
    key_start: usize,
    keys: usize,
}

/// Probabilities that exist at once, so that they stay in the L2 cache with their gradient; at least those of [`FEWEST`] queries.
const TILE: usize = 1 << 15;
const FEWEST: usize = 64;

impl Task {
    /// Queries handled at once, about equally many each time: keys and values are packed anew for each.
    fn rows_at_once(&self) -> usize {
        let most = (TILE / self.keys.max(1)).max(FEWEST);
        self.queries.div_ceil(self.queries.div_ceil(most).max(1))
    }
}

impl Columns<'_> {
    fn matrix(&self, start: usize, rows: usize, column: usize, columns: usize) -> Matrix<'_> {
        Matrix::strided(&self.data[start * self.stride + self.first + column..], rows, columns, self.stride)
    }
}

impl BiasedAttention<'_> {
    /// `out[query rows, heads · head_dim] = softmax(q kᵀ + bias) v`. Panics when a size does not fit.
    pub fn forward(&self, of: &Attended, out: &mut [f32]) {
        let (d, width) = (self.head_dim, self.heads * self.head_dim);
        assert_eq!(out.len(), of.query_packing.rows() * width, "attention: rows of another size");
        let all = Disjoint::new(out);
        let one = |task: &Task| {
            let tile = task.rows_at_once();
            scratch::with(task.queries * d + tile * task.keys, |room| {
                let (out, p) = room.split_at_mut(task.queries * d);
                for first in (0..task.queries).step_by(tile) {
                    let rows = tile.min(task.queries - first);
                    self.probabilities(of, task, first, rows, p);
                    let values = of.values.matrix(task.key_start, task.keys, task.head * d, d);
                    let (p, out) = (&p[..rows * task.keys], &mut out[first * d..(first + rows) * d]);
                    let (p, out) = (Matrix::new(p, rows, task.keys), MatrixMut::new(out, rows, d));
                    product(out, p, Side::Plain, values, Side::Plain, Store::Replace, ALONE);
                }
                scatter(out, task.query_start, task.head * d, d, width, &all);
            });
        };
        self.tasks(of).par_iter().with_max_len(1).for_each(one);
    }

    /// Writes the gradients of queries, keys and values, given that of the output.
    pub fn backward(&self, of: &Attended, dout: &[f32], gradient: AttendedGradient) {
        let (d, width) = (self.head_dim, self.heads * self.head_dim);
        let (query_rows, key_rows) = (of.query_packing.rows(), of.key_packing.rows());
        let sizes = match &gradient {
            AttendedGradient::Joined(all) => (all.len() / 3, all.len() / 3),
            AttendedGradient::Apart { queries, keys_values } => (queries.len(), keys_values.len() / 2),
        };
        assert!(dout.len() == query_rows * width && sizes == (query_rows * width, key_rows * width), "attention: gradients of other sizes");
        // Where each of the three goes: the buffer, the width of its rows, the first column.
        let (buffers, places): (Vec<_>, _) = match gradient {
            AttendedGradient::Joined(all) => {
                (vec![Disjoint::new(all)], [(0, 3 * width, 0), (0, 3 * width, width), (0, 3 * width, 2 * width)])
            }
            AttendedGradient::Apart { queries, keys_values } => {
                (vec![Disjoint::new(queries), Disjoint::new(keys_values)], [(0, width, 0), (1, 2 * width, 0), (1, 2 * width, width)])
            }
        };
        self.tasks(of).par_iter().with_max_len(1).for_each(|task| {
            let (queries, keys, tile) = (task.queries * d, task.keys * d, task.rows_at_once() * task.keys);
            scratch::with(queries + 2 * (keys + tile), |room| {
                let (q, room) = room.split_at_mut(queries);
                let (k, room) = room.split_at_mut(keys);
                let (v, room) = room.split_at_mut(keys);
                let (p, dp) = room.split_at_mut(tile);
                self.backward_task(of, task, dout, [q, k, v, p, dp]);
                for ((part, start), (buffer, stride, first)) in
                    [(q, task.query_start), (k, task.key_start), (v, task.key_start)].into_iter().zip(places)
                {
                    scatter(part, start, first + task.head * d, d, stride, &buffers[buffer]);
                }
            });
        });
    }

    /// Of one task; the last two are room for probabilities and their gradient.
    fn backward_task(&self, of: &Attended, task: &Task, dout: &[f32], [dq, dk, dv, p, dp]: [&mut [f32]; 5]) {
        let (d, width, keys) = (self.head_dim, self.heads * self.head_dim, task.keys);
        dk.fill(0.0);
        dv.fill(0.0);
        let tile = task.rows_at_once();
        for first in (0..task.queries).step_by(tile) {
            let rows = tile.min(task.queries - first);
            self.probabilities(of, task, first, rows, p);
            let dout = Matrix::strided(&dout[(task.query_start + first) * width + task.head * d..], rows, d, width);
            // dv += pᵀ dout; dp = dout vᵀ
            let probabilities = Matrix::new(&p[..rows * keys], rows, keys);
            product(MatrixMut::new(dv, keys, d), probabilities, Side::Transposed, dout, Side::Plain, Store::Add, ALONE);
            let values = of.values.matrix(task.key_start, keys, task.head * d, d);
            let out = MatrixMut::new(&mut dp[..rows * keys], rows, keys);
            product(out, dout, Side::Plain, values, Side::Transposed, Store::Replace, ALONE);
            // Through the softmax: ds = p (dp − Σ p dp)
            vectorized(
                #[inline(always)]
                || {
                    for (p, dp) in p.chunks_exact(keys).zip(dp.chunks_exact_mut(keys)).take(rows) {
                        let mean = sum(
                            keys,
                            #[inline(always)]
                            |j| p[j] * dp[j],
                        );
                        for j in 0..keys {
                            dp[j] = p[j] * (dp[j] - mean);
                        }
                    }
                },
            );
            // dk += dsᵀ q; dq = ds k
            let ds = Matrix::new(&dp[..rows * keys], rows, keys);
            let queries = of.queries.matrix(task.query_start + first, rows, task.head * d, d);
            product(MatrixMut::new(dk, keys, d), ds, Side::Transposed, queries, Side::Plain, Store::Add, ALONE);
            let out = MatrixMut::new(&mut dq[first * d..(first + rows) * d], rows, d);
            product(out, ds, Side::Plain, of.keys.matrix(task.key_start, keys, task.head * d, d), Side::Plain, Store::Replace, ALONE);
        }
    }

    /// Probabilities of `rows` queries from `first` on over all keys, into the start of `p`; of unseen keys zero.
    fn probabilities(&self, of: &Attended, task: &Task, first: usize, rows: usize, p: &mut [f32]) {
        let (d, keys) = (self.head_dim, task.keys);
        let queries = of.queries.matrix(task.query_start + first, rows, task.head * d, d);
        let out = MatrixMut::new(&mut p[..rows * keys], rows, keys);
        product(out, queries, Side::Plain, of.keys.matrix(task.key_start, keys, task.head * d, d), Side::Transposed, Store::Replace, ALONE);
        vectorized(
            #[inline(always)]
            || {
                for (offset, row) in p.chunks_exact_mut(keys).take(rows).enumerate() {
                    let position = first + offset;
                    if let Some(biases) = self.biases {
                        let start = task.head * biases.length + biases.center - position;
                        row.iter_mut().zip(&biases.values[start..]).for_each(|(score, bias)| *score += bias);
                    }
                    let (seen, unseen) = row.split_at_mut(if self.causal { keys.min(position + 1) } else { keys });
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

    fn tasks(&self, of: &Attended) -> Vec<Task> {
        let pairs = of.query_packing.sequences().zip(of.key_packing.sequences());
        let task = |((query_start, queries), (key_start, keys))| {
            (0..self.heads).map(move |head| Task { head, query_start, queries, key_start, keys })
        };
        pairs.flat_map(task).collect()
    }
}

/// Copies `[rows, columns]` into the columns from `column` on of rows of `width`: those of one head in one sequence, which one
/// task alone writes.
fn scatter(part: &[f32], start: usize, column: usize, columns: usize, width: usize, out: &Disjoint<f32>) {
    for (row, part) in part.chunks_exact(columns).enumerate() {
        // SAFETY: tasks differ in sequence or head, so in rows or columns.
        unsafe { out.slice((start + row) * width + column, columns) }.copy_from_slice(part);
    }
}
