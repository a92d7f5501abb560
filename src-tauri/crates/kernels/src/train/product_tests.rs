//! Products on every kind of instructions and of weights, beside naive sums in f64.

use super::matrix::{Threads, multiply};
use super::pack::{Rows, Side, to_bf16};
use super::pairs::PairPanels;
use super::tests::{assert_close, fill, noise, pool};
use super::tile::Lanes;
use super::*;

/// Rows, columns, depth: less than a tile, several tiles and panels, none of them whole, and more depth than a block.
const SHAPES: [(usize, usize, usize); 6] = [(1, 1, 1), (3, 17, 5), (15, 33, 64), (29, 48, 31), (64, 96, 200), (20, 40, 2100)];

fn naive(a: &[f32], a_side: Side, b: &[f32], b_side: Side, (m, n, k): (usize, usize, usize)) -> Vec<f64> {
    let left = |i: usize, p: usize| f64::from(if a_side == Side::Plain { a[i * k + p] } else { a[p * m + i] });
    let right = |p: usize, j: usize| f64::from(if b_side == Side::Plain { b[p * n + j] } else { b[j * k + p] });
    fill(m * n, |i| (0..k).map(|p| left(i / n, p) * right(p, i % n)).sum())
}

fn matrix(data: &[f32], rows: usize, columns: usize, side: Side) -> Matrix<'_> {
    if side == Side::Plain { Matrix::new(data, rows, columns) } else { Matrix::new(data, columns, rows) }
}

#[test]
fn every_kind_of_instructions_multiplies_every_shape_and_orientation_like_naive_sums() {
    for lanes in Lanes::available() {
        for shape @ (m, n, k) in SHAPES {
            let (a, b, c) = (noise(1, m * k), noise(2, n * k), noise(3, m * n));
            for (a_side, b_side) in [(Side::Plain, Side::Transposed), (Side::Plain, Side::Plain), (Side::Transposed, Side::Plain)] {
                let mut expected = naive(&a, a_side, &b, b_side, shape);
                let product = |out: &mut [f32], store| {
                    let (left, right) = (matrix(&a, m, k, a_side), matrix(&b, k, n, b_side));
                    let out = MatrixMut::new(out, m, n);
                    multiply(lanes, out, &left, a_side, &right, b_side, false, store, Threads::Alone);
                };
                let mut out = vec![f32::NAN; m * n];
                product(&mut out, Store::Replace);
                assert_close(&format!("{lanes:?} {shape:?} {a_side:?} {b_side:?}"), &out, &expected);
                let mut out = c.clone();
                product(&mut out, Store::Add);
                expected.iter_mut().zip(&c).for_each(|(sum, c)| *sum += f64::from(*c));
                assert_close(&format!("{lanes:?} {shape:?} {a_side:?} {b_side:?}, added"), &out, &expected);
            }
        }
    }
}

#[test]
fn pairs_of_bf16_multiply_like_the_rounded_numbers() {
    let rounded = |values: &[f32]| values.iter().map(|value| f32::from_bits(u32::from(to_bf16(*value)) << 16)).collect::<Vec<_>>();
    for lanes in Lanes::available().into_iter().filter(|lanes| lanes.multiplies_pairs()) {
        for shape @ (m, n, k) in SHAPES {
            let (a, b) = (noise(1, m * k), noise(2, n * k));
            for b_side in [Side::Transposed, Side::Plain] {
                let mut out = vec![f32::NAN; m * n];
                let right = matrix(&b, k, n, b_side);
                let left = Matrix::new(&a, m, k);
                multiply(lanes, MatrixMut::new(&mut out, m, n), &left, Side::Plain, &right, b_side, true, Store::Replace, Threads::Alone);
                assert_close(&format!("{shape:?} {b_side:?}"), &out, &naive(&rounded(&a), Side::Plain, &rounded(&b), b_side, shape));
            }
        }
    }
}

#[test]
fn bf16_rounds_to_nearest_even_and_keeps_what_is_not_a_number() {
    for (value, expected) in
        [(1.0, 0x3f80), (1.0 + 1.0 / 256.0, 0x3f80), (1.0 + 3.0 / 256.0, 0x3f82), (-2.0, 0xc000), (f32::INFINITY, 0x7f80)]
    {
        assert_eq!(to_bf16(value), expected, "{value}");
    }
    assert!(f32::from_bits(u32::from(to_bf16(f32::NAN)) << 16).is_nan(), "a hidden NaN would let a broken training go on");
    assert_eq!(to_bf16(f32::MAX), 0x7f80, "rounds up to infinity, as IEEE 754 does");
}

#[test]
fn quantised_weights_multiply_like_the_numbers_that_they_stand_for() {
    // 40 columns: the second block of a row is not whole.
    let (m, outputs, inputs) = (19, 70, 40);
    let (x, y, weights) = (noise(1, m * inputs), noise(2, m * outputs), noise(3, outputs * inputs));
    for quantisation in [Quantisation::Bf16, Quantisation::Int8, Quantisation::Int4] {
        let held = QuantisedMatrix::new(&weights, inputs, quantisation);
        let mut dense = vec![f32::NAN; weights.len()];
        held.dequantise(&mut dense);
        let (mut forward, mut backward) = (vec![f32::NAN; m * outputs], vec![f32::NAN; m * inputs]);
        held.product_nt(MatrixMut::new(&mut forward, m, outputs), Matrix::new(&x, m, inputs), Precision::F32, Store::Replace);
        held.product_nn(MatrixMut::new(&mut backward, m, inputs), Matrix::new(&y, m, outputs), Precision::F32, Store::Replace);
        let name = format!("{quantisation:?}");
        assert_close(&name, &forward, &naive(&x, Side::Plain, &dense, Side::Transposed, (m, outputs, inputs)));
        assert_close(&name, &backward, &naive(&y, Side::Plain, &dense, Side::Plain, (m, inputs, outputs)));

        // In bf16 (on machines that have it), rounding of 2⁻⁹ a factor averages out over the sum.
        let exact = forward.clone();
        held.product_nt(MatrixMut::new(&mut forward, m, outputs), Matrix::new(&x, m, inputs), Precision::Bf16, Store::Replace);
        let size = exact.iter().fold(0f32, |top, v| top.max(v.abs()));
        let off = exact.iter().zip(&forward).fold(0f32, |top, (a, b)| top.max((a - b).abs())) / size;
        assert!(off < 0.01, "{name}: in bf16 off by {off} of the largest");
        assert_eq!((held.rows(), held.columns()), (outputs, inputs));
    }
}

#[test]
fn narrow_products_are_shared_out_by_rows_and_agree_with_one_thread_bit_for_bit() {
    // As beside a projection: rank 16, and a gradient of many rows and few columns.
    for (m, n, k, a_side, b_side) in [(300, 16, 576, Side::Plain, Side::Transposed), (960, 16, 300, Side::Transposed, Side::Plain)] {
        let (a, b) = (noise(1, m * k), noise(2, n * k));
        let compute = || {
            let mut out = vec![0.0; m * n];
            let (left, right) = (matrix(&a, m, k, a_side), matrix(&b, k, n, b_side));
            multiply(Lanes::detect(), MatrixMut::new(&mut out, m, n), &left, a_side, &right, b_side, false, Store::Replace, Threads::Pool);
            out
        };
        let alone = pool(1).install(compute);
        assert!(alone == pool(3).install(compute), "the order of additions must not depend on threads");
        assert_close("narrow", &alone, &naive(&a, a_side, &b, b_side, (m, n, k)));
    }
}

#[test]
fn weights_held_in_panels_multiply_to_the_same_bits_as_row_by_row() {
    for (m, outputs, inputs) in [(1, 1, 1), (3, 17, 5), (15, 33, 64), (29, 48, 31), (64, 96, 200), (20, 40, 2100), (20, 2100, 40)] {
        let (x, y, weights) = (noise(1, m * inputs), noise(2, m * outputs), noise(3, outputs * inputs));
        let held = PanelMatrix::new(weights.clone(), inputs);
        let mut dense = vec![f32::NAN; weights.len()];
        held.row_major(&mut dense);
        assert!(dense == weights, "turned and turned back");
        assert_eq!((Rows::rows(&held), Rows::columns(&held)), (outputs, inputs));
        let mut row = vec![f32::NAN; inputs];
        held.read(outputs - 1, 0, &mut row);
        assert!(row == weights[weights.len() - inputs..]);
        let (a, some) = (noise(5, 7 * inputs), outputs / 3..outputs - outputs / 4);
        let (mut found, mut expected) = (vec![f32::NAN; some.len() * 7], vec![f32::NAN; some.len() * 7]);
        held.rows_times(some.clone(), Matrix::new(&a, 7, inputs), MatrixMut::new(&mut found, some.len(), 7));
        let some = Matrix::new(&weights[some.start * inputs..], some.len(), inputs);
        product_nt(MatrixMut::new(&mut expected, some.rows(), 7), some, Matrix::new(&a, 7, inputs), Store::Replace);
        assert!(found == expected, "some rows of [{outputs}, {inputs}]");
        for store in [Store::Replace, Store::Add] {
            let started = |length: usize| noise(4, length);
            let (mut found, mut expected) = (started(m * outputs), started(m * outputs));
            held.product_nt(MatrixMut::new(&mut found, m, outputs), Matrix::new(&x, m, inputs), store);
            let by_row = Matrix::new(&weights, outputs, inputs);
            product_nt(MatrixMut::new(&mut expected, m, outputs), Matrix::new(&x, m, inputs), by_row, store);
            assert!(found == expected, "[{m}, {inputs}] · [{outputs}, {inputs}]ᵀ");
            let (mut found, mut expected) = (started(m * inputs), started(m * inputs));
            held.product_nn(MatrixMut::new(&mut found, m, inputs), Matrix::new(&y, m, outputs), store);
            product_nn(MatrixMut::new(&mut expected, m, inputs), Matrix::new(&y, m, outputs), by_row, store);
            assert!(found == expected, "[{m}, {outputs}] · [{outputs}, {inputs}]");
        }
    }
}

#[test]
fn panels_are_turned_for_every_kind_of_instructions() {
    let (m, outputs, inputs) = (19, 70, 45);
    let (x, y, weights) = (noise(1, m * inputs), noise(2, m * outputs), noise(3, outputs * inputs));
    let held = PanelMatrix::new(weights.clone(), inputs);
    for lanes in Lanes::available() {
        let (mut forward, mut backward) = (vec![f32::NAN; m * outputs], vec![f32::NAN; m * inputs]);
        let run = |out, from: &Matrix, side| multiply(lanes, out, from, Side::Plain, &held, side, false, Store::Replace, Threads::Alone);
        run(MatrixMut::new(&mut forward, m, outputs), &Matrix::new(&x, m, inputs), Side::Transposed);
        run(MatrixMut::new(&mut backward, m, inputs), &Matrix::new(&y, m, outputs), Side::Plain);
        assert_close(&format!("{lanes:?}"), &forward, &naive(&x, Side::Plain, &weights, Side::Transposed, (m, outputs, inputs)));
        assert_close(&format!("{lanes:?}"), &backward, &naive(&y, Side::Plain, &weights, Side::Plain, (m, inputs, outputs)));
    }
}

#[test]
fn bf16_panels_give_their_numbers_for_every_kind_of_instructions_and_words() {
    for (m, outputs, inputs) in [(1, 1, 1), (3, 17, 5), (15, 33, 64), (19, 70, 45), (64, 96, 200), (20, 40, 2100), (20, 2100, 40)] {
        let (x, y, weights) = (noise(1, m * inputs), noise(2, m * outputs), noise(3, outputs * inputs));
        let rounded = |values: &[f32]| values.iter().map(|value| f32::from_bits(u32::from(to_bf16(*value)) << 16)).collect::<Vec<_>>();
        let (held, dense) = (PairPanels::new(&weights, inputs), rounded(&weights));
        assert_eq!(held.bytes(), PairPanels::bytes_of(outputs, inputs));
        let mut row = vec![f32::NAN; inputs];
        held.read(outputs - 1, 0, &mut row);
        assert!(row == dense[dense.len() - inputs..]);
        for (lanes, pairs) in Lanes::available().into_iter().flat_map(|lanes| [(lanes, false), (lanes, lanes.multiplies_pairs())]) {
            let run =
                |out, from: &Matrix, side| multiply(lanes, out, from, Side::Plain, &held, side, pairs, Store::Replace, Threads::Alone);
            let (mut forward, mut backward) = (vec![f32::NAN; m * outputs], vec![f32::NAN; m * inputs]);
            run(MatrixMut::new(&mut forward, m, outputs), &Matrix::new(&x, m, inputs), Side::Transposed);
            run(MatrixMut::new(&mut backward, m, inputs), &Matrix::new(&y, m, outputs), Side::Plain);
            let (x, y) = if pairs { (rounded(&x), rounded(&y)) } else { (x.clone(), y.clone()) };
            let name = format!("{lanes:?} pairs {pairs} [{m}, {outputs}, {inputs}]");
            assert_close(&name, &forward, &naive(&x, Side::Plain, &dense, Side::Transposed, (m, outputs, inputs)));
            assert_close(&name, &backward, &naive(&y, Side::Plain, &dense, Side::Plain, (m, inputs, outputs)));
        }
    }
}

#[test]
fn a_hash_of_bf16_weights_is_that_of_rows_in_whole_blocks() {
    let weights = noise(1, 3 * 40);
    let held = QuantisedMatrix::new(&weights, 40, Quantisation::Bf16);
    let mut expected = Vec::new();
    for row in weights.chunks(40) {
        expected.extend(row.iter().chain(&[0.0; 24]).flat_map(|value| to_bf16(*value).to_le_bytes()));
    }
    let mut found = Vec::new();
    held.content(|bytes| found.extend_from_slice(bytes));
    assert!(found == expected, "checkpoints of an earlier version know their base by it");
}
