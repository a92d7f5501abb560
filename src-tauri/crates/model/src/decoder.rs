//! The Llama decoder: one forward pass over a batch of new rows.
//!
//! A row's result depends on what it attends to and on nothing else: not on the rows beside it, nor on how the work is split.

use crate::adapted::{Applied, Scratch, Site, WeightedLora};
use crate::linear::{Input, Linear, Machine};
use crate::rope::RopeTables;
use crate::source::{Part, WeightSource};
use crate::weights::{DenseLayer, DenseWeights};
use crate::{LlamaConfig, ModelError, Precision, Projection};
use half::f16;
use half::slice::HalfFloatSliceExt;
use kernels::attention::{AttentionRow, KvPlace, KvSlot, NewHeads, attend, make_ready};
use kernels::elementwise::{gated_silu, rms_norm};
use kernels::matmul::Output;
use kernels::packed::{BlockFormat, PackError, PackedMatrix, WeightMemory};
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
    /// In the format of a GGUF file.
    Packed(Linear),
    /// The rows of the head.
    Head,
}

impl Embedding {
    fn zeroed(precision: Precision, count: usize) -> Self {
        match precision {
            Precision::Int8 | Precision::Int4 => Self::F16(vec![f16::ZERO; count]),
            Precision::F32 => Self::F32(vec![0.0; count]),
        }
    }

    fn write(&mut self, first: usize, values: &[f32]) {
        match self {
            Self::F16(held) => held[first..first + values.len()].convert_from_f32_slice(values),
            Self::F32(held) => held[first..first + values.len()].copy_from_slice(values),
            // Made whole.
            Self::Packed(_) | Self::Head => {}
        }
    }
}

struct Layer {
    attention_norm: Vec<f32>,
    /// Queries, keys and values, one below the other.
    qkv: Linear,
    /// Of the same rows; empty for none.
    qkv_bias: Vec<f32>,
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
    /// What the angles of its text depend on besides the position; see [`crate::RopeScaling`].
    pub stretch: usize,
}

/// Memory of a forward pass, used again and again.
pub(crate) struct Workspace {
    ropes: RopeTables,
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
        let (x, qkv, attended, gate_up, logits) = (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Self { ropes: RopeTables::default(), x, qkv, attended, gate_up, input: Input::default(), adapted: Scratch::default(), logits }
    }

    pub fn bytes(&self) -> usize {
        let held = [&self.x, &self.qkv, &self.attended, &self.gate_up, &self.logits];
        held.iter().map(|buffer| 4 * buffer.capacity()).sum::<usize>() + self.ropes.bytes() + self.adapted.bytes()
    }

    fn prepare(&mut self, config: &LlamaConfig, rows: &[Row]) {
        self.ropes.prepare(config, rows.iter().map(|row| (row.stretch, row.position)));
        self.x.resize(rows.len() * config.hidden, 0.0);
        self.qkv.resize(rows.len() * (config.query_width() + 2 * config.kv_width()), 0.0);
        self.attended.resize(rows.len() * config.query_width(), 0.0);
        self.gate_up.resize(rows.len() * 2 * config.intermediate, 0.0);
    }
}

impl Decoder {
    /// Packs weights piece by piece, so that little is held as f32 at a time.
    pub fn read(source: &mut WeightSource, precision: Precision) -> Result<Self, ModelError> {
        let config = source.config.clone();
        let LlamaConfig { vocab, hidden, .. } = config;
        let native = |source: &mut WeightSource, parts: &[Part]| match precision {
            Precision::F32 => Ok(None),
            Precision::Int8 | Precision::Int4 => Ok::<_, ModelError>(source.packed(parts)?.map(Linear::Packed)),
        };
        if let Some(embedding) = native(source, &[Part::Embedding])? {
            let (embedding, head) = match native(source, &[Part::Head][..usize::from(!config.tied)])? {
                Some(head) => (Embedding::Packed(embedding), head),
                None => (Embedding::Head, embedding),
            };
            let layers = (0..config.layers).map(|index| Layer::read(source, index, precision)).collect::<Result<_, _>>()?;
            return Ok(Self { config, embedding, layers, norm: source.read(Part::Norm)?, head });
        }
        let mut embedding = Embedding::zeroed(precision, vocab * hidden);
        let mut head = Linear::zeroed(&source.memory, precision, vocab, hidden);
        source.pieces(Part::Embedding, &mut |first, values| {
            embedding.write(first * hidden, values);
            if config.tied {
                head.write_rows(first, values);
            }
        })?;
        if !config.tied {
            source.pieces(Part::Head, &mut |first, values| head.write_rows(first, values))?;
        }
        let layers = (0..config.layers).map(|index| Layer::read(source, index, precision)).collect::<Result<_, _>>()?;
        Ok(Self { config, embedding, layers, norm: source.read(Part::Norm)?, head })
    }

    pub fn from_dense(weights: DenseWeights, precision: Precision) -> Self {
        let DenseWeights { config, embedding, layers, norm, head } = weights;
        let layers = layers.iter().map(|layer| Layer::pack(layer, &config, precision)).collect();
        let head = Linear::new(precision, config.hidden, &[head.as_deref().unwrap_or(&embedding)]);
        let mut held = Embedding::zeroed(precision, embedding.len());
        held.write(0, &embedding);
        Self { config, embedding: held, layers, norm, head }
    }

    /// Random blocks, for measuring speed.
    ///
    /// # Errors
    /// `Columns` when the widths are no multiples of the format's blocks.
    pub fn random(config: LlamaConfig, format: BlockFormat) -> Result<Self, PackError> {
        let LlamaConfig { hidden, intermediate, vocab, layers, .. } = config;
        let (queries, keys) = (config.query_width(), config.kv_width());
        let memory = WeightMemory::default();
        let matrix = |rows: usize, cols: usize| {
            let bytes = format.random_rows(rows, cols)?;
            let row_bytes = format.row_bytes(cols)?;
            let read = |first: usize, out: &mut [u8]| {
                out.copy_from_slice(&bytes[first * row_bytes..][..out.len()]);
                Ok::<(), PackError>(())
            };
            Ok(Linear::Packed(PackedMatrix::read_blocks(&memory, format, (rows, cols), 1, &read)?))
        };
        let layer = |_| {
            Ok(Layer {
                attention_norm: vec![1.0; hidden],
                qkv: matrix(queries + 2 * keys, hidden)?,
                qkv_bias: Vec::new(),
                o: matrix(hidden, queries)?,
                mlp_norm: vec![1.0; hidden],
                gate_up: matrix(2 * intermediate, hidden)?,
                down: matrix(hidden, intermediate)?,
            })
        };
        let layers = (0..layers).map(layer).collect::<Result<_, _>>()?;
        let embedding = if config.tied { Embedding::Head } else { Embedding::Packed(matrix(vocab, hidden)?) };
        Ok(Self { embedding, layers, norm: vec![1.0; hidden], head: matrix(vocab, hidden)?, config })
    }

    pub fn bytes(&self) -> usize {
        let embedding = match &self.embedding {
            Embedding::F16(values) => 2 * values.len(),
            Embedding::F32(values) => 4 * values.len(),
            Embedding::Packed(matrix) => matrix.bytes(),
            Embedding::Head => 0,
        };
        embedding + self.head.bytes() + self.layers.iter().map(Layer::bytes).sum::<usize>()
    }

    /// An empty cache for one sequence.
    pub fn slot(&self, capacity: usize) -> KvSlot {
        let LlamaConfig { layers, kv_heads, head_dim, .. } = self.config;
        match self.embedding {
            Embedding::F32(_) => KvSlot::exact(layers, kv_heads, head_dim, capacity),
            Embedding::F16(_) | Embedding::Packed(_) | Embedding::Head => KvSlot::new(layers, kv_heads, head_dim, capacity),
        }
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
        let LlamaConfig { hidden, intermediate, heads, rms_eps, .. } = self.config;
        let (queries, keys) = (self.config.query_width(), self.config.kv_width());
        let width = queries + 2 * keys;
        work.prepare(&self.config, rows);
        work.adapted.group(rows);
        machine.pool.rows(&mut work.x, hidden, &|row, x| self.embed(rows[row].item, x));
        let angles: Vec<(&[f32], &[f32])> = rows.iter().map(|row| work.ropes.at(row.stretch, row.position)).collect();
        let places: Vec<KvPlace> = rows.iter().map(Row::place).collect();
        for (index, layer) in self.layers.iter().enumerate() {
            let x = &work.x;
            let normed = |row: usize, out: &mut [f32]| {
                rms_norm(machine.isa, &x[row * hidden..][..hidden], &layer.attention_norm, rms_eps, out);
            };
            work.input.fill(machine, &layer.qkv, rows.len(), &normed);
            layer.qkv.apply(machine, &work.input, &mut work.qkv, Output::Replace);
            work.adapted.apply(machine, adapters, index, Site::Qkv, Output::Replace, &normed, &mut work.qkv, width);
            let new = NewHeads { layer: index, heads, bias: &layer.qkv_bias, angles: &angles, places: &places };
            make_ready(machine.isa, &machine.pool, &new, &mut work.qkv, prefixes, own);
            let seen: Vec<AttentionRow> = rows.iter().map(|row| row.seen(prefixes, own, self.config.window(index))).collect();
            attend(machine.isa, &machine.pool, index, &seen, heads, &work.qkv, width, &mut work.attended);
            let attended = &work.attended;
            let heads_of = |row: usize, out: &mut [f32]| out.copy_from_slice(&attended[row * queries..][..queries]);
            work.input.fill(machine, &layer.o, rows.len(), &heads_of);
            work.adapted.remember(adapters, index, Site::O, &work.x, hidden);
            layer.o.apply(machine, &work.input, &mut work.x, Output::Add);
            work.adapted.apply(machine, adapters, index, Site::O, Output::Add, &heads_of, &mut work.x, hidden);
            let x = &work.x;
            let normed = |row: usize, out: &mut [f32]| {
                rms_norm(machine.isa, &x[row * hidden..][..hidden], &layer.mlp_norm, rms_eps, out);
            };
            work.input.fill(machine, &layer.gate_up, rows.len(), &normed);
            layer.gate_up.apply(machine, &work.input, &mut work.gate_up, Output::Replace);
            work.adapted.apply(machine, adapters, index, Site::GateUp, Output::Replace, &normed, &mut work.gate_up, 2 * intermediate);
            let gate_up = &work.gate_up;
            let active = |row: usize, out: &mut [f32]| {
                let (gate, up) = gate_up[row * 2 * intermediate..][..2 * intermediate].split_at(intermediate);
                gated_silu(machine.isa, gate, up, out);
            };
            work.input.fill(machine, &layer.down, rows.len(), &active);
            work.adapted.remember(adapters, index, Site::Down, &work.x, hidden);
            layer.down.apply(machine, &work.input, &mut work.x, Output::Add);
            work.adapted.apply(machine, adapters, index, Site::Down, Output::Add, &active, &mut work.x, hidden);
        }
    }

    /// Logits `[wanted, vocab]` of some rows of the last forward pass, into `work.logits`.
    pub fn logits(&self, machine: &Machine, work: &mut Workspace, wanted: &[usize]) {
        let LlamaConfig { hidden, rms_eps, vocab, .. } = self.config;
        let x = &work.x;
        work.input.fill(machine, &self.head, wanted.len(), &|row, out| {
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
            (Item::Token(id), Embedding::Packed(matrix)) => matrix.row_into(id as usize, out),
            (Item::Token(id), Embedding::Head) => self.head.row_into(id as usize, out),
        }
    }
}

impl Row<'_> {
    /// Where its keys and values go.
    fn place(&self) -> KvPlace {
        match self.own {
            None => KvPlace { own: false, slot: self.prefix, position: self.position },
            Some((slot, prefix_length)) => KvPlace { own: true, slot, position: self.position - prefix_length },
        }
    }

    fn seen<'s>(&self, prefixes: &'s [KvSlot], own: &'s [KvSlot], window: Option<usize>) -> AttentionRow<'s> {
        let (prefix_length, own) = match self.own {
            None => (self.position + 1, None),
            Some((slot, prefix_length)) => (prefix_length, Some((&own[slot], self.position + 1 - prefix_length))),
        };
        // The weighted positions themselves see each other as trained; only the text behind them is held back or pushed.
        let weighted = if self.position < self.weighted { 0 } else { self.weighted };
        let first = window.map_or(0, |window| (self.position + 1).saturating_sub(window));
        AttentionRow { prefix: &prefixes[self.prefix], prefix_length, own, first, weighted, log_weight: self.log_weight }
    }
}

impl Layer {
    fn pack(dense: &DenseLayer, config: &LlamaConfig, precision: Precision) -> Self {
        Self {
            attention_norm: dense.attention_norm.clone(),
            qkv: Linear::new(precision, config.hidden, &[&dense.q, &dense.k, &dense.v]),
            qkv_bias: dense.qkv_bias.clone(),
            o: Linear::new(precision, config.query_width(), &[&dense.o]),
            mlp_norm: dense.mlp_norm.clone(),
            gate_up: Linear::new(precision, config.hidden, &[&dense.gate, &dense.up]),
            down: Linear::new(precision, config.intermediate, &[&dense.down]),
        }
    }

    fn read(source: &mut WeightSource, index: usize, precision: Precision) -> Result<Self, ModelError> {
        let mut stacked = |parts: &[Part]| {
            if precision != Precision::F32
                && let Some(packed) = source.packed(parts)?
            {
                return Ok(Linear::Packed(packed));
            }
            let (cols, rows) = (source.size(parts[0]).1, parts.iter().map(|part| source.size(*part).0).sum());
            let mut linear = Linear::zeroed(&source.memory, precision, rows, cols);
            let mut above = 0;
            for part in parts {
                source.pieces(*part, &mut |first, values| linear.write_rows(above + first, values))?;
                above += source.size(*part).0;
            }
            Ok::<_, ModelError>(linear)
        };
        let qkv = stacked(&[Part::Q(index), Part::K(index), Part::V(index)])?;
        let gate_up = stacked(&[Part::Gate(index), Part::Up(index)])?;
        let (o, down) = (stacked(&[Part::O(index)])?, stacked(&[Part::Down(index)])?);
        let bias = match source.config.variant.qkv_bias {
            true => [source.read(Part::QBias(index))?, source.read(Part::KBias(index))?, source.read(Part::VBias(index))?].concat(),
            false => Vec::new(),
        };
        let (attention_norm, mlp_norm) = (source.read(Part::AttentionNorm(index))?, source.read(Part::MlpNorm(index))?);
        Ok(Self { attention_norm, qkv, qkv_bias: bias, o, mlp_norm, gate_up, down })
    }

    fn bytes(&self) -> usize {
        self.qkv.bytes() + self.o.bytes() + self.gate_up.bytes() + self.down.bytes()
    }
}
