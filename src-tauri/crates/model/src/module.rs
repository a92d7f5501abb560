//! Modules as transformers and PEFT name them, and the projections that each computes.

use crate::{LlamaConfig, LoraPart, Projection};

/// A module of a decoder block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Module {
    /// As in PEFT's `target_modules`.
    pub name: &'static str,
    /// In the order of its outputs.
    pub projections: &'static [Projection],
}

/// Every projection is a module.
const APART: [Module; 7] = [
    Module { name: "q_proj", projections: &[Projection::Q] },
    Module { name: "k_proj", projections: &[Projection::K] },
    Module { name: "v_proj", projections: &[Projection::V] },
    Module { name: "o_proj", projections: &[Projection::O] },
    Module { name: "gate_proj", projections: &[Projection::Gate] },
    Module { name: "up_proj", projections: &[Projection::Up] },
    Module { name: "down_proj", projections: &[Projection::Down] },
];

/// Those that read the same input are one module.
const JOINED: [Module; 4] = [
    Module { name: "qkv_proj", projections: &[Projection::Q, Projection::K, Projection::V] },
    Module { name: "o_proj", projections: &[Projection::O] },
    Module { name: "gate_up_proj", projections: &[Projection::Gate, Projection::Up] },
    Module { name: "down_proj", projections: &[Projection::Down] },
];

impl Module {
    /// The modules of a layer, in order.
    pub fn of(config: &LlamaConfig) -> &'static [Self] {
        if config.joins_projections() { &JOINED } else { &APART }
    }

    /// The module of any base that has this name.
    pub fn named(name: &str) -> Option<Self> {
        APART.into_iter().chain(JOINED).find(|module| module.name == name)
    }

    /// The path of its tensors in an adapter.
    pub(crate) fn path(&self, layer: usize) -> String {
        let block = if self.projections[0] <= Projection::O { "self_attn" } else { "mlp" };
        format!("base_model.model.model.layers.{layer}.{block}.{}", self.name)
    }

    /// Outputs and inputs of its matrix `[out, in]`.
    pub(crate) fn size(&self, config: &LlamaConfig) -> (usize, usize) {
        let outputs = self.projections.iter().map(|projection| projection.size(config).0).sum();
        (outputs, self.projections[0].size(config).1)
    }

    /// Whether an adapter with these targets changes it.
    pub(crate) fn is_among(&self, targets: &[Projection]) -> bool {
        self.projections.iter().any(|projection| targets.contains(projection))
    }

    /// Its change, from those of its projections, which have one A.
    pub(crate) fn joined(&self, targets: &[Projection], parts: &[LoraPart]) -> LoraPart {
        let own = || targets.iter().zip(parts).filter(|(target, _)| self.projections.contains(target)).map(|(_, part)| part);
        let magnitude = own().map(|part| part.magnitude.as_deref()).collect::<Option<Vec<_>>>();
        LoraPart {
            a: own().next().map_or_else(Vec::new, |part| part.a.clone()),
            b: own().flat_map(|part| &part.b).copied().collect(),
            magnitude: magnitude.map(|parts| parts.concat()),
        }
    }

    /// The changes of its projections, from its own.
    pub(crate) fn split(&self, whole: &LoraPart, rank: usize, config: &LlamaConfig) -> Vec<LoraPart> {
        let mut row = 0;
        let part = |projection: &Projection| {
            let rows = row..row + projection.size(config).0;
            row = rows.end;
            LoraPart {
                a: whole.a.clone(),
                b: whole.b[rows.start * rank..rows.end * rank].to_vec(),
                magnitude: whole.magnitude.as_ref().map(|values| values[rows].to_vec()),
            }
        };
        self.projections.iter().map(part).collect()
    }
}
