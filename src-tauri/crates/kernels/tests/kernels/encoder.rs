//! Kernels of encoders on every tier against the scalar one, bit for bit, and the scalar one against plain arithmetic in f64.

use crate::inference::scalar;
use crate::numbers;
use kernels::biased_attention::{BiasedRow, Biases, Memory, attend_biased};
use kernels::encoder::{gated_gelu, gelu, layer_norm};
use kernels::isa::Isa;
use kernels::pool::Pool;

/// erf by its Taylor series, which converges everywhere and is exact enough up to 4.
fn erf(x: f64) -> f64 {
    let (mut term, mut sum) = (x, x);
    for n in 1..200 {
        term *= -x * x / f64::from(n);
        sum += term / f64::from(2 * n + 1);
    }
    sum * 2.0 / std::f64::consts::PI.sqrt()
}

#[test]
fn layer_norm_takes_mean_and_spread_away() {
    for (length, offset) in [(1, 0.0), (15, 2.0), (16, -3.0), (100, 1000.0), (384, 0.1)] {
        let x: Vec<f32> = numbers(1, length).iter().map(|value| value + offset).collect();
        let (gain, shift) = (numbers(2, length), numbers(3, length));
        let mean = x.iter().map(|value| f64::from(*value)).sum::<f64>() / length as f64;
        let variance = x.iter().map(|value| (f64::from(*value) - mean).powi(2)).sum::<f64>() / length as f64;
        let mut scalar_out = x.clone();
        layer_norm(scalar(), &mut scalar_out, &gain, &shift, 1e-5);
        for (index, found) in scalar_out.iter().enumerate() {
            let expected = (f64::from(x[index]) - mean) / (variance + 1e-5).sqrt() * f64::from(gain[index]) + f64::from(shift[index]);
            let tolerance = 1e-5 + 1e-6 * f64::from(offset.abs());
            assert!((f64::from(*found) - expected).abs() < tolerance, "{found} for {expected} of {length}");
        }
        for isa in Isa::available() {
            let mut out = x.clone();
            layer_norm(isa, &mut out, &gain, &shift, 1e-5);
            assert_eq!(out, scalar_out, "{} at {length}", isa.name());
        }
    }
}

#[test]
fn gelu_is_exact_and_its_gated_form_is_the_tanh_one() {
    for length in [1, 15, 16, 33, 200] {
        let x: Vec<f32> = numbers(4, length).iter().map(|value| 4.0 * value).collect();
        let up = numbers(5, length);
        let mut plain = x.clone();
        gelu(scalar(), &mut plain);
        let mut gated = vec![0.0; length];
        gated_gelu(scalar(), &x, &up, &mut gated);
        for (index, x) in x.iter().map(|x| f64::from(*x)).enumerate() {
            let expected = 0.5 * x * (1.0 + erf(x / 2f64.sqrt()));
            assert!((f64::from(plain[index]) - expected).abs() < 1e-6, "{} for {expected}", plain[index]);
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3));
            let expected = 0.5 * x * (1.0 + inner.tanh()) * f64::from(up[index]);
            assert!((f64::from(gated[index]) - expected).abs() < 1e-6, "{} for {expected}", gated[index]);
        }
        for isa in Isa::available() {
            let (mut plain_out, mut gated_out) = (x.clone(), vec![0.0; length]);
            gelu(isa, &mut plain_out);
            gated_gelu(isa, &x, &up, &mut gated_out);
            assert_eq!((plain_out, gated_out), (plain.clone(), gated.clone()), "{} at {length}", isa.name());
        }
    }
    let mut extremes = [f32::MIN, -100.0, -0.0, 0.0, 100.0, f32::MAX];
    gelu(scalar(), &mut extremes);
    assert_eq!(extremes, [0.0, 0.0, 0.0, 0.0, 100.0, f32::MAX], "far from zero it is zero or the number itself");
}

/// Softmax attention in f64; `bias(row, head, position)`.
fn attention_oracle(
    (heads, head_dim): (usize, usize),
    query: &[f32],
    keys: &[f32],
    values: &[f32],
    seen: usize,
    scale: f64,
    bias: &dyn Fn(usize, usize) -> f64,
) -> Vec<f64> {
    let width = heads * head_dim;
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    let mut out = vec![0.0; width];
    for head in 0..heads {
        let part = head * head_dim..(head + 1) * head_dim;
        let score = |position: usize| scale * dot(&query[part.clone()], &keys[position * width..][part.clone()]) + bias(head, position);
        let weights: Vec<f64> = (0..seen).map(|position| score(position).exp()).collect();
        let total: f64 = weights.iter().sum();
        for (position, weight) in weights.iter().enumerate() {
            for (slot, value) in out[part.clone()].iter_mut().zip(&values[position * width..][part.clone()]) {
                *slot += weight / total * f64::from(*value);
            }
        }
    }
    out
}

#[test]
fn biased_attention_is_softmax_attention_whatever_stands_beside_it() {
    let pool = Pool::new(2);
    // Heads, their width, and the rows of each sequence with what each sees.
    let whole = |lengths: &[usize]| lengths.iter().map(|length| vec![*length; *length]).collect::<Vec<_>>();
    let causal = |length: usize| vec![(1..=length).collect::<Vec<_>>()];
    let cases = [
        ((1, 16), whole(&[1])),
        ((3, 16), whole(&[5, 17, 1, 33])),
        ((12, 32), whole(&[40, 7])),
        ((2, 64), causal(37)),
        ((4, 48), vec![vec![20], vec![3, 3], vec![16, 9, 1]]),
    ];
    for (case, (shape, sequences)) in cases.into_iter().enumerate() {
        let (heads, head_dim) = shape;
        let width = heads * head_dim;
        let stride = width + 5;
        let rows: usize = sequences.iter().map(Vec::len).sum();
        let queries: Vec<f32> = numbers(10 + case as u64, rows * stride).iter().map(|value| 3.0 * value).collect();
        let length = 96;
        let bias = numbers(30 + case as u64, heads * length);
        let (mut memories, mut plain) = (Vec::new(), Vec::new());
        for (index, seen) in sequences.iter().enumerate() {
            let positions = *seen.iter().max().unwrap();
            let (keys, values) = (numbers(50 + index as u64, positions * width), numbers(70 + index as u64, positions * width));
            let mut memory = Memory::new(heads, head_dim, positions);
            for position in 0..positions {
                memory.write(position, &keys[position * width..][..width], &values[position * width..][..width]);
            }
            memories.push(memory);
            plain.push((keys, values));
        }
        let described: Vec<(usize, usize)> =
            sequences.iter().enumerate().flat_map(|(index, seen)| seen.iter().map(move |seen| (index, *seen))).collect();
        let row = |place: usize| {
            let (sequence, seen) = described[place];
            BiasedRow { memory: &memories[sequence], seen, first_bias: place % 40 }
        };
        let all: Vec<BiasedRow> = (0..rows).map(row).collect();
        for with_bias in [false, true] {
            let biases = with_bias.then_some(Biases { values: &bias, length });
            let mut expected = vec![0.0; rows * width];
            attend_biased(scalar(), &pool, &all, 0.5, biases, &queries, stride, &mut expected);
            for (place, found) in expected.chunks_exact(width).enumerate() {
                let ((sequence, seen), query) = (described[place], &queries[place * stride..][..width]);
                let (keys, values) = &plain[sequence];
                let term = |head: usize, position: usize| match with_bias {
                    true => f64::from(bias[head * length + place % 40 + position]),
                    false => 0.0,
                };
                let exact = attention_oracle(shape, query, keys, values, seen, 0.5, &term);
                for (found, exact) in found.iter().zip(exact) {
                    assert!((f64::from(*found) - exact).abs() < 2e-6, "case {case}, row {place}: {found} for {exact}");
                }
            }
            for isa in Isa::available() {
                let mut out = vec![0.0; rows * width];
                attend_biased(isa, &pool, &all, 0.5, biases, &queries, stride, &mut out);
                assert_eq!(out, expected, "{} in case {case}", isa.name());
                for place in 0..rows {
                    let mut alone = vec![0.0; width];
                    attend_biased(isa, &pool, &[row(place)], 0.5, biases, &queries[place * stride..], stride, &mut alone);
                    assert_eq!(alone, out[place * width..][..width], "{} alone in case {case}", isa.name());
                }
            }
        }
    }
}
