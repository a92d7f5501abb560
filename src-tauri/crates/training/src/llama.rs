//! A frozen Llama stack that can be differentiated by its input embeddings.

use crate::batch::Input;
use crate::data::hex;
use crate::workspace::Buffer;
use crate::{Control, PackedBatch, Stop, TrainError, Workspace};
use kernels::train::{
    Attention, Matrix, MatrixMut, RopeTable, Store, gated_silu, gated_silu_backward, linear_cross_entropy, product_nn, product_nt,
    rms_norm, rms_norm_backward,
};
use model::{DenseLayer, DenseWeights, LlamaConfig};
use sha2::{Digest, Sha256};
use std::sync::OnceLock;

/// A Llama base in f32, laid out for training: projections that read the same input are one matrix.
#[derive(Debug)]
pub struct TrainableLlama {
    config: LlamaConfig,
    embedding: Vec<f32>,
    layers: Vec<Layer>,
    norm: Vec<f32>,
    head: Option<Vec<f32>>,
    identity: OnceLock<String>,
}

#[derive(Debug)]
struct Layer {
    attention_norm: Vec<f32>,
    /// `[query_width + 2 · kv_width, hidden]`.
    qkv: Vec<f32>,
    /// `[hidden, query_width]`.
    output: Vec<f32>,
    mlp_norm: Vec<f32>,
    /// `[2 · intermediate, hidden]`.
    gate_up: Vec<f32>,
    /// `[hidden, intermediate]`.
    down: Vec<f32>,
}

/// What a layer's backward pass needs. With frozen weights neither the attention's output nor the activation is among it.
struct Kept {
    /// `[rows, hidden]`.
    input: Buffer,
    /// The rest, or nothing where it is computed again.
    inner: Option<Inner>,
}

struct Inner {
    /// `[rows, query_width + 2 · kv_width]`.
    qkv: Buffer,
    /// `[rows, hidden]`, between attention and MLP.
    middle: Buffer,
    /// `[rows, 2 · intermediate]`.
    gate_up: Buffer,
}

impl TrainableLlama {
    /// # Errors
    /// `Base` if a tensor does not have the size that the config says.
    pub fn new(weights: DenseWeights) -> Result<Self, TrainError> {
        let DenseWeights { config, embedding, layers, norm, head } = weights;
        expect_len("embedding", &embedding, config.vocab * config.hidden)?;
        expect_len("norm", &norm, config.hidden)?;
        if let Some(head) = &head {
            expect_len("head", head, config.vocab * config.hidden)?;
        }
        let layers = layers.into_iter().enumerate().map(|(index, layer)| Layer::new(index, layer, &config)).collect::<Result<_, _>>()?;
        Ok(Self { config, embedding, layers, norm, head, identity: OnceLock::new() })
    }

    pub fn config(&self) -> &LlamaConfig {
        &self.config
    }

    /// SHA-256 over shape and weights, in hexadecimal; computed once.
    pub fn identity(&self) -> &str {
        self.identity.get_or_init(|| {
            let mut hash = Sha256::new();
            hash.update(format!("{:?}", self.config));
            let per_layer = self.layers.iter().flat_map(|l| [&l.attention_norm, &l.qkv, &l.output, &l.mlp_norm, &l.gate_up, &l.down]);
            for tensor in per_layer.chain([&self.embedding, &self.norm]).chain(&self.head) {
                // In pieces, so that the bytes of a large base never exist twice.
                for piece in tensor.chunks(1 << 14) {
                    hash.update(piece.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>());
                }
            }
            hex(&hash.finalize())
        })
    }

    /// The embedding of a token, `[hidden]`; the token must be in the vocabulary.
    pub fn embedding_of(&self, token: u32) -> &[f32] {
        &self.embedding[token as usize * self.config.hidden..][..self.config.hidden]
    }

    /// `Σ weight · cross-entropy / normalizer` over the targets of `batch`, without gradient.
    ///
    /// `prompt` is `[virtual_tokens, hidden]`. Runs on the rayon pool of the caller.
    ///
    /// # Errors
    /// The stop asked for through `control`, which is looked at between layers.
    pub fn loss(
        &self,
        prompt: &[f32],
        batch: &PackedBatch,
        normalizer: f64,
        workspace: &mut Workspace,
        control: &Control,
    ) -> Result<f64, Stop> {
        let rope = self.rope(batch, workspace);
        let mut x = self.embed(prompt, batch, workspace);
        for layer in &self.layers {
            control.breathe()?;
            let (output, inner) = self.layer_forward(layer, &x, batch, &rope, workspace);
            inner.give_to(workspace);
            workspace.give(std::mem::replace(&mut x, output));
        }
        workspace.give_rope(rope);
        let mut hidden = workspace.take(batch.rows(), self.config.hidden);
        rms_norm(&x, &self.norm, self.config.rms_eps, &mut hidden);
        let loss = linear_cross_entropy(&hidden, self.head(), self.config.hidden, &batch.targets, normalizer, &mut workspace.loss, None);
        workspace.give(x);
        workspace.give(hidden);
        Ok(loss)
    }

    /// [`Self::loss`], adding its gradient by `prompt` to `gradient` (same shape).
    ///
    /// With `recompute`, only the input of each layer is kept and the rest computed again on the way back.
    ///
    /// # Errors
    /// The stop asked for; `gradient` is then unusable.
    pub fn loss_and_gradient(
        &self,
        prompt: &[f32],
        batch: &PackedBatch,
        normalizer: f64,
        recompute: bool,
        workspace: &mut Workspace,
        control: &Control,
        gradient: &mut [f32],
    ) -> Result<f64, Stop> {
        let rope = self.rope(batch, workspace);
        let mut x = self.embed(prompt, batch, workspace);
        let mut kept = Vec::with_capacity(self.layers.len());
        for layer in &self.layers {
            control.breathe()?;
            let (output, inner) = self.layer_forward(layer, &x, batch, &rope, workspace);
            let input = std::mem::replace(&mut x, output);
            kept.push(if recompute {
                inner.give_to(workspace);
                Kept { input, inner: None }
            } else {
                Kept { input, inner: Some(inner) }
            });
        }
        let (loss, mut dx) = self.head_backward(x, batch, normalizer, workspace);
        for (layer, kept) in self.layers.iter().zip(kept).rev() {
            control.breathe()?;
            self.layer_backward(layer, kept, batch, &rope, workspace, &mut dx);
        }
        workspace.give_rope(rope);
        let hidden = self.config.hidden;
        for (input, dx) in batch.inputs.iter().zip(dx.chunks_exact(hidden)) {
            if let Input::Virtual(index) = input {
                gradient[index * hidden..][..hidden].iter_mut().zip(dx).for_each(|(sum, part)| *sum += part);
            }
        }
        workspace.give(dx);
        Ok(loss)
    }

    fn embed(&self, prompt: &[f32], batch: &PackedBatch, workspace: &mut Workspace) -> Buffer {
        let hidden = self.config.hidden;
        assert_eq!(prompt.len(), batch.virtual_tokens * hidden, "the soft prompt is not what the batch was packed for");
        let mut x = workspace.take(batch.rows(), hidden);
        for (row, input) in x.chunks_exact_mut(hidden).zip(&batch.inputs) {
            row.copy_from_slice(match input {
                Input::Virtual(index) => &prompt[index * hidden..][..hidden],
                Input::Token(token) => self.embedding_of(*token),
            });
        }
        x
    }

    fn layer_forward(
        &self,
        layer: &Layer,
        input: &Buffer,
        batch: &PackedBatch,
        rope: &RopeTable,
        workspace: &mut Workspace,
    ) -> (Buffer, Inner) {
        let LlamaConfig { hidden, intermediate, rms_eps, .. } = self.config;
        let (rows, queries) = (batch.rows(), self.config.query_width());
        let attention = self.attention(rope);
        let fused = attention.fused_width();

        let mut normed = workspace.take(rows, hidden);
        rms_norm(input, &layer.attention_norm, rms_eps, &mut normed);
        let mut qkv = workspace.take(rows, fused);
        linear(&mut qkv, &normed, &layer.qkv, hidden, fused, Store::Replace);
        let mut attended = workspace.take(rows, queries);
        attention.forward(&qkv, &batch.packing, &mut workspace.attention, &mut attended);
        let mut middle = workspace.copy_of(input);
        linear(&mut middle, &attended, &layer.output, queries, hidden, Store::Add);
        workspace.give(attended);

        rms_norm(&middle, &layer.mlp_norm, rms_eps, &mut normed);
        let mut gate_up = workspace.take(rows, 2 * intermediate);
        linear(&mut gate_up, &normed, &layer.gate_up, hidden, 2 * intermediate, Store::Replace);
        workspace.give(normed);
        let mut active = workspace.take(rows, intermediate);
        gated_silu(&gate_up, intermediate, &mut active);
        let mut output = workspace.copy_of(&middle);
        linear(&mut output, &active, &layer.down, intermediate, hidden, Store::Add);
        workspace.give(active);
        (output, Inner { qkv, middle, gate_up })
    }

    /// Final norm, head and loss; returns the loss and its gradient by the stack's output, `x`.
    fn head_backward(&self, x: Buffer, batch: &PackedBatch, normalizer: f64, workspace: &mut Workspace) -> (f64, Buffer) {
        let LlamaConfig { hidden, rms_eps, .. } = self.config;
        let mut normed = workspace.take(batch.rows(), self.config.hidden);
        rms_norm(&x, &self.norm, rms_eps, &mut normed);
        let mut dnormed = workspace.take(batch.rows(), self.config.hidden);
        let (scratch, gradient) = (&mut workspace.loss, Some(&mut dnormed[..]));
        let loss = linear_cross_entropy(&normed, self.head(), hidden, &batch.targets, normalizer, scratch, gradient);
        let mut dx = normed;
        dx.fill(0.0);
        rms_norm_backward(&x, &self.norm, rms_eps, &dnormed, &mut dx);
        workspace.give(x);
        workspace.give(dnormed);
        (loss, dx)
    }

    /// Turns `dx`, the gradient of a layer's output, into that of its input.
    fn layer_backward(&self, layer: &Layer, kept: Kept, batch: &PackedBatch, rope: &RopeTable, workspace: &mut Workspace, dx: &mut [f32]) {
        let LlamaConfig { hidden, intermediate, rms_eps, .. } = self.config;
        let (rows, queries) = (batch.rows(), self.config.query_width());
        let attention = self.attention(rope);
        let fused = attention.fused_width();
        let Inner { qkv, middle, mut gate_up } = match kept.inner {
            Some(inner) => inner,
            None => {
                let (output, inner) = self.layer_forward(layer, &kept.input, batch, rope, workspace);
                workspace.give(output);
                inner
            }
        };

        let mut dactive = workspace.take(rows, intermediate);
        linear_input_gradient(&mut dactive, dx, &layer.down, intermediate, hidden);
        gated_silu_backward(&mut gate_up, intermediate, &dactive);
        workspace.give(dactive);
        let mut dnormed = workspace.take(rows, hidden);
        linear_input_gradient(&mut dnormed, &gate_up, &layer.gate_up, hidden, 2 * intermediate);
        workspace.give(gate_up);
        rms_norm_backward(&middle, &layer.mlp_norm, rms_eps, &dnormed, dx);
        workspace.give(middle);

        let mut dattended = workspace.take(rows, queries);
        linear_input_gradient(&mut dattended, dx, &layer.output, queries, hidden);
        let mut dqkv = workspace.take(rows, fused);
        attention.backward(&qkv, &batch.packing, &dattended, &mut workspace.attention, &mut dqkv);
        workspace.give(dattended);
        workspace.give(qkv);
        linear_input_gradient(&mut dnormed, &dqkv, &layer.qkv, hidden, fused);
        workspace.give(dqkv);
        rms_norm_backward(&kept.input, &layer.attention_norm, rms_eps, &dnormed, dx);
        workspace.give(dnormed);
        workspace.give(kept.input);
    }

    fn attention<'a>(&self, rope: &'a RopeTable) -> Attention<'a> {
        Attention { heads: self.config.heads, kv_heads: self.config.kv_heads, head_dim: self.config.head_dim, rope }
    }

    fn head(&self) -> &[f32] {
        self.head.as_deref().unwrap_or(&self.embedding)
    }

    fn rope(&self, batch: &PackedBatch, workspace: &mut Workspace) -> RopeTable {
        let longest = batch.packing.sequences().map(|(_, length)| length).max().unwrap_or(1);
        workspace.take_rope(self.config.rope_theta, self.config.head_dim, longest)
    }
}

impl Inner {
    fn give_to(self, workspace: &mut Workspace) {
        let Self { qkv, middle, gate_up } = self;
        [qkv, middle, gate_up].into_iter().for_each(|buffer| workspace.give(buffer));
    }
}

impl Layer {
    fn new(index: usize, layer: DenseLayer, config: &LlamaConfig) -> Result<Self, TrainError> {
        let LlamaConfig { hidden, intermediate, .. } = *config;
        let (queries, kv) = (config.query_width(), config.kv_width());
        for (name, tensor, expected) in [
            ("attention_norm", &layer.attention_norm, hidden),
            ("q", &layer.q, queries * hidden),
            ("k", &layer.k, kv * hidden),
            ("v", &layer.v, kv * hidden),
            ("o", &layer.o, hidden * queries),
            ("mlp_norm", &layer.mlp_norm, hidden),
            ("gate", &layer.gate, intermediate * hidden),
            ("up", &layer.up, intermediate * hidden),
            ("down", &layer.down, hidden * intermediate),
        ] {
            expect_len(&format!("layers.{index}.{name}"), tensor, expected)?;
        }
        Ok(Self {
            attention_norm: layer.attention_norm,
            qkv: [layer.q, layer.k, layer.v].concat(),
            output: layer.o,
            mlp_norm: layer.mlp_norm,
            gate_up: [layer.gate, layer.up].concat(),
            down: layer.down,
        })
    }
}

/// `out[rows, outputs] (+)= x[rows, inputs] · weight[outputs, inputs]ᵀ`.
fn linear(out: &mut [f32], x: &[f32], weight: &[f32], inputs: usize, outputs: usize, store: Store) {
    let rows = x.len() / inputs;
    product_nt(MatrixMut::new(out, rows, outputs), Matrix::new(x, rows, inputs), Matrix::new(weight, outputs, inputs), store);
}

/// `dx[rows, inputs] = dy[rows, outputs] · weight[outputs, inputs]`.
fn linear_input_gradient(dx: &mut [f32], dy: &[f32], weight: &[f32], inputs: usize, outputs: usize) {
    let rows = dy.len() / outputs;
    let weight = Matrix::new(weight, outputs, inputs);
    product_nn(MatrixMut::new(dx, rows, inputs), Matrix::new(dy, rows, outputs), weight, Store::Replace);
}

fn expect_len(tensor: &str, values: &[f32], expected: usize) -> Result<(), TrainError> {
    if values.len() == expected {
        return Ok(());
    }
    Err(TrainError::Base { tensor: tensor.to_owned(), found: values.len(), expected })
}
