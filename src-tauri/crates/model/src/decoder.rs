//! The Llama decoder: one forward pass over a batch of new rows.
//!
//! A row's result depends on what it attends to and on nothing else: not on the rows beside it, nor on how the work is split.

use crate::adapted::{Applied, Scratch, Site, WeightedLora};
use crate::linear::{Input, Linear, Machine};
use crate::weights::{DenseLayer, DenseWeights, WeightSource};
use crate::{LlamaConfig, ModelError, Precision, Projection};
use half::f16;
use half::slice::HalfFloatSliceExt;
use kernels::attention::{AttentionRow, KvSlot, attend};
use kernels::elementwise::{gated_silu, rms_norm, rope};
use kernels::matmul::Output;
use std::sync::Arc;

/// The weights of a Llama base in the form that the kernels want.
pub(crate) struct Decoder {
    pub config: LlamaConfig,
    /// `[vocab, hidden]`.
    embedding: Embedding,
    layers: Vec<Layer>,
    norm: Vec<f32>,
    head: Linear,
}

enum Embedding {
    F16(Vec<f16>),
    F32(Vec<f32>),
}

struct Layer {
    attention_norm: Vec<f32>,
    /// Queries, keys and values, one below the other.
    qkv: Linear,
    o: Linear,
    mlp_norm: Vec<f32>,
    /// Gate above up.
    gate_up: Linear,
    down: Linear,
}

/// What stands at a position.
#[derive(Clone, Copy)]
pub(crate) enum Item<'a> {
    Token(u32),
    /// A trained vector in place of an embedding, `[hidden]`.
    Vector(&'a [f32]),
}

/// One new position to compute.
#[derive(Clone, Copy)]
pub(crate) struct Row<'a> {
    pub item: Item<'a>,
    pub position: usize,
    /// Index of the prefix that the row extends or continues.
    pub prefix: usize,
    /// Index of the row's own slot and where the prefix ends; `None` while the prefix itself is being written.
    pub own: Option<(usize, usize)>,
    /// The first positions of the prefix whose attention is weighted, and the logarithm of their weight.
    pub weighted: usize,
    pub log_weight: f32,
    /// Index of the adapter that changes the weights for this row.
    pub adapter: Option<usize>,
}

/// Memory of a forward pass, used again and again.
pub(crate) struct Workspace {
    /// Cosines and sines of each position, `[positions, head_dim / 2]`, grown as needed.
    cos: Vec<f32>,
    sin: Vec<f32>,
    /// The residual stream, `[rows, hidden]`.
    x: Vec<f32>,
    qkv: Vec<f32>,
    attended: Vec<f32>,
    gate_up: Vec<f32>,
    input: Input,
    adapted: Scratch,
    /// `[wanted rows, vocab]` of the last call of [`Decoder::logits`].
    pub logits: Vec<f32>,
}

impl Workspace {
    pub fn new() -> Self {
        let (cos, sin, x, qkv) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let (input, adapted) = (Input::default(), Scratch::default());
        Self { cos, sin, x, qkv, attended: Vec::new(), gate_up: Vec::new(), input, adapted, logits: Vec::new() }
    }

    pub fn bytes(&self) -> usize {
        let held = [&self.cos, &self.sin, &self.x, &self.qkv, &self.attended, &self.gate_up, &self.logits];
        held.iter().map(|buffer| 4 * buffer.capacity()).sum::<usize>() + self.adapted.bytes()
    }

    fn prepare(&mut self, config: &LlamaConfig, rows: &[Row]) {
        let half = config.head_dim / 2;
        let positions = rows.iter().map(|row| row.position + 1).max().unwrap_or(0);
        for position in self.cos.len() / half..positions {
            for index in 0..half {
                // In f64: at position 8,000 an f32 angle would be off by more than f16 keys are.
                let frequency = f64::from(config.rope_theta).powf(-2.0 * index as f64 / config.head_dim as f64);
                let angle = position as f64 * frequency;
                self.cos.push(angle.cos() as f32);
                self.sin.push(angle.sin() as f32);
            }
        }
        self.x.resize(rows.len() * config.hidden, 0.0);
        self.qkv.resize(rows.len() * (config.query_width() + 2 * config.kv_width()), 0.0);
        self.attended.resize(rows.len() * config.query_width(), 0.0);
        self.gate_up.resize(rows.len() * 2 * config.intermediate, 0.0);
    }
}

impl Decoder {
    /// Packs weights layer by layer, so that only one layer is held as f32 at a time.
    pub fn read(source: &mut WeightSource, precision: Precision) -> Result<Self, ModelError> {
        let config = source.config.clone();
        let layers = (0..config.layers).map(|index| Ok(Layer::pack(&source.layer(index)?, &config, precision)));
        let layers = layers.collect::<Result<_, ModelError>>()?;
        let (embedding, norm, head) = (source.embedding()?, source.norm()?, source.head()?);
        Ok(Self::assemble(config, layers, embedding, norm, head, precision))
    }

    pub fn from_dense(weights: DenseWeights, precision: Precision) -> Self {
        let DenseWeights { config, embedding, layers, norm, head } = weights;
        let layers = layers.iter().map(|layer| Layer::pack(layer, &config, precision)).collect();
        Self::assemble(config, layers, embedding, norm, head, precision)
    }

    fn assemble(
        config: LlamaConfig,
        layers: Vec<Layer>,
        embedding: Vec<f32>,
        norm: Vec<f32>,
        head: Option<Vec<f32>>,
        precision: Precision,
    ) -> Self {
        let head = Linear::new(precision, config.hidden, &[head.as_deref().unwrap_or(&embedding)]);
        let embedding = match precision {
            Precision::Int8 => Embedding::F16(embedding.iter().map(|value| f16::from_f32(*value)).collect()),
            Precision::F32 => Embedding::F32(embedding),
        };
        Self { config, embedding, layers, norm, head }
    }

    pub fn bytes(&self) -> usize {
        let embedding = match &self.embedding {
            Embedding::F16(values) => 2 * values.len(),
            Embedding::F32(values) => 4 * values.len(),
        };
        embedding + self.head.bytes() + self.layers.iter().map(Layer::bytes).sum::<usize>()
    }

    /// An empty cache for one sequence.
    pub fn slot(&self, capacity: usize) -> KvSlot {
        KvSlot::new(self.config.layers, self.config.kv_heads, self.config.head_dim, capacity)
    }

    /// Puts an adapter that fits this base into the form that [`Decoder::forward`] takes.
    pub fn applied(&self, machine: &Machine, weighted: &WeightedLora) -> Applied {
        let widths = Projection::ALL.map(|projection| projection.size(&self.config).0);
        let layers = self.layers.iter().map(|layer| [&layer.qkv, &layer.o, &layer.gate_up, &layer.down]);
        Applied::new(weighted, layers, machine, widths)
    }

    /// Computes the rows: stores their keys and values in the slots and leaves their hidden states in the workspace.
    ///
    /// Rows of a prefix must come in order of position. Positions must be inside the slots.
    pub fn forward(
        &self,
        machine: &Machine,
        work: &mut Workspace,
        prefixes: &mut [KvSlot],
        own: &mut [KvSlot],
        adapters: &[Arc<Applied>],
        rows: &[Row],
    ) {
        let LlamaConfig { hidden, intermediate, head_dim, heads, rms_eps, .. } = self.config;
        let (queries, keys) = (self.config.query_width(), self.config.kv_width());
        let width = queries + 2 * keys;
        work.prepare(&self.config, rows);
        work.adapted.group(rows);
        for (row, x) in rows.iter().zip(work.x.chunks_exact_mut(hidden)) {
            self.embed(row.item, x);
        }
        for (index, layer) in self.layers.iter().enumerate() {
            let x = &work.x;
            let normed = |row: usize, out: &mut [f32]| {
                rms_norm(machine.isa, &x[row * hidden..][..hidden], &layer.attention_norm, rms_eps, out);
            };
            work.input.fill(machine, rows.len(), hidden, &normed);
            layer.qkv.apply(machine, &work.input, &mut work.qkv, Output::Replace);
            work.adapted.apply(machine, adapters, index, Site::Qkv, Output::Replace, &normed, &mut work.qkv, width);
            let (cos, sin, half) = (&work.cos, &work.sin, head_dim / 2);
            machine.pool.rows(&mut work.qkv, width, &|row, qkv| {
                let at = rows[row].position * half;
                for head in qkv[..queries + keys].chunks_exact_mut(head_dim) {
                    rope(head, &cos[at..at + half], &sin[at..at + half]);
                }
            });
            for (row, qkv) in rows.iter().zip(work.qkv.chunks_exact(width)) {
                let (slot, position) = match row.own {
                    None => (&mut prefixes[row.prefix], row.position),
                    Some((slot, prefix_length)) => (&mut own[slot], row.position - prefix_length),
                };
                slot.write(machine.isa, index, position, &qkv[queries..queries + keys], &qkv[queries + keys..]);
            }
            let seen: Vec<AttentionRow> = rows.iter().map(|row| row.seen(prefixes, own)).collect();
            attend(machine.isa, &machine.pool, index, &seen, heads, &work.qkv, width, &mut work.attended);
            let attended = &work.attended;
            let heads_of = |row: usize, out: &mut [f32]| out.copy_from_slice(&attended[row * queries..][..queries]);
            work.input.fill(machine, rows.len(), queries, &heads_of);
            work.adapted.remember(adapters, index, Site::O, &work.x, hidden);
            layer.o.apply(machine, &work.input, &mut work.x, Output::Add);
            work.adapted.apply(machine, adapters, index, Site::O, Output::Add, &heads_of, &mut work.x, hidden);
            let x = &work.x;
            let normed = |row: usize, out: &mut [f32]| {
                rms_norm(machine.isa, &x[row * hidden..][..hidden], &layer.mlp_norm, rms_eps, out);
            };
            work.input.fill(machine, rows.len(), hidden, &normed);
            layer.gate_up.apply(machine, &work.input, &mut work.gate_up, Output::Replace);
            work.adapted.apply(machine, adapters, index, Site::GateUp, Output::Replace, &normed, &mut work.gate_up, 2 * intermediate);
            let gate_up = &work.gate_up;
            let active = |row: usize, out: &mut [f32]| {
                let (gate, up) = gate_up[row * 2 * intermediate..][..2 * intermediate].split_at(intermediate);
                gated_silu(machine.isa, gate, up, out);
            };
            work.input.fill(machine, rows.len(), intermediate, &active);
            work.adapted.remember(adapters, index, Site::Down, &work.x, hidden);
            layer.down.apply(machine, &work.input, &mut work.x, Output::Add);
            work.adapted.apply(machine, adapters, index, Site::Down, Output::Add, &active, &mut work.x, hidden);
        }
    }

    /// Logits `[wanted, vocab]` of some rows of the last forward pass, into `work.logits`.
    pub fn logits(&self, machine: &Machine, work: &mut Workspace, wanted: &[usize]) {
        let LlamaConfig { hidden, rms_eps, vocab, .. } = self.config;
        let x = &work.x;
        work.input.fill(machine, wanted.len(), hidden, &|row, out| {
            rms_norm(machine.isa, &x[wanted[row] * hidden..][..hidden], &self.norm, rms_eps, out);
        });
        work.logits.resize(wanted.len() * vocab, 0.0);
        self.head.apply(machine, &work.input, &mut work.logits, Output::Replace);
    }

    fn embed(&self, item: Item, out: &mut [f32]) {
        let hidden = self.config.hidden;
        match (item, &self.embedding) {
            (Item::Vector(vector), _) => out.copy_from_slice(vector),
            (Item::Token(id), Embedding::F16(values)) => values[id as usize * hidden..][..hidden].convert_to_f32_slice(out),
            (Item::Token(id), Embedding::F32(values)) => out.copy_from_slice(&values[id as usize * hidden..][..hidden]),
        }
    }
}

impl Row<'_> {
    fn seen<'s>(&self, prefixes: &'s [KvSlot], own: &'s [KvSlot]) -> AttentionRow<'s> {
        let (prefix_length, own) = match self.own {
            None => (self.position + 1, None),
            Some((slot, prefix_length)) => (prefix_length, Some((&own[slot], self.position + 1 - prefix_length))),
        };
        // The weighted positions themselves see each other as trained; only the text behind them is held back or pushed.
        let weighted = if self.position < self.weighted { 0 } else { self.weighted };
        AttentionRow { prefix: &prefixes[self.prefix], prefix_length, own, weighted, log_weight: self.log_weight }
    }
}

impl Layer {
    fn pack(dense: &DenseLayer, config: &LlamaConfig, precision: Precision) -> Self {
        Self {
            attention_norm: dense.attention_norm.clone(),
            qkv: Linear::new(precision, config.hidden, &[&dense.q, &dense.k, &dense.v]),
            o: Linear::new(precision, config.query_width(), &[&dense.o]),
            mlp_norm: dense.mlp_norm.clone(),
            gate_up: Linear::new(precision, config.hidden, &[&dense.gate, &dense.up]),
            down: Linear::new(precision, config.intermediate, &[&dense.down]),
        }
    }

    fn bytes(&self) -> usize {
        self.qkv.bytes() + self.o.bytes() + self.gate_up.bytes() + self.down.bytes()
    }
}
