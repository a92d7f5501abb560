//! Reads what `bench_peft_lora_llama.py --dump` wrote: token ids, loss, and every adapter tensor with its gradient.

use crate::{StepReference, TrainError};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use std::path::Path;

impl StepReference {
    /// `ids` `[texts, tokens]` in int64, `loss` `[1]`, `p.<tensor>` and `g.<tensor>`, all f32.
    ///
    /// # Errors
    /// `File` if it cannot be read, `Config` if it holds something else.
    pub fn read(path: &Path) -> Result<Self, TrainError> {
        let bytes = std::fs::read(path).map_err(|source| TrainError::file("read", path, source))?;
        let file = SafeTensors::deserialize(&bytes).map_err(|error| not_a_dump(error.to_string()))?;
        let ids = file.tensor("ids").map_err(|error| not_a_dump(error.to_string()))?;
        if ids.dtype() != Dtype::I64 || ids.shape().len() != 2 || ids.shape()[1] == 0 {
            return Err(not_a_dump("ids of another kind".to_owned()));
        }
        // A token beyond u32 is beyond every vocabulary, which the comparison refuses.
        let token = |b: &[u8]| u32::try_from(i64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]])).unwrap_or(u32::MAX);
        let texts = ids.data().chunks_exact(8 * ids.shape()[1]).map(|row| row.chunks_exact(8).map(token).collect()).collect();
        let loss = numbers(&file.tensor("loss").map_err(|error| not_a_dump(error.to_string()))?)?;
        let mut tensors = Vec::new();
        for (name, view) in file.iter() {
            let Some(tensor) = name.strip_prefix("p.") else { continue };
            let gradient = file.tensor(&format!("g.{tensor}")).map_err(|error| not_a_dump(error.to_string()))?;
            tensors.push((short(tensor), numbers(&view)?, numbers(&gradient)?));
        }
        Ok(Self { texts, loss: f64::from(loss.first().copied().unwrap_or(f32::NAN)), tensors })
    }
}

/// `model.layers.3.self_attn.q_proj.lora_A.weight` → `layers.3.q_proj.lora_A`.
fn short(name: &str) -> String {
    let kept = |part: &&str| !matches!(*part, "model" | "self_attn" | "mlp" | "weight");
    name.split('.').filter(kept).collect::<Vec<_>>().join(".")
}

fn numbers(view: &TensorView) -> Result<Vec<f32>, TrainError> {
    if view.dtype() != Dtype::F32 {
        return Err(not_a_dump(format!("numbers as {:?}", view.dtype())));
    }
    Ok(view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
}

fn not_a_dump(value: String) -> TrainError {
    TrainError::Config { field: "reference", value, allowed: "a dump of bench_peft_lora_llama.py" }
}
