//! From a recipe's name to the trainer's own: configuration, estimate, training, and what comes out of it.

use crate::dataset::TrainingData;
use crate::hyperparameters::projections;
use crate::trainable::{TrainableBase, only_soft_prompts, quantisation};
use domain::{AdapterKind, ApiError, ErrorCode, Hyperparameters, Objective, Recipe, Schedule};
use model::{Adapters, BaseConfig, LlamaConfig, Lora, LoraShape, ModelError, SoftPrompt, WeightedLora};
use std::path::Path;
use std::sync::Arc;
use training::{
    Control, Dataset, Decay, Estimate, LoraConfig, Observer, Outcome, PairLoss, Preference, PromptStart, RunConfig, SoftPromptConfig,
    TrainError, Trained,
};

/// The weights of an adapter of any kind, in memory.
#[derive(Debug, Clone)]
pub(crate) enum AdapterWeights {
    SoftPrompt(Arc<SoftPrompt>),
    Lora(Arc<Lora>),
}

impl AdapterWeights {
    /// Reads a folder in PEFT's layout that must fit the base.
    ///
    /// # Errors
    /// `ModelMissing`, `ModelDamaged`, or `InvalidInput` for an adapter of another base or kind.
    pub fn load(folder: &Path, base: &BaseConfig) -> Result<Self, ApiError> {
        let lora = match SoftPrompt::load(folder) {
            Ok(soft_prompt) if soft_prompt.hidden != base.hidden() => {
                return Err(ApiError::new(
                    ErrorCode::InvalidInput,
                    format!("This adapter has vectors of {} numbers; the base needs {}.", soft_prompt.hidden, base.hidden()),
                )
                .hint("It was trained on another base. Choose an adapter of this one, or write with the plain base."));
            }
            Ok(soft_prompt) => return Ok(Self::SoftPrompt(Arc::new(soft_prompt))),
            // Another kind of adapter: LoRA is the other one that can be used.
            Err(ModelError::Unsupported { .. }) => Lora::load(folder, decoder_of(base)?)?,
            Err(error) => return Err(error.into()),
        };
        Ok(Self::Lora(Arc::new(lora)))
    }

    pub fn save(&self, folder: &Path, config: &BaseConfig, base: &str) -> Result<(), ApiError> {
        match self {
            Self::SoftPrompt(soft_prompt) => soft_prompt.save(folder, config, base),
            Self::Lora(lora) => lora.save(folder, decoder_of(config)?, base),
        }
        .map_err(ApiError::from)
    }

    pub fn kind(&self) -> AdapterKind {
        match self {
            Self::SoftPrompt(_) => AdapterKind::SoftPrompt,
            Self::Lora(lora) if lora.shape.dora => AdapterKind::Dora,
            Self::Lora(_) => AdapterKind::Lora,
        }
    }

    /// Adds these weights to what a member writes with, in place of others of their kind.
    pub fn join(&self, adapters: &mut Adapters, strength: f64) {
        match self {
            Self::SoftPrompt(soft_prompt) => {
                (adapters.soft_prompt, adapters.strength) = (Some(soft_prompt.clone()), strength as f32);
            }
            Self::Lora(lora) => adapters.lora = Some(WeightedLora { lora: lora.clone(), strength: strength as f32 }),
        }
    }
}

/// The shape of a base that a LoRA or DoRA can stand beside.
///
/// # Errors
/// `InvalidInput` for a T5.
pub(crate) fn decoder_of(config: &BaseConfig) -> Result<&LlamaConfig, ApiError> {
    config.decoder("a T5 can have soft prompts only").map_err(|_| {
        ApiError::new(ErrorCode::InvalidInput, "A LoRA or DoRA cannot be used with a T5.")
            .hint("Only soft prompts can, or choose another base.")
    })
}

/// What a training made, whatever its recipe.
#[derive(Debug, Clone)]
pub(crate) struct TrainedAdapter {
    pub weights: AdapterWeights,
    pub final_loss: f64,
    pub heldout_before: Option<f64>,
    pub heldout_after: Option<f64>,
}

/// Trains by the recipe, with `recompute` in less memory and more time; goes on from the newest checkpoint in `run_folder`, if there is one.
pub(crate) fn train(
    recipe: Recipe,
    hyperparameters: &Hyperparameters,
    base: &TrainableBase,
    data: &TrainingData,
    recompute: bool,
    run_folder: &Path,
    control: &Control,
    observer: &mut dyn Observer,
) -> Result<Outcome<TrainedAdapter>, Failed> {
    Ok(match recipe {
        Recipe::SoftPrompt => {
            let config = soft_prompt_config(hyperparameters, &data.as_examples(), recompute);
            let base = base.prompt_base();
            let outcome = match data {
                TrainingData::Examples(data) => training::soft_prompt(base, data, &config, run_folder, true, control, observer)?,
                TrainingData::Judgements(data) => {
                    training::soft_prompt_from_judgements(base, data, &config, run_folder, true, control, observer)?
                }
            };
            finished(outcome, |soft_prompt| AdapterWeights::SoftPrompt(Arc::new(soft_prompt)))
        }
        Recipe::Lora | Recipe::Dora => {
            let config = lora_config(recipe, hyperparameters, recompute);
            let base = base.decoder().map_err(Failed::Refused)?;
            let outcome = match data {
                TrainingData::Examples(data) => training::lora(base, data, &config, run_folder, true, control, observer)?,
                TrainingData::Judgements(data) => training::lora_from_judgements(base, data, &config, run_folder, true, control, observer)?,
            };
            finished(outcome, |lora| AdapterWeights::Lora(Arc::new(lora)))
        }
    })
}

/// Why a training ended without an adapter.
#[derive(Debug)]
pub(crate) enum Failed {
    Training(TrainError),
    /// Before it began.
    Refused(ApiError),
}

impl From<TrainError> for Failed {
    fn from(error: TrainError) -> Self {
        Self::Training(error)
    }
}

impl From<Failed> for ApiError {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Training(error) => error.into(),
            Failed::Refused(error) => error,
        }
    }
}

/// Refuses what a base cannot learn.
///
/// # Errors
/// `InvalidInput` with what can be done instead.
pub(crate) fn check_base(recipe: Recipe, hyperparameters: &Hyperparameters, base: &BaseConfig) -> Result<(), ApiError> {
    match (recipe, base) {
        (Recipe::Lora | Recipe::Dora, BaseConfig::T5(_)) => Err(only_soft_prompts()),
        (_, BaseConfig::T5(_)) if hyperparameters.objective != Objective::Sft => {
            Err(ApiError::field("objective", "A T5 learns from liked texts only.")
                .hint("Choose another base to learn from thumbs down too."))
        }
        (Recipe::Lora | Recipe::Dora, BaseConfig::Decoder(base)) if hyperparameters.layers as usize > base.layers => {
            let message = format!("layers is {}; this base has {}.", hyperparameters.layers, base.layers);
            Err(ApiError::field("hyperparameters.layers", message).hint("Leave it out for all of them."))
        }
        (Recipe::Lora | Recipe::Dora, BaseConfig::Decoder(base))
            if !lora_config(recipe, hyperparameters, false).shape.takes_whole_modules(base) =>
        {
            let message = "This base holds queries, keys and values as one module, gate and up as another; an adapter changes all of it.";
            Err(ApiError::field("hyperparameters.target_modules", message)
                .hint("Choose among qkv_proj, o_proj, gate_up_proj and down_proj, or leave it out for all of them."))
        }
        _ => Ok(()),
    }
}

/// Time and memory of a training at `speed` tokens a second.
pub(crate) fn estimate(
    recipe: Recipe,
    hyperparameters: &Hyperparameters,
    data: &TrainingData,
    base: &BaseConfig,
    speed: f64,
    recompute: bool,
) -> Estimate {
    let examples = || data.as_examples();
    let estimate = match (base, recipe, data) {
        (BaseConfig::T5(base), ..) => {
            let held = quantisation(hyperparameters.quantization);
            training::estimate_t5(&soft_prompt_config(hyperparameters, &examples(), recompute), &examples(), base, held, speed)
        }
        (BaseConfig::Decoder(base), Recipe::SoftPrompt, TrainingData::Examples(data)) => {
            training::estimate(&soft_prompt_config(hyperparameters, data, recompute), data, base, speed)
        }
        (BaseConfig::Decoder(base), Recipe::SoftPrompt, TrainingData::Judgements(data)) => {
            training::estimate_prompt_judgements(&soft_prompt_config(hyperparameters, &examples(), recompute), data, base, speed)
        }
        (BaseConfig::Decoder(base), _, TrainingData::Examples(data)) => {
            training::estimate_lora(&lora_config(recipe, hyperparameters, recompute), data, base, speed)
        }
        (BaseConfig::Decoder(base), _, TrainingData::Judgements(data)) => {
            training::estimate_judgements(&lora_config(recipe, hyperparameters, recompute), data, base, speed)
        }
    };
    match base {
        BaseConfig::Decoder(base) => estimate.holding(base, quantisation(hyperparameters.quantization), recipe == Recipe::Dora),
        BaseConfig::T5(_) => estimate,
    }
}

/// Tokens a second that this recipe reaches on this machine; takes under a second.
pub(crate) fn measure_speed(recipe: Recipe, hyperparameters: &Hyperparameters, base: &TrainableBase) -> Result<f64, ApiError> {
    let threads = hyperparameters.threads as usize;
    Ok(match (base, recipe) {
        (TrainableBase::T5(base), _) => training::measure_t5_speed(base, threads)?,
        (TrainableBase::Decoder(base), Recipe::SoftPrompt) => training::measure_speed(base, threads)?,
        (TrainableBase::Decoder(base), Recipe::Lora | Recipe::Dora) => {
            training::measure_lora_speed(base, &lora_config(recipe, hyperparameters, false).shape, threads)?
        }
    })
}

fn finished<A>(outcome: Outcome<Trained<A>>, weights: impl FnOnce(A) -> AdapterWeights) -> Outcome<TrainedAdapter> {
    match outcome {
        Outcome::Finished(trained) => Outcome::Finished(TrainedAdapter {
            weights: weights(trained.adapter),
            final_loss: trained.final_loss,
            heldout_before: trained.heldout_before,
            heldout_after: trained.heldout_after,
        }),
        Outcome::Cancelled { step } => Outcome::Cancelled { step },
        Outcome::Paused { step } => Outcome::Paused { step },
    }
}

/// The prompt starts as the first words of the first text: closer to what is wanted than words drawn at random, and the
/// same on a resume, because the dataset is frozen.
fn soft_prompt_config(hyperparameters: &Hyperparameters, data: &Dataset, recompute: bool) -> SoftPromptConfig {
    let start =
        data.train.first().map(|text| text.answer.iter().copied().take(hyperparameters.virtual_tokens as usize).collect::<Vec<_>>());
    SoftPromptConfig {
        start: start.filter(|tokens| !tokens.is_empty()).map_or(PromptStart::Vocabulary, PromptStart::Tokens),
        virtual_tokens: hyperparameters.virtual_tokens as usize,
        preference: preference(hyperparameters),
        run: run_config(hyperparameters, recompute),
    }
}

fn lora_config(recipe: Recipe, hyperparameters: &Hyperparameters, recompute: bool) -> LoraConfig {
    LoraConfig {
        shape: LoraShape {
            rank: hyperparameters.rank as usize,
            alpha: hyperparameters.alpha as f32,
            rank_stabilised: hyperparameters.rank_stabilised,
            dora: recipe == Recipe::Dora,
            targets: projections(hyperparameters),
        },
        layers: (hyperparameters.layers > 0).then_some(hyperparameters.layers as usize),
        dropout: hyperparameters.dropout as f32,
        preference: preference(hyperparameters),
        run: run_config(hyperparameters, recompute),
        ..LoraConfig::default()
    }
}

fn preference(hyperparameters: &Hyperparameters) -> Preference {
    let pairs = if hyperparameters.objective == Objective::Orpo { PairLoss::Orpo } else { PairLoss::Dpo };
    Preference { beta: hyperparameters.beta, pairs, ..Preference::default() }
}

fn run_config(hyperparameters: &Hyperparameters, recompute: bool) -> RunConfig {
    RunConfig {
        learning_rate: hyperparameters.learning_rate,
        warmup_steps: hyperparameters.warmup_steps,
        decay: match hyperparameters.schedule {
            Schedule::Cosine => Decay::Cosine,
            Schedule::Linear => Decay::Linear,
            Schedule::Constant => Decay::Constant,
        },
        steps: hyperparameters.steps,
        batch_size: hyperparameters.batch_size as usize,
        checkpoint_steps: hyperparameters.checkpoint_steps,
        checkpoints_kept: hyperparameters.checkpoints_kept as usize,
        seed: u64::from(hyperparameters.seed),
        threads: hyperparameters.threads as usize,
        recompute,
        ..RunConfig::default()
    }
}
