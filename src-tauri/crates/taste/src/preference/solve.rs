//! The maximum of the posterior and its curvature.

use super::design::{Design, Row};
use super::{rounded, sigmoid};

/// The maximum, and the Hessian there: the block of the dense terms and the diagonal of the words.
pub(super) struct Fit {
    pub theta: Vec<f64>,
    dense: usize,
    /// `[dense, dense]`, full.
    hessian: Vec<f64>,
    word_curvature: Vec<f64>,
}

/// Newton's method (iteratively reweighted least squares) on Σ weight · log(1 + e^−z) + ½ θᵀPθ over the rows whose
/// texts are all `used`. Each step is solved by conjugate gradients, because the words are many and sparse; the dense
/// block, solved exactly, preconditions it.
pub(super) fn fit(design: &Design, used: impl Fn(usize) -> bool, steps: usize) -> Fit {
    let rows: Vec<&Row> = design.rows.iter().filter(|row| used(row.item) && row.other.is_none_or(&used)).collect();
    let mut theta = vec![0.0; design.parameters()];
    let mut system = System::new(design, &rows);
    let mut objective = system.objective(&theta);
    for _ in 0..steps {
        let gradient = system.linearise(&theta);
        let scale = gradient.iter().map(|g| g * g).sum::<f64>().sqrt();
        if scale < 1e-6 * (1.0 + rows.len() as f64) {
            break;
        }
        let step = system.solve(&gradient);
        let mut length = 1.0;
        let mut moved = false;
        // The objective is convex, so a short enough step always lowers it; far from the maximum a full one may not.
        for _ in 0..20 {
            let next: Vec<f64> = theta.iter().zip(&step).map(|(theta, step)| theta - length * step).collect();
            let value = system.objective(&next);
            if value <= objective {
                moved = objective - value > 1e-9 * (1.0 + objective);
                (theta, objective) = (next, value);
                break;
            }
            length *= 0.5;
        }
        if !moved {
            break;
        }
    }
    system.linearise(&theta);
    Fit { theta, dense: design.dense, hessian: system.block, word_curvature: system.diagonal }
}

impl Fit {
    /// Standard deviations of the dense terms, and the lower triangle of their covariance, rounded.
    pub fn dense_posterior(&self) -> (Vec<f64>, Vec<f64>) {
        let n = self.dense;
        let factor = cholesky(&self.hessian, n);
        let mut triangle = Vec::with_capacity(n * (n + 1) / 2);
        let mut sds = Vec::with_capacity(n);
        let mut inverse = vec![0.0; n * n];
        for column in 0..n {
            let mut unit = vec![0.0; n];
            unit[column] = 1.0;
            solve_cholesky(&factor, n, &mut unit);
            inverse[column * n..(column + 1) * n].copy_from_slice(&unit);
        }
        for row in 0..n {
            sds.push(inverse[row * n + row].max(0.0).sqrt());
            triangle.extend(inverse[row * n..=row * n + row].iter().map(|value| rounded(*value)));
        }
        (sds, triangle)
    }

    pub fn word_sd(&self) -> impl Iterator<Item = f64> {
        self.word_curvature.iter().map(|curvature| 1.0 / curvature.sqrt())
    }
}

struct System<'d> {
    design: &'d Design,
    rows: &'d [&'d Row],
    /// Row features with differences taken: dense `[rows, dense]`, then words with offsets.
    dense: Vec<f64>,
    offsets: Vec<usize>,
    columns: Vec<u32>,
    values: Vec<f64>,
    /// p (1 − p) · weight of each row.
    curvature: Vec<f64>,
    block: Vec<f64>,
    diagonal: Vec<f64>,
    factor: Vec<f64>,
}

impl<'d> System<'d> {
    fn new(design: &'d Design, rows: &'d [&'d Row]) -> Self {
        let mut dense = Vec::with_capacity(rows.len() * design.dense);
        let mut offsets = vec![0];
        let (mut columns, mut values) = (Vec::new(), Vec::new());
        for row in rows {
            let item = &design.items[row.item];
            let other = row.other.map(|other| &design.items[other]);
            match other {
                None => dense.extend(&item.dense),
                Some(other) => dense.extend(item.dense.iter().zip(&other.dense).map(|(a, b)| a - b)),
            }
            // A word of both texts gets two entries whose products add up as their difference would.
            let negative = other.map_or(&[][..], |other| &other.words).iter().map(|(column, value)| (*column, -value));
            for (column, value) in item.words.iter().copied().chain(negative) {
                columns.push(column);
                values.push(value);
            }
            offsets.push(columns.len());
        }
        let words = design.parameters() - design.dense;
        let square = design.dense * design.dense;
        Self {
            design,
            rows,
            dense,
            offsets,
            columns,
            values,
            curvature: vec![0.0; rows.len()],
            block: vec![0.0; square],
            diagonal: vec![0.0; words],
            factor: vec![0.0; square],
        }
    }

    fn logit(&self, row: usize, theta: &[f64]) -> f64 {
        let n = self.design.dense;
        let dense: f64 = self.dense[row * n..(row + 1) * n].iter().zip(theta).map(|(x, w)| x * w).sum();
        let (columns, values) = self.words(row);
        let words: f64 = columns.iter().zip(values).map(|(column, x)| x * theta[n + *column as usize]).sum();
        dense + words
    }

    fn words(&self, row: usize) -> (&[u32], &[f64]) {
        let range = self.offsets[row]..self.offsets[row + 1];
        (&self.columns[range.clone()], &self.values[range])
    }

    fn objective(&self, theta: &[f64]) -> f64 {
        let mut sum: f64 = theta.iter().zip(&self.design.precision).map(|(w, p)| 0.5 * p * w * w).sum();
        for (at, row) in self.rows.iter().enumerate() {
            let z = self.logit(at, theta);
            let z = if row.liked { z } else { -z };
            // log(1 + e^−z) without overflow.
            sum += row.weight * ((-z.abs()).exp().ln_1p() + (-z).max(0.0));
        }
        sum
    }

    /// Sets the curvature at `theta` and returns the gradient there.
    fn linearise(&mut self, theta: &[f64]) -> Vec<f64> {
        let n = self.design.dense;
        let precision = &self.design.precision;
        let mut gradient: Vec<f64> = theta.iter().zip(precision).map(|(w, p)| w * p).collect();
        let mut block = vec![0.0; n * n];
        let mut diagonal = precision[n..].to_vec();
        for at in 0..self.rows.len() {
            let row = self.rows[at];
            let p = sigmoid(self.logit(at, theta));
            let residual = row.weight * (p - f64::from(row.liked));
            let curvature = row.weight * p * (1.0 - p);
            self.curvature[at] = curvature;
            let x = &self.dense[at * n..(at + 1) * n];
            for i in 0..n {
                gradient[i] += residual * x[i];
                let scaled = curvature * x[i];
                for (sum, x) in block[i * n..=i * n + i].iter_mut().zip(x) {
                    *sum += scaled * x;
                }
            }
            let (columns, values) = self.words(at);
            for (column, x) in columns.iter().zip(values) {
                gradient[n + *column as usize] += residual * x;
                diagonal[*column as usize] += curvature * x * x;
            }
        }
        for i in 0..n {
            block[i * n + i] += precision[i];
            for j in 0..i {
                block[j * n + i] = block[i * n + j];
            }
        }
        self.factor = cholesky(&block, n);
        (self.block, self.diagonal) = (block, diagonal);
        gradient
    }

    /// H⁻¹ · gradient by preconditioned conjugate gradients (Hestenes & Stiefel 1952) to a thousandth.
    fn solve(&self, gradient: &[f64]) -> Vec<f64> {
        let n = self.design.parameters();
        let mut solution = vec![0.0; n];
        let mut residual = gradient.to_vec();
        let mut direction = self.precondition(&residual);
        let mut fit = dot(&residual, &direction);
        let goal = fit * 1e-6;
        for _ in 0..100 {
            if fit <= goal || fit <= f64::MIN_POSITIVE {
                break;
            }
            let image = self.times_hessian(&direction);
            let step = fit / dot(&direction, &image);
            for i in 0..n {
                solution[i] += step * direction[i];
                residual[i] -= step * image[i];
            }
            let conditioned = self.precondition(&residual);
            let next = dot(&residual, &conditioned);
            let ratio = next / fit;
            for i in 0..n {
                direction[i] = conditioned[i] + ratio * direction[i];
            }
            fit = next;
        }
        solution
    }

    fn precondition(&self, residual: &[f64]) -> Vec<f64> {
        let n = self.design.dense;
        let mut result = residual.to_vec();
        solve_cholesky(&self.factor, n, &mut result[..n]);
        for (value, curvature) in result[n..].iter_mut().zip(&self.diagonal) {
            *value /= curvature;
        }
        result
    }

    fn times_hessian(&self, direction: &[f64]) -> Vec<f64> {
        let n = self.design.dense;
        let mut result: Vec<f64> = direction.iter().zip(&self.design.precision).map(|(d, p)| d * p).collect();
        for at in 0..self.rows.len() {
            let scaled = self.curvature[at] * self.logit(at, direction);
            for (sum, x) in result.iter_mut().zip(&self.dense[at * n..(at + 1) * n]) {
                *sum += scaled * x;
            }
            let (columns, values) = self.words(at);
            for (column, x) in columns.iter().zip(values) {
                result[n + *column as usize] += scaled * x;
            }
        }
        result
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Lower Cholesky factor of a symmetric matrix `[n, n]`; the priors on its diagonal keep it positive definite.
fn cholesky(matrix: &[f64], n: usize) -> Vec<f64> {
    let mut factor = vec![0.0; n * n];
    for i in 0..n {
        for j in 0..=i {
            let sum = matrix[i * n + j] - dot(&factor[i * n..i * n + j], &factor[j * n..j * n + j]);
            factor[i * n + j] = if i == j { sum.max(1e-12).sqrt() } else { sum / factor[j * n + j] };
        }
    }
    factor
}

fn solve_cholesky(factor: &[f64], n: usize, x: &mut [f64]) {
    for i in 0..n {
        x[i] = (x[i] - dot(&factor[i * n..i * n + i], &x[..i])) / factor[i * n + i];
    }
    for i in (0..n).rev() {
        let known: f64 = (i + 1..n).map(|j| factor[j * n + i] * x[j]).sum();
        x[i] = (x[i] - known) / factor[i * n + i];
    }
}
