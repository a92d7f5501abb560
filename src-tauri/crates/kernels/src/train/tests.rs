//! Every block against the same formula written naively in f64, and every gradient against central differences of
//! that f64 formula. Tolerance 2e-5 of the largest value: f32 products over at most a hundred terms.

use super::*;
use std::sync::Arc;

const TOLERANCE: f64 = 2e-5;
/// Central differences in f64: error about h² ≈ 1e-10.
const STEP: f64 = 1e-5;

#[test]
fn products_equal_naive_sums_plain_transposed_and_strided() {
    let (m, n, k) = (7, 5, 9);
    let (a, b, c) = (noise(1, m * k), noise(2, n * k), noise(3, m * n));
    let mut nt = c.clone();
    product_nt(MatrixMut::new(&mut nt, m, n), Matrix::new(&a, m, k), Matrix::new(&b, n, k), Store::Add);
    let expected = fill(m * n, |i| f64::from(c[i]) + dot(k, |j| a[i / n * k + j], |j| b[i % n * k + j]));
    assert_close("a bᵀ, added", &nt, &expected);

    let mut nn = vec![f32::NAN; m * k];
    product_nn(MatrixMut::new(&mut nn, m, k), Matrix::new(&c, m, n), Matrix::new(&b, n, k), Store::Replace);
    let expected = fill(m * k, |i| dot(n, |j| c[i / k * n + j], |j| b[j * k + i % k]));
    assert_close("a b, replaced (what was there, even NaN, must not be read)", &nn, &expected);

    let mut tn = vec![0.0; n * k];
    product_tn(MatrixMut::new(&mut tn, n, k), Matrix::new(&c, m, n), Matrix::new(&a, m, k), Store::Replace);
    let expected = fill(n * k, |i| dot(m, |j| c[j * n + i / k], |j| a[j * k + i % k]));
    assert_close("aᵀ b", &tn, &expected);

    let mut strided = vec![0.0; 3 * 2];
    let (left, right) = (Matrix::strided(&a[2..], 3, 4, k), Matrix::strided(&b[1..], 2, 4, k));
    product_nt(MatrixMut::new(&mut strided, 3, 2), left, right, Store::Replace);
    let expected = fill(6, |i| dot(4, |j| a[2 + i / 2 * k + j], |j| b[1 + i % 2 * k + j]));
    assert_close("columns of wider matrices", &strided, &expected);

    let mut inside = vec![7.0; 3 * 5];
    product_nt(MatrixMut::strided(&mut inside[1..], 3, 2, 5), left, right, Store::Replace);
    let expected = fill(15, |i| if matches!(i % 5, 1 | 2) { expected[i / 5 * 2 + i % 5 - 1] } else { 7.0 });
    assert_close("into columns of a wider matrix, the others left alone", &inside, &expected);
}

#[test]
fn large_products_agree_on_one_thread_and_on_two_bit_for_bit() {
    let (m, n, k) = (200, 300, 128);
    let (a, b) = (noise(1, m * k), noise(2, n * k));
    let compute = || {
        let mut out = vec![0.0; m * n];
        product_nt(MatrixMut::new(&mut out, m, n), Matrix::new(&a, m, k), Matrix::new(&b, n, k), Store::Replace);
        out
    };
    let first = pool(1).install(compute);
    assert!(first == pool(2).install(compute), "the order of additions must not depend on threads");
    assert_close("a bᵀ", &first, &fill(m * n, |i| dot(k, |j| a[i / n * k + j], |j| b[i % n * k + j])));
}

#[test]
#[should_panic(expected = "does not fit")]
fn a_matrix_that_leaves_its_slice_is_refused() {
    Matrix::strided(&[0.0; 10], 3, 2, 5);
}

#[test]
#[should_panic(expected = "cannot hold")]
fn products_of_shapes_that_disagree_are_refused() {
    let a = [0.0; 6];
    product_nt(MatrixMut::new(&mut [0.0; 4], 2, 2), Matrix::new(&a, 2, 3), Matrix::new(&a, 3, 2), Store::Replace);
}

#[test]
fn the_exponential_is_accurate_and_passes_nan_on() {
    for i in -8600..8700 {
        let x = i as f32 / 100.0;
        let (got, expected) = (f64::from(vector::exp(x)), f64::from(x).exp());
        assert!((got / expected - 1.0).abs() < 3e-7, "exp({x}) = {got}, expected {expected}");
    }
    assert!(vector::exp(f32::NAN).is_nan(), "a hidden NaN would let a broken training go on");
    assert!(vector::exp(f32::NEG_INFINITY) < 1e-37);
}

#[test]
fn rms_norm_and_its_gradient_match_differences() {
    let (rows, hidden, eps) = (5, 37, 1e-3);
    let (x, weight, dy) = (noise(1, rows * hidden), noise(2, hidden), noise(3, rows * hidden));
    let reference = |x: &[f64]| {
        fill(rows * hidden, |i| {
            let row = &x[i / hidden * hidden..][..hidden];
            let mean = row.iter().map(|v| v * v).sum::<f64>() / hidden as f64;
            x[i] / (mean + eps).sqrt() * f64::from(weight[i % hidden])
        })
    };
    let mut out = vec![0.0; rows * hidden];
    rms_norm(&x, &weight, eps as f32, &mut out);
    assert_close("rms_norm", &out, &reference(&wide(&x)));

    let before = noise(4, rows * hidden);
    let mut dx = before.clone();
    rms_norm_backward(&x, &weight, eps as f32, &dy, &mut dx);
    let mut expected = differences(&x, &dy, reference);
    expected.iter_mut().zip(&before).for_each(|(g, b)| *g += f64::from(*b));
    assert_close("rms_norm_backward adds", &dx, &expected);
}

#[test]
fn the_gated_activation_and_its_gradient_match_differences() {
    let (rows, width) = (4, 21);
    let (x, dy) = (noise(1, rows * 2 * width), noise(2, rows * width));
    let reference = |x: &[f64]| {
        fill(rows * width, |i| {
            let (gate, up) = (x[i / width * 2 * width + i % width], x[i / width * 2 * width + width + i % width]);
            gate / (1.0 + (-gate).exp()) * up
        })
    };
    let mut out = vec![0.0; rows * width];
    gated_silu(&x, width, &mut out);
    assert_close("gated_silu", &out, &reference(&wide(&x)));
    let mut gradient = x.clone();
    gated_silu_backward(&mut gradient, width, &dy);
    assert_close("gated_silu_backward", &gradient, &differences(&x, &dy, reference));
}

#[test]
fn attention_over_uneven_sequences_and_its_gradient_match_differences() {
    // Lengths around the tile of 64 rows, one of a single row; 4 query heads share 2 key/value heads.
    check_attention(&[3, 1, 6], 4, 2, 6);
    check_attention(&[5, 2], 3, 1, 4);
}

#[test]
fn attention_over_several_tiles_matches_the_formula_with_a_window_and_without() {
    attention_over_tiles(None);
    attention_over_tiles(Some(1));
    attention_over_tiles(Some(40));
    attention_over_tiles(Some(100));
}

fn attention_over_tiles(window: Option<usize>) {
    let (lengths, heads, kv_heads, head_dim) = ([130, 64, 65], 2, 1, 8);
    let ropes = [rope(10_000.0, head_dim, 130), rope(10_000.0, head_dim, 64), rope(10_000.0, head_dim, 65)];
    let attention = Attention { heads, kv_heads, head_dim, window, ropes: &ropes };
    let shape = Naive { heads, kv_heads, head_dim, theta: Some(10_000.0), window };
    let packing = Packing::new(&lengths);
    let qkv = noise(1, packing.rows() * attention.fused_width());
    let dout = noise(2, packing.rows() * heads * head_dim);
    let mut out = vec![0.0; dout.len()];
    let mut scratch = AttentionScratch::default();
    attention.forward(&qkv, &packing, &mut scratch, &mut out);
    assert_close("attention", &out, &naive_attention(&shape, &wide(&qkv), &lengths));

    // A directional derivative, because a full set of differences over 259 rows would take minutes.
    let mut gradient = vec![0.0; qkv.len()];
    attention.backward(&qkv, &packing, &dout, &mut scratch, &mut gradient);
    let direction = noise(3, qkv.len());
    let along = |step: f64| {
        let moved = fill(qkv.len(), |i| f64::from(qkv[i]) + step * f64::from(direction[i]));
        let out = naive_attention(&shape, &moved, &lengths);
        out.iter().zip(&dout).map(|(o, d)| o * f64::from(*d)).sum::<f64>()
    };
    let expected = (along(STEP) - along(-STEP)) / (2.0 * STEP);
    let got = dot(qkv.len(), |i| gradient[i], |i| direction[i]);
    assert!((got - expected).abs() < 1e-4 * expected.abs().max(1.0), "{got} along a random direction, expected {expected}");
}

#[test]
fn a_part_of_a_head_turns_and_the_way_back_is_the_transpose() {
    // Four of six numbers turn, by a factor as YaRN has it, and each sequence by angles of its own.
    let (heads, kv_heads, head_dim, lengths) = (2, 1, 6, [4, 3]);
    let ropes = [Arc::new(RopeTable::new(&[1.0, 0.3], 1.2, head_dim, 4)), Arc::new(RopeTable::new(&[0.5, 0.1], 1.2, head_dim, 3))];
    let attention = Attention { heads, kv_heads, head_dim, window: Some(3), ropes: &ropes };
    let packing = Packing::new(&lengths);
    let qkv = noise(1, packing.rows() * attention.fused_width());
    let dout = noise(2, packing.rows() * heads * head_dim);
    let width = attention.fused_width();
    let turned = |qkv: &[f64]| {
        let mut out = qkv.to_vec();
        for (row, position, frequencies) in (0..7).map(|row| if row < 4 { (row, row, [1.0, 0.3]) } else { (row, row - 4, [0.5, 0.1]) }) {
            for column in (0..heads + kv_heads).map(|head| row * width + head * head_dim) {
                for (pair, frequency) in frequencies.into_iter().enumerate() {
                    let (sine, cosine) = (position as f64 * frequency).sin_cos();
                    let (first, second) = (qkv[column + pair], qkv[column + pair + 2]);
                    out[column + pair] = 1.2 * (first * cosine - second * sine);
                    out[column + pair + 2] = 1.2 * (second * cosine + first * sine);
                }
            }
        }
        out
    };
    let (mut out, mut scratch) = (vec![0.0; dout.len()], AttentionScratch::default());
    attention.forward(&qkv, &packing, &mut scratch, &mut out);
    // Without rotation of its own.
    let shape = Naive { heads, kv_heads, head_dim, theta: None, window: Some(3) };
    let naive = |qkv: &[f64]| naive_attention(&shape, &turned(qkv), &lengths);
    assert_close("attention", &out, &naive(&wide(&qkv)));
    let mut gradient = vec![0.0; qkv.len()];
    attention.backward(&qkv, &packing, &dout, &mut scratch, &mut gradient);
    assert_close("gradient", &gradient, &differences(&qkv, &dout, naive));
}

#[test]
fn a_bias_is_added_to_every_row_and_taken_away_again() {
    let (mut x, bias) = (noise(1, 300 * 7), noise(2, 7));
    let expected = fill(x.len(), |i| f64::from(x[i]) + f64::from(bias[i % 7]));
    let before = x.clone();
    add_bias(&mut x, &bias);
    assert_close("x + b", &x, &expected);
    subtract_bias(&mut x, &bias);
    assert_close("x", &x, &wide(&before));
}

#[test]
fn no_sequence_of_a_packed_batch_sees_another() {
    let ropes = [rope(10_000.0, 8, 16), rope(10_000.0, 8, 16)];
    let attention = Attention { heads: 2, kv_heads: 2, head_dim: 8, window: None, ropes: &ropes };
    let width = attention.fused_width();
    let packing = Packing::new(&[4, 5]);
    let mut qkv = noise(1, packing.rows() * width);
    let (mut first, mut second) = (vec![0.0; 9 * 16], vec![0.0; 9 * 16]);
    attention.forward(&qkv, &packing, &mut AttentionScratch::default(), &mut first);
    qkv[..4 * width].iter_mut().for_each(|v| *v += 1.0);
    attention.forward(&qkv, &packing, &mut AttentionScratch::default(), &mut second);
    assert!(first[..4 * 16] != second[..4 * 16], "the first sequence changed");
    assert!(first[4 * 16..] == second[4 * 16..], "the second must not notice");
}

#[test]
fn the_losses_and_their_weighted_gradient_match_differences() {
    let (rows, width, vocabulary) = (6, 5, 19);
    let (hidden, head) = (noise(1, rows * width), noise(2, vocabulary * width));
    let targets = [
        Target { row: 1, token: 3, weight: 1.0 },
        Target { row: 2, token: 0, weight: 0.25 },
        Target { row: 5, token: 18, weight: 2.0 },
        Target { row: 5, token: 4, weight: 1.5 },
    ];
    let reference = |hidden: &[f64]| {
        let loss: f64 = targets
            .iter()
            .map(|target| {
                let logits: Vec<f64> = (0..vocabulary)
                    .map(|v| (0..width).map(|i| hidden[target.row * width + i] * f64::from(head[v * width + i])).sum())
                    .collect();
                let total: f64 = logits.iter().map(|l| l.exp()).sum();
                f64::from(target.weight) * (total.ln() - logits[target.token as usize])
            })
            .sum();
        vec![loss]
    };
    let mut gradient = vec![f32::NAN; hidden.len()];
    let mut scratch = LossScratch::default();
    let mut weighted = |gradient: Option<&mut [f32]>| {
        let mut losses = Vec::new();
        linear_cross_entropy(&hidden, &head, width, &targets, Precision::F32, &mut scratch, &mut losses, gradient);
        losses.iter().zip(&targets).map(|(loss, target)| loss * f64::from(target.weight)).sum::<f64>()
    };
    let (loss, only_loss) = (weighted(Some(&mut gradient)), weighted(None));
    assert!((loss - reference(&wide(&hidden))[0]).abs() < 1e-5, "{loss}");
    assert!(loss.to_bits() == only_loss.to_bits(), "with and without a gradient the loss is the same");
    assert_close("gradient of the loss", &gradient, &differences(&hidden, &[1.0], reference));
    assert!(gradient[..width].iter().all(|g| *g == 0.0), "a row without a target has no gradient");
}

#[test]
fn the_loss_over_many_chunks_equals_the_sum_of_its_parts_and_nan_comes_through() {
    let (rows, width, vocabulary) = (300, 8, 33);
    let (mut hidden, head) = (noise(1, rows * width), noise(2, vocabulary * width));
    let targets: Vec<Target> = (0..rows).map(|row| Target { row, token: (row % vocabulary) as u32, weight: 1.0 }).collect();
    let mut scratch = LossScratch::default();
    let mut loss = |hidden: &[f32], targets: &[Target]| {
        let mut losses = Vec::new();
        linear_cross_entropy(hidden, &head, width, targets, Precision::F32, &mut scratch, &mut losses, None);
        losses.iter().sum::<f64>()
    };
    let whole = loss(&hidden, &targets);
    let parts = loss(&hidden, &targets[..100]) + loss(&hidden, &targets[100..]);
    assert!((whole - parts).abs() < 1e-9, "{whole} against {parts}");
    hidden[17] = f32::NAN;
    assert!(loss(&hidden, &targets).is_nan(), "a NaN anywhere must show in the loss");
}

fn check_attention(lengths: &[usize], heads: usize, kv_heads: usize, head_dim: usize) {
    let ropes: Vec<_> = lengths.iter().map(|_| rope(100.0, head_dim, 16)).collect();
    let attention = Attention { heads, kv_heads, head_dim, window: None, ropes: &ropes };
    let shape = Naive { heads, kv_heads, head_dim, theta: Some(100.0), window: None };
    let packing = Packing::new(lengths);
    let qkv = noise(1, packing.rows() * attention.fused_width());
    let dout = noise(2, packing.rows() * heads * head_dim);
    let reference = |qkv: &[f64]| naive_attention(&shape, qkv, lengths);
    let mut scratch = AttentionScratch::default();
    let mut out = vec![f32::NAN; dout.len()];
    attention.forward(&qkv, &packing, &mut scratch, &mut out);
    assert_close("attention", &out, &reference(&wide(&qkv)));
    let mut gradient = vec![f32::NAN; qkv.len()];
    attention.backward(&qkv, &packing, &dout, &mut scratch, &mut gradient);
    assert_close("gradient of attention", &gradient, &differences(&qkv, &dout, reference));
}

/// Plain rope for heads of one length.
fn rope(theta: f64, head_dim: usize, positions: usize) -> Arc<RopeTable> {
    let frequencies: Vec<f64> = (0..head_dim / 2).map(|pair| theta.powf(-2.0 * pair as f64 / head_dim as f64)).collect();
    Arc::new(RopeTable::new(&frequencies, 1.0, head_dim, positions))
}

/// The formula of attention, in f64.
struct Naive {
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    /// Heads do not turn without.
    theta: Option<f64>,
    window: Option<usize>,
}

fn naive_attention(shape: &Naive, qkv: &[f64], lengths: &[usize]) -> Vec<f64> {
    let Naive { heads, kv_heads, head_dim: d, theta, window } = *shape;
    let width = (heads + 2 * kv_heads) * d;
    let rotated = |row: usize, position: usize, column: usize| {
        fill(d, |i| {
            let pair = i % (d / 2);
            let angle = theta.map_or(0.0, |theta| position as f64 / theta.powf(2.0 * pair as f64 / d as f64));
            let (first, second) = (qkv[row * width + column + pair], qkv[row * width + column + pair + d / 2]);
            if i < d / 2 { first * angle.cos() - second * angle.sin() } else { second * angle.cos() + first * angle.sin() }
        })
    };
    let mut out = vec![0.0; lengths.iter().sum::<usize>() * heads * d];
    let mut start = 0;
    for &length in lengths {
        for head in 0..heads {
            let kv = head / (heads / kv_heads);
            let keys: Vec<_> = (0..length).map(|j| rotated(start + j, j, (heads + kv) * d)).collect();
            for i in 0..length {
                let query = rotated(start + i, i, head * d);
                let seen = window.map_or(0, |window| (i + 1).saturating_sub(window))..=i;
                let score = |j: usize| (query.iter().zip(&keys[j]).map(|(q, k)| q * k).sum::<f64>() / (d as f64).sqrt()).exp();
                let scores: Vec<f64> = seen.clone().map(score).collect();
                let total: f64 = scores.iter().sum();
                for (j, score) in seen.zip(&scores) {
                    for c in 0..d {
                        out[((start + i) * heads + head) * d + c] +=
                            score / total * qkv[(start + j) * width + (heads + kv_heads + kv) * d + c];
                    }
                }
            }
        }
        start += length;
    }
    out
}

/// Central differences of `Σ dy · f(x)` by every element of `x`.
fn differences(x: &[f32], dy: &[f32], f: impl Fn(&[f64]) -> Vec<f64>) -> Vec<f64> {
    let mut x = wide(x);
    let along = |x: &[f64]| f(x).iter().zip(dy).map(|(y, d)| y * f64::from(*d)).sum::<f64>();
    (0..x.len())
        .map(|i| {
            let kept = x[i];
            x[i] = kept + STEP;
            let above = along(&x);
            x[i] = kept - STEP;
            let below = along(&x);
            x[i] = kept;
            (above - below) / (2.0 * STEP)
        })
        .collect()
}

pub(super) fn assert_close(what: &str, got: &[f32], expected: &[f64]) {
    assert_eq!(got.len(), expected.len(), "{what}");
    let size = expected.iter().fold(1e-3f64, |top, v| top.max(v.abs()));
    for (i, (got, expected)) in got.iter().zip(expected).enumerate() {
        assert!((f64::from(*got) - expected).abs() <= TOLERANCE * size, "{what}: element {i} is {got}, expected {expected}");
    }
}

/// Values in ±1 from a fixed linear congruential generator (Knuth, MMIX).
pub(super) fn noise(seed: u64, len: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (0..len)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        })
        .collect()
}

fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().map(|v| f64::from(*v)).collect()
}

pub(super) fn fill(len: usize, f: impl Fn(usize) -> f64) -> Vec<f64> {
    (0..len).map(f).collect()
}

fn dot(n: usize, a: impl Fn(usize) -> f32, b: impl Fn(usize) -> f32) -> f64 {
    (0..n).map(|i| f64::from(a(i)) * f64::from(b(i))).sum()
}

pub(super) fn pool(threads: usize) -> rayon::ThreadPool {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap()
}
