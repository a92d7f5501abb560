//! The numbers of a training: from what a person asked for and the settings to what is used, each checked, all faults at once.

use domain::{
    ApiError, BasePrecision, FieldFault, HyperparameterChoice, Hyperparameters, Objective, Recipe, Settings, TrainRequest, usual_beta,
    usual_warmup,
};
use model::{Module, Projection};
use std::ops::RangeInclusive;

/// DPO and KTO learn at this share of the rate for liked texts: at the whole of it the language suffers first
/// (one judged history of 64 texts: perplexity +7% at 1e-3, +4% at 3e-4, with 77% and 68% of pairs won).
const JUDGED_RATE: f64 = 0.3;

/// LoRA and DoRA learn from liked texts at this share of it, unless a file brings them: those texts are the base's own, guided, and
/// guidance leads on along what was learned. At the whole rate perplexity rose by 12%, at three tenths by 7%, at a tenth by 3%,
/// with 71%, 64% and 64% of pairs won (E3, one user).
const LIKED_RATE: f64 = 0.1;

/// DPO and KTO see every verdict this often, LoRA and DoRA every liked text: more passes learn few by heart (E3 in
/// `crates/eval/REPORT.md`).
const JUDGED_PASSES: u32 = 2;

/// How dear it is to DPO and KTO to leave the base. With the papers' 0.1 DPO learned as much in 60 updates.
const JUDGED_BETA: f64 = 0.3;

/// PEFT's name for every linear layer but the head.
pub(crate) const ALL_LINEAR: &str = "all-linear";

/// The most texts of a step.
const MOST_TEXTS: u32 = 1024;

/// Figures of the request, else of the settings.
///
/// # Errors
/// `InvalidInput` with every fault.
pub(crate) fn resolved(settings: &Settings, request: &TrainRequest, objective: Objective) -> Result<Hyperparameters, ApiError> {
    let choice = &request.hyperparameters;
    let mut faults = Faults::default();
    let virtual_tokens = faults.whole("virtual_tokens", choice.virtual_tokens, settings.virtual_tokens, 1..=256);
    let rank = faults.whole("rank", choice.rank, settings.lora_rank, 1..=256);
    let judged = matches!(objective, Objective::Dpo | Objective::Kto);
    let own_liked = objective == Objective::Sft && request.recipe != Recipe::SoftPrompt && request.dataset.is_none();
    let passes = if judged || own_liked { settings.training_epochs.min(JUDGED_PASSES) } else { settings.training_epochs };
    let epochs = faults.whole("epochs", choice.epochs, passes, 1..=1000);
    let steps = faults.whole("steps", choice.steps, 1, 1..=1_000_000);
    let batch_size = faults.whole("batch_size", choice.batch_size, settings.training_batch_size, 1..=MOST_TEXTS);
    let accumulation = faults.whole("gradient_accumulation", choice.gradient_accumulation, 1, 1..=MOST_TEXTS);
    let max_samples = faults.whole("max_samples", choice.max_samples, 2000, 1..=1_000_000);
    let source_max_tokens = faults.whole("source_max_tokens", choice.source_max_tokens, 384, 8..=8192);
    let target_max_tokens = faults.whole("target_max_tokens", choice.target_max_tokens, 384, 8..=8192);
    let kept = faults.whole("checkpoints_kept", choice.checkpoints_kept, settings.training_checkpoints_kept, 1..=20);
    let checkpoint_steps = faults.whole("checkpoint_steps", choice.checkpoint_steps, settings.training_checkpoint_steps, 1..=100_000);
    let warmup_steps = faults.whole("warmup_steps", choice.warmup_steps, usual_warmup(), 0..=100_000);
    let usual_rate = usual_rate(settings, request.recipe, objective) * if own_liked { LIKED_RATE } else { 1.0 };
    let learning_rate = faults.above_zero("learning_rate", choice.learning_rate, usual_rate, 1.0);
    let alpha = faults.above_zero("alpha", choice.alpha, settings.lora_alpha, 1024.0);
    let beta = faults.above_zero("beta", choice.beta, if judged { JUDGED_BETA } else { usual_beta() }, 100.0);
    let dropout = choice.dropout.unwrap_or(0.0);
    if !(0.0..=0.9).contains(&dropout) {
        faults.add("dropout", format!("dropout is {dropout}; it must be 0 to 0.9."));
    }
    let target_modules = targets(choice, &mut faults);
    // How many there are depends on the base, which is checked with the recipe.
    let layers = choice.layers.map_or(0, |layers| faults.whole("layers", Some(layers), 0, 1..=1000));
    let texts = batch_size.saturating_mul(accumulation);
    if texts > MOST_TEXTS && faults.none() {
        faults.add("gradient_accumulation", format!("A step would take {texts} texts; it may take {MOST_TEXTS}."));
    }
    if !faults.none() {
        return Err(ApiError::fields(faults.0).hint("Change the values named, then try again."));
    }
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u32);
    Ok(Hyperparameters {
        objective,
        virtual_tokens,
        rank,
        alpha,
        dropout,
        target_modules,
        layers,
        rank_stabilised: choice.rank_stabilised.unwrap_or(false),
        quantization: match choice.quantization {
            Some(BasePrecision::Fp16) => BasePrecision::Bf16,
            held => held.unwrap_or_default(),
        },
        beta,
        learning_rate,
        warmup_steps,
        schedule: choice.schedule.unwrap_or_default(),
        epochs,
        steps,
        batch_size: texts,
        max_samples,
        source_max_tokens,
        target_max_tokens,
        checkpoint_steps,
        checkpoints_kept: kept,
        seed: choice.seed.unwrap_or(1),
        threads: if settings.training_threads == 0 { cores } else { settings.training_threads },
    })
}

/// The learning rate that a method has unless another one is asked for.
pub(crate) fn usual_rate(settings: &Settings, recipe: Recipe, objective: Objective) -> f64 {
    match (recipe, objective) {
        // At three times the rate DPO won less for two users of three, and nothing for one of them (E3).
        (Recipe::SoftPrompt, _) => settings.training_learning_rate,
        (_, Objective::Sft | Objective::Orpo) => settings.lora_learning_rate,
        (_, Objective::Dpo | Objective::Kto) => settings.lora_learning_rate * JUDGED_RATE,
    }
}

/// The projections that an adapter changes; names that are not known were refused when the run was planned.
pub(crate) fn projections(hyperparameters: &Hyperparameters) -> Vec<Projection> {
    let named = |projection: &Projection| hyperparameters.target_modules.iter().any(|name| name == projection.module());
    let all = || Projection::ALL.to_vec();
    if hyperparameters.target_modules.is_empty() { all() } else { Projection::ALL.into_iter().filter(named).collect() }
}

/// Names of modules in the order of the layer, each once; empty for all of them.
fn targets(choice: &HyperparameterChoice, faults: &mut Faults) -> Vec<String> {
    let Some(names) = &choice.target_modules else { return Vec::new() };
    let field = "target_modules";
    if names.is_empty() {
        faults.add(field, "target_modules is empty; name at least one module, or leave it out for all.".to_owned());
    }
    for name in names.iter().filter(|name| *name != ALL_LINEAR && Module::named(name).is_none()) {
        let known = Projection::ALL.map(Projection::module).join(", ");
        faults.add(field, format!("There is no module named {name}; there are {known} and {ALL_LINEAR}."));
    }
    if names.iter().any(|name| name == ALL_LINEAR) {
        return Vec::new();
    }
    // Names of joined modules (Phi-3) stand for the projections in them, whatever the base.
    let named: Vec<Projection> =
        names.iter().filter_map(|name| Module::named(name)).flat_map(|module| module.projections).copied().collect();
    if Projection::ALL.iter().all(|projection| named.contains(projection)) {
        return Vec::new();
    }
    Projection::ALL.into_iter().filter(|projection| named.contains(projection)).map(|projection| projection.module().to_owned()).collect()
}

#[derive(Default)]
struct Faults(Vec<FieldFault>);

impl Faults {
    fn none(&self) -> bool {
        self.0.is_empty()
    }

    fn add(&mut self, name: &str, message: String) {
        self.0.push(FieldFault { field: format!("hyperparameters.{name}"), message });
    }

    fn whole(&mut self, name: &str, chosen: Option<u32>, default: u32, range: RangeInclusive<u32>) -> u32 {
        let value = chosen.unwrap_or(default);
        if !range.contains(&value) {
            self.add(name, format!("{name} is {value}; it must be {} to {}.", range.start(), range.end()));
        }
        value
    }

    fn above_zero(&mut self, name: &str, chosen: Option<f64>, default: f64, most: f64) -> f64 {
        let value = chosen.unwrap_or(default);
        if !(value > 0.0 && value <= most) {
            self.add(name, format!("{name} is {value}; it must be above 0 and at most {most}."));
        }
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(choice: HyperparameterChoice) -> Result<Hyperparameters, ApiError> {
        let request = TrainRequest { hyperparameters: choice, ..TrainRequest::of(Recipe::Lora) };
        resolved(&Settings::default(), &request, Objective::Sft)
    }

    #[test]
    fn every_fault_is_named_at_once() {
        let error = asked(HyperparameterChoice {
            rank: Some(0),
            alpha: Some(-1.0),
            dropout: Some(1.0),
            learning_rate: Some(-0.001),
            beta: Some(f64::NAN),
            batch_size: Some(0),
            target_modules: Some(vec!["q_proj".to_owned(), "lm_head".to_owned(), "wq".to_owned()]),
            ..HyperparameterChoice::default()
        })
        .expect_err("refused");
        let named: Vec<&str> = error.detail.iter().map(|fault| fault.field.trim_start_matches("hyperparameters.")).collect();
        assert_eq!(named, ["rank", "batch_size", "learning_rate", "alpha", "beta", "dropout", "target_modules", "target_modules"]);
        assert!(error.detail[6].message.contains("lm_head") && error.detail[7].message.contains("wq"));
    }

    #[test]
    fn modules_stand_in_the_order_of_the_layer_and_all_of_them_are_said_shortly() {
        let modules = |names: &[&str]| {
            let names = names.iter().map(|name| (*name).to_owned()).collect();
            let found = asked(HyperparameterChoice { target_modules: Some(names), ..HyperparameterChoice::default() });
            found.expect("accepted")
        };
        let some = modules(&["v_proj", "q_proj", "v_proj"]);
        assert_eq!(some.target_modules, ["q_proj", "v_proj"]);
        assert_eq!(projections(&some), [Projection::Q, Projection::V]);
        assert!(modules(&[ALL_LINEAR]).target_modules.is_empty());
        assert_eq!(projections(&modules(&["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"])).len(), 7);
        assert_eq!(modules(&["qkv_proj", "down_proj"]).target_modules, ["q_proj", "k_proj", "v_proj", "down_proj"], "as Phi-3 has them");
    }

    #[test]
    fn accumulated_batches_are_one_larger_batch() {
        let choice = |batch, accumulation| HyperparameterChoice {
            batch_size: Some(batch),
            gradient_accumulation: Some(accumulation),
            ..HyperparameterChoice::default()
        };
        assert_eq!(asked(choice(1, 16)).expect("accepted").batch_size, 16, "as the document assistant's trainer did by default");
        assert_eq!(asked(choice(64, 64)).expect_err("too many").detail[0].field, "hyperparameters.gradient_accumulation");
    }

    #[test]
    fn the_base_is_held_as_asked_for_with_bf16_for_fp16_and_fp32_unless_said() {
        assert_eq!(asked(HyperparameterChoice::default()).expect("accepted").quantization, BasePrecision::Fp32);
        let by = |precision| asked(HyperparameterChoice { quantization: Some(precision), ..HyperparameterChoice::default() });
        assert_eq!(by(BasePrecision::Fp16).expect("accepted").quantization, BasePrecision::Bf16);
        for held in [BasePrecision::Fp32, BasePrecision::Bf16, BasePrecision::Int8, BasePrecision::Int4] {
            assert_eq!(by(held).expect("accepted").quantization, held);
        }
    }
}
