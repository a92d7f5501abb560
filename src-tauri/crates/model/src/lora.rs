//! LoRA and DoRA: trained low-rank changes of the projections, in PEFT's file layout.

use crate::checkpoint::Checkpoint;
use crate::files::{read_capped, write_atomic};
use crate::{LlamaConfig, ModelError, Module};
use safetensors::tensor::{Dtype, TensorView, serialize};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fs;
use std::path::Path;

const CONFIG: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter_model.safetensors";
const MAX_CONFIG_BYTES: u64 = 1 << 20;
const MAX_RANK: usize = 1024;

/// A matrix of a decoder block that an adapter may change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Projection {
    Q,
    K,
    V,
    O,
    Gate,
    Up,
    Down,
}

impl Projection {
    pub const ALL: [Self; 7] = [Self::Q, Self::K, Self::V, Self::O, Self::Gate, Self::Up, Self::Down];

    /// The name of the module in transformers, as PEFT's `target_modules` has it.
    pub fn module(self) -> &'static str {
        match self {
            Self::Q => "q_proj",
            Self::K => "k_proj",
            Self::V => "v_proj",
            Self::O => "o_proj",
            Self::Gate => "gate_proj",
            Self::Up => "up_proj",
            Self::Down => "down_proj",
        }
    }

    /// Outputs and inputs of the matrix `[out, in]`.
    pub fn size(self, config: &LlamaConfig) -> (usize, usize) {
        match self {
            Self::Q => (config.query_width(), config.hidden),
            Self::K | Self::V => (config.kv_width(), config.hidden),
            Self::O => (config.hidden, config.query_width()),
            Self::Gate | Self::Up => (config.intermediate, config.hidden),
            Self::Down => (config.hidden, config.intermediate),
        }
    }

    /// The module of a layer, as tensors of the base are named.
    pub(crate) fn tensor(self, layer: usize) -> String {
        let block = if self <= Self::O { "self_attn" } else { "mlp" };
        format!("model.layers.{layer}.{block}.{}", self.module())
    }
}

/// What an adapter looks like, without its weights.
#[derive(Debug, Clone, PartialEq)]
pub struct LoraShape {
    /// Columns of B and rows of A.
    pub rank: usize,
    pub alpha: f32,
    /// Scales by `alpha / sqrt(rank)` instead of `alpha / rank` (rsLoRA, arXiv 2312.03732).
    pub rank_stabilised: bool,
    /// Lengths of the rows are trained apart from their directions (DoRA, arXiv 2402.09353).
    pub dora: bool,
    /// Which projections of a layer it changes, in the order of [`Projection::ALL`], each once.
    pub targets: Vec<Projection>,
}

/// A low-rank change of every layer, or of some: `W + scale · B A` (arXiv 2106.09685), with DoRA
/// `magnitude / ‖W + scale · B A‖ · (W + scale · B A)`, norms taken over rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Lora {
    pub shape: LoraShape,
    /// Of each layer, one part for each of the shape's targets, or none where the layer stays as it is.
    pub layers: Vec<Vec<LoraPart>>,
}

/// The change of one projection.
#[derive(Debug, Clone, PartialEq)]
pub struct LoraPart {
    /// `[rank, in]`; the same for all projections of a [`Module`].
    pub a: Vec<f32>,
    /// `[out, rank]`.
    pub b: Vec<f32>,
    /// `[out]`; there with DoRA only.
    pub magnitude: Option<Vec<f32>>,
}

impl LoraShape {
    /// What B A is multiplied with.
    pub fn scale(&self) -> f32 {
        let rank = self.rank.max(1) as f32;
        self.alpha / if self.rank_stabilised { rank.sqrt() } else { rank }
    }

    /// # Errors
    /// `InvalidRequest` for a rank, an alpha or targets that cannot be.
    pub fn check(&self) -> Result<(), ModelError> {
        let reason = if self.rank == 0 || self.rank > MAX_RANK {
            "the rank of an adapter must be 1 to 1024"
        } else if !(self.alpha.is_finite() && self.alpha > 0.0) {
            "the alpha of an adapter must be above 0"
        } else if self.targets.is_empty() || !self.targets.is_sorted_by(|a, b| a < b) {
            "an adapter's target modules must be in order, each once, at least one"
        } else {
            return Ok(());
        };
        Err(ModelError::InvalidRequest { reason })
    }

    /// Numbers that are trained, on this base.
    pub fn parameters(&self, config: &LlamaConfig) -> usize {
        let part = |module: &Module| {
            let (outputs, inputs) = module.size(config);
            self.rank * (outputs + inputs) + if self.dora { outputs } else { 0 }
        };
        config.layers * self.modules(config).map(part).sum::<usize>()
    }

    /// The modules that it changes on this base.
    pub fn modules(&self, config: &LlamaConfig) -> impl Iterator<Item = &'static Module> + '_ {
        Module::of(config).iter().filter(|module| module.is_among(&self.targets))
    }

    /// Whether what it changes are modules of this base, and not parts of them.
    pub fn takes_whole_modules(&self, config: &LlamaConfig) -> bool {
        self.modules(config).all(|module| module.projections.iter().all(|projection| self.targets.contains(projection)))
    }

    /// # Errors
    /// `InvalidRequest` for what [`Self::check`] refuses, and for targets that are parts of a module of this base.
    pub fn check_on(&self, config: &LlamaConfig) -> Result<(), ModelError> {
        self.check()?;
        match self.takes_whole_modules(config) {
            true => Ok(()),
            false => Err(ModelError::InvalidRequest {
                reason: "this base joins queries, keys and values in qkv_proj, gate and up in gate_up_proj: all of a module or none",
            }),
        }
    }
}

impl Lora {
    /// Checks that every tensor is there, fits this base and is finite.
    ///
    /// # Errors
    /// `AdapterShape` with the first tensor that does not fit; `InvalidRequest` for what [`LoraShape::check_on`] refuses.
    pub fn check(&self, config: &LlamaConfig) -> Result<(), ModelError> {
        self.shape.check_on(config)?;
        let mismatch = |part: String, found, expected| Err(ModelError::AdapterShape { part, found, expected });
        if self.layers.len() != config.layers {
            return mismatch("The adapter's layers".to_owned(), self.layers.len(), config.layers);
        }
        if self.layers.iter().all(Vec::is_empty) {
            return mismatch("The adapter's changed layers".to_owned(), 0, config.layers);
        }
        for (index, layer) in self.layers.iter().enumerate().filter(|(_, layer)| !layer.is_empty()) {
            if layer.len() != self.shape.targets.len() {
                return mismatch(format!("The adapter's layer {index}"), layer.len(), self.shape.targets.len());
            }
            for (target, part) in self.shape.targets.iter().zip(layer) {
                let (outputs, inputs) = target.size(config);
                let magnitudes = if self.shape.dora { outputs } else { 0 };
                let magnitude = part.magnitude.as_deref().unwrap_or(&[]);
                let wanted = [
                    ("A", &part.a[..], self.shape.rank * inputs),
                    ("B", &part.b, outputs * self.shape.rank),
                    ("magnitude", magnitude, magnitudes),
                ];
                for (name, values, expected) in wanted {
                    if values.len() != expected {
                        return mismatch(format!("{name} of {} in layer {index}", target.module()), values.len(), expected);
                    }
                    if !values.iter().all(|value| value.is_finite()) {
                        return Err(ModelError::InvalidRequest { reason: "an adapter holds numbers that are not finite" });
                    }
                }
            }
            let of =
                |projection: &Projection| self.shape.targets.iter().position(|target| target == projection).map(|place| &layer[place].a);
            let one_a = |module: &Module| module.projections[1..].iter().all(|projection| of(projection) == of(&module.projections[0]));
            if !self.shape.modules(config).all(one_a) {
                return Err(ModelError::InvalidRequest { reason: "projections that are one module have one A" });
            }
        }
        Ok(())
    }

    /// Bytes of its weights.
    pub fn bytes(&self) -> usize {
        let part = |part: &LoraPart| part.a.len() + part.b.len() + part.magnitude.as_ref().map_or(0, Vec::len);
        4 * self.layers.iter().flatten().map(part).sum::<usize>()
    }

    /// Writes `adapter_model.safetensors`, then `adapter_config.json`, each whole or not at all, into `dir` (made if absent).
    ///
    /// `base` names the base that it was trained on.
    ///
    /// # Errors
    /// `Io`, or what [`Lora::check`] refuses.
    pub fn save(&self, dir: &Path, config: &LlamaConfig, base: &str) -> Result<(), ModelError> {
        self.check(config)?;
        fs::create_dir_all(dir).map_err(ModelError::io(dir))?;
        let mut tensors: Vec<(String, Vec<usize>, Vec<u8>)> = Vec::new();
        for (index, layer) in self.layers.iter().enumerate() {
            for module in self.shape.modules(config).filter(|_| !layer.is_empty()) {
                let ((outputs, inputs), path) = (module.size(config), module.path(index));
                let part = module.joined(&self.shape.targets, layer);
                let bytes = |values: &[f32]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
                tensors.push((format!("{path}.lora_A.weight"), vec![self.shape.rank, inputs], bytes(&part.a)));
                tensors.push((format!("{path}.lora_B.weight"), vec![outputs, self.shape.rank], bytes(&part.b)));
                if let Some(magnitude) = &part.magnitude {
                    tensors.push((format!("{path}.lora_magnitude_vector"), vec![outputs], bytes(magnitude)));
                }
            }
        }
        // Sizes were checked above, so this cannot fail; said as an error all the same.
        let unwritable = |_| ModelError::InvalidRequest { reason: "an adapter's weights do not match its shape" };
        let views = tensors.iter().map(|(name, shape, bytes)| Ok((name, TensorView::new(Dtype::F32, shape.clone(), bytes)?)));
        let views = views.collect::<Result<Vec<_>, _>>().map_err(unwritable)?;
        // PEFT and transformers look for this mark.
        let metadata = [("format".to_owned(), "pt".to_owned())].into_iter().collect();
        write_atomic(&dir.join(WEIGHTS), &serialize(views, Some(metadata)).map_err(unwritable)?)?;
        let description = PeftConfig {
            peft_type: "LORA".to_owned(),
            task_type: Some("CAUSAL_LM".to_owned()),
            base_model_name_or_path: Some(base.to_owned()),
            r: self.shape.rank,
            lora_alpha: self.shape.alpha,
            lora_dropout: 0.0,
            target_modules: Value::from(self.shape.modules(config).map(|module| module.name).collect::<Vec<_>>()),
            use_dora: self.shape.dora,
            use_rslora: self.shape.rank_stabilised,
            bias: "none".to_owned(),
            fan_in_fan_out: false,
            inference_mode: true,
            layers_to_transform: self.some_layers().map(LayerChoice::Some),
            unusual: Unusual::default(),
        };
        let path = dir.join(CONFIG);
        let json = serde_json::to_vec_pretty(&description).map_err(|error| ModelError::damaged(&path, error.to_string()))?;
        write_atomic(&path, &json)
    }

    /// The layers that it changes, unless those are all.
    fn some_layers(&self) -> Option<Vec<usize>> {
        let changed: Vec<usize> = self.layers.iter().enumerate().filter(|(_, layer)| !layer.is_empty()).map(|(index, _)| index).collect();
        (changed.len() < self.layers.len()).then_some(changed)
    }

    /// Reads an adapter for this base that Inkling or PEFT wrote.
    ///
    /// # Errors
    /// `Missing`, `Io`, `Damaged` when a tensor is absent, too many or of another size, or `Unsupported` for another kind of
    /// adapter and for settings of PEFT that would change the result and are not known here.
    pub fn load(dir: &Path, config: &LlamaConfig) -> Result<Self, ModelError> {
        let path = dir.join(CONFIG);
        let bytes = read_capped(&path, MAX_CONFIG_BYTES)?;
        let kind: PeftKind = serde_json::from_slice(&bytes).map_err(|error| ModelError::damaged(&path, error.to_string()))?;
        if kind.peft_type != "LORA" {
            return Err(ModelError::unsupported(&path, format!("it is a {} adapter, not a LoRA", kind.peft_type)));
        }
        let description: PeftConfig = serde_json::from_slice(&bytes).map_err(|error| ModelError::damaged(&path, error.to_string()))?;
        let shape = description.shape(config, &path)?;
        shape.check().map_err(|error| ModelError::damaged(&path, error.to_string()))?;
        let path = dir.join(WEIGHTS);
        let mut file = Checkpoint::open(&path)?;
        let changed = description.layers(config.layers, &dir.join(CONFIG))?;
        let expected = changed.len() * shape.modules(config).count() * if shape.dora { 3 } else { 2 };
        if file.len() != expected {
            let reason = format!("it holds {} tensors where its settings and this base ask for {expected}", file.len());
            return Err(ModelError::damaged(&path, reason));
        }
        let mut read = |layer: usize, module: &Module| {
            let ((outputs, inputs), path) = (module.size(config), module.path(layer));
            let whole = LoraPart {
                a: file.read(&format!("{path}.lora_A.weight"), &[shape.rank, inputs])?,
                b: file.read(&format!("{path}.lora_B.weight"), &[outputs, shape.rank])?,
                magnitude: match shape.dora {
                    true => Some(file.read(&format!("{path}.lora_magnitude_vector"), &[outputs])?),
                    false => None,
                },
            };
            Ok(module.split(&whole, shape.rank, config))
        };
        let layer = |index| match changed.contains(&index) {
            true => shape.modules(config).map(|module| read(index, module)).collect::<Result<Vec<_>, ModelError>>().map(|all| all.concat()),
            false => Ok(Vec::new()),
        };
        let layers = (0..config.layers).map(layer).collect::<Result<_, _>>()?;
        Ok(Self { shape, layers })
    }
}

#[derive(Deserialize)]
struct PeftKind {
    peft_type: String,
}

/// PEFT's `LoraConfig`, the fields that matter.
#[derive(Serialize, Deserialize)]
struct PeftConfig {
    peft_type: String,
    task_type: Option<String>,
    base_model_name_or_path: Option<String>,
    r: usize,
    lora_alpha: f32,
    /// Acts in training only, and so is read past.
    #[serde(default)]
    lora_dropout: f32,
    target_modules: Value,
    #[serde(default)]
    use_dora: bool,
    #[serde(default)]
    use_rslora: bool,
    #[serde(default = "no_bias")]
    bias: String,
    #[serde(default)]
    fan_in_fan_out: bool,
    #[serde(default)]
    inference_mode: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    layers_to_transform: Option<LayerChoice>,
    #[serde(flatten, skip_serializing)]
    unusual: Unusual,
}

/// Which layers are changed, as PEFT writes it; all where it says nothing.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum LayerChoice {
    One(usize),
    Some(Vec<usize>),
}

/// Settings that change what the weights mean; all are empty in an adapter that is read here.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Unusual {
    modules_to_save: Value,
    layer_replication: Value,
    exclude_modules: Value,
    target_parameters: Value,
    rank_pattern: Value,
    alpha_pattern: Value,
    trainable_token_indices: Value,
    lora_bias: Value,
    alora_invocation_tokens: Value,
    arrow_config: Value,
    kasa_config: Value,
    monteclora_config: Value,
    use_bdlora: Value,
    use_qalora: Value,
    /// Names of starts that move a part of the base into the adapter (PiSSA, OLoRA, …); the others do not matter afterwards.
    init_lora_weights: Value,
}

fn no_bias() -> String {
    "none".to_owned()
}

impl PeftConfig {
    /// The layers that are changed, of as many as the base has.
    fn layers(&self, count: usize, path: &Path) -> Result<Vec<usize>, ModelError> {
        let mut chosen = match &self.layers_to_transform {
            None => return Ok((0..count).collect()),
            Some(LayerChoice::One(layer)) => vec![*layer],
            // As PEFT reads it.
            Some(LayerChoice::Some(layers)) if layers.is_empty() => return Ok((0..count).collect()),
            Some(LayerChoice::Some(layers)) => layers.clone(),
        };
        chosen.sort_unstable();
        chosen.dedup();
        match chosen.last().filter(|last| **last >= count) {
            Some(last) => Err(ModelError::damaged(path, format!("it changes layer {last}, and the base has {count}"))),
            None => Ok(chosen),
        }
    }

    fn shape(&self, config: &LlamaConfig, path: &Path) -> Result<LoraShape, ModelError> {
        let refuse = |reason: String| Err(ModelError::unsupported(path, reason));
        if let Some(setting) = self.unusual.first() {
            return refuse(format!("it sets {setting}"));
        }
        if self.bias != "none" || self.fan_in_fan_out {
            return refuse("it trains biases or transposed matrices".to_owned());
        }
        let mut targets = match &self.target_modules {
            Value::String(all) if all == "all-linear" => Projection::ALL.to_vec(),
            Value::Array(names) => {
                let known = |name| Module::of(config).iter().find(|module| Value::as_str(name) == Some(module.name)).ok_or(name);
                match names.iter().map(known).collect::<Result<Vec<_>, _>>() {
                    Ok(modules) => modules.into_iter().flat_map(|module| module.projections).copied().collect(),
                    Err(name) => return refuse(format!("its target module {name} is not known")),
                }
            }
            other => return refuse(format!("its target modules {other} are no list of names")),
        };
        targets.sort_unstable();
        targets.dedup();
        Ok(LoraShape { rank: self.r, alpha: self.lora_alpha, rank_stabilised: self.use_rslora, dora: self.use_dora, targets })
    }
}

impl Unusual {
    fn first(&self) -> Option<&'static str> {
        let empty = |value: &Value| match value {
            Value::Null | Value::Bool(false) => true,
            Value::Array(list) => list.is_empty(),
            Value::Object(map) => map.is_empty(),
            _ => false,
        };
        let settings = [
            ("modules_to_save", &self.modules_to_save),
            ("layer_replication", &self.layer_replication),
            ("exclude_modules", &self.exclude_modules),
            ("target_parameters", &self.target_parameters),
            ("rank_pattern", &self.rank_pattern),
            ("alpha_pattern", &self.alpha_pattern),
            ("trainable_token_indices", &self.trainable_token_indices),
            ("lora_bias", &self.lora_bias),
            ("alora_invocation_tokens", &self.alora_invocation_tokens),
            ("arrow_config", &self.arrow_config),
            ("kasa_config", &self.kasa_config),
            ("monteclora_config", &self.monteclora_config),
            ("use_bdlora", &self.use_bdlora),
            ("use_qalora", &self.use_qalora),
        ];
        let moves_the_base = self.init_lora_weights.as_str().is_some_and(|start| !matches!(start, "gaussian" | "orthogonal" | "eva"));
        let start = moves_the_base.then_some("init_lora_weights");
        settings.into_iter().find(|(_, value)| !empty(value)).map(|(name, _)| name).or(start)
    }
}
