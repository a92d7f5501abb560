//! Where a base's weights come from: one reading of safetensors and GGUF, of fused and of separate matrices.
//!
//! Everything is read in pieces of whole rows, so that a packed base never holds all of its f32 weights at once.

use crate::files::BaseFiles;
use crate::gguf::Gguf;
use crate::shards::Shards;
use crate::{Architecture, LlamaConfig, ModelError, gguf_config};
use kernels::packed::{PackError, PackedMatrix, WeightMemory};
use std::ops::Range;
use std::path::Path;

/// Numbers that are held as f32 at once while a matrix is read.
const PIECE: usize = 1 << 20;

/// A tensor of a base, by what it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Embedding,
    Norm,
    Head,
    AttentionNorm(usize),
    Q(usize),
    K(usize),
    V(usize),
    QBias(usize),
    KBias(usize),
    VBias(usize),
    O(usize),
    MlpNorm(usize),
    Gate(usize),
    Up(usize),
    Down(usize),
}

/// An open base.
pub(crate) struct WeightSource {
    pub config: LlamaConfig,
    /// Where packed weights go.
    pub memory: WeightMemory,
    store: Store,
}

/// Why packed rows could not be taken in.
enum Unread {
    File(ModelError),
    Blocks(PackError),
}

impl From<PackError> for Unread {
    fn from(error: PackError) -> Self {
        Self::Blocks(error)
    }
}

enum Store {
    Safetensors(Shards),
    Gguf(Gguf),
}

/// Where a part is: some rows of a tensor.
struct Place {
    name: String,
    /// Of the whole tensor.
    tensor_rows: usize,
    /// Before the part.
    skipped: usize,
    rows: usize,
    cols: usize,
    /// Rows of each head stand in the order in which GGUF's `llama` wants them.
    paired: bool,
}

impl WeightSource {
    /// Opens a folder or a GGUF file and checks that the tensors are those of its config.
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        match BaseFiles::find(path)? {
            BaseFiles::Folder(folder) => {
                let config = LlamaConfig::load(&folder)?;
                Self::checked(config, Store::Safetensors(Shards::open(&folder)?))
            }
            BaseFiles::Gguf(file) => Self::from_gguf(Gguf::open(&file)?),
        }
    }

    pub fn from_gguf(mut file: Gguf) -> Result<Self, ModelError> {
        Self::checked(gguf_config::config(&mut file)?, Store::Gguf(file))
    }

    /// Checked before anything is allocated: a config could claim far more layers than there are.
    fn checked(config: LlamaConfig, store: Store) -> Result<Self, ModelError> {
        let source = Self { config, store, memory: WeightMemory::default() };
        let layers = source.config.layers;
        let there = |layer| source.contains(&source.place(Part::AttentionNorm(layer)).name);
        if !there(layers - 1) || there(layers) {
            let reason = format!("it does not hold the {layers} layers that its config names");
            return Err(ModelError::damaged(source.path(), reason));
        }
        let mut parts = vec![Part::Embedding, Part::Norm];
        if !source.config.tied {
            parts.push(Part::Head);
        }
        for part in parts.into_iter().chain((0..layers).flat_map(|layer| source.layer_parts(layer))) {
            source.check(&source.place(part))?;
        }
        if let Some(name) = source.names().find(|name| !source.is_known(name)) {
            return Err(ModelError::unsupported(source.path(), format!("the tensor {name} means nothing to this engine")));
        }
        Ok(source)
    }

    /// The tensor of a place is there and has its size; a vector may be one row.
    fn check(&self, place: &Place) -> Result<(), ModelError> {
        let Place { name, tensor_rows, cols, .. } = place;
        let shape = match &self.store {
            Store::Safetensors(shards) => shards.shape(name),
            Store::Gguf(file) => file.layout(name).map(|(_, shape)| shape),
        };
        match shape {
            None => Err(ModelError::damaged(self.path(), format!("the tensor {name} is missing"))),
            Some(shape) if *shape == [*tensor_rows, *cols] || (*tensor_rows == 1 && *shape == [*cols]) => Ok(()),
            Some(shape) => {
                let reason = format!("{name} has the shape {shape:?} instead of [{tensor_rows}, {cols}]");
                Err(ModelError::damaged(self.path(), reason))
            }
        }
    }

    fn layer_parts(&self, layer: usize) -> Vec<Part> {
        let mut parts = vec![Part::AttentionNorm(layer), Part::Q(layer), Part::K(layer), Part::V(layer), Part::O(layer)];
        parts.extend([Part::MlpNorm(layer), Part::Gate(layer), Part::Up(layer), Part::Down(layer)]);
        if self.config.variant.qkv_bias {
            parts.extend([Part::QBias(layer), Part::KBias(layer), Part::VBias(layer)]);
        }
        parts
    }

    pub fn path(&self) -> &Path {
        match &self.store {
            Store::Safetensors(shards) => shards.path(),
            Store::Gguf(file) => file.path(),
        }
    }

    /// Of all weight files.
    pub fn bytes(&self) -> u64 {
        match &self.store {
            Store::Safetensors(shards) => shards.bytes(),
            Store::Gguf(file) => file.bytes(),
        }
    }

    /// How most of the numbers in the matrices are held, as GGUF names it.
    pub fn number_format(&self) -> &'static str {
        let name = self.place(Part::Down(0)).name;
        match &self.store {
            Store::Safetensors(shards) => shards.dtype(&name).unwrap_or("?"),
            Store::Gguf(file) => file.layout(&name).map_or("?", |(kind, _)| kind.name()),
        }
    }

    pub fn is_gguf(&self) -> bool {
        matches!(self.store, Store::Gguf(_))
    }

    pub fn gguf(&self) -> Option<&Gguf> {
        match &self.store {
            Store::Gguf(file) => Some(file),
            Store::Safetensors(_) => None,
        }
    }

    /// Rows and columns of a part; a vector is one row.
    pub fn size(&self, part: Part) -> (usize, usize) {
        let place = self.place(part);
        (place.rows, place.cols)
    }

    /// A whole part in f32, row-major.
    ///
    /// # Errors
    /// `Damaged` when it is absent, has another shape or holds a number that is not finite; `Unsupported` for another dtype.
    pub fn read(&mut self, part: Part) -> Result<Vec<f32>, ModelError> {
        let (rows, cols) = self.size(part);
        let mut all = Vec::with_capacity(rows * cols);
        self.pieces(part, &mut |_, values| all.extend_from_slice(values))?;
        Ok(all)
    }

    /// Gives a part to `take` piece by piece: the first row of the piece, and its numbers.
    ///
    /// # Errors
    /// As [`WeightSource::read`].
    pub fn pieces(&mut self, part: Part, take: &mut dyn FnMut(usize, &[f32])) -> Result<(), ModelError> {
        let place = self.place(part);
        let head_dim = self.config.head_dim;
        let whole = if place.paired { head_dim } else { 1 };
        let step = (PIECE / place.cols).max(1).next_multiple_of(whole);
        let mut sorted = Vec::new();
        for first in (0..place.rows).step_by(step) {
            let values = self.rows(&place, first..place.rows.min(first + step))?;
            if place.paired {
                sorted.resize(values.len(), 0.0);
                unpair(&values, place.cols, head_dim, &mut sorted);
                take(first, &sorted);
            } else {
                take(first, &values);
            }
        }
        Ok(())
    }

    /// Matrices of a GGUF file, one below the other, in the formats that they are held in; `None` for safetensors and for no
    /// parts.
    ///
    /// # Errors
    /// As [`WeightSource::read`].
    pub fn packed(&self, parts: &[Part]) -> Result<Option<PackedMatrix>, ModelError> {
        let Store::Gguf(file) = &self.store else { return Ok(None) };
        if parts.is_empty() {
            return Ok(None);
        }
        let head_dim = self.config.head_dim;
        let one = |part: &Part| {
            let Place { name, skipped, rows, cols, paired, .. } = self.place(*part);
            let format = file.format_of(&name, skipped + rows, cols)?;
            let read = |first: usize, out: &mut [u8]| {
                let fetch = |out: &mut [u8]| file.read_rows(&name, skipped + first, cols, out).map_err(Unread::File);
                if !paired {
                    return fetch(out);
                }
                let mut raw = vec![0; out.len()];
                fetch(&mut raw)?;
                let row_bytes = format.row_bytes(cols)?;
                unpair(&raw, row_bytes, head_dim, out);
                Ok(())
            };
            // Whole heads, whose rows are put in another order.
            PackedMatrix::read_blocks(&self.memory, format, (rows, cols), head_dim, &read).map_err(|unread| match unread {
                Unread::File(error) => error,
                Unread::Blocks(error) => ModelError::damaged(file.path(), format!("{name}: {error}")),
            })
        };
        Ok(Some(PackedMatrix::stack(parts.iter().map(one).collect::<Result<_, _>>()?)))
    }

    fn rows(&mut self, place: &Place, range: Range<usize>) -> Result<Vec<f32>, ModelError> {
        let (first, count) = (place.skipped + range.start, range.len());
        match &mut self.store {
            Store::Safetensors(shards) => shards.rows(&place.name, place.tensor_rows, place.cols, first, count),
            Store::Gguf(file) => file.numbers(&place.name, first, count, place.cols),
        }
    }

    fn contains(&self, name: &str) -> bool {
        match &self.store {
            Store::Safetensors(shards) => shards.contains(name),
            Store::Gguf(file) => file.contains(name),
        }
    }

    fn names(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        match &self.store {
            Store::Safetensors(shards) => Box::new(shards.names()),
            Store::Gguf(file) => Box::new(file.names()),
        }
    }

    /// Whether leaving a tensor aside, or reading it where it is due, gives what the file means.
    fn is_known(&self, name: &str) -> bool {
        let config = &self.config;
        let whole = match self.store {
            // Tied bases may hold their head a second time; older ones hold the frequencies that follow from the config.
            Store::Safetensors(_) => ["model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"].contains(&name),
            Store::Gguf(_) => {
                let ropes = ["rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight"];
                ["token_embd.weight", "output_norm.weight", "output.weight"].contains(&name) || ropes.contains(&name)
            }
        };
        let layer = || name.split('.').find_map(|piece| piece.parse::<usize>().ok()).filter(|layer| *layer < config.layers);
        whole
            || name.ends_with("rotary_emb.inv_freq")
            || layer().is_some_and(|layer| self.layer_parts(layer).into_iter().any(|part| self.place(part).name == name))
    }

    fn place(&self, part: Part) -> Place {
        let config = &self.config;
        let LlamaConfig { hidden, intermediate, vocab, .. } = *config;
        let (queries, keys) = (config.query_width(), config.kv_width());
        let fused = config.variant.architecture == Architecture::Phi3;
        let gguf = self.is_gguf();
        let paired = gguf && config.variant.architecture == Architecture::Llama;
        let whole = |name: String, rows, cols| Place { name, tensor_rows: rows, skipped: 0, rows, cols, paired: false };
        let layer = |layer: usize, hf: &str, ggml: &str, end: &str| match gguf {
            true => format!("blk.{layer}.{ggml}.{end}"),
            false => format!("model.layers.{layer}.{hf}.{end}"),
        };
        let weight = |index: usize, hf: &str, ggml: &str, rows, cols| whole(layer(index, hf, ggml, "weight"), rows, cols);
        let bias = |index: usize, hf: &str, ggml: &str, width| whole(layer(index, hf, ggml, "bias"), 1, width);
        let top = |hf: &str, ggml: &str, rows, cols| whole(format!("{}.weight", if gguf { ggml } else { hf }), rows, cols);
        // Phi-3 holds queries, keys and values as one matrix, gate and up as another (GGUF calls that one `ffn_up`).
        let qkv = |index, hf: &str, ggml: &str, rows, skipped| match fused {
            false => weight(index, hf, ggml, rows, hidden),
            true => Place { rows, skipped, ..weight(index, "self_attn.qkv_proj", "attn_qkv", queries + 2 * keys, hidden) },
        };
        let gate_up = |index, hf: &str, ggml: &str, skipped| match fused {
            false => weight(index, hf, ggml, intermediate, hidden),
            true => Place { rows: intermediate, skipped, ..weight(index, "mlp.gate_up_proj", "ffn_up", 2 * intermediate, hidden) },
        };
        match part {
            Part::Embedding => top("model.embed_tokens", "token_embd", vocab, hidden),
            Part::Norm => top("model.norm", "output_norm", 1, hidden),
            Part::Head => top("lm_head", "output", vocab, hidden),
            Part::AttentionNorm(index) => weight(index, "input_layernorm", "attn_norm", 1, hidden),
            Part::Q(index) => Place { paired, ..qkv(index, "self_attn.q_proj", "attn_q", queries, 0) },
            Part::K(index) => Place { paired, ..qkv(index, "self_attn.k_proj", "attn_k", keys, queries) },
            Part::V(index) => qkv(index, "self_attn.v_proj", "attn_v", keys, queries + keys),
            Part::QBias(index) => bias(index, "self_attn.q_proj", "attn_q", queries),
            Part::KBias(index) => bias(index, "self_attn.k_proj", "attn_k", keys),
            Part::VBias(index) => bias(index, "self_attn.v_proj", "attn_v", keys),
            Part::O(index) => weight(index, "self_attn.o_proj", "attn_output", hidden, queries),
            Part::MlpNorm(index) => weight(index, "post_attention_layernorm", "ffn_norm", 1, hidden),
            Part::Gate(index) => gate_up(index, "mlp.gate_proj", "ffn_gate", 0),
            Part::Up(index) => gate_up(index, "mlp.up_proj", "ffn_up", intermediate),
            Part::Down(index) => weight(index, "mlp.down_proj", "ffn_down", hidden, intermediate),
        }
    }
}

/// Turns rows of whole heads from the order 0, half, 1, half + 1, … back to 0, 1, 2, …
///
/// GGUF's `llama` rotates neighbours, transformers rotates halves; the converter moves the rows of queries and keys accordingly.
fn unpair<T: Copy>(values: &[T], cols: usize, head_dim: usize, out: &mut [T]) {
    let half = head_dim / 2;
    for (from, to) in values.chunks_exact(head_dim * cols).zip(out.chunks_exact_mut(head_dim * cols)) {
        for (row, to) in to.chunks_exact_mut(cols).enumerate() {
            to.copy_from_slice(&from[(row % half * 2 + row / half) * cols..][..cols]);
        }
    }
}
