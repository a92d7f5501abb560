//! Every weight format on every tier: what the bytes mean against the package `gguf`, products against plain arithmetic.

use crate::numbers;
use half::f16;
use kernels::activations::{Activations, Forms};
use kernels::isa::{Isa, Tier};
use kernels::matmul::{Output, matmul};
use kernels::packed::{BlockFormat, PackError, PackedMatrix, Rounding, WeightMemory};
use kernels::pool::Pool;
use proptest::prelude::*;

/// Random blocks with finite scales.
fn blocks(format: BlockFormat, cols: usize, rows: usize, seed: u64) -> Vec<u8> {
    let count = rows * format.row_bytes(cols).unwrap();
    let values = numbers(seed, count);
    let mut bytes: Vec<u8> = values.iter().map(|value| (value * 4096.0) as i32 as u8).collect();
    let halves: &[usize] = match format {
        BlockFormat::Q4_0 | BlockFormat::Q5_0 | BlockFormat::Q8_0 => &[0],
        BlockFormat::Q4_1 | BlockFormat::Q5_1 | BlockFormat::Q4K | BlockFormat::Q5K => &[0, 2],
        BlockFormat::Q6K => &[208],
        BlockFormat::F32 => {
            return numbers(seed, rows * cols).iter().flat_map(|value| value.to_le_bytes()).collect();
        }
        BlockFormat::F16 => {
            return numbers(seed, rows * cols).iter().flat_map(|value| f16::from_f32(*value).to_le_bytes()).collect();
        }
        BlockFormat::Bf16 => {
            return numbers(seed, rows * cols).iter().flat_map(|value| half::bf16::from_f32(*value).to_le_bytes()).collect();
        }
    };
    for (block, value) in bytes.chunks_exact_mut(format.bytes()).zip(numbers(seed + 1, count)) {
        for at in halves {
            block[*at..at + 2].copy_from_slice(&f16::from_f32(value * 0.01 + 0.001 * *at as f32).to_le_bytes());
        }
    }
    bytes
}

fn activations(isa: Isa, pool: &Pool, forms: Forms, values: &[f32], cols: usize) -> Activations {
    let mut activations = Activations::default();
    activations.fill(isa, pool, forms, values.len() / cols, cols, &|row, out| out.copy_from_slice(&values[row * cols..][..cols]));
    activations
}

fn product(isa: Isa, pool: &Pool, weights: &PackedMatrix, values: &[f32]) -> Vec<f32> {
    let activations = activations(isa, pool, weights.forms(), values, weights.cols());
    let mut out = vec![f32::NAN; activations.rows() * weights.rows()];
    matmul(isa, pool, weights, &activations, &mut out, Output::Replace);
    out
}

/// The product in f64 of the numbers that `dequantise` finds in the bytes and the activations as they are used.
fn check(pool: &Pool, weights: &PackedMatrix, dense: &[f32], values: &[f32], name: &str) {
    let cols = weights.cols();
    let scalar = Isa::of(Tier::Scalar).unwrap();
    let used = activations(scalar, pool, weights.forms(), values, cols);
    let expected = product(scalar, pool, weights, values);
    for (row, value) in values.chunks_exact(cols).enumerate() {
        let input = if weights.forms().int8 { used.unpack_row(row) } else { value.to_vec() };
        for (column, weights) in dense.chunks_exact(cols).enumerate() {
            let terms = || input.iter().zip(weights).map(|(a, b)| f64::from(*a) * f64::from(*b));
            let (sum, size): (f64, f64) = (terms().sum(), terms().map(f64::abs).sum());
            let found = f64::from(expected[row * dense.len() / cols + column]);
            assert!((found - sum).abs() <= 3e-6 * size + 1e-6, "{name}, row {row}, column {column}: {found} for {sum}");
        }
    }
    for isa in Isa::available() {
        assert_eq!(product(isa, pool, weights, values), expected, "{name} on {}", isa.name());
    }
}

#[test]
fn blocks_mean_what_the_gguf_package_says_and_stay_exact_when_packed() {
    // gguf 0.19.0; made by tests/reference/gguf_blocks.py.
    let mut dump: &[u8] = include_bytes!("../reference/gguf_blocks.bin");
    let (cols, rows) = (512, 2);
    for format in BlockFormat::ALL {
        let row_bytes = format.row_bytes(cols).unwrap();
        let (bytes, rest) = dump.split_at(rows * row_bytes);
        let (numbers, rest) = rest.split_at(rows * cols * 4);
        dump = rest;
        let expected: Vec<f32> = numbers.as_chunks().0.iter().map(|four| f32::from_le_bytes(*four)).collect();
        let mut found = vec![0.0; rows * cols];
        format.dequantise(bytes, &mut found).unwrap();
        assert_eq!(found, expected, "{}", format.name());
        let packed = PackedMatrix::from_blocks(format, cols, &[(bytes, rows)]).unwrap();
        for (row, expected) in expected.chunks_exact(cols).enumerate() {
            assert_eq!(packed.unpack_row(row), expected, "packed {}", format.name());
        }
    }
    assert!(dump.is_empty(), "the dump holds these formats and no more");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    /// Any format, 1 to 17 rows of activations, any number of blocks and of rows of weights.
    #[test]
    fn products_of_blocks_are_those_of_the_numbers_they_stand_for(
        index in 0..BlockFormat::ALL.len(), blocks_wide in 1..4usize, height in 1..70usize, rows in 1..18usize, seed in 0..1_000_000u64,
    ) {
        let format = BlockFormat::ALL[index];
        let cols = blocks_wide * if format.columns() == 1 { 13 } else { format.columns() };
        let bytes = blocks(format, cols, height, seed);
        let mut dense = vec![0.0; height * cols];
        format.dequantise(&bytes, &mut dense).unwrap();
        // In two parts, as fused matrices come.
        let (above, below) = bytes.split_at(height / 2 * format.row_bytes(cols).unwrap());
        let weights = PackedMatrix::from_blocks(format, cols, &[(above, height / 2), (below, height - height / 2)]).unwrap();
        check(&Pool::new(2), &weights, &dense, &numbers(seed + 2, rows * cols), format.name());
    }

    #[test]
    fn products_of_rounded_weights_are_those_of_the_rounded_numbers(
        int4: bool, cols in 1..300usize, height in 1..70usize, rows in 1..18usize, seed in 0..1_000_000u64,
    ) {
        let rounding = if int4 { Rounding::Int4 } else { Rounding::Int8 };
        let weights = PackedMatrix::pack(rounding, cols, &[&numbers(seed, cols * height)]);
        let dense: Vec<f32> = (0..height).flat_map(|row| weights.unpack_row(row)).collect();
        check(&Pool::new(2), &weights, &dense, &numbers(seed + 2, rows * cols), "rounded");
    }
}

#[test]
fn every_format_multiplies_right_with_each_number_of_rows() {
    let pool = Pool::new(2);
    for format in BlockFormat::ALL {
        let (cols, height) = (256, 35);
        let bytes = blocks(format, cols, height, 5);
        let mut dense = vec![0.0; height * cols];
        format.dequantise(&bytes, &mut dense).unwrap();
        let weights = PackedMatrix::from_blocks(format, cols, &[(&bytes, height)]).unwrap();
        for rows in 1..=17 {
            check(&pool, &weights, &dense, &numbers(rows as u64, rows * cols), format.name());
        }
    }
}

#[test]
fn the_largest_numbers_do_not_overflow_on_any_tier() {
    // All bits set and all bits clear, against activations of the largest magnitude with either sign.
    let pool = Pool::new(1);
    for format in BlockFormat::ALL.into_iter().filter(|format| format.columns() > 1) {
        for fill in [0x00, 0x7f, 0x80, 0xff] {
            let (cols, height) = (512, 17);
            let mut bytes = vec![fill; height * format.row_bytes(cols).unwrap()];
            for block in bytes.chunks_exact_mut(format.bytes()) {
                let scale = f16::from_f32(0.01).to_le_bytes();
                let at = if format == BlockFormat::Q6K { 208 } else { 0 };
                block[at..at + 2].copy_from_slice(&scale);
                if !matches!(format, BlockFormat::Q4_0 | BlockFormat::Q5_0 | BlockFormat::Q8_0 | BlockFormat::Q6K) {
                    block[2..4].copy_from_slice(&scale);
                }
            }
            let mut dense = vec![0.0; height * cols];
            format.dequantise(&bytes, &mut dense).unwrap();
            let weights = PackedMatrix::from_blocks(format, cols, &[(&bytes, height)]).unwrap();
            let values: Vec<f32> = [vec![1.0; cols], vec![-1.0; cols]].concat();
            check(&pool, &weights, &dense, &values, &format!("{} of {fill:#x}", format.name()));
        }
    }
}

#[test]
fn matrices_in_different_formats_stand_one_below_the_other() {
    let pool = Pool::new(2);
    let cols = 256;
    let parts = [(BlockFormat::Q4K, 20), (BlockFormat::Q6K, 33), (BlockFormat::F16, 7), (BlockFormat::Q8_0, 16)];
    let mut apart = Vec::new();
    let values = numbers(9, 5 * cols);
    let made = || {
        parts.map(|(format, rows)| {
            let bytes = blocks(format, cols, rows, rows as u64);
            PackedMatrix::from_blocks(format, cols, &[(&bytes, rows)]).unwrap()
        })
    };
    for isa in Isa::available() {
        apart.clear();
        for matrix in made() {
            apart.push((matrix.rows(), product(isa, &pool, &matrix, &values)));
        }
        let stacked = PackedMatrix::stack(made().into_iter().collect());
        assert_eq!((stacked.rows(), stacked.cols(), stacked.bytes()), (76, 256, made().iter().map(PackedMatrix::bytes).sum()));
        assert_eq!(stacked.forms(), Forms { int8: true, f32: true });
        let together = product(isa, &pool, &stacked, &values);
        for row in 0..5 {
            let expected: Vec<f32> = apart.iter().flat_map(|(rows, out)| out[row * rows..][..*rows].to_vec()).collect();
            assert_eq!(together[row * 76..][..76], expected, "{}", isa.name());
        }
        let unpacked: Vec<Vec<f32>> = (0..76).map(|row| stacked.unpack_row(row)).collect();
        let expected: Vec<Vec<f32>> =
            made().iter().flat_map(|one| (0..one.rows()).map(|row| one.unpack_row(row)).collect::<Vec<_>>()).collect();
        assert_eq!(unpacked, expected);
    }
}

#[test]
fn rows_that_are_not_whole_blocks_and_wrong_lengths_are_refused() {
    for format in BlockFormat::ALL {
        if format.columns() > 1 {
            let refused = PackedMatrix::from_blocks(format, format.columns() + 1, &[]).err();
            assert_eq!(refused, Some(PackError::Columns { format, cols: format.columns() + 1 }));
        }
        let cols = 256;
        let bytes = vec![0; format.row_bytes(cols).unwrap() * 2 - 1];
        let refused = PackedMatrix::from_blocks(format, cols, &[(&bytes, 2)]).err();
        assert_eq!(refused, Some(PackError::Length { format, cols, rows: 2, found: bytes.len() }), "{}", format.name());
        assert!(PackedMatrix::from_blocks(format, cols, &[(&bytes, usize::MAX)]).is_err(), "a product that overflows");
        assert!(format.dequantise(&bytes, &mut vec![0.0; 512]).is_err());
        assert!(format.dequantise(&[], &mut []).is_err());
        assert_eq!(BlockFormat::from_ggml(format.ggml()), Some(format));
    }
    let mut bad = vec![0; 34];
    bad[..2].copy_from_slice(&f16::INFINITY.to_le_bytes());
    let refused = PackedMatrix::from_blocks(BlockFormat::Q8_0, 32, &[(&bad, 1)]).err();
    assert_eq!(refused, Some(PackError::NotFinite { format: BlockFormat::Q8_0 }));
    let refused = PackedMatrix::from_blocks(BlockFormat::F16, 17, &[(&bad, 1)]).err();
    assert_eq!(refused, Some(PackError::NotFinite { format: BlockFormat::F16 }));
    assert_eq!(BlockFormat::from_ggml(10), None, "Q2_K does not run here");
    let empty = PackedMatrix::from_blocks(BlockFormat::Q8_0, 32, &[]).unwrap();
    assert_eq!((empty.rows(), empty.bytes()), (0, 0));
}

#[test]
fn four_bits_keep_most_of_a_weight_and_an_outlier_does_not_coarsen_the_rest() {
    let plain = numbers(3, 64 * 32);
    let packed = PackedMatrix::pack(Rounding::Int4, 32, &[&plain]);
    let error = |values: &[f32], packed: &PackedMatrix| {
        let restored = (0..packed.rows()).flat_map(|row| packed.unpack_row(row));
        let (error, size) = values.iter().zip(restored).fold((0.0, 0.0), |(e, s), (a, b)| (e + (a - b).powi(2), s + a * a));
        (error / size).sqrt()
    };
    // A uniform step of 2/15 leaves 2/15/sqrt(12) of a uniform spread of 1/sqrt(3): 0.067.
    assert!(error(&plain, &packed) < 0.067, "{}", error(&plain, &packed));
    // Exact where the numbers lie on sixteen steps.
    let steps: Vec<f32> = (0..32).map(|index| (index % 16) as f32 * 0.25 - 1.5).collect();
    assert_eq!(PackedMatrix::pack(Rounding::Int4, 32, &[&steps]).unpack_row(0), steps);
    // Equal numbers, zeros, and the largest f16 scale survive.
    for value in [0.0, 0.5, -3.0] {
        let same = PackedMatrix::pack(Rounding::Int4, 40, &[&[value; 40]]);
        assert_eq!(same.unpack_row(0), [value; 40]);
    }
}

#[test]
fn a_matrix_written_piece_by_piece_is_the_one_packed_at_once() {
    let (cols, rows) = (75, 50);
    let values = numbers(4, rows * cols);
    for rounding in [Rounding::Int8, Rounding::Int4] {
        let whole = PackedMatrix::pack(rounding, cols, &[&values]);
        let mut pieces = PackedMatrix::zeroed(&WeightMemory::default(), rounding, rows, cols);
        for (first, count) in [(0, 7), (40, 10), (7, 33)] {
            pieces.write_rows(first, &values[first * cols..][..count * cols]);
        }
        assert!((0..rows).all(|row| whole.unpack_row(row) == pieces.unpack_row(row)));
        assert_eq!(whole.bytes(), PackedMatrix::bytes_of(rounding, rows, cols));
        let input = numbers(5, 3 * cols);
        let pool = Pool::new(1);
        for isa in Isa::available() {
            assert_eq!(product(isa, &pool, &whole, &input), product(isa, &pool, &pieces, &input), "{}", isa.name());
        }
    }
}
