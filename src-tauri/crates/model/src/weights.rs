//! The weights of a base as plain f32, for training and as the source of packed ones.

use crate::files::BaseFiles;
use crate::source::{Part, WeightSource};
use crate::{LlamaConfig, ModelError, files};
use std::path::Path;

/// All weights of a Llama base in f32.
#[derive(Debug, Clone)]
pub struct DenseWeights {
    pub config: LlamaConfig,
    /// `[vocab, hidden]`.
    pub embedding: Vec<f32>,
    pub layers: Vec<DenseLayer>,
    /// `[hidden]`.
    pub norm: Vec<f32>,
    /// `[vocab, hidden]`; `None` means that the embedding is the head.
    pub head: Option<Vec<f32>>,
}

/// One decoder block; matrices are row-major `[out, in]`, as in safetensors.
#[derive(Debug, Clone)]
pub struct DenseLayer {
    /// `[hidden]`.
    pub attention_norm: Vec<f32>,
    /// `[heads * head_dim, hidden]`.
    pub q: Vec<f32>,
    /// `[kv_heads * head_dim, hidden]`.
    pub k: Vec<f32>,
    /// `[kv_heads * head_dim, hidden]`.
    pub v: Vec<f32>,
    /// `[heads * head_dim + 2 * kv_heads * head_dim]`: of queries, then keys, then values; empty where the base has none.
    pub qkv_bias: Vec<f32>,
    /// `[hidden, heads * head_dim]`.
    pub o: Vec<f32>,
    /// `[hidden]`.
    pub mlp_norm: Vec<f32>,
    /// `[intermediate, hidden]`.
    pub gate: Vec<f32>,
    /// `[intermediate, hidden]`.
    pub up: Vec<f32>,
    /// `[hidden, intermediate]`.
    pub down: Vec<f32>,
}

impl DenseWeights {
    /// Loads a base from a folder (after `model.json` where there is one) or a GGUF file, whatever its numbers are held in.
    ///
    /// # Errors
    /// `Missing`, `Damaged`, `Unsupported` or `Io`, each with the file it is about.
    pub fn load(path: &Path) -> Result<Self, ModelError> {
        let mut reader = DenseReader::open(path)?;
        let layers = (0..reader.config().layers).map(|index| reader.layer(index)).collect::<Result<_, _>>()?;
        Ok(Self { layers, ..reader.without_layers()? })
    }
}

/// A base that is read layer by layer, so that whoever holds it otherwise never has all of it in f32.
pub struct DenseReader(WeightSource);

impl DenseReader {
    /// Opens a base as [`DenseWeights::load`] does.
    ///
    /// # Errors
    /// As there.
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        if let BaseFiles::Folder(folder) = BaseFiles::find(path)? {
            files::verify_manifest(&folder)?;
        }
        Ok(Self(WeightSource::open(path)?))
    }

    pub fn config(&self) -> &LlamaConfig {
        &self.0.config
    }

    /// # Errors
    /// As [`DenseWeights::load`].
    pub fn layer(&mut self, index: usize) -> Result<DenseLayer, ModelError> {
        DenseLayer::read(&mut self.0, index)
    }

    /// Everything else; `layers` is empty.
    ///
    /// # Errors
    /// As [`DenseWeights::load`].
    pub fn without_layers(&mut self) -> Result<DenseWeights, ModelError> {
        let source = &mut self.0;
        let head = if source.config.tied { None } else { Some(source.read(Part::Head)?) };
        let (embedding, norm) = (source.read(Part::Embedding)?, source.read(Part::Norm)?);
        Ok(DenseWeights { embedding, layers: Vec::new(), norm, head, config: source.config.clone() })
    }
}

impl DenseLayer {
    fn read(source: &mut WeightSource, index: usize) -> Result<Self, ModelError> {
        let bias = match source.config.variant.qkv_bias {
            true => [source.read(Part::QBias(index))?, source.read(Part::KBias(index))?, source.read(Part::VBias(index))?].concat(),
            false => Vec::new(),
        };
        Ok(Self {
            attention_norm: source.read(Part::AttentionNorm(index))?,
            q: source.read(Part::Q(index))?,
            k: source.read(Part::K(index))?,
            v: source.read(Part::V(index))?,
            qkv_bias: bias,
            o: source.read(Part::O(index))?,
            mlp_norm: source.read(Part::MlpNorm(index))?,
            gate: source.read(Part::Gate(index))?,
            up: source.read(Part::Up(index))?,
            down: source.read(Part::Down(index))?,
        })
    }
}
