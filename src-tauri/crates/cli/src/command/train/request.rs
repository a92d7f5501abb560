//! From the options of the command line to what is asked of the app.

use crate::args::{Adapter, Decay, Held, Mode, Numbers, Peft, SoftPrompt};
use crate::command::adapters::absolute;
use domain::{ApiError, BaseId, BasePrecision, FieldFault, HyperparameterChoice, Objective, Recipe, Schedule, SearchChoice, TrainRequest};

pub fn of_adapter(train: &Adapter) -> Result<TrainRequest, ApiError> {
    let held = match (train.peft, train.quantization) {
        (Some(Peft::Qlora), None) => Some(Held::Int4),
        (Some(Peft::Qlora), Some(Held::Fp16 | Held::Bf16 | Held::Fp32)) => {
            return Err(ApiError::field("quantization", "A QLoRA stands beside a base in int8 or int4.")
                .hint("Choose one of these, or --peft lora."));
        }
        (_, held) => held,
    };
    Ok(TrainRequest {
        base: train.base_model.clone().map(BaseId),
        objective: train.mode.map(|mode| match mode {
            Mode::Sft => Objective::Sft,
            Mode::Dpo => Objective::Dpo,
            Mode::Kto => Objective::Kto,
            Mode::Orpo => Objective::Orpo,
        }),
        dataset: train.data.as_deref().map(absolute).transpose()?,
        hyperparameters: HyperparameterChoice {
            virtual_tokens: train.num_virtual_tokens,
            rank: train.rank,
            alpha: train.alpha,
            dropout: train.dropout,
            target_modules: train.target_modules.clone(),
            layers: train.layers,
            rank_stabilised: train.use_rslora.then_some(true),
            quantization: held.map(|held| match held {
                Held::Fp32 => BasePrecision::Fp32,
                Held::Bf16 => BasePrecision::Bf16,
                Held::Fp16 => BasePrecision::Fp16,
                Held::Int8 => BasePrecision::Int8,
                Held::Int4 => BasePrecision::Int4,
            }),
            beta: train.beta,
            learning_rate: train.lr,
            epochs: train.epochs,
            batch_size: train.batch_size,
            gradient_accumulation: train.grad_accum,
            target_max_tokens: train.max_seq_len,
            checkpoint_steps: train.checkpoint_steps,
            checkpoints_kept: train.checkpoint_total_limit,
            ..of_numbers(&train.numbers)
        },
        search: search(&train.numbers, train.peft.is_some()),
        triggered_by: Some("cli".to_owned()),
        ..TrainRequest::of(match train.peft {
            None | Some(Peft::Lora | Peft::Qlora) => Recipe::Lora,
            Some(Peft::Dora) => Recipe::Dora,
            Some(Peft::SoftPrompt) => Recipe::SoftPrompt,
        })
    })
}

pub fn of_soft_prompt(train: SoftPrompt) -> TrainRequest {
    TrainRequest {
        base: train.base_model.map(BaseId),
        objective: Some(Objective::Sft),
        hyperparameters: HyperparameterChoice {
            virtual_tokens: train.num_virtual_tokens,
            learning_rate: train.learning_rate,
            epochs: train.epochs,
            batch_size: train.batch_size,
            max_samples: train.max_samples,
            source_max_tokens: train.source_max_tokens,
            target_max_tokens: train.target_max_tokens,
            ..of_numbers(&train.numbers)
        },
        search: search(&train.numbers, true),
        triggered_by: Some("cli".to_owned()),
        ..TrainRequest::of(Recipe::SoftPrompt)
    }
}

fn of_numbers(numbers: &Numbers) -> HyperparameterChoice {
    HyperparameterChoice {
        steps: numbers.steps,
        warmup_steps: numbers.warmup_steps,
        schedule: numbers.schedule.map(|decay| match decay {
            Decay::Cosine => Schedule::Cosine,
            Decay::Linear => Schedule::Linear,
            Decay::Constant => Schedule::Constant,
        }),
        seed: numbers.seed,
        ..HyperparameterChoice::default()
    }
}

/// Minutes alone ask for a search too.
fn search(numbers: &Numbers, keep_recipe: bool) -> Option<SearchChoice> {
    (numbers.search || numbers.search_minutes.is_some()).then_some(SearchChoice { minutes: numbers.search_minutes, keep_recipe })
}

/// A resumed run goes on exactly as it began.
pub fn refuse_changes(train: &SoftPrompt) -> Result<(), ApiError> {
    let given = [
        ("base_model", train.base_model.is_some()),
        ("max_samples", train.max_samples.is_some()),
        ("epochs", train.epochs.is_some()),
        ("learning_rate", train.learning_rate.is_some()),
        ("batch_size", train.batch_size.is_some()),
        ("source_max_tokens", train.source_max_tokens.is_some()),
        ("target_max_tokens", train.target_max_tokens.is_some()),
        ("num_virtual_tokens", train.num_virtual_tokens.is_some()),
        ("steps", train.numbers.steps.is_some()),
        ("warmup_steps", train.numbers.warmup_steps.is_some()),
        ("schedule", train.numbers.schedule.is_some()),
        ("seed", train.numbers.seed.is_some()),
        ("search", search(&train.numbers, true).is_some()),
    ];
    let faults: Vec<_> = given
        .iter()
        .filter(|(_, given)| *given)
        .map(|(field, _)| FieldFault { field: (*field).to_owned(), message: format!("{field} cannot change when a run is resumed.") })
        .collect();
    if faults.is_empty() { Ok(()) } else { Err(ApiError::fields(faults).hint("Resume without it, or start a new training.")) }
}
