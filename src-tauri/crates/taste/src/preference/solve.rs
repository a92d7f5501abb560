//! The maximum of the posterior and its curvature.

use super::design::Design;
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
/// texts are all `used`, from `start` or from zero. Each step is solved by conjugate gradients, because the words are
/// many and sparse; the dense block, solved exactly, preconditions it. The maximum is unique, so where it starts only
/// decides how soon it is there.
pub(super) fn fit(design: &Design, used: impl Fn(usize) -> bool, steps: usize, start: Option<&[f64]>) -> Fit {
    let rows: Vec<usize> =
        (0..design.rows.len()).filter(|at| used(design.rows[*at].item) && design.rows[*at].other.is_none_or(&used)).collect();
    let mut theta = start.map_or_else(|| vec![0.0; design.parameters()], <[f64]>::to_vec);
    let mut system = System::new(design, &rows);
    let mut objective = system.objective(&theta);
    for _ in 0..steps {
        let gradient = system.linearise(&theta);
        let step = system.solve(&gradient);
        // Half the squared Newton decrement: how far above its minimum the objective still is (Boyd & Vandenberghe,
        // §9.5). The step about to be taken squares it, so it is the last.
        let last = 0.5 * dot(&gradient, &step) < 1e-3;
        let mut length = 1.0;
        // The objective is convex, so a short enough step always lowers it; far from the maximum a full one may not.
        for _ in 0..20 {
            let next: Vec<f64> = theta.iter().zip(&step).map(|(theta, step)| theta - length * step).collect();
            let value = system.objective(&next);
            if value <= objective {
                (theta, objective) = (next, value);
                break;
            }
            length *= 0.5;
        }
        if last {
            break;
        }
    }
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
    /// The rows in use.
    rows: &'d [usize],
    /// p (1 − p) · weight of each of them.
    curvature: Vec<f64>,
    block: Vec<f64>,
    diagonal: Vec<f64>,
    factor: Vec<f64>,
}

impl<'d> System<'d> {
    fn new(design: &'d Design, rows: &'d [usize]) -> Self {
        let square = design.dense * design.dense;
        let block = vec![0.0; square];
        let diagonal = vec![0.0; design.parameters() - design.dense];
        Self { design, rows, curvature: vec![0.0; rows.len()], factor: block.clone(), block, diagonal }
    }

    fn objective(&self, theta: &[f64]) -> f64 {
        let mut sum: f64 = theta.iter().zip(&self.design.precision).map(|(w, p)| 0.5 * p * w * w).sum();
        for at in self.rows {
            let row = &self.design.rows[*at];
            let z = self.design.matrix.times(*at, theta);
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
        let zeros = vec![0.0; n];
        let matrix = &self.design.matrix;
        for (nth, at) in self.rows.iter().enumerate() {
            let row = &self.design.rows[*at];
            let p = sigmoid(matrix.times(*at, theta));
            let residual = row.weight * (p - f64::from(row.liked));
            let curvature = row.weight * p * (1.0 - p);
            self.curvature[nth] = curvature;
            gradient[..n].iter_mut().zip(matrix.dense(*at)).for_each(|(sum, x)| *sum += residual * x);
            let (columns, values) = matrix.words(*at);
            for (column, x) in columns.iter().zip(values) {
                gradient[n + *column as usize] += residual * x;
                diagonal[*column as usize] += curvature * x * x;
            }
        }
        // Four rows at a time: the block is read and written a quarter as often.
        for (rows, curvature) in self.rows.chunks(4).zip(self.curvature.chunks(4)) {
            let dense: [&[f64]; 4] = std::array::from_fn(|row| rows.get(row).map_or(&zeros[..], |at| matrix.dense(*at)));
            let weight: [f64; 4] = std::array::from_fn(|row| curvature.get(row).copied().unwrap_or(0.0));
            let [a, b, c, d] = dense;
            for i in 0..n {
                let [p, q, r, s] = std::array::from_fn(|row| weight[row] * dense[row][i]);
                let known = a[..=i].iter().zip(&b[..=i]).zip(&c[..=i]).zip(&d[..=i]);
                for (sum, (((a, b), c), d)) in block[i * n..=i * n + i].iter_mut().zip(known) {
                    *sum += (p * a + q * b) + (r * c + s * d);
                }
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

    /// H⁻¹ · gradient by preconditioned conjugate gradients (Hestenes & Stiefel 1952) to a hundredth, which costs
    /// Newton's method at most a step.
    fn solve(&self, gradient: &[f64]) -> Vec<f64> {
        let n = self.design.parameters();
        let mut solution = vec![0.0; n];
        let mut residual = gradient.to_vec();
        let mut direction = self.precondition(&residual);
        let mut fit = dot(&residual, &direction);
        let goal = fit * 1e-4;
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
        let matrix = &self.design.matrix;
        for (at, curvature) in self.rows.iter().zip(&self.curvature) {
            let scaled = curvature * matrix.times(*at, direction);
            for (sum, x) in result.iter_mut().zip(matrix.dense(*at)) {
                *sum += scaled * x;
            }
            let (columns, values) = matrix.words(*at);
            for (column, x) in columns.iter().zip(values) {
                result[n + *column as usize] += scaled * x;
            }
        }
        result
    }
}

/// Four running sums: one alone would wait for every addition before the next.
pub(super) fn dot(a: &[f64], b: &[f64]) -> f64 {
    let (a_fours, a_last) = a.as_chunks::<4>();
    let (b_fours, b_last) = b.as_chunks::<4>();
    let mut sums = [0.0; 4];
    for (a, b) in a_fours.iter().zip(b_fours) {
        for lane in 0..4 {
            sums[lane] += a[lane] * b[lane];
        }
    }
    let rest: f64 = a_last.iter().zip(b_last).map(|(a, b)| a * b).sum();
    (sums[0] + sums[1]) + (sums[2] + sums[3]) + rest
}

/// Lower Cholesky factor of a symmetric matrix `[n, n]`; the priors on its diagonal keep it positive definite.
pub(super) fn cholesky(matrix: &[f64], n: usize) -> Vec<f64> {
    let mut factor = vec![0.0; n * n];
    for i in 0..n {
        for j in 0..=i {
            let sum = matrix[i * n + j] - dot(&factor[i * n..i * n + j], &factor[j * n..j * n + j]);
            factor[i * n + j] = if i == j { sum.max(1e-12).sqrt() } else { sum / factor[j * n + j] };
        }
    }
    factor
}

pub(super) fn solve_cholesky(factor: &[f64], n: usize, x: &mut [f64]) {
    for i in 0..n {
        x[i] = (x[i] - dot(&factor[i * n..i * n + i], &x[..i])) / factor[i * n + i];
    }
    for i in (0..n).rev() {
        let known: f64 = (i + 1..n).map(|j| factor[j * n + i] * x[j]).sum();
        x[i] = (x[i] - known) / factor[i * n + i];
    }
}
