//! The passes of T5: the encoder over whole texts, the decoder over new positions of many answers at once.
//!
//! Texts of a batch lie one after the other, so no row is ever padding. A row's result depends on what it attends to alone.

use crate::decoder::Item;
use crate::linear::{Input, Linear, Machine};
use crate::t5::position::BiasTable;
use crate::t5::weights::{EncoderLayer, Mlp, T5Weights};
use kernels::biased_attention::{BiasedRow, Memory, attend_biased};
use kernels::elementwise::rms_norm;
use kernels::encoder::gated_gelu;
use kernels::matmul::Output;

/// T5 folds the scale of the scores into its weights.
const SCALE: f32 = 1.0;

/// What the decoder sees of a text that was read: keys and values of each decoder layer.
pub(crate) struct Encoded {
    pub length: usize,
    layers: Vec<Memory>,
}

/// An answer that grows.
pub(crate) struct Answer<'a> {
    encoded: &'a Encoded,
    /// Its own keys and values in each decoder layer.
    own: Vec<Memory>,
    length: usize,
}

/// Memory of a pass, used again and again.
#[derive(Default)]
pub(crate) struct Workspace {
    x: Vec<f32>,
    fused: Vec<f32>,
    attended: Vec<f32>,
    inner: Vec<f32>,
    input: Input,
    memories: Vec<Memory>,
    encoder_bias: BiasTable,
    decoder_bias: BiasTable,
    /// `[wanted rows, vocab]` of the last call of [`T5Weights::logits`].
    pub logits: Vec<f32>,
}

impl<'a> Answer<'a> {
    /// Room for `capacity` positions.
    pub fn new(weights: &T5Weights, encoded: &'a Encoded, capacity: usize) -> Self {
        let (heads, head_dim) = (weights.config.heads, weights.config.head_dim);
        let own = (0..weights.config.decoder_layers).map(|_| Memory::new(heads, head_dim, capacity)).collect();
        Self { encoded, own, length: 0 }
    }
}

impl T5Weights {
    /// Reads whole texts, each at least one item long.
    pub fn encode(&self, machine: &Machine, work: &mut Workspace, texts: &[Vec<Item>]) -> Vec<Encoded> {
        let (hidden, width, eps) = (self.config.hidden, self.config.width(), self.config.norm_eps);
        let rows: usize = texts.iter().map(Vec::len).sum();
        self.embed_all(machine, work, &texts.concat());
        self.encoder.bias.prepare(&mut work.encoder_bias, texts.iter().map(Vec::len).max().unwrap_or(0));
        for EncoderLayer { attention, mlp } in &self.encoder.layers {
            normed_into(machine, &mut work.input, &attention.qkv, &work.x, &attention.norm, eps);
            project(machine, work, &attention.qkv, rows, 3 * width);
            self.encoder_attention(machine, work, texts);
            output(machine, work, &attention.output, rows, width);
            self.mlp(machine, work, mlp, rows);
        }
        debug_assert_eq!(work.x.len(), rows * hidden);
        // Every decoder layer reads the same rows in the same form.
        if let Some(first) = self.decoder.layers.first() {
            normed_into(machine, &mut work.input, &first.cross.keys_values, &work.x, &self.encoder.norm, eps);
        }
        let (heads, head_dim) = (self.config.heads, self.config.head_dim);
        let empty = |text: &Vec<Item>| Encoded { length: text.len(), layers: Vec::with_capacity(self.config.decoder_layers) };
        let mut encoded: Vec<Encoded> = texts.iter().map(empty).collect();
        for layer in &self.decoder.layers {
            project(machine, work, &layer.cross.keys_values, rows, 2 * width);
            let mut fused = work.fused.chunks_exact(2 * width);
            for one in &mut encoded {
                let mut memory = Memory::new(heads, head_dim, one.length);
                for (position, row) in fused.by_ref().take(one.length).enumerate() {
                    memory.write(position, &row[..width], &row[width..]);
                }
                one.layers.push(memory);
            }
        }
        encoded
    }

    /// Computes new positions of answers, `new[i]` for `answers[i]`; their hidden states stay in the work space, in this order.
    ///
    /// Positions must fit the answers' room.
    pub fn decode(&self, machine: &Machine, work: &mut Workspace, answers: &mut [Answer], new: &[Vec<Item>]) {
        let (width, eps) = (self.config.width(), self.config.norm_eps);
        let rows: usize = new.iter().map(Vec::len).sum();
        self.embed_all(machine, work, &new.concat());
        let longest = answers.iter().zip(new).map(|(answer, new)| answer.length + new.len()).max().unwrap_or(0);
        self.decoder.bias.prepare(&mut work.decoder_bias, longest);
        for (index, layer) in self.decoder.layers.iter().enumerate() {
            normed_into(machine, &mut work.input, &layer.attention.qkv, &work.x, &layer.attention.norm, eps);
            project(machine, work, &layer.attention.qkv, rows, 3 * width);
            let mut fused = work.fused.chunks_exact(3 * width);
            for (answer, new) in answers.iter_mut().zip(new) {
                for (place, row) in fused.by_ref().take(new.len()).enumerate() {
                    answer.own[index].write(answer.length + place, &row[width..2 * width], &row[2 * width..]);
                }
            }
            let bias = &work.decoder_bias;
            let (mut own, mut read) = (Vec::with_capacity(rows), Vec::with_capacity(rows));
            for (answer, new) in answers.iter().zip(new) {
                for position in answer.length..answer.length + new.len() {
                    own.push(BiasedRow { memory: &answer.own[index], seen: position + 1, first_bias: bias.first(position) });
                    read.push(BiasedRow { memory: &answer.encoded.layers[index], seen: answer.encoded.length, first_bias: 0 });
                }
            }
            work.attended.resize(rows * width, 0.0);
            attend_biased(machine.isa, &machine.pool, &own, SCALE, Some(bias.biases()), &work.fused, 3 * width, &mut work.attended);
            output(machine, work, &layer.attention.output, rows, width);

            normed_into(machine, &mut work.input, &layer.cross.query, &work.x, &layer.cross.norm, eps);
            project(machine, work, &layer.cross.query, rows, width);
            attend_biased(machine.isa, &machine.pool, &read, SCALE, None, &work.fused, width, &mut work.attended);
            output(machine, work, &layer.cross.output, rows, width);
            self.mlp(machine, work, &layer.mlp, rows);
        }
        for (answer, new) in answers.iter_mut().zip(new) {
            answer.length += new.len();
        }
    }

    /// Logits `[wanted, vocab]` of some rows of the last [`T5Weights::decode`], into `work.logits`.
    pub fn logits(&self, machine: &Machine, work: &mut Workspace, wanted: &[usize]) {
        let (hidden, eps) = (self.config.hidden, self.config.norm_eps);
        let scale = if self.config.scaled_logits { (hidden as f32).powf(-0.5) } else { 1.0 };
        let x = &work.x;
        work.input.fill(machine, &self.head, wanted.len(), &|row, out| {
            rms_norm(machine.isa, &x[wanted[row] * hidden..][..hidden], &self.decoder.norm, eps, out);
            out.iter_mut().for_each(|value| *value *= scale);
        });
        work.logits.resize(wanted.len() * self.config.vocab, 0.0);
        self.head.apply(machine, &work.input, &mut work.logits, Output::Replace);
    }

    fn embed_all(&self, machine: &Machine, work: &mut Workspace, items: &[Item]) {
        let hidden = self.config.hidden;
        work.x.resize(items.len() * hidden, 0.0);
        machine.pool.rows(&mut work.x, hidden, &|row, out| match items[row] {
            Item::Vector(vector) => out.copy_from_slice(vector),
            Item::Token(id) => self.embed(id, out),
        });
    }

    /// Every position of a text sees all of it, and nothing of the others.
    fn encoder_attention(&self, machine: &Machine, work: &mut Workspace, texts: &[Vec<Item>]) {
        let (heads, head_dim, width) = (self.config.heads, self.config.head_dim, self.config.width());
        while work.memories.len() < texts.len() {
            work.memories.push(Memory::new(heads, head_dim, 0));
        }
        let mut fused = work.fused.chunks_exact(3 * width);
        for (memory, text) in work.memories.iter_mut().zip(texts) {
            memory.reserve(text.len());
            for (position, row) in fused.by_ref().take(text.len()).enumerate() {
                memory.write(position, &row[width..2 * width], &row[2 * width..]);
            }
        }
        let bias = &work.encoder_bias;
        let mut rows = Vec::new();
        for (memory, text) in work.memories.iter().zip(texts) {
            rows.extend((0..text.len()).map(|position| BiasedRow { memory, seen: text.len(), first_bias: bias.first(position) }));
        }
        work.attended.resize(rows.len() * width, 0.0);
        attend_biased(machine.isa, &machine.pool, &rows, SCALE, Some(bias.biases()), &work.fused, 3 * width, &mut work.attended);
    }

    fn mlp(&self, machine: &Machine, work: &mut Workspace, mlp: &Mlp, rows: usize) {
        let (inner, gated) = (self.config.intermediate, self.config.gated);
        normed_into(machine, &mut work.input, &mlp.up, &work.x, &mlp.norm, self.config.norm_eps);
        let cols = if gated { 2 * inner } else { inner };
        work.inner.resize(rows * cols, 0.0);
        mlp.up.apply(machine, &work.input, &mut work.inner, Output::Replace);
        let active = &work.inner;
        work.input.fill(machine, &mlp.down, rows, &|row, out| {
            let row = &active[row * cols..][..cols];
            match gated {
                true => gated_gelu(machine.isa, &row[..inner], &row[inner..], out),
                false => out.iter_mut().zip(row).for_each(|(out, value)| *out = value.max(0.0)),
            }
        });
        mlp.down.apply(machine, &work.input, &mut work.x, Output::Add);
    }
}

/// `input = rms_norm(x)`, row by row, for `linear`.
fn normed_into(machine: &Machine, input: &mut Input, linear: &Linear, x: &[f32], gain: &[f32], eps: f32) {
    let hidden = gain.len();
    input.fill(machine, linear, x.len() / hidden, &|row, out| rms_norm(machine.isa, &x[row * hidden..][..hidden], gain, eps, out));
}

/// `work.fused = work.input · linear`, `[rows, cols]`.
fn project(machine: &Machine, work: &mut Workspace, linear: &Linear, rows: usize, cols: usize) {
    work.fused.resize(rows * cols, 0.0);
    linear.apply(machine, &work.input, &mut work.fused, Output::Replace);
}

/// Adds the heads' results, through the output projection, to the residual stream.
fn output(machine: &Machine, work: &mut Workspace, linear: &Linear, rows: usize, width: usize) {
    let attended = &work.attended;
    work.input.fill(machine, linear, rows, &|row, out| out.copy_from_slice(&attended[row * width..][..width]));
    linear.apply(machine, &work.input, &mut work.x, Output::Add);
}
