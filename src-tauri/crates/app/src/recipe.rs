//! From a recipe's name to the trainer's own: configuration, estimate, training, and what comes out of it.

use crate::dataset::TrainingData;
use domain::{AdapterKind, ApiError, ErrorCode, Hyperparameters, Recipe};
use model::{Adapters, LlamaConfig, Lora, LoraShape, ModelError, Projection, SoftPrompt, WeightedLora};
use std::path::Path;
use std::sync::Arc;
use training::{
    Control, Dataset, Estimate, LoraConfig, Observer, Outcome, PromptStart, RunConfig, SoftPromptConfig, TrainError, TrainableLlama,
    Trained,
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
    pub fn load(folder: &Path, base: &LlamaConfig) -> Result<Self, ApiError> {
        let lora = match SoftPrompt::load(folder) {
            Ok(soft_prompt) if soft_prompt.hidden != base.hidden => {
                return Err(ApiError::new(
                    ErrorCode::InvalidInput,
                    format!("This adapter has vectors of {} numbers; the base needs {}.", soft_prompt.hidden, base.hidden),
                )
                .hint("It was trained on another base. Choose an adapter of this one, or write with the plain base."));
            }
            Ok(soft_prompt) => return Ok(Self::SoftPrompt(Arc::new(soft_prompt))),
            // Another kind of adapter: LoRA is the other one that can be used.
            Err(ModelError::Unsupported { .. }) => Lora::load(folder, base)?,
            Err(error) => return Err(error.into()),
        };
        Ok(Self::Lora(Arc::new(lora)))
    }

    pub fn save(&self, folder: &Path, config: &LlamaConfig, base: &str) -> Result<(), ApiError> {
        match self {
            Self::SoftPrompt(soft_prompt) => soft_prompt.save(folder, config, base),
            Self::Lora(lora) => lora.save(folder, config, base),
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
    base: &TrainableLlama,
    data: &TrainingData,
    recompute: bool,
    run_folder: &Path,
    control: &Control,
    observer: &mut dyn Observer,
) -> Result<Outcome<TrainedAdapter>, TrainError> {
    Ok(match recipe {
        Recipe::SoftPrompt => {
            let examples = data.as_examples();
            let config = soft_prompt_config(hyperparameters, &examples, recompute);
            let outcome = training::soft_prompt(base, &examples, &config, run_folder, true, control, observer)?;
            finished(outcome, |soft_prompt| AdapterWeights::SoftPrompt(Arc::new(soft_prompt)))
        }
        Recipe::Lora | Recipe::Dora => {
            let config = lora_config(recipe, hyperparameters, recompute);
            let outcome = match data {
                TrainingData::Examples(data) => training::lora(base, data, &config, run_folder, true, control, observer)?,
                TrainingData::Judgements(data) => training::lora_from_judgements(base, data, &config, run_folder, true, control, observer)?,
            };
            finished(outcome, |lora| AdapterWeights::Lora(Arc::new(lora)))
        }
    })
}

/// Time and memory of a training at `speed` tokens a second.
pub(crate) fn estimate(
    recipe: Recipe,
    hyperparameters: &Hyperparameters,
    data: &TrainingData,
    base: &LlamaConfig,
    speed: f64,
    recompute: bool,
) -> Estimate {
    match (recipe, data) {
        (Recipe::SoftPrompt, data) => {
            let examples = data.as_examples();
            training::estimate(&soft_prompt_config(hyperparameters, &examples, recompute), &examples, base, speed)
        }
        (_, TrainingData::Examples(data)) => training::estimate_lora(&lora_config(recipe, hyperparameters, recompute), data, base, speed),
        (_, TrainingData::Judgements(data)) => {
            training::estimate_judgements(&lora_config(recipe, hyperparameters, recompute), data, base, speed)
        }
    }
}

/// Tokens a second that this recipe reaches on this machine; takes under a second.
pub(crate) fn measure_speed(recipe: Recipe, hyperparameters: &Hyperparameters, base: &TrainableLlama) -> Result<f64, TrainError> {
    let threads = hyperparameters.threads as usize;
    match recipe {
        Recipe::SoftPrompt => training::measure_speed(base, threads),
        Recipe::Lora | Recipe::Dora => training::measure_lora_speed(base, &lora_config(recipe, hyperparameters, false).shape, threads),
    }
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
        run: run_config(hyperparameters, recompute),
        ..SoftPromptConfig::default()
    }
}

fn lora_config(recipe: Recipe, hyperparameters: &Hyperparameters, recompute: bool) -> LoraConfig {
    LoraConfig {
        shape: LoraShape {
            rank: hyperparameters.rank as usize,
            alpha: hyperparameters.alpha as f32,
            rank_stabilised: false,
            dora: recipe == Recipe::Dora,
            targets: Projection::ALL.to_vec(),
        },
        run: run_config(hyperparameters, recompute),
        ..LoraConfig::default()
    }
}

fn run_config(hyperparameters: &Hyperparameters, recompute: bool) -> RunConfig {
    RunConfig {
        learning_rate: hyperparameters.learning_rate,
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
