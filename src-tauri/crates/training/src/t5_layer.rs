//! One block of T5, forward and back: attention to the text itself, in the decoder to what was read, then the feed-forward layer.

use crate::Workspace;
use crate::workspace::Buffer;
use kernels::train::{
    Attended, BiasedAttention, Columns, Matrix, MatrixMut, Packing, Store, gated_gelu, gated_gelu_backward, product_nn, product_nt, relu,
    relu_backward, rms_norm, rms_norm_backward,
};
use model::{DenseT5Cross, DenseT5Layer, T5Config};

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
        layer: &DenseT5Layer,
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
        linear(&mut qkv, &normed, &layer.qkv, hidden, Store::Replace);
        let mut attended = workspace.take(rows, width);
        self.attention.forward(&of_itself(&qkv, width, packing), &mut attended);
        let mut middle = workspace.copy_of(&input);
        linear(&mut middle, &attended, &layer.output, width, Store::Add);

        let cross = cross.zip(layer.cross.as_ref()).map(|(cross, weights)| {
            rms_norm(&middle, &weights.norm, eps, &mut normed);
            let mut query = workspace.take(rows, width);
            linear(&mut query, &normed, &weights.query, hidden, Store::Replace);
            let mut keys_values = workspace.take(cross.packing.rows(), 2 * width);
            linear(&mut keys_values, cross.memory, &weights.keys_values, hidden, Store::Replace);
            cross.attention.forward(&of_memory(&query, &keys_values, width, packing, cross.packing), &mut attended);
            let mut after = workspace.copy_of(&middle);
            linear(&mut after, &attended, &weights.output, width, Store::Add);
            KeptCross { query, keys_values, after }
        });
        workspace.give(attended);

        let before = cross.as_ref().map_or(&middle, |cross| &cross.after);
        rms_norm(before, &layer.mlp_norm, eps, &mut normed);
        let inner = self.config.intermediate;
        let mut up = workspace.take(rows, layer.up.len() / hidden);
        linear(&mut up, &normed, &layer.up, hidden, Store::Replace);
        workspace.give(normed);
        let mut active = workspace.take(rows, inner);
        match self.config.gated {
            true => gated_gelu(&up, inner, &mut active),
            false => relu(&up, &mut active),
        }
        let mut output = workspace.copy_of(before);
        linear(&mut output, &active, &layer.down, inner, Store::Add);
        workspace.give(active);
        (output, Kept { input, qkv, middle, cross, up })
    }

    /// Turns `dx` from the gradient of the block's output into that of its input; adds to the second of `cross` the gradient of
    /// the memory.
    pub fn backward(
        &self,
        layer: &DenseT5Layer,
        kept: Kept,
        packing: &Packing,
        cross: Option<(&CrossBlock, &mut [f32])>,
        workspace: &mut Workspace,
        dx: &mut [f32],
    ) {
        let (hidden, width, eps) = (self.config.hidden, self.config.width(), self.config.norm_eps);
        let rows = packing.rows();
        let Kept { input, qkv, middle, cross: kept_cross, mut up } = kept;
        let mut dactive = workspace.take(rows, self.config.intermediate);
        linear_back(&mut dactive, dx, &layer.down, self.config.intermediate, Store::Replace);
        match self.config.gated {
            true => gated_gelu_backward(&mut up, self.config.intermediate, &dactive),
            false => relu_backward(&mut up, &dactive),
        }
        workspace.give(dactive);
        let mut dnormed = workspace.take(rows, hidden);
        linear_back(&mut dnormed, &up, &layer.up, hidden, Store::Replace);
        workspace.give(up);
        let before = kept_cross.as_ref().map_or(&middle, |cross| &cross.after);
        rms_norm_backward(before, &layer.mlp_norm, eps, &dnormed, dx);

        let mut dattended = workspace.take(rows, width);
        let mut dq = workspace.take(rows, width);
        if let Some(((cross, dmemory), (kept, weights))) = cross.zip(kept_cross.zip(layer.cross.as_ref())) {
            let KeptCross { query, keys_values, after } = kept;
            let DenseT5Cross { norm, query: query_weights, keys_values: kv_weights, output } = weights;
            linear_back(&mut dattended, dx, output, width, Store::Replace);
            let (mut dk, mut dv) = (workspace.take(cross.packing.rows(), width), workspace.take(cross.packing.rows(), width));
            let of = of_memory(&query, &keys_values, width, packing, cross.packing);
            cross.attention.backward(&of, &dattended, &mut dq, &mut dk, &mut dv);
            let (keys, values) = kv_weights.split_at(width * hidden);
            linear_back(dmemory, &dk, keys, hidden, Store::Add);
            linear_back(dmemory, &dv, values, hidden, Store::Add);
            linear_back(&mut dnormed, &dq, query_weights, hidden, Store::Replace);
            rms_norm_backward(&middle, norm, eps, &dnormed, dx);
            [query, keys_values, after, dk, dv].into_iter().for_each(|buffer| workspace.give(buffer));
        }
        workspace.give(middle);

        linear_back(&mut dattended, dx, &layer.output, width, Store::Replace);
        let (mut dk, mut dv) = (workspace.take(rows, width), workspace.take(rows, width));
        self.attention.backward(&of_itself(&qkv, width, packing), &dattended, &mut dq, &mut dk, &mut dv);
        for (part, (weights, store)) in
            [&dq, &dk, &dv].into_iter().zip(layer.qkv.chunks_exact(width * hidden).zip([Store::Replace, Store::Add, Store::Add]))
        {
            linear_back(&mut dnormed, part, weights, hidden, store);
        }
        rms_norm_backward(&input, &layer.attention_norm, eps, &dnormed, dx);
        [input, qkv, dnormed, dattended, dq, dk, dv].into_iter().for_each(|buffer| workspace.give(buffer));
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

/// `out[rows, outputs] (+)= x[rows, inputs] · weight[outputs, inputs]ᵀ`.
fn linear(out: &mut [f32], x: &[f32], weight: &[f32], inputs: usize, store: Store) {
    let (rows, outputs) = (x.len() / inputs, weight.len() / inputs);
    product_nt(MatrixMut::new(out, rows, outputs), Matrix::new(x, rows, inputs), Matrix::new(weight, outputs, inputs), store);
}

/// `dx[rows, inputs] (+)= dy[rows, outputs] · weight[outputs, inputs]`.
fn linear_back(dx: &mut [f32], dy: &[f32], weight: &[f32], inputs: usize, store: Store) {
    let (rows, outputs) = (dx.len() / inputs, weight.len() / inputs);
    product_nn(MatrixMut::new(dx, rows, inputs), Matrix::new(dy, rows, outputs), Matrix::new(weight, outputs, inputs), store);
}
