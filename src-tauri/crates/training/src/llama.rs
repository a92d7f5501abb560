//! A frozen Llama stack that can be differentiated by its input embeddings and by low-rank adapters beside its projections.

use crate::batch::Input;
use crate::data::hex;
use crate::linear::{linear, linear_input_gradient};
use crate::low_rank::{LowRank, Site};
use crate::workspace::Buffer;
use crate::{Control, PackedBatch, Stop, TrainError, Workspace};
use kernels::train::{
    Attention, RopeTable, Store, Target, gated_silu, gated_silu_backward, linear_cross_entropy, rms_norm, rms_norm_backward,
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
    low_rank: Option<KeptLowRank>,
}

/// What the gradients of an adapter need besides.
struct KeptLowRank {
    /// `[rows, query_width]`.
    attended: Buffer,
    /// What [`LowRank::forward`] returned, by [`Site`].
    low: [Option<Buffer>; 4],
    /// With DoRA, what was added after attention and after the MLP, `[rows, hidden]`.
    attention_output: Option<Buffer>,
    mlp_output: Option<Buffer>,
}

/// An adapter to differentiate by, and where its gradient is added up.
pub(crate) struct Adapted<'a> {
    pub low_rank: LowRank<'a>,
    pub gradient: &'a mut [f32],
}

/// From the log-probability of each sequence's answer to the weight of its tokens.
pub(crate) type Weigh<'a> = &'a mut dyn FnMut(&[f64]) -> Vec<f64>;

impl TrainableLlama {
    /// # Errors
    /// `Base` if a tensor does not have the size that the config says, `Unsupported` for what [`LlamaConfig::beyond_plain_llama`]
    /// names.
    pub fn new(weights: DenseWeights) -> Result<Self, TrainError> {
        let DenseWeights { config, embedding, layers, norm, head } = weights;
        if let Some(part) = config.beyond_plain_llama() {
            return Err(TrainError::Unsupported { part });
        }
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
        let hidden = self.pass(prompt, None, batch, workspace, control)?;
        Ok(self.head_loss(hidden, &batch.targets, normalizer, workspace))
    }

    /// The stack's output behind its last norm, `[rows, hidden]`.
    pub(crate) fn pass(
        &self,
        prompt: &[f32],
        low_rank: Option<LowRank>,
        batch: &PackedBatch,
        workspace: &mut Workspace,
        control: &Control,
    ) -> Result<Buffer, Stop> {
        let rope = self.rope(batch, workspace);
        let mut x = self.embed(prompt, batch, workspace);
        for index in 0..self.layers.len() {
            control.breathe()?;
            let (output, inner) = self.layer_forward(index, &x, low_rank, batch, &rope, workspace);
            inner.give_to(workspace);
            workspace.give(std::mem::replace(&mut x, output));
        }
        workspace.give_rope(rope);
        let mut hidden = workspace.take(batch.rows(), self.config.hidden);
        rms_norm(&x, &self.norm, self.config.rms_eps, &mut hidden);
        workspace.give(x);
        Ok(hidden)
    }

    /// The loss of what [`Self::pass`] returned.
    pub(crate) fn head_loss(&self, hidden: Buffer, targets: &[Target], normalizer: f64, workspace: &mut Workspace) -> f64 {
        let loss = linear_cross_entropy(&hidden, self.head(), self.config.hidden, targets, normalizer, &mut workspace.loss, None);
        workspace.give(hidden);
        loss
    }

    /// Log-probability of each sequence's answer, given the stack's output behind its last norm.
    pub(crate) fn sequence_log_probabilities(&self, hidden: &[f32], batch: &PackedBatch, workspace: &mut Workspace) -> Vec<f64> {
        let of_sequence = |(start, length): (usize, usize)| {
            let inside = |target: &&Target| (start..start + length).contains(&target.row);
            let targets: Vec<Target> = batch.targets.iter().filter(inside).map(|target| Target { weight: 1.0, ..*target }).collect();
            -linear_cross_entropy(hidden, self.head(), self.config.hidden, &targets, 1.0, &mut workspace.loss, None)
        };
        batch.packing.sequences().map(of_sequence).collect()
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
        self.pass_and_back(prompt, None, batch, normalizer, None, recompute, workspace, control, gradient)
    }

    /// With `weigh`, answers count as it says for their log-probabilities, instead of by their weights over `normalizer`.
    pub(crate) fn pass_and_back(
        &self,
        prompt: &[f32],
        mut adapted: Option<Adapted>,
        batch: &PackedBatch,
        normalizer: f64,
        weigh: Option<Weigh>,
        recompute: bool,
        workspace: &mut Workspace,
        control: &Control,
        prompt_gradient: &mut [f32],
    ) -> Result<f64, Stop> {
        let low_rank = adapted.as_ref().map(|adapted| adapted.low_rank);
        let rope = self.rope(batch, workspace);
        let mut x = self.embed(prompt, batch, workspace);
        let mut kept = Vec::with_capacity(self.layers.len());
        for index in 0..self.layers.len() {
            control.breathe()?;
            let (output, inner) = self.layer_forward(index, &x, low_rank, batch, &rope, workspace);
            let input = std::mem::replace(&mut x, output);
            kept.push(if recompute {
                inner.give_to(workspace);
                Kept { input, inner: None }
            } else {
                Kept { input, inner: Some(inner) }
            });
        }
        let (loss, mut dx) = self.head_backward(x, batch, normalizer, weigh, workspace);
        for (index, kept) in kept.into_iter().enumerate().rev() {
            control.breathe()?;
            self.layer_backward(index, kept, adapted.as_mut(), batch, &rope, workspace, &mut dx);
        }
        workspace.give_rope(rope);
        let hidden = self.config.hidden;
        for (input, dx) in batch.inputs.iter().zip(dx.chunks_exact(hidden)) {
            if let Input::Virtual(index) = input {
                prompt_gradient[index * hidden..][..hidden].iter_mut().zip(dx).for_each(|(sum, part)| *sum += part);
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
        index: usize,
        input: &Buffer,
        low_rank: Option<LowRank>,
        batch: &PackedBatch,
        rope: &RopeTable,
        workspace: &mut Workspace,
    ) -> (Buffer, Inner) {
        let layer = &self.layers[index];
        let LlamaConfig { hidden, intermediate, rms_eps, .. } = self.config;
        let (rows, queries) = (batch.rows(), self.config.query_width());
        let attention = self.attention(rope);
        let fused = attention.fused_width();

        let mut normed = workspace.take(rows, hidden);
        rms_norm(input, &layer.attention_norm, rms_eps, &mut normed);
        let mut qkv = workspace.take(rows, fused);
        linear(&mut qkv, &normed, &layer.qkv, hidden, fused, Store::Replace);
        let low_qkv = low_rank.and_then(|low_rank| low_rank.forward(index, Site::Qkv, &normed, &mut qkv, workspace));
        let mut attended = workspace.take(rows, queries);
        attention.forward(&qkv, &batch.packing, &mut workspace.attention, &mut attended);
        let (middle, low_output, attention_output) = self.add_projection(index, Site::Output, input, &attended, low_rank, workspace);

        rms_norm(&middle, &layer.mlp_norm, rms_eps, &mut normed);
        let mut gate_up = workspace.take(rows, 2 * intermediate);
        linear(&mut gate_up, &normed, &layer.gate_up, hidden, 2 * intermediate, Store::Replace);
        let low_gate_up = low_rank.and_then(|low_rank| low_rank.forward(index, Site::GateUp, &normed, &mut gate_up, workspace));
        workspace.give(normed);
        let mut active = workspace.take(rows, intermediate);
        gated_silu(&gate_up, intermediate, &mut active);
        let (output, low_down, mlp_output) = self.add_projection(index, Site::Down, &middle, &active, low_rank, workspace);
        workspace.give(active);

        let low = [low_qkv, low_output, low_gate_up, low_down];
        let low_rank = if low_rank.is_some() {
            Some(KeptLowRank { attended, low, attention_output, mlp_output })
        } else {
            workspace.give(attended);
            None
        };
        (output, Inner { qkv, middle, gate_up, low_rank })
    }

    /// `residual + projection(x)`; then what the way back needs: `u` of the adapter, and with DoRA the projection alone.
    fn add_projection(
        &self,
        index: usize,
        site: Site,
        residual: &Buffer,
        x: &Buffer,
        low_rank: Option<LowRank>,
        workspace: &mut Workspace,
    ) -> (Buffer, Option<Buffer>, Option<Buffer>) {
        let (weight, hidden) = (self.matrix(index, site), self.config.hidden);
        let (rows, inputs) = (residual.len() / hidden, weight.len() / hidden);
        let mut sum = workspace.copy_of(residual);
        match low_rank {
            Some(low_rank) if low_rank.scales(index, site) => {
                let mut alone = workspace.take(rows, hidden);
                linear(&mut alone, x, weight, inputs, hidden, Store::Replace);
                let low = low_rank.forward(index, site, x, &mut alone, workspace);
                sum.iter_mut().zip(alone.iter()).for_each(|(sum, alone)| *sum += alone);
                (sum, low, Some(alone))
            }
            _ => {
                linear(&mut sum, x, weight, inputs, hidden, Store::Add);
                let low = low_rank.and_then(|low_rank| low_rank.forward(index, site, x, &mut sum, workspace));
                (sum, low, None)
            }
        }
    }

    /// Final norm, head and loss; returns the loss and its gradient by the stack's output, `x`.
    fn head_backward(
        &self,
        x: Buffer,
        batch: &PackedBatch,
        normalizer: f64,
        weigh: Option<Weigh>,
        workspace: &mut Workspace,
    ) -> (f64, Buffer) {
        let LlamaConfig { hidden, rms_eps, .. } = self.config;
        let mut normed = workspace.take(batch.rows(), self.config.hidden);
        rms_norm(&x, &self.norm, rms_eps, &mut normed);
        let weighed = weigh.map(|weigh| {
            let factors = weigh(&self.sequence_log_probabilities(&normed, batch, workspace));
            batch.weighed(&factors)
        });
        let targets = weighed.as_deref().unwrap_or(&batch.targets);
        let mut dnormed = workspace.take(batch.rows(), self.config.hidden);
        let (scratch, gradient) = (&mut workspace.loss, Some(&mut dnormed[..]));
        let loss = linear_cross_entropy(&normed, self.head(), hidden, targets, normalizer, scratch, gradient);
        let mut dx = normed;
        dx.fill(0.0);
        rms_norm_backward(&x, &self.norm, rms_eps, &dnormed, &mut dx);
        workspace.give(x);
        workspace.give(dnormed);
        (loss, dx)
    }

    /// Turns `dx`, the gradient of a layer's output, into that of its input (of the first layer, only where it is asked for).
    fn layer_backward(
        &self,
        index: usize,
        kept: Kept,
        mut adapted: Option<&mut Adapted>,
        batch: &PackedBatch,
        rope: &RopeTable,
        workspace: &mut Workspace,
        dx: &mut [f32],
    ) {
        let layer = &self.layers[index];
        let LlamaConfig { hidden, intermediate, rms_eps, .. } = self.config;
        let (rows, queries) = (batch.rows(), self.config.query_width());
        let attention = self.attention(rope);
        let fused = attention.fused_width();
        let Inner { qkv, middle, mut gate_up, low_rank } = match kept.inner {
            Some(inner) => inner,
            None => {
                let low_rank = adapted.as_ref().map(|adapted| adapted.low_rank);
                let (output, inner) = self.layer_forward(index, &kept.input, low_rank, batch, rope, workspace);
                workspace.give(output);
                inner
            }
        };
        let (attended, [low_qkv, low_output, low_gate_up, low_down], attention_output, mlp_output) = match low_rank {
            Some(KeptLowRank { attended, low, attention_output, mlp_output }) => (Some(attended), low, attention_output, mlp_output),
            None => (None, [const { None }; 4], None, None),
        };

        let mut dactive = workspace.take(rows, intermediate);
        let active = low_down.as_ref().map(|_| {
            let mut active = workspace.take(rows, intermediate);
            gated_silu(&gate_up, intermediate, &mut active);
            active
        });
        self.add_projection_backward(index, Site::Down, adapted.as_deref_mut(), active, low_down, mlp_output, dx, &mut dactive, workspace);
        let gate_up_was = adapted.as_ref().filter(|a| a.low_rank.scales(index, Site::GateUp)).map(|_| workspace.copy_of(&gate_up));
        gated_silu_backward(&mut gate_up, intermediate, &dactive);
        workspace.give(dactive);
        let mut dnormed = workspace.take(rows, hidden);
        let norm = (&middle, &layer.mlp_norm[..]);
        self.fused_backward(
            index,
            Site::GateUp,
            adapted.as_deref_mut(),
            norm,
            low_gate_up,
            gate_up_was,
            &mut gate_up,
            Some(&mut dnormed),
            workspace,
        );
        workspace.give(gate_up);
        rms_norm_backward(&middle, &layer.mlp_norm, rms_eps, &dnormed, dx);
        workspace.give(middle);

        let mut dattended = workspace.take(rows, queries);
        self.add_projection_backward(
            index,
            Site::Output,
            adapted.as_deref_mut(),
            attended,
            low_output,
            attention_output,
            dx,
            &mut dattended,
            workspace,
        );
        let mut dqkv = workspace.take(rows, fused);
        attention.backward(&qkv, &batch.packing, &dattended, &mut workspace.attention, &mut dqkv);
        workspace.give(dattended);
        // Below the first layer there is nothing to train but a soft prompt.
        let ends_here = index == 0 && batch.virtual_tokens == 0;
        let norm = (&kept.input, &layer.attention_norm[..]);
        let wanted = if ends_here { None } else { Some(&mut dnormed[..]) };
        self.fused_backward(index, Site::Qkv, adapted, norm, low_qkv, Some(qkv), &mut dqkv, wanted, workspace);
        workspace.give(dqkv);
        if !ends_here {
            rms_norm_backward(&kept.input, &layer.attention_norm, rms_eps, &dnormed, dx);
        }
        workspace.give(dnormed);
        workspace.give(kept.input);
    }

    /// Back through [`Self::add_projection`] (but its residual): writes `dx`, given `dy`, and adds to the adapter's gradient.
    ///
    /// `x` is its input, there if the site has an adapter; `low` and `alone` are what it returned.
    fn add_projection_backward(
        &self,
        index: usize,
        site: Site,
        adapted: Option<&mut Adapted>,
        x: Option<Buffer>,
        low: Option<Buffer>,
        alone: Option<Buffer>,
        dy: &[f32],
        dx: &mut [f32],
        workspace: &mut Workspace,
    ) {
        let (weight, hidden) = (self.matrix(index, site), self.config.hidden);
        let inputs = weight.len() / hidden;
        if let (Some(Adapted { low_rank, gradient }), Some(x), Some(low)) = (adapted, &x, &low) {
            let mut scaled = None;
            if let Some(alone) = &alone {
                // The residual needs `dy` as it is.
                let mut copy = workspace.take(dy.len() / hidden, hidden);
                copy.copy_from_slice(dy);
                low_rank.unscale(index, site, alone, &mut copy, gradient);
                scaled = Some(copy);
            }
            let dy = scaled.as_deref().unwrap_or(dy);
            linear_input_gradient(dx, dy, weight, inputs, hidden);
            low_rank.backward(index, site, x, low, dy, gradient, Some(dx), workspace);
            scaled.into_iter().for_each(|buffer| workspace.give(buffer));
        } else {
            linear_input_gradient(dx, dy, weight, inputs, hidden);
        }
        [x, low, alone].into_iter().flatten().for_each(|buffer| workspace.give(buffer));
    }

    /// Back through projections of `norm = (input, gain)`: writes `dnormed` where it is wanted, given `dy` (which DoRA scales),
    /// and adds to the adapter's gradient. `low` is its `u`, `y` its output, there at least if the site has a DoRA.
    fn fused_backward(
        &self,
        index: usize,
        site: Site,
        adapted: Option<&mut Adapted>,
        norm: (&Buffer, &[f32]),
        low: Option<Buffer>,
        y: Option<Buffer>,
        dy: &mut [f32],
        mut dnormed: Option<&mut [f32]>,
        workspace: &mut Workspace,
    ) {
        let (weight, hidden) = (self.matrix(index, site), self.config.hidden);
        let outputs = weight.len() / hidden;
        let adapted = adapted.zip(low.as_ref());
        let mut then = None;
        if let Some((Adapted { low_rank, gradient }, low)) = adapted {
            if let Some(y) = &y {
                low_rank.unscale(index, site, y, dy, gradient);
            }
            then = Some((low_rank, gradient, low));
        }
        if let Some(dnormed) = dnormed.as_deref_mut() {
            linear_input_gradient(dnormed, dy, weight, hidden, outputs);
        }
        if let Some((low_rank, gradient, low)) = then {
            let (input, gain) = norm;
            let mut normed = workspace.take(dy.len() / outputs, hidden);
            rms_norm(input, gain, self.config.rms_eps, &mut normed);
            low_rank.backward(index, site, &normed, low, dy, gradient, dnormed, workspace);
            workspace.give(normed);
        }
        [low, y].into_iter().flatten().for_each(|buffer| workspace.give(buffer));
    }

    /// The frozen weights of a site, `[outputs, inputs]`.
    pub(crate) fn matrix(&self, layer: usize, site: Site) -> &[f32] {
        let layer = &self.layers[layer];
        match site {
            Site::Qkv => &layer.qkv,
            Site::Output => &layer.output,
            Site::GateUp => &layer.gate_up,
            Site::Down => &layer.down,
        }
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
        let Self { qkv, middle, gate_up, low_rank } = self;
        [qkv, middle, gate_up].into_iter().for_each(|buffer| workspace.give(buffer));
        if let Some(KeptLowRank { attended, low, attention_output, mlp_output }) = low_rank {
            let some = low.into_iter().chain([Some(attended), attention_output, mlp_output]);
            some.flatten().for_each(|buffer| workspace.give(buffer));
        }
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

fn expect_len(tensor: &str, values: &[f32], expected: usize) -> Result<(), TrainError> {
    if values.len() == expected {
        return Ok(());
    }
    Err(TrainError::Base { tensor: tensor.to_owned(), found: values.len(), expected })
}
