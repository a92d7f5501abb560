//! LoRA as a GGUF file, for llama.cpp's `--lora`.
//!
//! Layout: the GGUF specification, version 3; names and metadata as llama.cpp's adapter loader reads them
//! (`general.type = adapter`, `adapter.type = lora`, `adapter.lora.alpha`, `blk.N.attn_q.weight.lora_a` and so on).

use crate::files::write_atomic;
use crate::{Architecture, LlamaConfig, Lora, ModelError, Projection};
use std::path::Path;

const VERSION: u32 = 3;
const ALIGNMENT: usize = 32;
const TYPE_U32: u32 = 4;
const TYPE_F32: u32 = 6;
const TYPE_STRING: u32 = 8;
const TENSOR_F32: u32 = 0;

impl Lora {
    /// Writes the adapter as one GGUF file in f32, whole or not at all.
    ///
    /// # Errors
    /// `InvalidRequest` for DoRA, which llama.cpp does not know, and for Phi-3; what [`Lora::check`] refuses; `Io`.
    pub fn save_gguf(&self, path: &Path, config: &LlamaConfig, name: &str) -> Result<(), ModelError> {
        write_atomic(path, &self.gguf(config, name)?)
    }

    /// The bytes of [`Lora::save_gguf`].
    ///
    /// # Errors
    /// As there, without `Io`.
    pub fn gguf(&self, config: &LlamaConfig, name: &str) -> Result<Vec<u8>, ModelError> {
        self.check(config)?;
        if self.shape.dora {
            return Err(ModelError::InvalidRequest { reason: "llama.cpp knows no DoRA; merge the adapter into its base instead" });
        }
        let architecture = match config.variant.architecture {
            // llama.cpp runs Mistral as Llama.
            Architecture::Llama | Architecture::Mistral => "llama",
            Architecture::Qwen2 => "qwen2",
            Architecture::Phi3 => {
                return Err(ModelError::InvalidRequest {
                    reason: "llama.cpp holds the projections of Phi-3 joined; merge the adapter instead",
                });
            }
        };
        let mut tensors: Vec<(String, [usize; 2], Vec<f32>)> = Vec::new();
        for (index, layer) in self.layers.iter().enumerate() {
            for (target, part) in self.shape.targets.iter().zip(layer) {
                let (outputs, inputs) = target.size(config);
                let stem = format!("blk.{index}.{}.weight", gguf_name(*target));
                // Sizes run from the fastest one, so they are those of the rows reversed.
                tensors.push((format!("{stem}.lora_a"), [inputs, self.shape.rank], part.a.clone()));
                tensors.push((format!("{stem}.lora_b"), [self.shape.rank, outputs], self.turned(*target, &part.b, config)));
            }
        }
        let mut file = Vec::new();
        file.extend_from_slice(b"GGUF");
        file.extend_from_slice(&VERSION.to_le_bytes());
        file.extend_from_slice(&(tensors.len() as u64).to_le_bytes());
        let texts = [("general.type", "adapter"), ("general.architecture", architecture), ("general.name", name), ("adapter.type", "lora")];
        file.extend_from_slice(&(texts.len() as u64 + 2).to_le_bytes());
        for (key, value) in texts {
            put_key(&mut file, key, TYPE_STRING);
            put_text(&mut file, value);
        }
        put_key(&mut file, "general.alignment", TYPE_U32);
        file.extend_from_slice(&(ALIGNMENT as u32).to_le_bytes());
        // llama.cpp scales by alpha / rank, so what rsLoRA scales otherwise goes into alpha.
        put_key(&mut file, "adapter.lora.alpha", TYPE_F32);
        file.extend_from_slice(&(self.shape.scale() * self.shape.rank as f32).to_le_bytes());
        let mut offset = 0;
        for (name, sizes, values) in &tensors {
            put_text(&mut file, name);
            file.extend_from_slice(&(sizes.len() as u32).to_le_bytes());
            sizes.iter().for_each(|size| file.extend_from_slice(&(*size as u64).to_le_bytes()));
            file.extend_from_slice(&TENSOR_F32.to_le_bytes());
            file.extend_from_slice(&(offset as u64).to_le_bytes());
            offset += (4 * values.len()).next_multiple_of(ALIGNMENT);
        }
        for (_, _, values) in &tensors {
            file.resize(file.len().next_multiple_of(ALIGNMENT), 0);
            values.iter().for_each(|value| file.extend_from_slice(&value.to_le_bytes()));
        }
        file.resize(file.len().next_multiple_of(ALIGNMENT), 0);
        Ok(file)
    }

    /// B with its rows in GGUF's order: for Llama, llama.cpp turns neighbouring numbers of a head of queries or keys, transformers
    /// those that are half a head apart, so the rows of the two halves are interleaved.
    fn turned(&self, target: Projection, b: &[f32], config: &LlamaConfig) -> Vec<f32> {
        if !matches!(target, Projection::Q | Projection::K) || config.variant.architecture == Architecture::Qwen2 {
            return b.to_vec();
        }
        let (rank, half) = (self.shape.rank, config.head_dim / 2);
        let mut turned = Vec::with_capacity(b.len());
        for head in b.chunks_exact(config.head_dim * rank) {
            for index in 0..half {
                turned.extend_from_slice(&head[index * rank..][..rank]);
                turned.extend_from_slice(&head[(half + index) * rank..][..rank]);
            }
        }
        turned
    }
}

fn gguf_name(projection: Projection) -> &'static str {
    match projection {
        Projection::Q => "attn_q",
        Projection::K => "attn_k",
        Projection::V => "attn_v",
        Projection::O => "attn_output",
        Projection::Gate => "ffn_gate",
        Projection::Up => "ffn_up",
        Projection::Down => "ffn_down",
    }
}

fn put_key(file: &mut Vec<u8>, key: &str, kind: u32) {
    put_text(file, key);
    file.extend_from_slice(&kind.to_le_bytes());
}

fn put_text(file: &mut Vec<u8>, text: &str) {
    file.extend_from_slice(&(text.len() as u64).to_le_bytes());
    file.extend_from_slice(text.as_bytes());
}
