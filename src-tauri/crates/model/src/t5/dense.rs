//! The weights of a T5 base as plain f32, for training and as the source of packed ones.

use crate::shards::Shards;
use crate::t5::T5Config;
use crate::t5::position::{BiasTable, RelativeBias};
use crate::{ModelError, files};
use std::path::Path;

/// All weights of a T5 base in f32; matrices are row-major `[out, in]`.
#[derive(Debug, Clone)]
pub struct DenseT5 {
    pub config: T5Config,
    /// `[vocab, hidden]`, in both stacks.
    pub embedding: Vec<f32>,
    /// `[vocab, hidden]`; `None` means that the embedding is the head.
    pub head: Option<Vec<f32>>,
    pub encoder: DenseT5Stack,
    pub decoder: DenseT5Stack,
}

#[derive(Debug, Clone)]
pub struct DenseT5Stack {
    pub layers: Vec<DenseT5Layer>,
    /// `[hidden]`.
    pub norm: Vec<f32>,
    /// `[buckets, heads]`.
    pub bias: Vec<f32>,
}

#[derive(Debug, Clone)]
pub struct DenseT5Layer {
    /// `[hidden]`.
    pub attention_norm: Vec<f32>,
    /// Queries, keys and values, `[3 · width, hidden]`.
    pub qkv: Vec<f32>,
    /// `[hidden, width]`.
    pub output: Vec<f32>,
    /// In the decoder.
    pub cross: Option<DenseT5Cross>,
    /// `[hidden]`.
    pub mlp_norm: Vec<f32>,
    /// `[intermediate, hidden]`, or with gated units `[2 · intermediate, hidden]`, the gate first.
    pub up: Vec<f32>,
    /// `[hidden, intermediate]`.
    pub down: Vec<f32>,
}

/// Attention to what the encoder made of the prompt.
#[derive(Debug, Clone)]
pub struct DenseT5Cross {
    /// `[hidden]`.
    pub norm: Vec<f32>,
    /// `[width, hidden]`.
    pub query: Vec<f32>,
    /// Keys and values, `[2 · width, hidden]`.
    pub keys_values: Vec<f32>,
    /// `[hidden, width]`.
    pub output: Vec<f32>,
}

/// What attention adds to a score for the distance of a key from its query.
#[derive(Debug, Clone)]
pub struct DistanceTable {
    /// `[heads, length]`.
    pub values: Vec<f32>,
    pub length: usize,
    /// Where distance 0 is; keys behind the query follow, in the encoder only.
    pub center: usize,
}

impl DenseT5 {
    /// Loads `config.json` and the safetensors of `dir` (f32, f16 or bf16), after `model.json` where there is one.
    ///
    /// # Errors
    /// `Missing`, `Damaged`, `Unsupported` or `Io`, each with the file it is about.
    pub fn load(dir: &Path) -> Result<Self, ModelError> {
        files::verify_manifest(dir)?;
        let mut source = T5Source::open(dir)?;
        let mut stack = |decoder: bool| -> Result<DenseT5Stack, ModelError> {
            let layers = (0..source.layers(decoder)).map(|index| source.layer(decoder, index)).collect::<Result<_, _>>()?;
            Ok(DenseT5Stack { layers, norm: source.norm(decoder)?, bias: source.bias(decoder)?.weights })
        };
        let (encoder, decoder) = (stack(false)?, stack(true)?);
        Ok(Self { embedding: source.embedding()?, head: source.head()?, encoder, decoder, config: source.config })
    }

    /// The biases of one stack for texts of up to `positions` tokens.
    pub fn distances(&self, decoder: bool, positions: usize) -> DistanceTable {
        let stack = if decoder { &self.decoder } else { &self.encoder };
        let T5Config { heads, buckets, max_distance, .. } = self.config;
        let mut table = BiasTable::default();
        RelativeBias { heads, buckets, max_distance, bidirectional: !decoder, weights: stack.bias.clone() }.prepare(&mut table, positions);
        table.into_parts()
    }
}

/// Reads a base layer by layer, so that a packed one never holds all of its f32 weights at once.
pub(crate) struct T5Source {
    pub config: T5Config,
    shards: Shards,
}

impl T5Source {
    pub fn open(dir: &Path) -> Result<Self, ModelError> {
        let source = Self { config: T5Config::load(dir)?, shards: Shards::open(dir)? };
        // Checked before anything is allocated: config.json could claim far more layers than there are.
        for decoder in [false, true] {
            let (stack, layers) = (stack_name(decoder), source.layers(decoder));
            let there = |index: usize| source.shards.contains(&format!("{stack}.block.{index}.layer.0.layer_norm.weight"));
            if !there(layers - 1) || there(layers) {
                let reason = format!("it does not hold the {layers} layers of the {stack} that config.json names");
                return Err(ModelError::damaged(source.shards.path(), reason));
            }
        }
        Ok(source)
    }

    /// Numbers in the whole base.
    pub fn parameters(&self) -> usize {
        let head = if self.shards.contains("lm_head.weight") { self.config.vocab * self.config.hidden } else { 0 };
        self.config.parameters() + head
    }

    /// Of all weight files.
    pub fn bytes(&self) -> u64 {
        self.shards.bytes()
    }

    /// How most of the numbers are held.
    pub fn number_format(&self) -> &'static str {
        self.shards.dtype("decoder.block.0.layer.0.SelfAttention.q.weight").unwrap_or("?")
    }

    pub fn layers(&self, decoder: bool) -> usize {
        if decoder { self.config.decoder_layers } else { self.config.encoder_layers }
    }

    pub fn embedding(&mut self) -> Result<Vec<f32>, ModelError> {
        // Some files hold the shared embedding under the stacks' names only.
        let names = ["shared.weight", "encoder.embed_tokens.weight", "decoder.embed_tokens.weight"];
        let name = names.into_iter().find(|name| self.shards.contains(name)).unwrap_or(names[0]);
        self.read(name, self.config.vocab, self.config.hidden)
    }

    pub fn head(&mut self) -> Result<Option<Vec<f32>>, ModelError> {
        if !self.shards.contains("lm_head.weight") {
            return Ok(None);
        }
        self.read("lm_head.weight", self.config.vocab, self.config.hidden).map(Some)
    }

    pub fn norm(&mut self, decoder: bool) -> Result<Vec<f32>, ModelError> {
        self.read(&format!("{}.final_layer_norm.weight", stack_name(decoder)), 1, self.config.hidden)
    }

    pub fn bias(&mut self, decoder: bool) -> Result<RelativeBias, ModelError> {
        let T5Config { heads, buckets, max_distance, .. } = self.config;
        let name = format!("{}.block.0.layer.0.SelfAttention.relative_attention_bias.weight", stack_name(decoder));
        Ok(RelativeBias { heads, buckets, max_distance, bidirectional: !decoder, weights: self.read(&name, buckets, heads)? })
    }

    pub fn layer(&mut self, decoder: bool, index: usize) -> Result<DenseT5Layer, ModelError> {
        let (hidden, width, inner) = (self.config.hidden, self.config.width(), self.config.intermediate);
        let block = format!("{}.block.{index}.layer", stack_name(decoder));
        let mlp = format!("{block}.{}", if decoder { 2 } else { 1 });
        let up: &[&str] = if self.config.gated { &["wi_0", "wi_1"] } else { &["wi"] };
        Ok(DenseT5Layer {
            attention_norm: self.layer_norm(&format!("{block}.0"))?,
            qkv: self.stacked(&format!("{block}.0.SelfAttention"), &["q", "k", "v"], width, hidden)?,
            output: self.stacked(&format!("{block}.0.SelfAttention"), &["o"], hidden, width)?,
            cross: if decoder { Some(self.cross(&format!("{block}.1"))?) } else { None },
            mlp_norm: self.layer_norm(&mlp)?,
            up: self.stacked(&format!("{mlp}.DenseReluDense"), up, inner, hidden)?,
            down: self.stacked(&format!("{mlp}.DenseReluDense"), &["wo"], hidden, inner)?,
        })
    }

    fn cross(&mut self, layer: &str) -> Result<DenseT5Cross, ModelError> {
        let (hidden, width) = (self.config.hidden, self.config.width());
        let attention = format!("{layer}.EncDecAttention");
        Ok(DenseT5Cross {
            norm: self.layer_norm(layer)?,
            query: self.stacked(&attention, &["q"], width, hidden)?,
            keys_values: self.stacked(&attention, &["k", "v"], width, hidden)?,
            output: self.stacked(&attention, &["o"], hidden, width)?,
        })
    }

    fn layer_norm(&mut self, layer: &str) -> Result<Vec<f32>, ModelError> {
        self.read(&format!("{layer}.layer_norm.weight"), 1, self.config.hidden)
    }

    /// Matrices `[rows, cols]`, one below the other.
    fn stacked(&mut self, place: &str, parts: &[&str], rows: usize, cols: usize) -> Result<Vec<f32>, ModelError> {
        let mut all = Vec::new();
        for part in parts {
            all.extend(self.read(&format!("{place}.{part}.weight"), rows, cols)?);
        }
        Ok(all)
    }

    fn read(&mut self, name: &str, rows: usize, cols: usize) -> Result<Vec<f32>, ModelError> {
        self.shards.rows(name, rows, cols, 0, rows)
    }
}

fn stack_name(decoder: bool) -> &'static str {
    if decoder { "decoder" } else { "encoder" }
}
