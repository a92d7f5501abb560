//! Adapters on top of packed weights: `y += strength · change`, for the rows that ask for it.
//!
//! The change is computed in f32 whatever the base is held in. With DoRA, `y` becomes `(1 + t (c - 1)) · W x + t c scale · B A x`
//! for strength `t` and `c = magnitude / ‖W + scale · B A‖`: 0 is the base, 1 the adapter as trained. The norms are those of
//! the weights as they run (int8 ones turned back into f32), taken once when an adapter is first used: a folder in PEFT's
//! layout holds none, and rounding moves a norm far less than a weight.

use crate::decoder::Row;
use crate::linear::{Linear, Machine};
use crate::{Lora, LoraPart, LoraShape};
use kernels::elementwise::dot;
use kernels::matmul::{Output, matmul_f32};
use std::sync::Arc;

/// A LoRA in use, and how much of it.
#[derive(Debug, Clone)]
pub struct WeightedLora {
    pub lora: Arc<Lora>,
    /// Times the change that it makes: 0 is exactly the plain base, 1 the adapter as trained, more pushes beyond.
    pub strength: f32,
}

impl PartialEq for WeightedLora {
    fn eq(&self, other: &Self) -> bool {
        // Most comparisons are of an adapter with itself, and its numbers are many.
        self.strength == other.strength && (Arc::ptr_eq(&self.lora, &other.lora) || self.lora == other.lora)
    }
}

/// The four products of a layer, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Site {
    Qkv,
    O,
    GateUp,
    Down,
}

/// An adapter in the form that the decoder applies.
pub(crate) struct Applied {
    /// By layer and [`Site`].
    layers: Vec<[Group; 4]>,
}

/// Changes of projections that read the same input and whose outputs stand side by side.
#[derive(Default)]
struct Group {
    rank: usize,
    inputs: usize,
    /// `[parts · rank, in]`.
    a: Vec<f32>,
    parts: Vec<Change>,
}

struct Change {
    /// First column in the output.
    offset: usize,
    /// `[out, rank]`, with scale, strength and DoRA's factor in it.
    b: Vec<f32>,
    /// What the base's output is multiplied with, `[out]`; empty without DoRA.
    factor: Vec<f32>,
}

impl Applied {
    /// `sites` are a layer's four matrices. The adapter must fit them (see [`Lora::check`]).
    pub fn new<'a>(weighted: &WeightedLora, layers: impl Iterator<Item = [&'a Linear; 4]>, machine: &Machine, widths: [usize; 7]) -> Self {
        let WeightedLora { lora, strength } = weighted;
        let layer = |(parts, linears): (&Vec<LoraPart>, [&Linear; 4])| {
            let mut groups: [Group; 4] = Default::default();
            for (target, part) in lora.shape.targets.iter().zip(parts) {
                let index = *target as usize;
                let (site, first) = [(0, 0), (0, 0), (0, 0), (1, 3), (2, 4), (2, 4), (3, 6)][index];
                let offset = widths[first..index].iter().sum();
                let group = &mut groups[site];
                (group.rank, group.inputs) = (lora.shape.rank, part.a.len() / lora.shape.rank);
                group.a.extend_from_slice(&part.a);
                group.parts.push(Change::new(&lora.shape, part, *strength, linears[site], offset, machine));
            }
            groups
        };
        Self { layers: lora.layers.iter().zip(layers).map(layer).collect() }
    }

    pub fn bytes(&self) -> usize {
        let change = |change: &Change| change.b.len() + change.factor.len();
        let group = |group: &Group| group.a.len() + group.parts.iter().map(change).sum::<usize>();
        4 * self.layers.iter().flatten().map(group).sum::<usize>()
    }
}

impl Change {
    fn new(shape: &LoraShape, part: &LoraPart, strength: f32, linear: &Linear, offset: usize, machine: &Machine) -> Self {
        let (rank, scale) = (shape.rank, shape.scale());
        let mut b: Vec<f32> = part.b.iter().map(|value| strength * scale * value).collect();
        let Some(magnitude) = &part.magnitude else { return Self { offset, b, factor: Vec::new() } };
        let inputs = part.a.len() / rank;
        // DoRA's factor of each row.
        let mut factors = vec![0.0f32; magnitude.len()];
        let mut chunks: Vec<(usize, &mut [f32])> =
            factors.chunks_mut(ROWS).enumerate().map(|(index, chunk)| (index * ROWS, chunk)).collect();
        machine.pool.each(&mut chunks, &|_, (first, factors)| {
            for (index, factor) in factors.iter_mut().enumerate() {
                let row = *first + index;
                let mut weights = linear.row(offset + row);
                for (b, a) in part.b[row * rank..][..rank].iter().zip(part.a.chunks_exact(inputs)) {
                    weights.iter_mut().zip(a).for_each(|(sum, a)| *sum += scale * b * a);
                }
                let norm = dot(machine.isa, &weights, &weights).sqrt();
                // A row of zeros has no direction; it stays as it is.
                *factor = if norm > 0.0 { magnitude[row] / norm } else { 0.0 };
            }
        });
        for (row, factor) in b.chunks_exact_mut(rank).zip(&factors) {
            row.iter_mut().for_each(|value| *value *= factor);
        }
        Self { offset, b, factor: factors.into_iter().map(|factor| 1.0 + strength * (factor - 1.0)).collect() }
    }
}

/// Rows whose norms are one task.
const ROWS: usize = 32;

/// Memory for applying adapters, used again and again.
#[derive(Default)]
pub(crate) struct Scratch {
    /// Rows of each adapter in use: its index, then the rows.
    groups: Vec<(usize, Vec<usize>)>,
    input: Vec<f32>,
    low: Vec<f32>,
    one_low: Vec<f32>,
    change: Vec<f32>,
    /// The output of rows with DoRA before a product was added to it.
    before: Vec<f32>,
}

impl Scratch {
    pub fn bytes(&self) -> usize {
        let held = [&self.input, &self.low, &self.one_low, &self.change, &self.before];
        held.iter().map(|buffer| 4 * buffer.capacity()).sum()
    }

    /// Sorts rows by adapter.
    pub fn group(&mut self, rows: &[Row]) {
        self.groups.clear();
        for (index, row) in rows.iter().enumerate() {
            let Some(adapter) = row.adapter else { continue };
            match self.groups.iter_mut().find(|(known, _)| *known == adapter) {
                Some((_, rows)) => rows.push(index),
                None => self.groups.push((adapter, vec![index])),
            }
        }
    }

    /// To be called before a product is *added* to `out`: DoRA scales the product, but not what it is added to.
    pub fn remember(&mut self, adapters: &[Arc<Applied>], layer: usize, site: Site, out: &[f32], width: usize) {
        self.before.clear();
        for (adapter, rows) in &self.groups {
            if adapters[*adapter].layers[layer][site as usize].parts.iter().any(|part| !part.factor.is_empty()) {
                rows.iter().for_each(|row| self.before.extend_from_slice(&out[row * width..][..width]));
            }
        }
    }

    /// Adds the changes of all adapters to `out` `[rows, width]`, which holds the base's product of the input that `fill` writes.
    pub fn apply(
        &mut self,
        machine: &Machine,
        adapters: &[Arc<Applied>],
        layer: usize,
        site: Site,
        mode: Output,
        fill: &(dyn Fn(usize, &mut [f32]) + Sync),
        out: &mut [f32],
        width: usize,
    ) {
        let Self { groups, input, low, one_low, change, before } = self;
        let mut remembered = before.chunks_exact(width);
        for (adapter, rows) in groups {
            let Group { rank, inputs, a, parts } = &adapters[*adapter].layers[layer][site as usize];
            if parts.is_empty() {
                continue;
            }
            for row in rows.iter() {
                let out = &mut out[row * width..][..width];
                // Only there in the same order and for the same rows as `remember` found them.
                let scaled = parts.iter().any(|part| !part.factor.is_empty());
                let before = if scaled && mode == Output::Add { remembered.next() } else { None };
                for part in parts {
                    let out = &mut out[part.offset..];
                    match before {
                        Some(before) => {
                            for ((value, factor), before) in out.iter_mut().zip(&part.factor).zip(&before[part.offset..]) {
                                *value = before + (*value - before) * factor;
                            }
                        }
                        None => out.iter_mut().zip(&part.factor).for_each(|(value, factor)| *value *= factor),
                    }
                }
            }
            input.resize(rows.len() * inputs, 0.0);
            machine.pool.rows(input, *inputs, &|index, out| fill(rows[index], out));
            let low_width = parts.len() * rank;
            low.resize(rows.len() * low_width, 0.0);
            matmul_f32(machine.isa, &machine.pool, a, input, *inputs, low, Output::Replace);
            for (index, part) in parts.iter().enumerate() {
                let outputs = part.b.len() / rank;
                one_low.clear();
                low.chunks_exact(low_width).for_each(|low| one_low.extend_from_slice(&low[index * rank..][..*rank]));
                change.resize(rows.len() * outputs, 0.0);
                matmul_f32(machine.isa, &machine.pool, &part.b, one_low, *rank, change, Output::Replace);
                for (row, change) in rows.iter().zip(change.chunks_exact(outputs)) {
                    let out = &mut out[row * width + part.offset..][..outputs];
                    out.iter_mut().zip(change).for_each(|(value, change)| *value += change);
                }
            }
        }
    }
}
