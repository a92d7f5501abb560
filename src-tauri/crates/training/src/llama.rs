//! A frozen stack of the Llama family that can be differentiated by its input embeddings and by low-rank adapters beside its
//! projections: Llama, Mistral, Qwen2 and Phi-3, whose differences are data in `LlamaConfig::variant`.

use crate::batch::Input;
use crate::data::hex;
use crate::frozen::{Frozen, hash_numbers};
use crate::llama_layer::Kept;
use crate::low_rank::{LowRank, Site};
use crate::tuned::Slopes;
use crate::workspace::Buffer;
use crate::{Control, PackedBatch, Stop, TrainError, Workspace};
use kernels::train::{Attention, Precision, Quantisation, RopeTable, linear_cross_entropy, rms_norm, rms_norm_backward};
use model::{DenseLayer, DenseReader, DenseWeights, LlamaConfig};
use sha2::{Digest, Sha256};
use std::path::Path;
use std::sync::{Arc, OnceLock};

/// A Llama base laid out for training: projections that read the same input are one matrix.
#[derive(Debug)]
pub struct TrainableLlama {
    config: LlamaConfig,
    embedding: Vec<f32>,
    layers: Vec<Layer>,
    norm: Vec<f32>,
    head: Option<Vec<f32>>,
    quantisation: Option<Quantisation>,
    /// Of products with the head; projections know their own.
    head_precision: Precision,
    identity: OnceLock<String>,
    /// Squared lengths of the rows of every [`Site`], by layer; only DoRA asks.
    row_squares: OnceLock<Vec<[Vec<f64>; 4]>>,
}

#[derive(Debug)]
pub(crate) struct Layer {
    pub attention_norm: Vec<f32>,
    /// `[query_width + 2 · kv_width, hidden]`.
    pub qkv: Frozen,
    /// `[query_width + 2 · kv_width]`, or none.
    pub qkv_bias: Vec<f32>,
    /// `[hidden, query_width]`.
    pub output: Frozen,
    pub mlp_norm: Vec<f32>,
    /// `[2 · intermediate, hidden]`.
    pub gate_up: Frozen,
    /// `[hidden, intermediate]`.
    pub down: Frozen,
}

/// An adapter to differentiate by, and where its gradient is added up.
pub(crate) struct Adapted<'a> {
    pub low_rank: LowRank<'a>,
    pub gradient: &'a mut [f32],
}

impl TrainableLlama {
    /// # Errors
    /// `Base` if a tensor does not have the size that the config says.
    pub fn new(weights: DenseWeights) -> Result<Self, TrainError> {
        Self::held(weights, None)
    }

    /// A base whose projections are held in bf16, int8 or int4 (QLoRA, arXiv 2305.14314); embedding, head and norms stay f32.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn quantised(weights: DenseWeights, quantisation: Quantisation) -> Result<Self, TrainError> {
        Self::held(weights, Some(quantisation))
    }

    /// Reads a base from a folder or a GGUF file, layer by layer: only one layer is ever there in f32 if it is to be held otherwise.
    ///
    /// Packs are turned back into f32 first, whatever their format, and then held as any base. For those that llama.cpp made,
    /// Q8_0 in int8 and Q4_0 in int4 are the very numbers of the file.
    ///
    /// # Errors
    /// `Weights` for what [`DenseWeights::load`] refuses.
    pub fn load(path: &Path, quantisation: Option<Quantisation>) -> Result<Self, TrainError> {
        let mut reader = DenseReader::open(path)?;
        let rest = reader.without_layers()?;
        let layers = (0..rest.config.layers).map(|index| Ok(reader.layer(index)?));
        Self::build(rest, layers, quantisation)
    }

    fn held(mut weights: DenseWeights, quantisation: Option<Quantisation>) -> Result<Self, TrainError> {
        let layers = std::mem::take(&mut weights.layers);
        Self::build(weights, layers.into_iter().map(Ok), quantisation)
    }

    fn build(
        rest: DenseWeights,
        layers: impl Iterator<Item = Result<DenseLayer, TrainError>>,
        quantisation: Option<Quantisation>,
    ) -> Result<Self, TrainError> {
        let DenseWeights { config, embedding, norm, head, .. } = rest;
        expect_len("embedding", &embedding, config.vocab * config.hidden)?;
        expect_len("norm", &norm, config.hidden)?;
        if let Some(head) = &head {
            expect_len("head", head, config.vocab * config.hidden)?;
        }
        let layer = |(index, layer): (usize, Result<DenseLayer, TrainError>)| Layer::new(index, layer?, &config, quantisation);
        let layers = layers.enumerate().map(layer).collect::<Result<_, _>>()?;
        let (identity, row_squares) = (OnceLock::new(), OnceLock::new());
        let head_precision = if quantisation.is_some() { Precision::Bf16 } else { Precision::F32 };
        Ok(Self { config, embedding, layers, norm, head, quantisation, head_precision, identity, row_squares })
    }

    /// How its projections are held; `None` is f32.
    pub fn quantisation(&self) -> Option<Quantisation> {
        self.quantisation
    }

    /// With products of this precision, however the weights are held. A quantised base is multiplied in bf16 by itself, where the
    /// machine can.
    pub fn with_precision(mut self, precision: Precision) -> Self {
        self.head_precision = precision;
        for layer in &mut self.layers {
            [&mut layer.qkv, &mut layer.output, &mut layer.gate_up, &mut layer.down]
                .into_iter()
                .for_each(|frozen| frozen.precision = precision);
        }
        self
    }

    pub fn config(&self) -> &LlamaConfig {
        &self.config
    }

    /// SHA-256 over shape and weights, in hexadecimal; computed once.
    pub fn identity(&self) -> &str {
        self.identity.get_or_init(|| {
            let mut hash = Sha256::new();
            hash.update(format!("{:?}", self.config));
            for layer in &self.layers {
                hash_numbers(&layer.attention_norm, &mut hash);
                hash_numbers(&layer.mlp_norm, &mut hash);
                hash_numbers(&layer.qkv_bias, &mut hash);
                [&layer.qkv, &layer.output, &layer.gate_up, &layer.down].into_iter().for_each(|frozen| frozen.hash_into(&mut hash));
            }
            [Some(&self.embedding), Some(&self.norm), self.head.as_ref()].into_iter().flatten().for_each(|t| hash_numbers(t, &mut hash));
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
        Ok(batch.loss(&self.answers(prompt, None, batch, workspace, control)?, normalizer))
    }

    /// Log-probability of each sequence's answer, its tokens' sum.
    pub(crate) fn answers(
        &self,
        prompt: &[f32],
        low_rank: Option<LowRank>,
        batch: &PackedBatch,
        workspace: &mut Workspace,
        control: &Control,
    ) -> Result<Vec<f64>, Stop> {
        let hidden = self.pass(prompt, low_rank, batch, workspace, control)?;
        let found = self.head_forward(&hidden, batch, None, workspace);
        workspace.give(hidden);
        Ok(found)
    }

    /// The stack's output behind its last norm, `[rows, hidden]`.
    fn pass(
        &self,
        prompt: &[f32],
        low_rank: Option<LowRank>,
        batch: &PackedBatch,
        workspace: &mut Workspace,
        control: &Control,
    ) -> Result<Buffer, Stop> {
        let ropes = self.ropes(batch, workspace);
        let mut x = self.embed(prompt, batch, workspace);
        for index in 0..self.layers.len() {
            control.breathe()?;
            let (output, inner) = self.layer_forward(index, &x, low_rank, batch, &ropes, workspace);
            inner.give_to(workspace);
            workspace.give(std::mem::replace(&mut x, output));
        }
        let mut hidden = workspace.take(batch.rows(), self.config.hidden);
        rms_norm(&x, &self.norm, self.config.rms_eps, &mut hidden);
        workspace.give(x);
        Ok(hidden)
    }

    /// Log-probability of each sequence's answer, given the stack's output behind its last norm; writes their gradient by it.
    fn head_forward(&self, hidden: &[f32], batch: &PackedBatch, gradient: Option<&mut [f32]>, workspace: &mut Workspace) -> Vec<f64> {
        let Workspace { loss, losses, .. } = workspace;
        linear_cross_entropy(hidden, self.head(), self.config.hidden, &batch.targets, self.head_precision, loss, losses, gradient);
        batch.by_answer(losses).into_iter().map(|loss| -loss).collect()
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
        let mut loss = 0.0;
        let mut slopes = |found: &[f64]| {
            loss = batch.loss(found, normalizer);
            batch.slopes(normalizer)
        };
        self.pass_and_back(prompt, None, batch, &mut slopes, recompute, workspace, control, gradient)?;
        Ok(loss)
    }

    /// Adds the gradient of a loss with these `slopes`, by the soft prompt to `prompt_gradient` and by an adapter to its own.
    pub(crate) fn pass_and_back(
        &self,
        prompt: &[f32],
        mut adapted: Option<Adapted>,
        batch: &PackedBatch,
        slopes: Slopes,
        recompute: bool,
        workspace: &mut Workspace,
        control: &Control,
        prompt_gradient: &mut [f32],
    ) -> Result<(), Stop> {
        let low_rank = adapted.as_ref().map(|adapted| adapted.low_rank);
        let ropes = self.ropes(batch, workspace);
        let mut x = self.embed(prompt, batch, workspace);
        let mut kept = Vec::with_capacity(self.layers.len());
        for index in 0..self.layers.len() {
            control.breathe()?;
            let (output, inner) = self.layer_forward(index, &x, low_rank, batch, &ropes, workspace);
            let input = std::mem::replace(&mut x, output);
            kept.push(if recompute {
                inner.give_to(workspace);
                Kept { input, inner: None }
            } else {
                Kept { input, inner: Some(inner) }
            });
        }
        let mut dx = self.head_backward(x, batch, slopes, workspace);
        for (index, kept) in kept.into_iter().enumerate().rev() {
            control.breathe()?;
            self.layer_backward(index, kept, adapted.as_mut(), batch, &ropes, workspace, &mut dx);
        }
        let hidden = self.config.hidden;
        for (input, dx) in batch.inputs.iter().zip(dx.chunks_exact(hidden)) {
            if let Input::Virtual(index) = input {
                prompt_gradient[index * hidden..][..hidden].iter_mut().zip(dx).for_each(|(sum, part)| *sum += part);
            }
        }
        workspace.give(dx);
        Ok(())
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

    /// Final norm, head and loss; returns the loss's gradient by the stack's output, `x`.
    fn head_backward(&self, x: Buffer, batch: &PackedBatch, slopes: Slopes, workspace: &mut Workspace) -> Buffer {
        let LlamaConfig { hidden, rms_eps, .. } = self.config;
        let mut normed = workspace.take(batch.rows(), hidden);
        rms_norm(&x, &self.norm, rms_eps, &mut normed);
        let mut dnormed = workspace.take(batch.rows(), hidden);
        let found = self.head_forward(&normed, batch, Some(&mut dnormed), workspace);
        // So far every answer's own gradient, of −log p; what it counts is known only now, and scales all of its rows.
        for ((start, length), slope) in batch.packing.sequences().zip(slopes(&found)) {
            dnormed[start * hidden..][..length * hidden].iter_mut().for_each(|value| *value *= -slope as f32);
        }
        let mut dx = normed;
        dx.fill(0.0);
        rms_norm_backward(&x, &self.norm, rms_eps, &dnormed, &mut dx);
        workspace.give(x);
        workspace.give(dnormed);
        dx
    }

    /// The frozen weights of a site, `[outputs, inputs]`.
    pub(crate) fn matrix(&self, layer: usize, site: Site) -> &Frozen {
        let layer = self.layer(layer);
        match site {
            Site::Qkv => &layer.qkv,
            Site::Output => &layer.output,
            Site::GateUp => &layer.gate_up,
            Site::Down => &layer.down,
        }
    }

    /// The squared length of each row of a site.
    pub(crate) fn row_squares(&self, layer: usize, site: Site) -> &[f64] {
        let all = self.row_squares.get_or_init(|| {
            let mut panel = Vec::new();
            let mut of_site = |layer: usize, site: Site| {
                let frozen = self.matrix(layer, site);
                let square = |row: &[f32]| row.iter().map(|value| f64::from(*value) * f64::from(*value)).sum();
                frozen.dense(&mut panel).chunks_exact(frozen.inputs()).map(square).collect()
            };
            (0..self.layers.len()).map(|layer| Site::ALL.map(|site| of_site(layer, site))).collect()
        });
        &all[layer][site as usize]
    }

    pub(crate) fn layer(&self, index: usize) -> &Layer {
        &self.layers[index]
    }

    pub(crate) fn attention<'a>(&self, layer: usize, ropes: &'a [Arc<RopeTable>]) -> Attention<'a> {
        let LlamaConfig { heads, kv_heads, head_dim, .. } = self.config;
        Attention { heads, kv_heads, head_dim, window: self.config.window(layer), ropes }
    }

    fn head(&self) -> &[f32] {
        self.head.as_deref().unwrap_or(&self.embedding)
    }

    /// The angles of each sequence: those of a text of its length, whose last token takes no row because nothing follows it.
    fn ropes(&self, batch: &PackedBatch, workspace: &mut Workspace) -> Vec<Arc<RopeTable>> {
        batch.packing.sequences().map(|(_, rows)| workspace.rope(&self.config, rows + 1)).collect()
    }
}

impl Layer {
    fn new(index: usize, layer: DenseLayer, config: &LlamaConfig, quantisation: Option<Quantisation>) -> Result<Self, TrainError> {
        let LlamaConfig { hidden, intermediate, .. } = *config;
        let (queries, kv) = (config.query_width(), config.kv_width());
        let biases = if config.variant.qkv_bias { queries + 2 * kv } else { 0 };
        for (name, tensor, expected) in [
            ("attention_norm", &layer.attention_norm, hidden),
            ("q", &layer.q, queries * hidden),
            ("k", &layer.k, kv * hidden),
            ("v", &layer.v, kv * hidden),
            ("qkv_bias", &layer.qkv_bias, biases),
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
            qkv: Frozen::new([layer.q, layer.k, layer.v].concat(), hidden, quantisation),
            qkv_bias: layer.qkv_bias,
            output: Frozen::new(layer.o, queries, quantisation),
            mlp_norm: layer.mlp_norm,
            gate_up: Frozen::new([layer.gate, layer.up].concat(), hidden, quantisation),
            down: Frozen::new(layer.down, intermediate, quantisation),
        })
    }
}

fn expect_len(tensor: &str, values: &[f32], expected: usize) -> Result<(), TrainError> {
    if values.len() == expected {
        return Ok(());
    }
    Err(TrainError::Base { tensor: tensor.to_owned(), found: values.len(), expected })
}
