//! What a base is, without loading it.

use crate::files::BaseFiles;
use crate::source::WeightSource;
use crate::t5::T5Source;
use crate::text_model::is_t5;
use crate::{BaseConfig, LlamaConfig, ModelError, Precision, T5Config};
use kernels::packed::{PackedMatrix, Rounding};
use std::path::Path;

/// What can be said of a base before it is loaded.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelFacts {
    /// As `model_type` in transformers, such as `llama` or `qwen2`.
    pub architecture: &'static str,
    pub parameters: u64,
    /// Longest text in tokens.
    pub context: usize,
    /// `safetensors` or `gguf`.
    pub format: &'static str,
    /// How the numbers in the file are held: `F32`, `F16`, `BF16`, `Q8_0`, `Q4_K`, …
    pub numbers: &'static str,
    /// Of all weight files.
    pub bytes: u64,
    /// It comes with a template for conversations.
    pub chat: bool,
    pub config: BaseConfig,
}

/// Reads and checks configs and headers of a folder or a GGUF file; no weights.
///
/// # Errors
/// As [`crate::LanguageModel::load`], for everything that can be told without reading weights.
pub fn inspect(path: &Path) -> Result<ModelFacts, ModelError> {
    if is_t5(path) {
        return inspect_t5(path);
    }
    let source = WeightSource::open(path)?;
    let chat = match BaseFiles::find(path)? {
        BaseFiles::Gguf(_) => source.gguf().is_some_and(|file| file.text("tokenizer.chat_template").is_some()),
        BaseFiles::Folder(folder) => crate::chat::has_template(&folder)?,
    };
    Ok(ModelFacts {
        architecture: source.config.variant.architecture.name(),
        parameters: source.config.parameters() as u64,
        context: source.config.context,
        format: if source.is_gguf() { "gguf" } else { "safetensors" },
        numbers: source.number_format(),
        bytes: source.bytes(),
        chat,
        config: BaseConfig::Decoder(source.config),
    })
}

fn inspect_t5(folder: &Path) -> Result<ModelFacts, ModelError> {
    let source = T5Source::open(folder)?;
    Ok(ModelFacts {
        architecture: "t5",
        parameters: source.parameters() as u64,
        context: T5Config::CONTEXT,
        format: "safetensors",
        numbers: source.number_format(),
        bytes: source.bytes(),
        chat: false,
        config: BaseConfig::T5(source.config),
    })
}

impl ModelFacts {
    /// Bytes of the base in memory once it is loaded, without caches.
    pub fn weight_bytes(&self, precision: Precision) -> u64 {
        match (&self.config, self.format, precision) {
            // They stay as they are; tiles of 16 rows round up.
            (_, "gguf", Precision::Int8 | Precision::Int4) => self.bytes + self.bytes / 50,
            (BaseConfig::Decoder(config), ..) => config.weight_bytes(precision),
            (BaseConfig::T5(config), ..) => config.weight_bytes(precision, self.parameters),
        }
    }

    /// Bytes of loading and running: weights, the caches of a prompt and of `candidates` texts, and work space.
    ///
    /// The prompt and each text may be `tokens` long.
    pub fn memory_bytes(&self, precision: Precision, candidates: usize, tokens: usize) -> u64 {
        let tokens = tokens.min(self.context) as u64;
        let cache = match &self.config {
            BaseConfig::Decoder(config) => config.cache_bytes(precision),
            // Keys and values of the answer and of the prompt, in f32.
            BaseConfig::T5(config) => 2 * 4 * (config.decoder_layers * config.width()) as u64,
        };
        self.weight_bytes(precision) + cache * tokens * (candidates as u64 + 1) + WORK_BYTES
    }
}

/// Tokenizer, work space and what is read at once while loading.
const WORK_BYTES: u64 = 60 << 20;

impl T5Config {
    /// Bytes of so many `parameters` as they are held in memory: matrices packed, the embedding beside the head that it is tied to.
    fn weight_bytes(&self, precision: Precision, parameters: u64) -> u64 {
        let embedding = (self.vocab * self.hidden) as u64;
        let own_head = parameters > self.parameters() as u64;
        let packed = if own_head { parameters - embedding } else { parameters };
        match precision {
            // A scale for every 32 numbers.
            Precision::Int8 => packed + packed / 8 + 2 * embedding,
            Precision::Int4 => packed / 2 + packed / 8 + 2 * embedding,
            Precision::F32 => 4 * (packed + embedding),
        }
    }
}

impl LlamaConfig {
    /// Bytes of the weights as they are held in memory.
    pub fn weight_bytes(&self, precision: Precision) -> u64 {
        let (queries, keys) = (self.query_width(), self.kv_width());
        let embedding = (self.vocab * self.hidden) as u64;
        let layers = self.layers as u64;
        let matrices = [
            (queries + 2 * keys, self.hidden, layers),
            (self.hidden, queries, layers),
            (2 * self.intermediate, self.hidden, layers),
            (self.hidden, self.intermediate, layers),
            (self.vocab, self.hidden, 1),
        ];
        let matrix = |(rows, cols, count): (usize, usize, u64)| match precision {
            Precision::Int8 => count * PackedMatrix::bytes_of(Rounding::Int8, rows, cols) as u64,
            Precision::Int4 => count * PackedMatrix::bytes_of(Rounding::Int4, rows, cols) as u64,
            Precision::F32 => count * 4 * (rows * cols) as u64,
        };
        let embedding_width = match precision {
            Precision::Int8 | Precision::Int4 => 2,
            Precision::F32 => 4,
        };
        embedding_width * embedding + matrices.into_iter().map(matrix).sum::<u64>()
    }

    /// Bytes of the keys and values of one position.
    pub fn cache_bytes(&self, precision: Precision) -> u64 {
        let width = match precision {
            Precision::Int8 | Precision::Int4 => 2,
            Precision::F32 => 4,
        };
        2 * width * (self.layers * self.kv_width()) as u64
    }
}
