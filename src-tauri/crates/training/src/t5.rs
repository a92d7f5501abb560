//! A frozen T5 that can be differentiated by vectors before the encoder's text.
//!
//! Texts are packed, so no row is padding. Encoder and decoder are separate stacks of rows; the gradient comes back to the
//! encoder through the keys and values that every decoder layer takes from its output.

use crate::batch::Input;
use crate::data::hex;
use crate::frozen::hash_numbers;
use crate::t5_layer::{Block, CrossBlock, Kept, Layer};
use crate::workspace::Buffer;
use crate::{Control, Example, PromptBase, Slopes, Stop, Tuned, Workspace};
use kernels::train::{
    BiasedAttention, DistanceBiases, Packing, Precision, Quantisation, Target, linear_cross_entropy, rms_norm, rms_norm_backward,
};
use model::{DenseT5, DenseT5Layer, DistanceTable, T5Config};
use sha2::{Digest, Sha256};
use std::sync::OnceLock;

/// A T5 base laid out for training.
#[derive(Debug)]
pub struct TrainableT5 {
    /// Without layers: those are held as products read them.
    weights: DenseT5,
    encoder: Vec<Layer>,
    decoder: Vec<Layer>,
    head_precision: Precision,
    identity: OnceLock<String>,
}

/// Prompts for the encoder and answers for the decoder, each packed.
#[derive(Debug, Clone)]
pub struct T5Batch {
    read: Vec<Input>,
    read_packing: Packing,
    written: Vec<Input>,
    written_packing: Packing,
    targets: Vec<Target>,
}

/// Everything of one forward pass that the way back needs.
struct Passed {
    encoder: Vec<Kept>,
    /// Before the last norm.
    encoder_end: Buffer,
    memory: Buffer,
    decoder: Vec<Kept>,
    decoder_end: Buffer,
    encoder_biases: DistanceTable,
    decoder_biases: DistanceTable,
}

impl TrainableT5 {
    /// With projections in f32.
    pub fn new(weights: DenseT5) -> Self {
        Self::held(weights, None)
    }

    /// With projections held in fewer bits, where one is named; embedding, head, norms and distances stay f32.
    pub fn held(mut weights: DenseT5, quantisation: Option<Quantisation>) -> Self {
        let config = weights.config.clone();
        let held = |layers: &mut Vec<DenseT5Layer>| layers.drain(..).map(|layer| Layer::new(layer, &config, quantisation)).collect();
        let (encoder, decoder) = (held(&mut weights.encoder.layers), held(&mut weights.decoder.layers));
        let head_precision = if quantisation.is_some() { Precision::Bf16 } else { Precision::F32 };
        Self { weights, encoder, decoder, head_precision, identity: OnceLock::new() }
    }

    /// With products of this precision, however the weights are held; as [`crate::TrainableLlama::with_precision`].
    pub fn with_precision(mut self, precision: Precision) -> Self {
        self.head_precision = precision;
        self.encoder.iter_mut().chain(&mut self.decoder).for_each(|layer| layer.set_precision(precision));
        self
    }

    pub fn config(&self) -> &T5Config {
        &self.weights.config
    }

    /// Packs texts behind `virtual_tokens` vectors. An answer begins with the start token and its last token is only predicted.
    pub fn batch<'a>(&self, examples: impl IntoIterator<Item = &'a Example>, virtual_tokens: usize) -> T5Batch {
        let (mut read, mut read_lengths, mut written, mut written_lengths) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut targets = Vec::new();
        for example in examples {
            read.extend((0..virtual_tokens).map(Input::Virtual).chain(example.prompt.iter().map(|token| Input::Token(*token))));
            read_lengths.push(virtual_tokens + example.prompt.len());
            let start = written.len();
            let tokens = [self.config().start].into_iter().chain(example.answer.iter().copied()).take(example.answer.len());
            written.extend(tokens.map(Input::Token));
            written_lengths.push(example.answer.len());
            let target = |(place, token): (usize, &u32)| Target { row: start + place, token: *token, weight: example.weight };
            targets.extend(example.answer.iter().enumerate().map(target));
        }
        let (read_packing, written_packing) = (Packing::new(&read_lengths), Packing::new(&written_lengths));
        T5Batch { read, read_packing, written, written_packing, targets }
    }

    /// Log-probability of each answer, its tokens' sum. Runs on the rayon pool of the caller.
    ///
    /// # Errors
    /// The stop asked for through `control`, which is looked at between layers.
    pub fn log_probabilities(
        &self,
        prompt: &[f32],
        batch: &T5Batch,
        workspace: &mut Workspace,
        control: &Control,
    ) -> Result<Vec<f64>, Stop> {
        let passed = self.pass(prompt, batch, workspace, control)?;
        let found = self.head(&passed.decoder_end, batch, None, workspace);
        passed.give_to(workspace);
        Ok(found)
    }

    /// Adds to `gradient` that of a loss with these `slopes` by `prompt` (same shape).
    ///
    /// # Errors
    /// The stop asked for; `gradient` is then unusable.
    pub fn pass_and_back(
        &self,
        prompt: &[f32],
        batch: &T5Batch,
        slopes: Slopes,
        workspace: &mut Workspace,
        control: &Control,
        gradient: &mut [f32],
    ) -> Result<(), Stop> {
        let T5Config { hidden, norm_eps, .. } = *self.config();
        let mut passed = self.pass(prompt, batch, workspace, control)?;
        let mut dhidden = workspace.take(batch.written.len(), hidden);
        let found = self.head(&passed.decoder_end, batch, Some(&mut dhidden), workspace);
        for ((start, length), slope) in batch.written_packing.sequences().zip(slopes(&found)) {
            dhidden[start * hidden..][..length * hidden].iter_mut().for_each(|value| *value *= -slope as f32);
        }
        let mut dx = workspace.take(batch.written.len(), hidden);
        dx.fill(0.0);
        rms_norm_backward(&passed.decoder_end, &self.weights.decoder.norm, norm_eps, &dhidden, &mut dx);
        workspace.give(dhidden);
        let mut dmemory = workspace.take(batch.read.len(), hidden);
        dmemory.fill(0.0);
        for (index, (layer, kept)) in self.decoder.iter().zip(std::mem::take(&mut passed.decoder)).enumerate().rev() {
            control.breathe()?;
            let block = self.block(&passed.decoder_biases, true);
            let cross = CrossBlock { attention: self.cross_attention(), memory: &passed.memory, packing: &batch.read_packing };
            block.backward(layer, kept, &batch.written_packing, Some((&cross, &mut dmemory)), index == 0, workspace, &mut dx);
        }
        workspace.give(dx);
        let mut dx = workspace.take(batch.read.len(), hidden);
        dx.fill(0.0);
        rms_norm_backward(&passed.encoder_end, &self.weights.encoder.norm, norm_eps, &dmemory, &mut dx);
        workspace.give(dmemory);
        for (layer, kept) in self.encoder.iter().zip(std::mem::take(&mut passed.encoder)).rev() {
            control.breathe()?;
            self.block(&passed.encoder_biases, false).backward(layer, kept, &batch.read_packing, None, false, workspace, &mut dx);
        }
        add_virtual(&batch.read, &dx, hidden, gradient);
        workspace.give(dx);
        passed.give_to(workspace);
        Ok(())
    }

    fn pass(&self, prompt: &[f32], batch: &T5Batch, workspace: &mut Workspace, control: &Control) -> Result<Passed, Stop> {
        let T5Config { hidden, norm_eps, .. } = *self.config();
        let longest = |packing: &Packing| packing.sequences().map(|(_, length)| length).max().unwrap_or(1);
        let encoder_biases = self.weights.distances(false, longest(&batch.read_packing));
        let decoder_biases = self.weights.distances(true, longest(&batch.written_packing));
        let mut x = self.embed(prompt, &batch.read, workspace);
        let mut encoder = Vec::with_capacity(self.encoder.len());
        for layer in &self.encoder {
            control.breathe()?;
            let (output, kept) = self.block(&encoder_biases, false).forward(layer, x, &batch.read_packing, None, workspace);
            encoder.push(kept);
            x = output;
        }
        let encoder_end = x;
        let mut memory = workspace.take(batch.read.len(), hidden);
        rms_norm(&encoder_end, &self.weights.encoder.norm, norm_eps, &mut memory);
        let mut x = self.embed(prompt, &batch.written, workspace);
        let mut decoder = Vec::with_capacity(self.decoder.len());
        for layer in &self.decoder {
            control.breathe()?;
            let cross = CrossBlock { attention: self.cross_attention(), memory: &memory, packing: &batch.read_packing };
            let (output, kept) = self.block(&decoder_biases, true).forward(layer, x, &batch.written_packing, Some(&cross), workspace);
            decoder.push(kept);
            x = output;
        }
        Ok(Passed { encoder, encoder_end, memory, decoder, decoder_end: x, encoder_biases, decoder_biases })
    }

    /// Log-probability of each answer, given the decoder's output before its last norm; writes the gradient of their negative
    /// sum by what the norm gives.
    fn head(&self, x: &Buffer, batch: &T5Batch, mut gradient: Option<&mut [f32]>, workspace: &mut Workspace) -> Vec<f64> {
        let T5Config { hidden, norm_eps, scaled_logits, .. } = *self.config();
        let scale = if scaled_logits { (hidden as f32).powf(-0.5) } else { 1.0 };
        let mut normed = workspace.take(batch.written.len(), hidden);
        rms_norm(x, &self.weights.decoder.norm, norm_eps, &mut normed);
        normed.iter_mut().for_each(|value| *value *= scale);
        let head = self.weights.head.as_deref().unwrap_or(&self.weights.embedding);
        let Workspace { loss, losses, .. } = workspace;
        linear_cross_entropy(&normed, head, hidden, &batch.targets, self.head_precision, loss, losses, gradient.as_deref_mut());
        if let Some(gradient) = gradient {
            gradient.iter_mut().for_each(|value| *value *= scale);
        }
        let mut rest = &losses[..];
        let mut found = Vec::new();
        for (start, length) in batch.written_packing.sequences() {
            let count = batch.targets.iter().filter(|target| (start..start + length).contains(&target.row)).count();
            let (mine, others) = rest.split_at(count);
            found.push(-mine.iter().sum::<f64>());
            rest = others;
        }
        workspace.give(normed);
        found
    }

    fn embed(&self, prompt: &[f32], inputs: &[Input], workspace: &mut Workspace) -> Buffer {
        let hidden = self.config().hidden;
        let mut x = workspace.take(inputs.len(), hidden);
        for (row, input) in x.chunks_exact_mut(hidden).zip(inputs) {
            row.copy_from_slice(match input {
                Input::Virtual(index) => &prompt[index * hidden..][..hidden],
                Input::Token(token) => PromptBase::embedding_of(self, *token),
            });
        }
        x
    }

    fn block<'a>(&'a self, table: &'a DistanceTable, causal: bool) -> Block<'a> {
        let biases = DistanceBiases { values: &table.values, length: table.length, center: table.center };
        Block { config: self.config(), attention: BiasedAttention { causal, biases: Some(biases), ..self.cross_attention() } }
    }

    fn cross_attention(&self) -> BiasedAttention<'static> {
        BiasedAttention { heads: self.config().heads, head_dim: self.config().head_dim, causal: false, biases: None }
    }
}

impl Passed {
    fn give_to(self, workspace: &mut Workspace) {
        self.encoder.into_iter().chain(self.decoder).for_each(|kept| kept.give_to(workspace));
        [self.encoder_end, self.memory, self.decoder_end].into_iter().for_each(|buffer| workspace.give(buffer));
    }
}

fn add_virtual(inputs: &[Input], dx: &[f32], hidden: usize, gradient: &mut [f32]) {
    for (input, dx) in inputs.iter().zip(dx.chunks_exact(hidden)) {
        if let Input::Virtual(index) = input {
            gradient[index * hidden..][..hidden].iter_mut().zip(dx).for_each(|(sum, part)| *sum += part);
        }
    }
}

impl PromptBase for TrainableT5 {
    fn identity(&self) -> &str {
        self.identity.get_or_init(|| {
            let mut hash = Sha256::new();
            hash.update(format!("{:?}", self.config()));
            let DenseT5 { embedding, head, encoder, decoder, .. } = &self.weights;
            for (stack, layers) in [(encoder, &self.encoder), (decoder, &self.decoder)] {
                layers.iter().for_each(|layer| layer.hash_into(&mut hash));
                [&stack.norm, &stack.bias].into_iter().for_each(|tensor| hash_numbers(tensor, &mut hash));
            }
            [Some(embedding), head.as_ref()].into_iter().flatten().for_each(|tensor| hash_numbers(tensor, &mut hash));
            hex(&hash.finalize())
        })
    }

    fn hidden(&self) -> usize {
        self.config().hidden
    }

    fn vocab(&self) -> usize {
        self.config().vocab
    }

    fn context(&self) -> usize {
        T5Config::CONTEXT
    }

    fn embedding_of(&self, token: u32) -> &[f32] {
        &self.weights.embedding[token as usize * self.config().hidden..][..self.config().hidden]
    }

    fn with_prompt(&self, virtual_tokens: usize, _recompute: bool) -> Box<dyn Tuned + '_> {
        Box::new(PromptedT5 { base: self, virtual_tokens })
    }
}

/// A T5 base behind a soft prompt.
struct PromptedT5<'a> {
    base: &'a TrainableT5,
    virtual_tokens: usize,
}

impl Tuned for PromptedT5<'_> {
    fn fault(&self, text: &Example) -> Option<String> {
        if text.answer.is_empty() {
            return Some("its answer is empty".to_owned());
        }
        if text.prompt.is_empty() {
            return Some("its prompt is empty, and the encoder must read something".to_owned());
        }
        if !(text.weight.is_finite() && text.weight > 0.0) {
            return Some(format!("its weight is {}, but must be above 0", text.weight));
        }
        let longest = self.virtual_tokens + text.prompt.len().max(text.answer.len());
        if longest > T5Config::CONTEXT {
            return Some(format!("{longest} tokens with the soft prompt do not fit the context of {}", T5Config::CONTEXT));
        }
        let vocab = self.base.config().vocab;
        let token = text.prompt.iter().chain(&text.answer).find(|token| **token as usize >= vocab)?;
        Some(format!("token {token} is outside the vocabulary of {vocab}"))
    }

    fn rows(&self, text: &Example) -> usize {
        self.virtual_tokens + text.tokens()
    }

    fn log_probabilities(
        &self,
        weights: Option<&[f32]>,
        texts: &[&Example],
        workspace: &mut Workspace,
        control: &Control,
    ) -> Result<Vec<f64>, Stop> {
        let virtual_tokens = if weights.is_some() { self.virtual_tokens } else { 0 };
        let batch = self.base.batch(texts.iter().copied(), virtual_tokens);
        self.base.log_probabilities(weights.unwrap_or_default(), &batch, workspace, control)
    }

    fn gradient(
        &self,
        weights: &[f32],
        texts: &[&Example],
        _pass: u64,
        slopes: Slopes,
        workspace: &mut Workspace,
        control: &Control,
        gradient: &mut [f32],
    ) -> Result<(), Stop> {
        let batch = self.base.batch(texts.iter().copied(), self.virtual_tokens);
        self.base.pass_and_back(weights, &batch, slopes, workspace, control, gradient)
    }
}
