//! An adapter merged into the weights of its base: a new base that needs no adapter.

use crate::files::{read_capped, write_atomic};
use crate::{Architecture, DenseLayer, DenseWeights, Lora, LoraPart, LoraShape, ModelError, Projection};
use half::f16;
use safetensors::tensor::{Dtype, TensorView, serialize};
use serde_json::Value;
use std::fs;
use std::path::Path;

const MAX_COPIED_BYTES: u64 = 64 << 20;

/// What a tokenizer and a chat need, where the base has it.
const COMPANIONS: [&str; 8] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "generation_config.json",
    "chat_template.jinja",
    "vocab.json",
    "merges.txt",
    "LICENSE",
];

impl DenseWeights {
    /// Puts an adapter into the weights: `W + strength · (W' - W)`, where `W'` is what the adapter makes of `W` (see [`Lora`]).
    ///
    /// # Errors
    /// As [`Lora::check`]; then nothing was changed.
    pub fn merge(&mut self, lora: &Lora, strength: f32) -> Result<(), ModelError> {
        lora.check(&self.config)?;
        for (layer, parts) in self.layers.iter_mut().zip(&lora.layers) {
            for (target, part) in lora.shape.targets.iter().zip(parts) {
                merge_matrix(layer.matrix_mut(*target), &lora.shape, part, strength);
            }
        }
        Ok(())
    }

    /// Writes these weights in f16 as a folder that transformers and this crate load; config, tokenizer and licence are those of
    /// the folder `from`.
    ///
    /// # Errors
    /// `Unsupported` for other layouts than Llama's and for a base that is no folder, `InvalidRequest` when a weight is too large for f16, `Io`, `Missing` without `config.json` and `tokenizer.json` in `from`.
    pub fn save(&self, from: &Path, to: &Path) -> Result<(), ModelError> {
        let plain = matches!(self.config.variant.architecture, Architecture::Llama | Architecture::Mistral);
        if !plain || self.config.variant.qkv_bias {
            return Err(ModelError::unsupported(from, "only bases of the Llama and Mistral layout can be saved"));
        }
        if !from.is_dir() {
            return Err(ModelError::unsupported(from, "a merged base needs one in a folder of safetensors"));
        }
        fs::create_dir_all(to).map_err(ModelError::io(to))?;
        let mut tensors = vec![("model.embed_tokens.weight".to_owned(), self.table_shape(), half_bytes(&self.embedding)?)];
        for (index, layer) in self.layers.iter().enumerate() {
            let hidden = self.config.hidden;
            let norms = [("input_layernorm", &layer.attention_norm), ("post_attention_layernorm", &layer.mlp_norm)];
            for (name, values) in norms {
                tensors.push((format!("model.layers.{index}.{name}.weight"), vec![hidden], half_bytes(values)?));
            }
            for target in Projection::ALL {
                let (outputs, inputs) = target.size(&self.config);
                tensors.push((format!("{}.weight", target.tensor(index)), vec![outputs, inputs], half_bytes(layer.matrix(target))?));
            }
        }
        tensors.push(("model.norm.weight".to_owned(), vec![self.config.hidden], half_bytes(&self.norm)?));
        if let Some(head) = &self.head {
            tensors.push(("lm_head.weight".to_owned(), self.table_shape(), half_bytes(head)?));
        }
        let unwritable = |_| ModelError::InvalidRequest { reason: "the weights do not match their shapes" };
        let views = tensors.iter().map(|(name, shape, bytes)| Ok((name, TensorView::new(Dtype::F16, shape.clone(), bytes)?)));
        let views = views.collect::<Result<Vec<_>, _>>().map_err(unwritable)?;
        let metadata = [("format".to_owned(), "pt".to_owned())].into_iter().collect();
        write_atomic(&to.join("model.safetensors"), &serialize(views, Some(metadata)).map_err(unwritable)?)?;
        for name in COMPANIONS {
            match read_capped(&from.join(name), MAX_COPIED_BYTES) {
                Ok(bytes) => write_atomic(&to.join(name), &bytes)?,
                Err(ModelError::Missing { .. }) if name != "tokenizer.json" => {}
                Err(error) => return Err(error),
            }
        }
        // The config last: a folder without it is no base.
        let path = from.join("config.json");
        let bytes = read_capped(&path, MAX_COPIED_BYTES)?;
        let mut config: Value = serde_json::from_slice(&bytes).map_err(|error| ModelError::damaged(&path, error.to_string()))?;
        if let Some(config) = config.as_object_mut() {
            for name in ["torch_dtype", "dtype"] {
                if config.contains_key(name) {
                    config.insert(name.to_owned(), Value::from("float16"));
                }
            }
        }
        let json = serde_json::to_vec_pretty(&config).map_err(|error| ModelError::damaged(&path, error.to_string()))?;
        write_atomic(&to.join("config.json"), &json)
    }

    fn table_shape(&self) -> Vec<usize> {
        vec![self.config.vocab, self.config.hidden]
    }
}

impl DenseLayer {
    /// The matrix of a projection, `[out, in]`.
    pub fn matrix(&self, projection: Projection) -> &[f32] {
        match projection {
            Projection::Q => &self.q,
            Projection::K => &self.k,
            Projection::V => &self.v,
            Projection::O => &self.o,
            Projection::Gate => &self.gate,
            Projection::Up => &self.up,
            Projection::Down => &self.down,
        }
    }

    fn matrix_mut(&mut self, projection: Projection) -> &mut [f32] {
        match projection {
            Projection::Q => &mut self.q,
            Projection::K => &mut self.k,
            Projection::V => &mut self.v,
            Projection::O => &mut self.o,
            Projection::Gate => &mut self.gate,
            Projection::Up => &mut self.up,
            Projection::Down => &mut self.down,
        }
    }
}

fn merge_matrix(matrix: &mut [f32], shape: &LoraShape, part: &LoraPart, strength: f32) {
    let (rank, scale) = (shape.rank, shape.scale());
    let inputs = part.a.len() / rank;
    let mut tuned = vec![0.0f32; inputs];
    for (row, weights) in matrix.chunks_exact_mut(inputs).enumerate() {
        tuned.copy_from_slice(weights);
        for (b, a) in part.b[row * rank..][..rank].iter().zip(part.a.chunks_exact(inputs)) {
            tuned.iter_mut().zip(a).for_each(|(sum, a)| *sum += scale * b * a);
        }
        if let Some(magnitude) = &part.magnitude {
            let norm = tuned.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt() as f32;
            // A row of zeros has no direction; it stays as it is, as at forward time.
            let factor = if norm > 0.0 { magnitude[row] / norm } else { 0.0 };
            tuned.iter_mut().for_each(|value| *value *= factor);
        }
        weights.iter_mut().zip(&tuned).for_each(|(weight, tuned)| *weight += strength * (tuned - *weight));
    }
}

fn half_bytes(values: &[f32]) -> Result<Vec<u8>, ModelError> {
    let mut bytes = Vec::with_capacity(2 * values.len());
    for value in values {
        let half = f16::from_f32(*value);
        if !half.is_finite() {
            return Err(ModelError::InvalidRequest { reason: "a merged weight is too large for f16; use a smaller strength" });
        }
        bytes.extend_from_slice(&half.to_le_bytes());
    }
    Ok(bytes)
}
