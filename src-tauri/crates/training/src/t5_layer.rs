//! One block of T5, forward and back: attention to the text itself, in the decoder to what was read, then the feed-forward layer.

use crate::Workspace;
use crate::frozen::{Frozen, hash_numbers};
use crate::workspace::Buffer;
use kernels::train::{
    Attended, AttendedGradient, BiasedAttention, Columns, Packing, Precision, Quantisation, Store, gated_gelu, gated_gelu_backward, relu,
    relu_backward, rms_norm, rms_norm_backward,
};
use model::{DenseT5Cross, DenseT5Layer, T5Config};
use sha2::Sha256;

/// The frozen weights of a block, as [`DenseT5Layer`] names them.
#[derive(Debug)]
pub(crate) struct Layer {
    pub attention_norm: Vec<f32>,
    pub qkv: Frozen,
    pub output: Frozen,
    pub cross: Option<CrossLayer>,
    pub mlp_norm: Vec<f32>,
    pub up: Frozen,
    pub down: Frozen,
}

#[derive(Debug)]
pub(crate) struct CrossLayer {
    pub norm: Vec<f32>,
    pub query: Frozen,
    pub keys_values: Frozen,
    pub output: Frozen,
}

/// A block without its weights.
pub(crate) struct Block<'a> {
    pub config: &'a T5Config,
    /// To the text itself.
    pub attention: BiasedAttention<'a>,
}

/// What a decoder block attends to besides its own text.
pub(crate) struct CrossBlock<'a> {
    pub attention: BiasedAttention<'a>,
    /// The encoder's output, `[rows, hidden]`.
    pub memory: &'a [f32],
    pub packing: &'a Packing,
}

/// What a block's backward pass needs.
pub(crate) struct Kept {
    /// `[rows, hidden]`.
    input: Buffer,
    /// `[rows, 3 · width]`.
    qkv: Buffer,
    /// `[rows, hidden]`, after attention to the text itself.
    middle: Buffer,
    cross: Option<KeptCross>,
    /// `[rows, intermediate]`, twice as wide with gated units, before the activation.
    up: Buffer,
}

struct KeptCross {
    /// `[rows, width]`.
    query: Buffer,
    /// `[rows of the memory, 2 · width]`.
    keys_values: Buffer,
    /// `[rows, hidden]`, after attention to what was read.
    after: Buffer,
}

impl Layer {
    pub fn new(layer: DenseT5Layer, config: &T5Config, quantisation: Option<Quantisation>) -> Self {
        let frozen = |weights: Vec<f32>, inputs: usize| Frozen::new(weights, inputs, quantisation);
        let (hidden, width) = (config.hidden, config.width());
        let cross = |DenseT5Cross { norm, query, keys_values, output }| CrossLayer {
            norm,
            query: frozen(query, hidden),
            keys_values: frozen(keys_values, hidden),
            output: frozen(output, width),
        };
        Self {
            attention_norm: layer.attention_norm,
            qkv: frozen(layer.qkv, hidden),
            output: frozen(layer.output, width),
            cross: layer.cross.map(cross),
            mlp_norm: layer.mlp_norm,
            up: frozen(layer.up, hidden),
            down: frozen(layer.down, config.intermediate),
        }
    }

    fn projections(&mut self) -> impl Iterator<Item = &mut Frozen> {
        let cross = self.cross.iter_mut().flat_map(|cross| [&mut cross.query, &mut cross.keys_values, &mut cross.output]);
        [&mut self.qkv, &mut self.output, &mut self.up, &mut self.down].into_iter().chain(cross)
    }

    pub fn set_precision(&mut self, precision: Precision) {
        self.projections().for_each(|frozen| frozen.precision = precision);
    }

    pub fn hash_into(&self, hash: &mut Sha256) {
        hash_numbers(&self.attention_norm, hash);
        [&self.qkv, &self.output].into_iter().for_each(|frozen| frozen.hash_into(hash));
        hash_numbers(&self.mlp_norm, hash);
        [&self.up, &self.down].into_iter().for_each(|frozen| frozen.hash_into(hash));
        if let Some(CrossLayer { norm, query, keys_values, output }) = &self.cross {
            hash_numbers(norm, hash);
            [query, keys_values, output].into_iter().for_each(|frozen| frozen.hash_into(hash));
        }
    }
}

impl Kept {
    pub fn give_to(self, workspace: &mut Workspace) {
        let Self { input, qkv, middle, cross, up } = self;
        [input, qkv, middle, up].into_iter().for_each(|buffer| workspace.give(buffer));
        if let Some(KeptCross { query, keys_values, after }) = cross {
            [query, keys_values, after].into_iter().for_each(|buffer| workspace.give(buffer));
        }
    }
}

impl Block<'_> {
    pub fn forward(
        &self,
        layer: &Layer,
        input: Buffer,
        packing: &Packing,
        cross: Option<&CrossBlock>,
        workspace: &mut Workspace,
    ) -> (Buffer, Kept) {
        let (hidden, width, eps) = (self.config.hidden, self.config.width(), self.config.norm_eps);
        let rows = packing.rows();
        let mut normed = workspace.take(rows, hidden);
        rms_norm(&input, &layer.attention_norm, eps, &mut normed);
        let mut qkv = workspace.take(rows, 3 * width);
        layer.qkv.forward(&mut qkv, &normed, Store::Replace);
        let mut attended = workspace.take(rows, width);
        self.attention.forward(&of_itself(&qkv, width, packing), &mut attended);
        let mut middle = workspace.copy_of(&input);
        layer.output.forward(&mut middle, &attended, Store::Add);

        let cross = cross.zip(layer.cross.as_ref()).map(|(cross, weights)| {
            rms_norm(&middle, &weights.norm, eps, &mut normed);
            let mut query = workspace.take(rows, width);
            weights.query.forward(&mut query, &normed, Store::Replace);
            let mut keys_values = workspace.take(cross.packing.rows(), 2 * width);
            weights.keys_values.forward(&mut keys_values, cross.memory, Store::Replace);
            cross.attention.forward(&of_memory(&query, &keys_values, width, packing, cross.packing), &mut attended);
            let mut after = workspace.copy_of(&middle);
            weights.output.forward(&mut after, &attended, Store::Add);
            KeptCross { query, keys_values, after }
        });
        workspace.give(attended);

        let before = cross.as_ref().map_or(&middle, |cross| &cross.after);
        rms_norm(before, &layer.mlp_norm, eps, &mut normed);
        let inner = self.config.intermediate;
        let mut up = workspace.take(rows, layer.up.outputs());
        layer.up.forward(&mut up, &normed, Store::Replace);
        workspace.give(normed);
        let mut active = workspace.take(rows, inner);
        match self.config.gated {
            true => gated_gelu(&up, inner, &mut active),
            false => relu(&up, &mut active),
        }
        let mut output = workspace.copy_of(before);
        layer.down.forward(&mut output, &active, Store::Add);
        workspace.give(active);
        (output, Kept { input, qkv, middle, cross, up })
    }

    /// Turns `dx` from the gradient of the block's output into that of its input; adds to the second of `cross` the gradient of
    /// the memory. In the lowest block of a decoder nothing below is trained: there `dx` becomes meaningless (`ends_here`).
    pub fn backward(
        &self,
        layer: &Layer,
        kept: Kept,
        packing: &Packing,
        cross: Option<(&CrossBlock, &mut [f32])>,
        ends_here: bool,
        workspace: &mut Workspace,
        dx: &mut [f32],
    ) {
        let (hidden, width, eps) = (self.config.hidden, self.config.width(), self.config.norm_eps);
        let rows = packing.rows();
        let Kept { input, qkv, middle, cross: kept_cross, mut up } = kept;
        let mut dactive = workspace.take(rows, self.config.intermediate);
        layer.down.backward(&mut dactive, dx, Store::Replace);
        match self.config.gated {
            true => gated_gelu_backward(&mut up, self.config.intermediate, &dactive),
            false => relu_backward(&mut up, &dactive),
        }
        workspace.give(dactive);
        let mut dnormed = workspace.take(rows, hidden);
        layer.up.backward(&mut dnormed, &up, Store::Replace);
        workspace.give(up);
        let before = kept_cross.as_ref().map_or(&middle, |cross| &cross.after);
        rms_norm_backward(before, &layer.mlp_norm, eps, &dnormed, dx);

        let mut dattended = workspace.take(rows, width);
        if let Some(((cross, dmemory), (kept, weights))) = cross.zip(kept_cross.zip(layer.cross.as_ref())) {
            let KeptCross { query, keys_values, after } = kept;
            weights.output.backward(&mut dattended, dx, Store::Replace);
            let (mut dquery, mut dkeys_values) = (workspace.take(rows, width), workspace.take(cross.packing.rows(), 2 * width));
            let of = of_memory(&query, &keys_values, width, packing, cross.packing);
            let gradient = AttendedGradient::Apart { queries: &mut dquery, keys_values: &mut dkeys_values };
            cross.attention.backward(&of, &dattended, gradient);
            weights.keys_values.backward(dmemory, &dkeys_values, Store::Add);
            if !ends_here {
                weights.query.backward(&mut dnormed, &dquery, Store::Replace);
                rms_norm_backward(&middle, &weights.norm, eps, &dnormed, dx);
            }
            [query, keys_values, after, dquery, dkeys_values].into_iter().for_each(|buffer| workspace.give(buffer));
        }
        workspace.give(middle);

        if !ends_here {
            layer.output.backward(&mut dattended, dx, Store::Replace);
            let mut dqkv = workspace.take(rows, 3 * width);
            self.attention.backward(&of_itself(&qkv, width, packing), &dattended, AttendedGradient::Joined(&mut dqkv));
            layer.qkv.backward(&mut dnormed, &dqkv, Store::Replace);
            rms_norm_backward(&input, &layer.attention_norm, eps, &dnormed, dx);
            workspace.give(dqkv);
        }
        [input, qkv, dnormed, dattended].into_iter().for_each(|buffer| workspace.give(buffer));
    }
}

fn of_itself<'a>(qkv: &'a [f32], width: usize, packing: &'a Packing) -> Attended<'a> {
    let part = |index: usize| Columns { data: qkv, stride: 3 * width, first: index * width };
    Attended { queries: part(0), query_packing: packing, keys: part(1), values: part(2), key_packing: packing }
}

fn of_memory<'a>(query: &'a [f32], keys_values: &'a [f32], width: usize, packing: &'a Packing, read: &'a Packing) -> Attended<'a> {
    let part = |index: usize| Columns { data: keys_values, stride: 2 * width, first: index * width };
    let queries = Columns { data: query, stride: width, first: 0 };
    Attended { queries, query_packing: packing, keys: part(0), values: part(1), key_packing: read }
}
