//! LoRA (arXiv 2106.09685) and DoRA (arXiv 2402.09353) beside frozen projections: forward and hand-derived backward.
//!
//! `y = c ⊙ (W x + s B A x)`. With LoRA `c = 1`; with DoRA `c = magnitude / ‖W + s B A‖` by rows, and the norm counts as a
//! constant in the gradient (§4.3 of the paper, as PEFT does). With `g` the gradient of `y`, `g' = c ⊙ g` and `u = s A x`:
//! `dB = g'ᵀ u`, `dA = (s B ᵀg')ᵀ x`, `dmagnitude = Σ g ⊙ y / magnitude`, `dx = g' W + s g' B A`.
//!
//! Dropout is applied to the `x` that enters A; projections that read the same input share its mask. PEFT draws one for each
//! projection, and with DoRA drops the input of `W` in the correction too.

use crate::seed::{Draws, INITIAL};
use crate::workspace::Buffer;
use crate::{TrainError, TrainableLlama, Workspace};
use kernels::train::{DropoutMask, Matrix, MatrixMut, Store, product_nn, product_nt, product_tn};
use model::{LlamaConfig, Lora, LoraPart, LoraShape, ModelError, Projection};
use rayon::prelude::*;
use std::ops::Range;

/// Where the tensors of an adapter stand in one flat vector: one optimizer, one clip and one checkpoint serve them all.
#[derive(Debug, Clone)]
pub struct LoraLayout {
    shape: LoraShape,
    /// By layer and [`Site`].
    groups: Vec<[Group; 4]>,
    len: usize,
    /// Rows with a magnitude.
    norms: usize,
}

/// The four products of a layer, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Site {
    Qkv,
    Output,
    GateUp,
    Down,
}

impl Site {
    pub const ALL: [Self; 4] = [Self::Qkv, Self::Output, Self::GateUp, Self::Down];
}

/// What one pass leaves out of the inputs of A.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dropout {
    /// From 0 to below 1.
    pub share: f32,
    pub key: u64,
}

/// Projections that read the same input and whose outputs stand side by side.
#[derive(Debug, Clone, Default)]
struct Group {
    inputs: usize,
    /// Columns of the output, those without adapter included.
    width: usize,
    /// `[parts · rank, inputs]`, or `[rank, inputs]` where the parts are one module.
    a: Range<usize>,
    parts: Vec<Part>,
    /// The parts have one A (see [`LlamaConfig::joins_projections`]).
    joined: bool,
}

#[derive(Debug, Clone)]
struct Part {
    target: Projection,
    /// First column in the output.
    offset: usize,
    outputs: usize,
    /// `[outputs, rank]`.
    b: Range<usize>,
    /// `[outputs]`, empty without DoRA; then the same rows among the norms.
    magnitude: Range<usize>,
    norm: Range<usize>,
}

/// An adapter during a pass.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LowRank<'a> {
    pub layout: &'a LoraLayout,
    pub weights: &'a [f32],
    /// `‖W + s B A‖` of each row with a magnitude.
    pub norms: &'a [f32],
    pub dropout: Option<Dropout>,
}

impl LoraLayout {
    /// # Errors
    /// `Config` if no adapter can have this shape.
    pub fn new(shape: &LoraShape, config: &LlamaConfig) -> Result<Self, TrainError> {
        Self::from_layer(shape, config, 0)
    }

    /// An adapter of the layers from `first` on; those below stay as they are.
    ///
    /// # Errors
    /// As [`Self::new`], and `Config` when there is no such layer.
    pub fn from_layer(shape: &LoraShape, config: &LlamaConfig, first: usize) -> Result<Self, TrainError> {
        if first >= config.layers {
            return Err(TrainError::Config { field: "layers", value: "none".to_owned(), allowed: "at least one" });
        }
        shape.check_on(config).map_err(|error| TrainError::Config {
            field: "shape",
            value: format!("rank {}, alpha {}, {} targets", shape.rank, shape.alpha, shape.targets.len()),
            allowed: match error {
                ModelError::InvalidRequest { reason } => reason,
                _ => "a rank, an alpha and targets that fit each other",
            },
        })?;
        let mut layout = Self { shape: shape.clone(), groups: Vec::new(), len: 0, norms: 0 };
        for layer in 0..config.layers {
            use Projection::{Down, Gate, K, O, Q, Up, V};
            let groups = [&[Q, K, V][..], &[O], &[Gate, Up], &[Down]].map(|all| layout.group(all, config, layer >= first));
            layout.groups.push(groups);
        }
        Ok(layout)
    }

    pub fn shape(&self) -> &LoraShape {
        &self.shape
    }

    /// Numbers that are trained.
    pub fn parameters(&self) -> usize {
        self.len
    }

    /// Every trained tensor with its name and place.
    pub fn tensors(&self) -> Vec<(String, Range<usize>)> {
        let mut all = Vec::new();
        for (layer, group) in self.groups.iter().enumerate().flat_map(|(layer, groups)| groups.iter().map(move |group| (layer, group))) {
            for (index, part) in group.parts.iter().enumerate() {
                let name = |tensor: &str| format!("layers.{layer}.{}.{tensor}", part.target.module());
                // One for all parts of a module.
                if index == 0 || !group.joined {
                    all.push((name("lora_A"), self.a_of(group, index)));
                }
                all.push((name("lora_B"), part.b.clone()));
                if self.shape.dora {
                    all.push((name("lora_magnitude_vector"), part.magnitude.clone()));
                }
            }
        }
        all
    }

    /// The weights in one vector. Panics if the adapter has another shape (see [`Lora::check`]).
    pub fn flatten(&self, lora: &Lora) -> Vec<f32> {
        let mut weights = vec![0.0; self.len];
        for (groups, parts) in self.groups.iter().zip(&lora.layers) {
            let places = groups.iter().flat_map(|group| group.parts.iter().enumerate().map(move |(index, part)| (group, index, part)));
            for ((group, index, place), part) in places.zip(parts) {
                weights[self.a_of(group, index)].copy_from_slice(&part.a);
                weights[place.b.clone()].copy_from_slice(&part.b);
                weights[place.magnitude.clone()].copy_from_slice(part.magnitude.as_deref().unwrap_or(&[]));
            }
        }
        weights
    }

    /// The adapter that `weights` are.
    pub fn adapter(&self, weights: &[f32]) -> Lora {
        let part = |group: &Group, index: usize, part: &Part| LoraPart {
            a: weights[self.a_of(group, index)].to_vec(),
            b: weights[part.b.clone()].to_vec(),
            magnitude: self.shape.dora.then(|| weights[part.magnitude.clone()].to_vec()),
        };
        let layer = |groups: &[Group; 4]| {
            groups.iter().flat_map(|group| group.parts.iter().enumerate().map(|(index, place)| part(group, index, place))).collect()
        };
        Lora { shape: self.shape.clone(), layers: self.groups.iter().map(layer).collect() }
    }

    /// A drawn from ±1/√inputs (PEFT's Kaiming start), B zero, magnitudes the rows' lengths: at first the base is unchanged.
    pub(crate) fn initial(&self, seed: u64, base: &TrainableLlama) -> Vec<f32> {
        let mut draws = Draws::new(seed, INITIAL);
        let mut weights = vec![0.0; self.len];
        for group in self.groups.iter().flatten() {
            let bound = 1.0 / (group.inputs.max(1) as f64).sqrt();
            for value in &mut weights[group.a.clone()] {
                *value = ((draws.next() >> 11) as f64 / (1u64 << 52) as f64 - 1.0) as f32 * bound as f32;
            }
        }
        let norms = self.norms(&weights, base);
        for part in self.groups.iter().flatten().flat_map(|group| &group.parts).filter(|_| self.shape.dora) {
            weights[part.magnitude.clone()].copy_from_slice(&norms[part.norm.clone()]);
        }
        weights
    }

    /// `‖W + s B A‖` of each row with a magnitude; none without DoRA.
    ///
    /// By rows, `‖w + s b A‖² = ‖w‖² + 2 s b·(A w) + s² b·(A Aᵀ) b`: W is only multiplied with the narrow A, never copied.
    pub(crate) fn norms(&self, weights: &[f32], base: &TrainableLlama) -> Vec<f32> {
        let mut norms = vec![0.0; self.norms];
        if !self.shape.dora {
            return norms;
        }
        let (rank, scale) = (self.shape.rank, f64::from(self.shape.scale()));
        let (mut panel, mut products, mut gram) = (Vec::new(), Vec::new(), vec![0.0; rank * rank]);
        for (layer, groups) in self.groups.iter().enumerate() {
            for (group, site) in groups.iter().zip(Site::ALL) {
                if group.parts.is_empty() {
                    continue;
                }
                let lengths = base.row_squares(layer, site);
                let frozen = base.matrix(layer, site);
                let widened = frozen.widened(&mut panel);
                for (index, part) in group.parts.iter().enumerate() {
                    let a = Matrix::new(&weights[self.a_of(group, index)], rank, group.inputs);
                    let rows = part.offset..part.offset + part.outputs;
                    products.resize(part.outputs * rank, 0.0);
                    frozen.rows_times(rows, widened, a, MatrixMut::new(&mut products, part.outputs, rank));
                    product_nt(MatrixMut::new(&mut gram, rank, rank), a, a, Store::Replace);
                    let rows = products.par_chunks(rank).zip(weights[part.b.clone()].par_chunks(rank)).zip(&lengths[part.offset..]);
                    norms[part.norm.clone()].par_iter_mut().zip(rows).for_each(|(norm, ((along, b), length))| {
                        let dot = |x: &[f32]| x.iter().zip(b).map(|(x, b)| f64::from(*x) * f64::from(*b)).sum::<f64>();
                        let own: f64 = gram.chunks_exact(rank).zip(b).map(|(row, b)| f64::from(*b) * dot(row)).sum();
                        // Rounding could take the length of a row of nearly zeros below 0.
                        *norm = (length + 2.0 * scale * dot(along) + scale * scale * own).max(0.0).sqrt() as f32;
                    });
                }
            }
        }
        norms
    }

    fn group(&mut self, all: &[Projection], config: &LlamaConfig, adapted: bool) -> Group {
        let size = |projection: &Projection| projection.size(config);
        let joined = config.joins_projections();
        let mut group = Group { inputs: size(&all[0]).1, width: all.iter().map(|p| size(p).0).sum(), joined, ..Group::default() };
        let mut take = |count: usize| {
            self.len += count;
            self.len - count..self.len
        };
        let targeted = |projection: &&Projection| adapted && self.shape.targets.contains(projection);
        let parts = all.iter().filter(targeted).count();
        group.a = take(if joined { parts.min(1) } else { parts } * self.shape.rank * group.inputs);
        let mut offset = 0;
        for projection in all {
            let outputs = size(projection).0;
            if targeted(&projection) {
                let b = take(outputs * self.shape.rank);
                let magnitudes = if self.shape.dora { outputs } else { 0 };
                let (magnitude, norm) = (take(magnitudes), self.norms..self.norms + magnitudes);
                self.norms += magnitudes;
                group.parts.push(Part { target: *projection, offset, outputs, b, magnitude, norm });
            }
            offset += outputs;
        }
        group
    }

    fn a_of(&self, group: &Group, index: usize) -> Range<usize> {
        let size = self.shape.rank * group.inputs;
        let start = group.a.start + if group.joined { 0 } else { index * size };
        start..start + size
    }
}

impl Group {
    /// Columns of `A x`.
    fn low(&self, rank: usize) -> usize {
        rank * if self.joined { self.parts.len().min(1) } else { self.parts.len() }
    }

    /// The first of these that belongs to a part.
    fn column(&self, index: usize, rank: usize) -> usize {
        if self.joined { 0 } else { index * rank }
    }
}

impl LowRank<'_> {
    /// Whether a site has an adapter at all.
    pub fn adapts(&self, layer: usize, site: Site) -> bool {
        !self.group(layer, site).parts.is_empty()
    }

    /// Whether a site's output is scaled as a whole (DoRA).
    pub fn scales(&self, layer: usize, site: Site) -> bool {
        self.layout.shape.dora && self.adapts(layer, site)
    }

    /// Turns the base's output `y` `[rows, width]` into the adapted one; returns `u = s A x`, which the way back needs.
    pub fn forward(&self, layer: usize, site: Site, x: &[f32], y: &mut [f32], workspace: &mut Workspace) -> Option<Buffer> {
        let (group, rank) = (self.group(layer, site), self.layout.shape.rank);
        if group.parts.is_empty() {
            return None;
        }
        let (rows, low) = (x.len() / group.inputs, group.low(rank));
        let mut u = workspace.take(rows, low);
        let dropped = self.dropped(layer, site, x, workspace);
        let a = Matrix::new(&self.weights[group.a.clone()], low, group.inputs);
        let x = Matrix::new(dropped.as_deref().unwrap_or(x), rows, group.inputs);
        product_nt(MatrixMut::new(&mut u, rows, low), x, a, Store::Replace);
        dropped.into_iter().for_each(|buffer| workspace.give(buffer));
        self.scale(&mut u);
        for (index, part) in group.parts.iter().enumerate() {
            product_nt(
                MatrixMut::strided(&mut y[part.offset..], rows, part.outputs, group.width),
                Matrix::strided(&u[group.column(index, rank)..], rows, rank, low),
                Matrix::new(&self.weights[part.b.clone()], part.outputs, rank),
                Store::Add,
            );
        }
        self.multiply(group, y);
        Some(u)
    }

    /// Given `y`, the adapted output, and `dy`, its gradient: adds the gradient of the magnitudes and turns `dy` into the
    /// gradient of what was scaled. Does nothing without DoRA.
    pub fn unscale(&self, layer: usize, site: Site, y: &[f32], dy: &mut [f32], gradient: &mut [f32]) {
        let group = self.group(layer, site);
        if !self.layout.shape.dora {
            return;
        }
        for part in &group.parts {
            const COLUMNS: usize = 64;
            let magnitude = &self.weights[part.magnitude.clone()];
            gradient[part.magnitude.clone()].par_chunks_mut(COLUMNS).enumerate().for_each(|(block, gradient)| {
                let first = part.offset + block * COLUMNS;
                let mut sums = [0f32; COLUMNS];
                for (y, dy) in y.chunks_exact(group.width).zip(dy.chunks_exact(group.width)) {
                    let products = y[first..].iter().zip(&dy[first..]).take(gradient.len());
                    sums.iter_mut().zip(products).for_each(|(sum, (y, dy))| *sum += y * dy);
                }
                for ((gradient, sum), magnitude) in gradient.iter_mut().zip(sums).zip(&magnitude[block * COLUMNS..]) {
                    // Where the length is 0 the output is too, and says nothing about its direction.
                    *gradient += if *magnitude == 0.0 { 0.0 } else { sum / magnitude };
                }
            });
        }
        self.multiply(group, dy);
    }

    /// Adds the gradients of A and B to `gradient`, and the adapter's part of the input's gradient to `dx`.
    ///
    /// `dy` is the gradient of the output ([`Self::unscale`]d), `u` what [`Self::forward`] returned.
    pub fn backward(
        &self,
        layer: usize,
        site: Site,
        x: &[f32],
        u: &[f32],
        dy: &[f32],
        gradient: &mut [f32],
        dx: Option<&mut [f32]>,
        workspace: &mut Workspace,
    ) {
        let (group, rank) = (self.group(layer, site), self.layout.shape.rank);
        let (rows, low) = (x.len() / group.inputs, group.low(rank));
        let mut du = workspace.take(rows, low);
        for (index, part) in group.parts.iter().enumerate() {
            let dy = Matrix::strided(&dy[part.offset..], rows, part.outputs, group.width);
            let b = Matrix::new(&self.weights[part.b.clone()], part.outputs, rank);
            let column = group.column(index, rank);
            let store = if group.joined && index > 0 { Store::Add } else { Store::Replace };
            product_nn(MatrixMut::strided(&mut du[column..], rows, rank, low), dy, b, store);
            let db = MatrixMut::new(&mut gradient[part.b.clone()], part.outputs, rank);
            product_tn(db, dy, Matrix::strided(&u[column..], rows, rank, low), Store::Add);
        }
        self.scale(&mut du);
        let dropped = self.dropped(layer, site, x, workspace);
        let du_matrix = Matrix::new(&du, rows, low);
        let da = MatrixMut::new(&mut gradient[group.a.clone()], low, group.inputs);
        product_tn(da, du_matrix, Matrix::new(dropped.as_deref().unwrap_or(x), rows, group.inputs), Store::Add);
        if let Some(dx) = dx {
            let a = Matrix::new(&self.weights[group.a.clone()], low, group.inputs);
            match (self.mask(layer, site), dropped) {
                (Some(mask), Some(mut part)) => {
                    product_nn(MatrixMut::new(&mut part, rows, group.inputs), du_matrix, a, Store::Replace);
                    mask.apply(&part, group.inputs, dx, Store::Add);
                    workspace.give(part);
                }
                _ => product_nn(MatrixMut::new(dx, rows, group.inputs), du_matrix, a, Store::Add),
            }
        } else {
            dropped.into_iter().for_each(|buffer| workspace.give(buffer));
        }
        workspace.give(du);
    }

    /// What is left of the input of A, where there is dropout.
    fn dropped(&self, layer: usize, site: Site, x: &[f32], workspace: &mut Workspace) -> Option<Buffer> {
        let inputs = self.group(layer, site).inputs;
        let mask = self.mask(layer, site)?;
        let mut dropped = workspace.take(x.len() / inputs, inputs);
        mask.apply(x, inputs, &mut dropped, Store::Replace);
        Some(dropped)
    }

    fn mask(&self, layer: usize, site: Site) -> Option<DropoutMask> {
        let Dropout { share, key } = self.dropout?;
        Some(DropoutMask { share, key: Draws::new(key, (layer * 4 + site as usize) as u64).next() })
    }

    fn group(&self, layer: usize, site: Site) -> &Group {
        &self.layout.groups[layer][site as usize]
    }

    fn scale(&self, values: &mut [f32]) {
        let scale = self.layout.shape.scale();
        values.iter_mut().for_each(|value| *value *= scale);
    }

    /// Times `c`, column by column.
    fn multiply(&self, group: &Group, values: &mut [f32]) {
        if !self.layout.shape.dora {
            return;
        }
        let mut factors = vec![1.0; group.width];
        for part in &group.parts {
            let lengths = self.weights[part.magnitude.clone()].iter().zip(&self.norms[part.norm.clone()]);
            for (factor, (magnitude, norm)) in factors[part.offset..].iter_mut().zip(lengths) {
                // A row of zeros has no direction; it stays as it is.
                *factor = if *norm > 0.0 { magnitude / norm } else { 0.0 };
            }
        }
        values.par_chunks_exact_mut(group.width).with_min_len(16).for_each(|row| {
            row.iter_mut().zip(&factors).for_each(|(value, factor)| *value *= factor);
        });
    }
}
