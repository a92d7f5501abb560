//! The weights of a base as plain f32, for training and as the source of packed ones.

use crate::checkpoint::Checkpoint;
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
    /// Loads `config.json` and `model.safetensors` (f32, f16 or bf16) of `dir`, after `model.json` where there is one.
    ///
    /// # Errors
    /// `Missing`, `Damaged`, `Unsupported` or `Io`, each with the file it is about.
    pub fn load(dir: &Path) -> Result<Self, ModelError> {
        files::verify_manifest(dir)?;
        let mut source = WeightSource::open(dir)?;
        let layers = (0..source.config.layers).map(|index| source.layer(index)).collect::<Result<_, _>>()?;
        Ok(Self { embedding: source.embedding()?, layers, norm: source.norm()?, head: source.head()?, config: source.config })
    }
}

/// Reads a base part by part, so that a packed base never holds all of its f32 weights at once.
pub(crate) struct WeightSource {
    pub config: LlamaConfig,
    checkpoint: Checkpoint,
}

impl WeightSource {
    pub fn open(dir: &Path) -> Result<Self, ModelError> {
        let config = LlamaConfig::load(dir)?;
        let path = dir.join("model.safetensors");
        if !path.exists() && dir.join("model.safetensors.index.json").exists() {
            return Err(ModelError::unsupported(&path, "its weights are split over several files"));
        }
        let checkpoint = Checkpoint::open(&path)?;
        // Checked before anything is allocated: config.json could claim far more layers than there are.
        let last = format!("model.layers.{}.input_layernorm.weight", config.layers - 1);
        let beyond = format!("model.layers.{}.input_layernorm.weight", config.layers);
        if !checkpoint.contains(&last) || checkpoint.contains(&beyond) {
            let reason = format!("it does not hold the {} layers that config.json names", config.layers);
            return Err(ModelError::damaged(&path, reason));
        }
        Ok(Self { config, checkpoint })
    }

    pub fn embedding(&mut self) -> Result<Vec<f32>, ModelError> {
        self.checkpoint.read("model.embed_tokens.weight", &[self.config.vocab, self.config.hidden])
    }

    pub fn norm(&mut self) -> Result<Vec<f32>, ModelError> {
        self.checkpoint.read("model.norm.weight", &[self.config.hidden])
    }

    pub fn head(&mut self) -> Result<Option<Vec<f32>>, ModelError> {
        if self.config.tied {
            return Ok(None);
        }
        self.checkpoint.read("lm_head.weight", &[self.config.vocab, self.config.hidden]).map(Some)
    }

    pub fn layer(&mut self, index: usize) -> Result<DenseLayer, ModelError> {
        let LlamaConfig { hidden, intermediate, .. } = self.config;
        let (queries, keys) = (self.config.query_width(), self.config.kv_width());
        let mut read = |part: &str, shape: &[usize]| self.checkpoint.read(&format!("model.layers.{index}.{part}.weight"), shape);
        Ok(DenseLayer {
            attention_norm: read("input_layernorm", &[hidden])?,
            q: read("self_attn.q_proj", &[queries, hidden])?,
            k: read("self_attn.k_proj", &[keys, hidden])?,
            v: read("self_attn.v_proj", &[keys, hidden])?,
            o: read("self_attn.o_proj", &[hidden, queries])?,
            mlp_norm: read("post_attention_layernorm", &[hidden])?,
            gate: read("mlp.gate_proj", &[intermediate, hidden])?,
            up: read("mlp.up_proj", &[intermediate, hidden])?,
            down: read("mlp.down_proj", &[hidden, intermediate])?,
        })
    }
}
