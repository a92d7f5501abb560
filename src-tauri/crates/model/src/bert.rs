//! The BERT encoder (Devlin et al., 2018) over packed int8 weights.
//!
//! Sequences of a batch lie one after the other, so no row is ever padding and no text changes another's result.

use crate::ModelError;
use crate::checkpoint::Checkpoint;
use crate::files::read_capped;
use crate::linear::{Input, Linear, Machine};
use kernels::biased_attention::{BiasedRow, Memory, attend_biased};
use kernels::encoder::{gelu, layer_norm};
use kernels::matmul::Output;
use serde::Deserialize;
use std::path::Path;

const MAX_CONFIG_BYTES: u64 = 1 << 20;
/// Columns of a weight matrix that share a scale in our int8 files.
const BLOCK: usize = 32;

/// The shape of a BERT encoder.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct BertConfig {
    pub hidden: usize,
    pub intermediate: usize,
    pub layers: usize,
    pub heads: usize,
    pub vocab: usize,
    /// Longest sequence in tokens.
    pub positions: usize,
    pub eps: f32,
    types: usize,
}

impl BertConfig {
    /// Reads `config.json` of `dir`.
    ///
    /// # Errors
    /// `Missing`, `Damaged` for impossible sizes, `Unsupported` for another architecture, activation or kind of positions.
    pub fn load(dir: &Path) -> Result<Self, ModelError> {
        let path = dir.join("config.json");
        let raw: RawConfig = serde_json::from_slice(&read_capped(&path, MAX_CONFIG_BYTES)?)
            .map_err(|error| ModelError::damaged(&path, error.to_string()))?;
        let refuse = |reason: String| Err(ModelError::unsupported(&path, reason));
        if raw.model_type != "bert" {
            return refuse(format!("the architecture \"{}\" is not BERT", raw.model_type));
        }
        if raw.hidden_act != "gelu" {
            return refuse(format!("the activation \"{}\" is not known", raw.hidden_act));
        }
        if let Some(kind) = raw.position_embedding_type.filter(|kind| kind != "absolute") {
            return refuse(format!("positions of the kind \"{kind}\" are not known"));
        }
        let config = Self {
            hidden: raw.hidden_size,
            intermediate: raw.intermediate_size,
            layers: raw.num_hidden_layers,
            heads: raw.num_attention_heads,
            vocab: raw.vocab_size,
            positions: raw.max_position_embeddings,
            eps: raw.layer_norm_eps,
            types: raw.type_vocab_size,
        };
        config.check(&path)?;
        Ok(config)
    }

    pub fn head_dim(&self) -> usize {
        self.hidden / self.heads
    }

    /// Numbers in the whole encoder, without a pooling head.
    pub fn parameters(&self) -> usize {
        let hidden = self.hidden;
        let layer = 4 * hidden * (hidden + 1) + 2 * hidden * self.intermediate + self.intermediate + hidden + 4 * hidden;
        (self.vocab + self.positions + self.types + 2) * hidden + self.layers * layer
    }

    /// Caps far above every encoder that could run here, so that products of sizes cannot overflow.
    fn check(&self, path: &Path) -> Result<(), ModelError> {
        let caps = [
            ("hidden_size", self.hidden, 1 << 14),
            ("intermediate_size", self.intermediate, 1 << 16),
            ("num_hidden_layers", self.layers, 1 << 8),
            ("num_attention_heads", self.heads, 1 << 8),
            ("vocab_size", self.vocab, 1 << 21),
            ("max_position_embeddings", self.positions, 1 << 16),
            ("type_vocab_size", self.types, 1 << 8),
        ];
        if let Some((name, value, cap)) = caps.into_iter().find(|(_, value, cap)| *value == 0 || value > cap) {
            return Err(ModelError::damaged(path, format!("{name} is {value}, outside 1 to {cap}")));
        }
        if !self.hidden.is_multiple_of(self.heads) {
            return Err(ModelError::damaged(path, format!("{} numbers cannot be cut into {} heads", self.hidden, self.heads)));
        }
        if !(self.eps.is_finite() && self.eps > 0.0) {
            return Err(ModelError::damaged(path, "layer_norm_eps must be positive"));
        }
        if !self.head_dim().is_multiple_of(16) || !self.hidden.is_multiple_of(BLOCK) || !self.intermediate.is_multiple_of(BLOCK) {
            let reason = format!("heads of {} or widths of {} and {} do not fit", self.head_dim(), self.hidden, self.intermediate);
            return Err(ModelError::unsupported(path, reason));
        }
        Ok(())
    }
}

#[derive(Deserialize)]
struct RawConfig {
    model_type: String,
    hidden_act: String,
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    vocab_size: usize,
    max_position_embeddings: usize,
    type_vocab_size: usize,
    layer_norm_eps: f32,
    position_embedding_type: Option<String>,
}

/// The weights of an encoder in the form that the kernels want.
pub(crate) struct Bert {
    pub config: BertConfig,
    words: Int8Rows,
    /// `[positions, hidden]`, with the vector of token type 0 added.
    positions: Vec<f32>,
    norm: Norm,
    layers: Vec<Layer>,
}

/// A matrix of which single rows are wanted.
struct Int8Rows {
    cols: usize,
    values: Vec<i8>,
    /// `[rows, cols / 32]`.
    scales: Vec<f32>,
}

struct Norm {
    gain: Vec<f32>,
    shift: Vec<f32>,
}

/// One block, with its norms behind its sums.
struct Layer {
    /// Queries, keys and values, one below the other.
    qkv: Linear,
    qkv_bias: Vec<f32>,
    output: Linear,
    output_bias: Vec<f32>,
    output_norm: Norm,
    up: Linear,
    up_bias: Vec<f32>,
    down: Linear,
    down_bias: Vec<f32>,
    down_norm: Norm,
}

/// Memory of a forward pass, used again and again.
#[derive(Default)]
pub(crate) struct Workspace {
    /// `[rows, hidden]`; after [`Bert::forward`], the encoder's output.
    pub x: Vec<f32>,
    qkv: Vec<f32>,
    attended: Vec<f32>,
    inner: Vec<f32>,
    input: Input,
    memories: Vec<Memory>,
}

impl Bert {
    /// Reads an int8 encoder, or turns it into f32 for the oracle.
    ///
    /// # Errors
    /// `Missing`, `Damaged`, `Unsupported` or `Io`, each with the file it is about.
    pub fn load(dir: &Path, machine: &Machine) -> Result<Self, ModelError> {
        let config = BertConfig::load(dir)?;
        let path = dir.join("model.safetensors");
        let mut file = Source { checkpoint: Checkpoint::open(&path)?, machine };
        // Checked before anything is allocated: config.json could claim far more layers than there are.
        let layer_name = |index: usize| format!("encoder.layer.{index}.output.dense.bias");
        if !file.checkpoint.contains(&layer_name(config.layers - 1)) || file.checkpoint.contains(&layer_name(config.layers)) {
            let reason = format!("it does not hold the {} layers that config.json names", config.layers);
            return Err(ModelError::damaged(&path, reason));
        }
        let hidden = config.hidden;
        let (values, scales) = file.int8("embeddings.word_embeddings.weight", config.vocab, hidden)?;
        let mut positions = file.checkpoint.read("embeddings.position_embeddings.weight", &[config.positions, hidden])?;
        let types = file.checkpoint.read("embeddings.token_type_embeddings.weight", &[config.types, hidden])?;
        for position in positions.chunks_exact_mut(hidden) {
            position.iter_mut().zip(&types).for_each(|(sum, part)| *sum += part);
        }
        Ok(Self {
            words: Int8Rows { cols: hidden, values, scales },
            positions,
            norm: file.norm("embeddings.LayerNorm", hidden)?,
            layers: (0..config.layers).map(|index| Layer::read(&mut file, index, &config)).collect::<Result<_, _>>()?,
            config,
        })
    }

    pub fn bytes(&self) -> usize {
        let layer = |layer: &Layer| layer.qkv.bytes() + layer.output.bytes() + layer.up.bytes() + layer.down.bytes();
        self.words.values.len() + 4 * (self.words.scales.len() + self.positions.len()) + self.layers.iter().map(layer).sum::<usize>()
    }

    /// Encodes sequences of known tokens, none longer than `positions`; leaves `[rows, hidden]` in `work.x`.
    pub fn forward(&self, machine: &Machine, work: &mut Workspace, sequences: &[Vec<u32>]) {
        let BertConfig { hidden, intermediate, heads, eps, .. } = self.config;
        let rows: usize = sequences.iter().map(Vec::len).sum();
        let isa = machine.isa;
        work.x.resize(rows * hidden, 0.0);
        work.qkv.resize(rows * 3 * hidden, 0.0);
        work.attended.resize(rows * hidden, 0.0);
        work.inner.resize(rows * intermediate, 0.0);
        while work.memories.len() < sequences.len() {
            work.memories.push(Memory::new(heads, self.config.head_dim(), 0));
        }
        let tokens: Vec<(usize, u32)> = sequences.iter().flat_map(|one| one.iter().copied().enumerate()).collect();
        machine.pool.rows(&mut work.x, hidden, &|row, x| {
            let (position, token) = tokens[row];
            self.words.read(token as usize, x);
            x.iter_mut().zip(&self.positions[position * hidden..]).for_each(|(sum, part)| *sum += part);
            self.norm.apply(machine, x, eps);
        });
        for layer in &self.layers {
            let x = &work.x;
            work.input.fill(machine, &layer.qkv, rows, &|row, out| out.copy_from_slice(&x[row * hidden..][..hidden]));
            layer.qkv.apply(machine, &work.input, &mut work.qkv, Output::Replace);
            machine.pool.rows(&mut work.qkv, 3 * hidden, &|_, qkv| add(qkv, &layer.qkv_bias));
            self.attend(machine, work, sequences);
            let attended = &work.attended;
            work.input.fill(machine, &layer.output, rows, &|row, out| out.copy_from_slice(&attended[row * hidden..][..hidden]));
            layer.output.apply(machine, &work.input, &mut work.x, Output::Add);
            machine.pool.rows(&mut work.x, hidden, &|_, x| {
                add(x, &layer.output_bias);
                layer.output_norm.apply(machine, x, eps);
            });
            let x = &work.x;
            work.input.fill(machine, &layer.up, rows, &|row, out| out.copy_from_slice(&x[row * hidden..][..hidden]));
            layer.up.apply(machine, &work.input, &mut work.inner, Output::Replace);
            let inner = &work.inner;
            work.input.fill(machine, &layer.down, rows, &|row, out| {
                out.copy_from_slice(&inner[row * intermediate..][..intermediate]);
                add(out, &layer.up_bias);
                gelu(isa, out);
            });
            layer.down.apply(machine, &work.input, &mut work.x, Output::Add);
            machine.pool.rows(&mut work.x, hidden, &|_, x| {
                add(x, &layer.down_bias);
                layer.down_norm.apply(machine, x, eps);
            });
        }
    }

    /// Every position of a sequence sees all of it, and nothing of the others.
    fn attend(&self, machine: &Machine, work: &mut Workspace, sequences: &[Vec<u32>]) {
        let hidden = self.config.hidden;
        let starts: Vec<usize> = sequences
            .iter()
            .scan(0, |next, one| {
                let start = *next;
                *next += one.len();
                Some(start)
            })
            .collect();
        let qkv = &work.qkv;
        machine.pool.each(&mut work.memories[..sequences.len()], &|index, memory| {
            memory.reserve(sequences[index].len());
            for position in 0..sequences[index].len() {
                let row = &qkv[(starts[index] + position) * 3 * hidden..][..3 * hidden];
                memory.write(position, &row[hidden..2 * hidden], &row[2 * hidden..]);
            }
        });
        let rows: Vec<BiasedRow> = sequences
            .iter()
            .zip(&work.memories)
            .flat_map(|(one, memory)| one.iter().map(move |_| BiasedRow { memory, seen: one.len(), first_bias: 0 }))
            .collect();
        let scale = 1.0 / (self.config.head_dim() as f32).sqrt();
        attend_biased(machine.isa, &machine.pool, &rows, scale, None, &work.qkv, 3 * hidden, &mut work.attended);
    }
}

impl Int8Rows {
    fn read(&self, row: usize, out: &mut [f32]) {
        let values = self.values[row * self.cols..][..self.cols].chunks(BLOCK);
        let scales = &self.scales[row * self.cols / BLOCK..];
        for ((out, values), scale) in out.chunks_mut(BLOCK).zip(values).zip(scales) {
            out.iter_mut().zip(values).for_each(|(out, value)| *out = f32::from(*value) * scale);
        }
    }
}

impl Norm {
    fn apply(&self, machine: &Machine, x: &mut [f32], eps: f32) {
        layer_norm(machine.isa, x, &self.gain, &self.shift, eps);
    }
}

impl Layer {
    fn read(file: &mut Source, index: usize, config: &BertConfig) -> Result<Self, ModelError> {
        let (hidden, intermediate) = (config.hidden, config.intermediate);
        let name = |part: &str| format!("encoder.layer.{index}.{part}");
        let qkv = ["query", "key", "value"].map(|part| name(&format!("attention.self.{part}")));
        let parts = qkv.each_ref().map(|part| file.matrix(part, hidden, hidden));
        let [q, k, v] = parts;
        let (q, k, v) = (q?, k?, v?);
        let mut qkv_bias = Vec::with_capacity(3 * hidden);
        for part in &qkv {
            qkv_bias.extend(file.bias(part, hidden)?);
        }
        let precision = file.machine.precision;
        Ok(Self {
            qkv: Linear::new(precision, hidden, &[&q, &k, &v]),
            qkv_bias,
            output: Linear::new(precision, hidden, &[&file.matrix(&name("attention.output.dense"), hidden, hidden)?]),
            output_bias: file.bias(&name("attention.output.dense"), hidden)?,
            output_norm: file.norm(&name("attention.output.LayerNorm"), hidden)?,
            up: Linear::new(precision, hidden, &[&file.matrix(&name("intermediate.dense"), intermediate, hidden)?]),
            up_bias: file.bias(&name("intermediate.dense"), intermediate)?,
            down: Linear::new(precision, intermediate, &[&file.matrix(&name("output.dense"), hidden, intermediate)?]),
            down_bias: file.bias(&name("output.dense"), hidden)?,
            down_norm: file.norm(&name("output.LayerNorm"), hidden)?,
        })
    }
}

/// A file of our int8 layout: each matrix `x` as int8 with f16 scales `x.scale` for each 32 columns.
struct Source<'a> {
    checkpoint: Checkpoint,
    machine: &'a Machine,
}

impl Source<'_> {
    fn int8(&mut self, name: &str, rows: usize, cols: usize) -> Result<(Vec<i8>, Vec<f32>), ModelError> {
        let values = self.checkpoint.read_i8(name, &[rows, cols])?;
        let scales = self.checkpoint.read(&format!("{name}.scale"), &[rows, cols / BLOCK])?;
        Ok((values, scales))
    }

    /// A matrix as f32. Packing gives the same int8 weights back, as their blocks and scales are the file's.
    fn matrix(&mut self, name: &str, rows: usize, cols: usize) -> Result<Vec<f32>, ModelError> {
        let (values, scales) = self.int8(&format!("{name}.weight"), rows, cols)?;
        let blocks = values.chunks_exact(BLOCK).zip(&scales);
        Ok(blocks.flat_map(|(block, scale)| block.iter().map(move |value| f32::from(*value) * scale)).collect())
    }

    fn bias(&mut self, name: &str, size: usize) -> Result<Vec<f32>, ModelError> {
        self.checkpoint.read(&format!("{name}.bias"), &[size])
    }

    fn norm(&mut self, name: &str, size: usize) -> Result<Norm, ModelError> {
        Ok(Norm { gain: self.checkpoint.read(&format!("{name}.weight"), &[size])?, shift: self.bias(name, size)? })
    }
}

fn add(sum: &mut [f32], part: &[f32]) {
    sum.iter_mut().zip(part).for_each(|(sum, part)| *sum += part);
}
