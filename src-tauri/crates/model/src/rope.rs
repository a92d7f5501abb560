//! Rotary position embedding: how fast each pair of numbers turns, with the ways of stretching a context.
//!
//! The formulas are those of transformers 5.23 (`modeling_rope_utils.py`), computed in f64.

use crate::LlamaConfig;
use std::f64::consts::PI;

/// How the angles are changed so that a base reads longer texts than it was first trained on.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum RopeScaling {
    #[default]
    None,
    /// Positions are divided by `factor`.
    Linear { factor: f32 },
    /// The base frequency grows with the text once that is longer than `original` tokens ("NTK by parts, dynamic").
    Dynamic { factor: f32, original: usize },
    /// Llama 3.1: low frequencies are divided by `factor`, high ones stay, those between are blended.
    Llama3 { factor: f32, low: f32, high: f32, original: usize },
    /// YaRN (arXiv 2309.00071).
    Yarn { factor: f32, original: usize, fast: f32, slow: f32, truncate: bool, attention: f32 },
    /// LongRoPE (arXiv 2402.13753), as Phi-3 has it: a divisor for each frequency, another set for texts beyond `original`.
    Long { short: Vec<f32>, long: Vec<f32>, original: usize, attention: f32 },
    /// A divisor for each frequency: how GGUF files hold Llama 3.1's scaling.
    Divisors(Vec<f32>),
}

impl RopeScaling {
    /// What the angles of a text depend on besides the position: 0, or for some scalings its length in tokens.
    ///
    /// `length` is the longest that the text can become. Keys that were computed for one stretch are of no use for another.
    pub(crate) fn stretch(&self, length: usize) -> usize {
        match self {
            Self::Dynamic { original, .. } if length > *original => length,
            Self::Long { original, .. } if length > *original => 1,
            _ => 0,
        }
    }

    /// Angle of each of `dims / 2` pairs per position, and what cosine and sine are multiplied with.
    pub(crate) fn frequencies(&self, theta: f32, dims: usize, stretch: usize) -> (Vec<f64>, f64) {
        let theta = f64::from(theta);
        let plain = |theta: f64| (0..dims / 2).map(move |index| theta.powf(-2.0 * index as f64 / dims as f64));
        let divided = |divisors: &[f32]| plain(theta).zip(divisors).map(|(frequency, divisor)| frequency / f64::from(*divisor)).collect();
        match self {
            Self::None => (plain(theta).collect(), 1.0),
            Self::Linear { factor } => (plain(theta).map(|frequency| frequency / f64::from(*factor)).collect(), 1.0),
            Self::Dynamic { .. } if stretch == 0 => (plain(theta).collect(), 1.0),
            Self::Dynamic { factor, original } => {
                let factor = f64::from(*factor);
                let growth = factor * stretch as f64 / *original as f64 - (factor - 1.0);
                (plain(theta * growth.powf(dims as f64 / (dims as f64 - 2.0))).collect(), 1.0)
            }
            Self::Llama3 { factor, low, high, original } => {
                let (factor, low, high, original) = (f64::from(*factor), f64::from(*low), f64::from(*high), *original as f64);
                let scale = |frequency: f64| {
                    let wavelength = 2.0 * PI / frequency;
                    if wavelength < original / high {
                        frequency
                    } else if wavelength > original / low {
                        frequency / factor
                    } else {
                        let smooth = (original / wavelength - low) / (high - low);
                        (1.0 - smooth) * frequency / factor + smooth * frequency
                    }
                };
                (plain(theta).map(scale).collect(), 1.0)
            }
            Self::Yarn { factor, original, fast, slow, truncate, attention } => {
                let corrected = |turns: f32| dims as f64 * (*original as f64 / (f64::from(turns) * 2.0 * PI)).ln() / (2.0 * theta.ln());
                let (low, high) = (corrected(*fast), corrected(*slow));
                let (low, high) = if *truncate { (low.floor(), high.ceil()) } else { (low, high) };
                let (low, high) = (low.max(0.0), high.min(dims as f64 - 1.0));
                let width = if low == high { 0.001 } else { high - low };
                let blend = |(index, frequency): (usize, f64)| {
                    let ramp = ((index as f64 - low) / width).clamp(0.0, 1.0);
                    frequency / f64::from(*factor) * ramp + frequency * (1.0 - ramp)
                };
                (plain(theta).enumerate().map(blend).collect(), f64::from(*attention))
            }
            Self::Long { short, long, attention, .. } => (divided(if stretch == 0 { short } else { long }), f64::from(*attention)),
            Self::Divisors(divisors) => (divided(divisors), 1.0),
        }
    }

    /// Says what cannot be, for heads that turn `dims` numbers.
    pub(crate) fn problem(&self, dims: usize) -> Option<&'static str> {
        let sound = |value: &f32| value.is_finite() && *value > 0.0;
        let set = |values: &[f32]| values.len() == dims / 2 && values.iter().all(sound);
        let fine = match self {
            Self::None => true,
            Self::Linear { factor } => sound(factor),
            Self::Dynamic { factor, original } => factor.is_finite() && *factor >= 1.0 && *original > 0 && dims > 2,
            Self::Llama3 { factor, low, high, original } => [factor, low, high].into_iter().all(sound) && low < high && *original > 0,
            Self::Yarn { factor, original, fast, slow, attention, .. } => {
                [factor, fast, slow, attention].into_iter().all(sound) && slow < fast && *original > 0
            }
            Self::Long { short, long, original, attention } => set(short) && set(long) && sound(attention) && *original > 1,
            Self::Divisors(divisors) => set(divisors),
        };
        (!fine).then_some("its rope scaling has numbers that cannot be")
    }
}

/// YaRN's factor on cosine and sine where a file names none.
pub(crate) fn yarn_attention(factor: f32) -> f32 {
    if factor <= 1.0 { 1.0 } else { 0.1 * factor.ln() + 1.0 }
}

/// LongRoPE's factor on cosine and sine where a file names none.
pub(crate) fn long_attention(factor: f32, original: usize) -> f32 {
    if factor <= 1.0 || original < 2 { 1.0 } else { (1.0 + factor.ln() / (original as f32).ln()).sqrt() }
}

/// Cosines and sines of positions for one stretch, grown as needed.
struct RopeTable {
    stretch: usize,
    frequencies: Vec<f64>,
    attention: f64,
    /// `[positions, dims / 2]`.
    cos: Vec<f32>,
    sin: Vec<f32>,
}

/// The tables of the stretches that were used last.
#[derive(Default)]
pub(crate) struct RopeTables {
    tables: Vec<RopeTable>,
}

impl RopeTables {
    pub fn bytes(&self) -> usize {
        self.tables.iter().map(|table| 4 * (table.cos.capacity() + table.sin.capacity())).sum()
    }

    /// Makes the angles of these stretches and positions ready.
    pub fn prepare(&mut self, config: &LlamaConfig, wanted: impl Iterator<Item = (usize, usize)> + Clone) {
        if self.tables.len() > REMEMBERED {
            self.tables.retain(|table| wanted.clone().any(|(stretch, _)| table.stretch == stretch));
        }
        for (stretch, position) in wanted {
            let index = self.tables.iter().position(|table| table.stretch == stretch).unwrap_or_else(|| {
                let (frequencies, attention) = config.rope_frequencies(stretch);
                self.tables.push(RopeTable { stretch, frequencies, attention, cos: Vec::new(), sin: Vec::new() });
                self.tables.len() - 1
            });
            self.tables[index].grow(position + 1);
        }
    }

    /// Cosines and sines of a position that [`RopeTables::prepare`] made ready.
    pub fn at(&self, stretch: usize, position: usize) -> (&[f32], &[f32]) {
        let table = self.tables.iter().find(|table| table.stretch == stretch);
        table.map_or((&[], &[]), |table| {
            let half = table.frequencies.len();
            (&table.cos[position * half..][..half], &table.sin[position * half..][..half])
        })
    }
}

/// Stretches whose tables stay when a batch does not use them.
const REMEMBERED: usize = 4;

impl RopeTable {
    fn grow(&mut self, positions: usize) {
        for position in self.cos.len() / self.frequencies.len()..positions {
            for frequency in &self.frequencies {
                // In f64: at position 8,000 an f32 angle would be off by more than f16 keys are.
                let angle = position as f64 * frequency;
                self.cos.push((angle.cos() * self.attention) as f32);
                self.sin.push((angle.sin() * self.attention) as f32);
            }
        }
    }
}
