//! The weights of a T5 base in the form that the kernels want.

use crate::linear::Linear;
use crate::t5::T5Config;
use crate::t5::dense::{DenseT5Cross, DenseT5Layer, T5Source};
use crate::t5::position::RelativeBias;
use crate::{ModelError, Precision};
use half::f16;
use half::slice::HalfFloatSliceExt;
use std::path::Path;

pub(crate) struct T5Weights {
    pub config: T5Config,
    embedding: Embedding,
    pub encoder: Stack<EncoderLayer>,
    pub decoder: Stack<DecoderLayer>,
    pub head: Linear,
}

/// `[vocab, hidden]`, in both stacks.
enum Embedding {
    F16(Vec<f16>),
    F32(Vec<f32>),
}

pub(crate) struct Stack<L> {
    pub layers: Vec<L>,
    pub norm: Vec<f32>,
    pub bias: RelativeBias,
}

pub(crate) struct EncoderLayer {
    pub attention: SelfAttention,
    pub mlp: Mlp,
}

pub(crate) struct DecoderLayer {
    pub attention: SelfAttention,
    pub cross: CrossAttention,
    pub mlp: Mlp,
}

pub(crate) struct SelfAttention {
    pub norm: Vec<f32>,
    /// Queries, keys and values, one below the other.
    pub qkv: Linear,
    pub output: Linear,
}

/// Attention to what the encoder made of the prompt.
pub(crate) struct CrossAttention {
    pub norm: Vec<f32>,
    pub query: Linear,
    /// Keys above values.
    pub keys_values: Linear,
    pub output: Linear,
}

pub(crate) struct Mlp {
    pub norm: Vec<f32>,
    /// With gated units, the gate above what it lets through.
    pub up: Linear,
    pub down: Linear,
}

impl T5Weights {
    /// Reads a folder in the layout of transformers, layer by layer, so that only one is held as f32 at a time.
    ///
    /// # Errors
    /// `Missing`, `Damaged`, `Unsupported` or `Io`, each with the file it is about.
    pub fn load(dir: &Path, precision: Precision) -> Result<Self, ModelError> {
        let mut source = T5Source::open(dir)?;
        let config = source.config.clone();
        let pack = |cols: usize, matrix: &[f32]| Linear::new(precision, cols, &[matrix]);
        let parts = |layer: DenseT5Layer| {
            let DenseT5Layer { attention_norm, qkv, output, cross, mlp_norm, up, down } = layer;
            let (qkv, output) = (pack(config.hidden, &qkv), pack(config.width(), &output));
            let mlp = Mlp { norm: mlp_norm, up: pack(config.hidden, &up), down: pack(config.intermediate, &down) };
            let cross = cross.map(|DenseT5Cross { norm, query, keys_values, output }| CrossAttention {
                norm,
                query: pack(config.hidden, &query),
                keys_values: pack(config.hidden, &keys_values),
                output: pack(config.width(), &output),
            });
            (SelfAttention { norm: attention_norm, qkv, output }, cross, mlp)
        };
        let (mut encoder, mut decoder) = (Vec::new(), Vec::new());
        for index in 0..config.encoder_layers {
            let (attention, _, mlp) = parts(source.layer(false, index)?);
            encoder.push(EncoderLayer { attention, mlp });
        }
        for index in 0..config.decoder_layers {
            if let (attention, Some(cross), mlp) = parts(source.layer(true, index)?) {
                decoder.push(DecoderLayer { attention, cross, mlp });
            }
        }
        let embedding = source.embedding()?;
        let head = pack(config.hidden, source.head()?.as_deref().unwrap_or(&embedding));
        let embedding = match precision {
            Precision::F32 => Embedding::F32(embedding),
            _ => Embedding::F16(embedding.iter().map(|value| f16::from_f32(*value)).collect()),
        };
        let encoder = Stack { layers: encoder, norm: source.norm(false)?, bias: source.bias(false)? };
        let decoder = Stack { layers: decoder, norm: source.norm(true)?, bias: source.bias(true)? };
        Ok(Self { config, embedding, encoder, decoder, head })
    }

    /// Writes the embedding of a known token, `[hidden]`.
    pub fn embed(&self, token: u32, out: &mut [f32]) {
        let start = token as usize * self.config.hidden;
        match &self.embedding {
            Embedding::F16(values) => values[start..start + out.len()].convert_to_f32_slice(out),
            Embedding::F32(values) => out.copy_from_slice(&values[start..start + out.len()]),
        }
    }

    pub fn bytes(&self) -> usize {
        let attention = |part: &SelfAttention| part.qkv.bytes() + part.output.bytes();
        let mlp = |part: &Mlp| part.up.bytes() + part.down.bytes();
        let cross = |part: &CrossAttention| part.query.bytes() + part.keys_values.bytes() + part.output.bytes();
        let encoder: usize = self.encoder.layers.iter().map(|layer| attention(&layer.attention) + mlp(&layer.mlp)).sum();
        let decoder = self.decoder.layers.iter().map(|layer| attention(&layer.attention) + cross(&layer.cross) + mlp(&layer.mlp));
        let embedding = match &self.embedding {
            Embedding::F16(values) => 2 * values.len(),
            Embedding::F32(values) => 4 * values.len(),
        };
        embedding + self.head.bytes() + encoder + decoder.sum::<usize>()
    }
}
