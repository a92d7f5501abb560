//! Every inference kernel on every tier against the scalar one, bit for bit, and the scalar one against plain arithmetic.

use crate::numbers;
use half::f16;
use kernels::activations::Forms;
use kernels::attention::{AttentionRow, KvPlace, KvSlot, NewHeads, attend, make_ready};
use kernels::elementwise::{dot, gated_silu, largest, rms_norm, rope, sum_exp};
use kernels::isa::{Isa, Tier};
use kernels::matmul::{Output, matmul, matmul_f32};
use kernels::packed::{Activations, PackedMatrix, Rounding};
use kernels::pool::Pool;
use std::sync::atomic::{AtomicUsize, Ordering};

pub fn scalar() -> Isa {
    Isa::of(Tier::Scalar).unwrap()
}

fn quantised(isa: Isa, pool: &Pool, values: &[f32], cols: usize) -> Activations {
    let mut activations = Activations::default();
    activations.fill(isa, pool, Forms { int8: true, f32: false }, values.len() / cols, cols, &|row, out| {
        out.copy_from_slice(&values[row * cols..][..cols])
    });
    activations
}

fn product(isa: Isa, pool: &Pool, weights: &PackedMatrix, values: &[f32]) -> Vec<f32> {
    let activations = quantised(isa, pool, values, weights.cols());
    let mut out = vec![0.0; activations.rows() * weights.rows()];
    matmul(isa, pool, weights, &activations, &mut out, Output::Replace);
    out
}

/// (rows of activations, columns, rows of weights): tails of every kind.
const SHAPES: [(usize, usize, usize); 14] = [
    (1, 1, 1),
    (1, 31, 15),
    (2, 32, 16),
    (3, 33, 17),
    (4, 64, 48),
    (5, 100, 50),
    (6, 96, 33),
    (7, 256, 100),
    (8, 64, 31),
    (9, 65, 64),
    (11, 128, 80),
    (12, 40, 32),
    (13, 320, 47),
    (29, 576, 130),
];

#[test]
fn every_tier_multiplies_as_the_scalar_one_bit_for_bit() {
    let pool = Pool::new(2);
    for (index, (rows, cols, width)) in SHAPES.into_iter().enumerate() {
        let weights = PackedMatrix::pack(Rounding::Int8, cols, &[&numbers(index as u64, cols * width)]);
        let values = numbers(100 + index as u64, rows * cols);
        let expected = product(scalar(), &pool, &weights, &values);
        for isa in Isa::available() {
            assert_eq!(product(isa, &pool, &weights, &values), expected, "{} at {rows} x {cols} x {width}", isa.name());
        }
    }
}

#[test]
fn the_scalar_product_is_the_sum_of_products_of_the_unpacked_numbers() {
    let pool = Pool::new(1);
    for (index, (rows, cols, width)) in SHAPES.into_iter().enumerate() {
        let weights = PackedMatrix::pack(Rounding::Int8, cols, &[&numbers(index as u64, cols * width)]);
        let values = numbers(100 + index as u64, rows * cols);
        let activations = quantised(scalar(), &pool, &values, cols);
        let out = product(scalar(), &pool, &weights, &values);
        for row in 0..rows {
            let a = activations.unpack_row(row);
            for column in 0..width {
                let b = weights.unpack_row(column);
                let expected: f64 = a.iter().zip(&b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
                let found = f64::from(out[row * width + column]);
                assert!((found - expected).abs() < 1e-5 * (1.0 + cols as f64), "{found} for {expected} at {rows} x {cols} x {width}");
            }
        }
    }
}

#[test]
fn packing_keeps_weights_and_activations_within_half_a_step() {
    let pool = Pool::new(1);
    let values = numbers(3, 7 * 75);
    let weights = PackedMatrix::pack(Rounding::Int8, 75, &[&values[..2 * 75], &values[2 * 75..]]);
    let activations = quantised(scalar(), &pool, &values, 75);
    assert_eq!((weights.rows(), weights.cols()), (7, 75), "parts are stacked");
    for row in 0..7 {
        let unpacked = weights.unpack_row(row).into_iter().zip(activations.unpack_row(row));
        for (value, (weight, activation)) in values[row * 75..].iter().zip(unpacked) {
            // Half of 1/127, and the rounding of the scale to f16.
            assert!((weight - value).abs() < 0.5 / 127.0 + 1e-3, "{weight} for {value}");
            assert!((activation - value).abs() < 0.5 / 127.0 + 1e-6, "{activation} for {value}");
        }
    }
}

#[test]
fn zeros_and_numbers_too_small_to_scale_stay_finite() {
    let pool = Pool::new(1);
    for value in [0.0, 1e-45, 1e-38, -1e-31, 1e-9] {
        let weights = PackedMatrix::pack(Rounding::Int8, 40, &[&vec![value; 40 * 3]]);
        for isa in Isa::available() {
            let out = product(isa, &pool, &weights, &vec![value; 40 * 2]);
            assert!(out.iter().all(|value| value.is_finite() && value.abs() < 1e-6), "{} of {value:e}: {out:?}", isa.name());
        }
    }
}

#[test]
fn a_row_does_not_depend_on_the_rows_beside_it_or_on_threads() {
    let weights = PackedMatrix::pack(Rounding::Int8, 200, &[&numbers(1, 200 * 1000)]);
    let values = numbers(2, 14 * 200);
    for isa in Isa::available() {
        let together = product(isa, &Pool::new(3), &weights, &values);
        for (row, alone) in values.chunks(200).enumerate() {
            let alone = product(isa, &Pool::new(1), &weights, alone);
            assert_eq!(alone, together[row * 1000..][..1000], "row {row} on {}", isa.name());
        }
    }
}

#[test]
fn adding_to_the_output_is_the_product_plus_what_was_there() {
    let pool = Pool::new(2);
    let weights = PackedMatrix::pack(Rounding::Int8, 70, &[&numbers(1, 70 * 50)]);
    let dense = numbers(1, 70 * 50);
    let values = numbers(2, 3 * 70);
    let before = numbers(3, 3 * 50);
    for isa in Isa::available() {
        let activations = quantised(isa, &pool, &values, 70);
        let mut added = before.clone();
        matmul(isa, &pool, &weights, &activations, &mut added, Output::Add);
        let expected: Vec<f32> = product(isa, &pool, &weights, &values).iter().zip(&before).map(|(a, b)| a + b).collect();
        assert_eq!(added, expected, "{}", isa.name());
        let (mut plain, mut added) = (vec![0.0; 150], before.clone());
        matmul_f32(isa, &pool, &dense, &values, 70, &mut plain, Output::Replace);
        matmul_f32(isa, &pool, &dense, &values, 70, &mut added, Output::Add);
        let expected: Vec<f32> = plain.iter().zip(&before).map(|(a, b)| b + a).collect();
        assert_eq!(added, expected, "f32 on {}", isa.name());
    }
}

#[test]
fn norms_activations_and_sums_agree_with_f64_and_between_tiers() {
    for length in [1, 2, 15, 16, 17, 31, 48, 100, 257, 768] {
        let (x, y) = (numbers(length as u64, length), numbers(7 + length as u64, length));
        let wide: Vec<f32> = x.iter().map(|value| value * 120.0).collect();
        let all = |isa: Isa| {
            let (mut normed, mut gated) = (vec![0.0; length], vec![0.0; length]);
            rms_norm(isa, &x, &y, 1e-5, &mut normed);
            gated_silu(isa, &wide, &y, &mut gated);
            let most = largest(isa, &wide);
            (normed, gated, dot(isa, &x, &y), most, sum_exp(isa, &wide, most, 0.7))
        };
        let (normed, gated, product, most, sum) = all(scalar());
        let near = |found: f32, expected: f64| (f64::from(found) - expected).abs() < 2e-6 * (1.0 + expected.abs()) * length as f64;
        let mean: f64 = x.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / length as f64;
        for index in 0..length {
            let (g, u) = (f64::from(wide[index]), f64::from(y[index]));
            assert!(near(normed[index], f64::from(x[index]) / (mean + 1e-5).sqrt() * u), "norm at {length}");
            assert!(near(gated[index], g * u / (1.0 + (-g).exp())), "silu of {g} at {length}: {}", gated[index]);
        }
        assert!(near(product, x.iter().zip(&y).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()));
        assert_eq!(most, wide.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        assert!(near(sum, wide.iter().map(|v| ((f64::from(*v) - f64::from(most)) * 0.7).exp()).sum()), "softmax sum at {length}");
        for isa in Isa::available() {
            assert_eq!(all(isa), all(scalar()), "{} at {length}", isa.name());
        }
    }
}

#[test]
fn rope_turns_each_pair_by_its_angle() {
    let mut x = vec![1.0, 0.0, 0.0, 2.0];
    let (quarter, half) = (std::f32::consts::FRAC_PI_2, std::f32::consts::PI);
    rope(&mut x, &[quarter.cos(), half.cos()], &[quarter.sin(), half.sin()]);
    // Pairs are (0, 2) and (1, 3): a quarter turn of (1, 0) is (0, 1), half a turn of (0, 2) is (0, -2).
    for (found, expected) in x.iter().zip([0.0, 0.0, 1.0, -2.0]) {
        assert!((found - expected).abs() < 1e-6, "{x:?}");
    }
}

/// A batch of rows over two prefixes: some within a prefix, some continuing one.
struct Scene {
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    prefixes: Vec<KvSlot>,
    own: Vec<KvSlot>,
    /// Keys and values as stored, by slot (prefixes first) and position.
    stored: Vec<Vec<(Vec<f32>, Vec<f32>)>>,
    /// Prefix, its length, own slot and length, weighted positions.
    rows: Vec<(usize, usize, Option<(usize, usize)>, usize)>,
    queries: Vec<f32>,
    stride: usize,
}

const LAYER: usize = 1;
const LOG_WEIGHT: f32 = -0.7;

impl Scene {
    fn new(isa: Isa, heads: usize, kv_heads: usize, head_dim: usize) -> Self {
        let slot = |capacity| KvSlot::new(2, kv_heads, head_dim, capacity);
        let (mut prefixes, mut own) = (vec![slot(37), slot(20)], vec![slot(18), slot(50), slot(3)]);
        let (mut stored, mut seed) = (Vec::new(), 0);
        for kv in prefixes.iter_mut().chain(&mut own) {
            let width = kv_heads * head_dim;
            let positions = (0..kv.capacity()).map(|position| {
                seed += 1;
                let (keys, values) = (numbers(seed, width), numbers(10_000 + seed, width));
                kv.write(isa, LAYER, position, &keys, &values);
                let narrow = |x: Vec<f32>| x.into_iter().map(|x| f16::from_f32(x).to_f32()).collect::<Vec<f32>>();
                (narrow(keys), narrow(values))
            });
            stored.push(positions.collect());
        }
        let rows = vec![
            (0, 1, None, 0),
            (0, 2, None, 1),
            (0, 16, None, 3),
            (0, 33, Some((0, 1)), 5),
            (0, 33, Some((1, 49)), 5),
            (0, 33, Some((2, 3)), 0),
            (1, 17, None, 0),
        ];
        let stride = (heads + 3) * head_dim;
        let queries = numbers(77, rows.len() * stride).iter().map(|x| 3.0 * x).collect();
        Self { heads, kv_heads, head_dim, prefixes, own, stored, rows, queries, stride }
    }

    fn attend(&self, isa: Isa, pool: &Pool, chosen: &[usize]) -> Vec<f32> {
        let row = |index: &usize| {
            let (prefix, prefix_length, own, weighted) = self.rows[*index];
            let own = own.map(|(slot, length)| (&self.own[slot], length));
            AttentionRow { prefix: &self.prefixes[prefix], prefix_length, own, first: 0, weighted, log_weight: LOG_WEIGHT }
        };
        let rows: Vec<AttentionRow> = chosen.iter().map(row).collect();
        let queries: Vec<f32> = chosen.iter().flat_map(|row| self.queries[row * self.stride..][..self.stride].to_vec()).collect();
        let mut out = vec![f32::NAN; rows.len() * self.heads * self.head_dim];
        attend(isa, pool, LAYER, &rows, self.heads, &queries, self.stride, &mut out);
        out
    }

    /// The definition, in f64.
    fn expected(&self, row: usize, head: usize) -> Vec<f64> {
        let (prefix, prefix_length, own, weighted) = self.rows[row];
        let mut seen: Vec<&(Vec<f32>, Vec<f32>)> = self.stored[prefix][..prefix_length].iter().collect();
        if let Some((slot, length)) = own {
            seen.extend(&self.stored[self.prefixes.len() + slot][..length]);
        }
        let part = head / (self.heads / self.kv_heads) * self.head_dim;
        let query = &self.queries[row * self.stride + head * self.head_dim..][..self.head_dim];
        let weight = |(position, (keys, _)): (usize, &&(Vec<f32>, Vec<f32>))| {
            let score: f64 = query.iter().zip(&keys[part..]).map(|(q, k)| f64::from(*q) * f64::from(*k)).sum();
            let bias = if position < weighted { f64::from(LOG_WEIGHT) } else { 0.0 };
            (score / (self.head_dim as f64).sqrt() + bias).exp()
        };
        let weights: Vec<f64> = seen.iter().enumerate().map(weight).collect();
        let total: f64 = weights.iter().sum();
        let value = |dim: usize| weights.iter().zip(&seen).map(|(w, (_, v))| w * f64::from(v[part + dim])).sum::<f64>() / total;
        (0..self.head_dim).map(value).collect()
    }
}

#[test]
fn new_heads_are_turned_and_stored_the_same_on_every_tier_and_any_number_of_threads() {
    let (heads, kv_heads, head_dim, rows) = (6, 2, 48, 40);
    let width = (heads + 2 * kv_heads) * head_dim;
    let (values, bias) = (numbers(1, rows * width), numbers(2, width));
    // Part of a head is turned, as in Phi-3.
    let (cos, sin) = (numbers(3, rows * 16), numbers(4, rows * 16));
    let angles: Vec<(&[f32], &[f32])> = cos.chunks(16).zip(sin.chunks(16)).collect();
    let place = |row: usize| KvPlace { own: row % 3 == 2, slot: row % 2, position: row / 2 };
    let places: Vec<KvPlace> = (0..rows).map(place).collect();
    let new = NewHeads { layer: LAYER, heads, bias: &bias, angles: &angles, places: &places };
    let slots = || [0; 2].map(|_| KvSlot::new(2, kv_heads, head_dim, rows));
    let seen = |isa: Isa, prefixes: &[KvSlot; 2], own: &[KvSlot; 2]| {
        // What was stored shows in what attends to it.
        let row = |slot: usize| AttentionRow {
            prefix: &prefixes[slot],
            prefix_length: rows / 2,
            own: Some((&own[slot], rows / 2)),
            first: 0,
            weighted: 0,
            log_weight: 0.0,
        };
        let mut out = vec![0.0; 2 * heads * head_dim];
        attend(isa, &Pool::new(1), LAYER, &[row(0), row(1)], heads, &values, width, &mut out);
        out
    };
    let (mut expected, mut prefixes, mut own) = (values.clone(), slots(), slots());
    for (row, x) in expected.chunks_mut(width).enumerate() {
        x.iter_mut().zip(&bias).for_each(|(x, bias)| *x += bias);
        for head in x[..(heads + kv_heads) * head_dim].chunks_mut(head_dim) {
            rope(&mut head[..32], angles[row].0, angles[row].1);
        }
        let KvPlace { own: is_own, slot, position } = places[row];
        let slots = if is_own { &mut own } else { &mut prefixes };
        let (keys, values) = x[heads * head_dim..].split_at(kv_heads * head_dim);
        slots[slot].write(scalar(), LAYER, position, keys, values);
    }
    let expected_seen = seen(scalar(), &prefixes, &own);
    for isa in Isa::available() {
        for threads in [1, 3] {
            let (mut found, mut prefixes, mut own) = (values.clone(), slots(), slots());
            make_ready(isa, &Pool::new(threads), &new, &mut found, &mut prefixes, &mut own);
            assert_eq!(found, expected, "{} on {threads} threads", isa.name());
            assert_eq!(seen(isa, &prefixes, &own), expected_seen, "{} on {threads} threads: what was stored", isa.name());
        }
    }
}

#[test]
fn attention_is_its_definition_on_every_tier() {
    for (heads, kv_heads, head_dim) in [(1, 1, 16), (4, 2, 64), (6, 2, 48), (3, 3, 80), (16, 1, 32)] {
        for isa in Isa::available() {
            let scene = Scene::new(isa, heads, kv_heads, head_dim);
            let all: Vec<usize> = (0..scene.rows.len()).collect();
            let out = scene.attend(isa, &Pool::new(2), &all);
            for row in all {
                for head in 0..heads {
                    let found = &out[(row * heads + head) * head_dim..][..head_dim];
                    for (found, expected) in found.iter().zip(scene.expected(row, head)) {
                        let off = (f64::from(*found) - expected).abs();
                        assert!(off < 1e-5, "{} {heads}/{kv_heads} of {head_dim}, row {row}: {found} for {expected}", isa.name());
                    }
                }
            }
        }
    }
}

#[test]
fn attention_gives_the_same_bits_on_every_tier_in_any_batch() {
    for (heads, kv_heads, head_dim) in [(4, 2, 64), (6, 2, 48), (16, 1, 32)] {
        let scene = Scene::new(scalar(), heads, kv_heads, head_dim);
        let all: Vec<usize> = (0..scene.rows.len()).collect();
        let expected = scene.attend(scalar(), &Pool::new(1), &all);
        let width = heads * head_dim;
        for isa in Isa::available() {
            assert_eq!(scene.attend(isa, &Pool::new(3), &all), expected, "{}", isa.name());
            for row in &all {
                assert_eq!(scene.attend(isa, &Pool::new(1), &[*row]), expected[row * width..][..width], "row {row} on {}", isa.name());
            }
            let some = [3, 5, 4];
            let together = scene.attend(isa, &Pool::new(2), &some);
            for (place, row) in some.into_iter().enumerate() {
                assert_eq!(together[place * width..][..width], expected[row * width..][..width], "row {row} on {}", isa.name());
            }
        }
    }
}

#[test]
fn the_pool_hands_out_each_index_once() {
    for threads in [1, 2, 5] {
        let pool = Pool::new(threads);
        for (tasks, chunk) in [(0, 1), (1, 1), (7, 2), (1000, 3), (64, 64), (5, 0)] {
            let counts: Vec<AtomicUsize> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
            for _ in 0..50 {
                pool.run(tasks, chunk, &|range| range.for_each(|index| _ = counts[index].fetch_add(1, Ordering::Relaxed)));
            }
            assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == 50), "{threads} threads, {tasks} by {chunk}");
        }
        let mut items = vec![0usize; 333];
        pool.each(&mut items, &|index, item| *item += index);
        let mut grid = vec![0usize; 40_003];
        pool.rows(&mut grid, 10, &|row, cells| cells.fill(row));
        assert!(items.iter().enumerate().all(|(index, item)| index == *item));
        assert!(grid[..40_000].iter().enumerate().all(|(index, cell)| index / 10 == *cell), "each row was visited");
        assert_eq!(grid[40_000..], [0, 0, 0], "a rest shorter than a row is left out");
    }
}

#[test]
fn the_pool_serves_several_callers_and_wakes_after_sleeping() {
    let pool = Pool::new(3);
    let sum = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for round in 0..30 {
                    pool.run(100, 7, &|range| _ = sum.fetch_add(range.len(), Ordering::Relaxed));
                    if round % 10 == 0 {
                        // Long enough for the workers to go to sleep.
                        std::thread::sleep(std::time::Duration::from_millis(5));
                    }
                }
            });
        }
    });
    assert_eq!(sum.into_inner(), 3 * 30 * 100);
}

#[test]
fn a_panic_in_a_loop_reaches_the_caller_and_leaves_the_pool_usable() {
    let pool = Pool::new(3);
    for bad in [0, 500, 999] {
        let failed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            pool.run(1000, 1, &|range| assert!(!range.contains(&bad), "as meant"));
        }));
        assert!(failed.is_err(), "the panic at {bad} must not be swallowed");
        let count = AtomicUsize::new(0);
        pool.run(1000, 1, &|range| _ = count.fetch_add(range.len(), Ordering::Relaxed));
        assert_eq!(count.into_inner(), 1000);
    }
}

#[test]
fn an_isa_exists_only_for_what_the_machine_has() {
    let available = Isa::available();
    assert_eq!(available.first().map(|isa| isa.tier()), Some(Tier::Scalar));
    for tier in Tier::ALL {
        assert_eq!(Isa::of(tier).is_some(), available.iter().any(|isa| isa.tier() == tier));
    }
    println!("tiers of this machine: {}", available.iter().map(|isa| isa.name()).collect::<Vec<_>>().join(", "));
}
