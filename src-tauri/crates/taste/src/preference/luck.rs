//! Could it be luck? How often thumbs that were dealt out again at random look as much like a taste as the real ones.
//!
//! What is compared is how much likelier the verdicts are if one of all the terms that a taste could be stands behind them, each
//! by its prior (the same weights as in `evidence`), seen from where there is none: a score test against a mixture. Its
//! distribution under chance is that over the same verdicts in another order, whatever the texts are (Fisher's permutation test;
//! with comparisons, which one is better is thrown anew), so it needs no calibration. Draws end early once the answer is clear
//! (Besag & Clifford, "Sequential Monte Carlo p-values", 1991).

use super::term::Term;

/// Draws at most, and those that may look like a taste as much as the real ones do: together they are the chance that luck is
/// believed at one look.
const DRAWS: usize = 499;
const MAY: usize = 3;

/// Variance of the one term, in log-odds: a strong taste. Another between 0.2 and 2 changes little.
const VARIANCE: f32 = 0.8;

/// Where the mixture is this much likelier (in log) than without, not one draw of a thousand comes near: its mean over the draws
/// is one (Markov), and the rest is room for the normal approximation.
const BEYOND_DRAWS: f32 = 7.6;

/// Draws that are measured together.
const LANES: usize = 8;

/// A verdict: `Some` whether a text was liked, or `None` for a comparison.
pub(super) type Said = Option<bool>;

/// The share of draws that look as much like a taste as the real verdicts (`columns` is what each term measures of each
/// verdict, `[terms, verdicts]`, of a comparison better less worse); an upper bound where draws ended early.
pub(super) fn chance(terms: &[(Term, f64)], columns: &[f32], said: &[Said]) -> f64 {
    let n = said.len();
    let thumbs = said.iter().flatten().count();
    let liked = said.iter().flatten().filter(|liked| **liked).count();
    if n == 0 || (thumbs == n && liked.min(thumbs - liked) == 0) {
        return 1.0;
    }
    let test = Test::new(terms, columns, said, liked as f32 / thumbs.max(1) as f32);
    let mut residuals = vec![[0.0; LANES]; n];
    let residual = |said: Said| said.map_or(0.5, |liked| f32::from(u8::from(liked)) - test.rate);
    residuals.iter_mut().zip(said).for_each(|(row, said)| row[0] = residual(*said));
    let real = test.likelier(&residuals)[0];
    if real.ln() > BEYOND_DRAWS {
        return 1.0 / (DRAWS + 1) as f64;
    }
    let mut random = SplitMix(0x1ec5);
    let mut labels: Vec<bool> = said.iter().flatten().copied().collect();
    let (mut drawn, mut as_much) = (0, 0);
    while drawn < DRAWS && as_much <= MAY {
        for lane in 0..LANES {
            random.shuffle(&mut labels);
            let mut next = labels.iter();
            for (row, said) in residuals.iter_mut().zip(said) {
                row[lane] = match said.and(next.next()) {
                    Some(liked) => residual(Some(*liked)),
                    None if random.draw() >> 63 == 0 => 0.5,
                    None => -0.5,
                };
            }
        }
        let lanes = LANES.min(DRAWS - drawn);
        // A draw that equals the real order up to rounding counts.
        as_much += test.likelier(&residuals)[..lanes].iter().filter(|one| **one >= real * 0.9999).count();
        drawn += lanes;
    }
    (as_much + 1) as f64 / (drawn + 1) as f64
}

/// Whether so rare a look is no luck.
pub(super) fn is_none(chance: f64) -> bool {
    chance <= (MAY + 1) as f64 / (DRAWS + 1) as f64
}

struct Test<'c> {
    columns: &'c [f32],
    /// Share of liked texts.
    rate: f32,
    /// Of each term: its prior over the width of what it could explain, and how fast it gains.
    scales: Vec<[f32; 2]>,
}

impl<'c> Test<'c> {
    fn new(terms: &[(Term, f64)], columns: &'c [f32], said: &[Said], rate: f32) -> Self {
        let n = said.len();
        let thumbs = said.iter().flatten().count().max(1) as f32;
        let all: f64 = terms.iter().map(|(_, likely)| likely.exp()).sum();
        let scales = columns.chunks_exact(n).zip(terms).map(|(column, (_, likely))| {
            let of_thumbs = || column.iter().zip(said).filter(|(_, said)| said.is_some()).map(|(x, _)| *x);
            let mean = of_thumbs().sum::<f32>() / thumbs;
            let between: f32 = of_thumbs().map(|x| (x - mean) * (x - mean)).sum();
            let compared: f32 = column.iter().zip(said).filter(|(_, said)| said.is_none()).map(|(x, _)| x * x).sum();
            let spread = 1.0 + VARIANCE * (rate * (1.0 - rate) * between + 0.25 * compared);
            [(likely.exp() / all) as f32 / spread.sqrt(), 0.5 * VARIANCE / spread]
        });
        Self { columns, rate, scales: scales.collect() }
    }

    /// How much likelier verdicts with these residuals are if one of the terms stands behind them, for each lane.
    fn likelier(&self, residuals: &[[f32; LANES]]) -> [f32; LANES] {
        let mut sum = [0.0; LANES];
        for (column, [share, gain]) in self.columns.chunks_exact(residuals.len()).zip(&self.scales) {
            let mut products = [0.0; LANES];
            for (x, row) in column.iter().zip(residuals) {
                for lane in 0..LANES {
                    products[lane] += x * row[lane];
                }
            }
            for lane in 0..LANES {
                // Bounded so that certainty stays a number.
                sum[lane] += share * (gain * products[lane] * products[lane]).min(60.0).exp();
            }
        }
        sum
    }
}

/// SplitMix64 (Steele, Lea & Flood 2014), seeded the same each time: the same thumbs are believed or not.
struct SplitMix(u64);

impl SplitMix {
    fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn shuffle(&mut self, items: &mut [bool]) {
        for at in (1..items.len()).rev() {
            items.swap(at, (self.draw() % (at as u64 + 1)) as usize);
        }
    }
}
