//! Planning a training, checking that it can be done, and queueing it.

use crate::base::BUILT_IN;
use crate::dataset::{FrozenDataset, JudgedText, TrainingData};
use crate::hyperparameters::resolved;
use crate::pairs::{self, JudgedPair};
use crate::{App, available_mb, recipe, search, training_file, worker};
use domain::{
    ApiError, BaseId, DatasetReport, ErrorCode, HyperparameterChoice, Hyperparameters, Job, JobId, JobKind, JobState, Objective, Priority,
    Recipe, Run, RunId, RunStatus, Settings, Timestamp, TrainQueued, TrainRequest, TrainingPlan,
};
use model::BaseConfig;
use std::path::Path;
use training::Estimate;

/// Share of the free memory that a training may use unless the person sets a budget.
const SHARE_OF_FREE_MEMORY: f64 = 0.75;

/// With so many liked and so many disliked texts, LoRA learns from both unless told otherwise.
const ENOUGH_OF_EACH: usize = 4;

/// With so many pairs those are learned from: they won more than thumbs alone, at no cost to the language (E3 to E5 in
/// `crates/eval/REPORT.md`).
const ENOUGH_PAIRS: usize = 8;

/// What a written token costs beside one that is trained on: eight texts at once, forward only, on packed weights.
const WRITING_SHARE: f64 = 0.3;

/// DPO and KTO make at least so many updates unless asked otherwise; with many more the language suffers before the verdicts that are
/// kept back say so (E3 and E4 in `crates/eval/REPORT.md`).
const JUDGED_STEPS: u32 = 80;

/// With fewer texts than this the plan says that more would help.
const FEW_TEXTS: usize = 8;

impl App {
    /// What a training would learn from and cost, and why it cannot start, if so. Nothing is changed.
    pub fn plan_training(&self, request: TrainRequest) -> Result<TrainingPlan, ApiError> {
        Ok(self.prepare(&request)?.0)
    }

    /// Queues a training. Its texts are frozen on disk before the job is announced.
    ///
    /// # Errors
    /// `NotReady` without liked texts, `Conflict` while a training is queued or running, `OutOfMemory` over budget,
    /// `InvalidInput` with every fault.
    pub fn train(&self, request: TrainRequest) -> Result<TrainQueued, ApiError> {
        let (plan, dataset) = self.prepare(&request)?;
        self.queue_training(plan, &dataset, request.triggered_by)
    }

    /// Freezes what is learned from and queues a run on it.
    pub(crate) fn queue_training(
        &self,
        plan: TrainingPlan,
        dataset: &FrozenDataset,
        triggered_by: Option<String>,
    ) -> Result<TrainQueued, ApiError> {
        if let Some(error) = plan.blocked_by {
            return Err(error);
        }
        let home = self.home();
        let (run_id, job_id) = (RunId::fresh(), JobId::fresh());
        let folder = home.folder.runs().join(run_id.as_str());
        dataset.save(&folder)?;
        let now = Timestamp::now();
        let job = Job {
            id: job_id.clone(),
            kind: JobKind::Train,
            state: JobState::Queued,
            priority: Priority::Normal,
            phase: None,
            progress: 0.0,
            run_id: Some(run_id.clone()),
            attempts: 0,
            error: None,
            created_at: now.clone(),
            started_at: None,
            finished_at: None,
            title: title(&plan, dataset),
        };
        let run = Run {
            run_id: run_id.clone(),
            job_id: Some(job_id.clone()),
            status: RunStatus::Queued,
            recipe: plan.recipe,
            base: plan.base,
            hyperparameters: plan.hyperparameters,
            search: plan.search,
            phase: None,
            step: 0,
            samples: plan.examples,
            heldout: plan.heldout,
            final_loss: None,
            adapter_id: None,
            verdict: None,
            decision: None,
            error: None,
            seconds: None,
            peak_memory_mb: None,
            checkpoint_step: None,
            directory: folder.display().to_string(),
            triggered_by: triggered_by.unwrap_or_else(|| "person".to_owned()),
            created_at: now,
            started_at: None,
            finished_at: None,
        };
        if let Err(error) = home.store.enqueue(&job, &run) {
            // Refused: the folder belongs to no run.
            let _ = std::fs::remove_dir_all(&folder);
            return Err(ApiError::from(error));
        }
        self.worker.wake();
        Ok(TrainQueued { job_id, run_id })
    }

    fn prepare(&self, request: &TrainRequest) -> Result<(TrainingPlan, FrozenDataset), ApiError> {
        let (judged, report) = match &request.dataset {
            Some(path) => training_file::read(Path::new(path)).map(|(texts, report)| (texts, Some(report)))?,
            None => {
                let mut judged: Vec<JudgedText> = self.home().store.feedback_for_taste()?.into_iter().map(JudgedText::from).collect();
                // The newest first: when there are too many, the oldest are left out.
                judged.reverse();
                (judged, None)
            }
        };
        self.prepare_from(request, judged, report)
    }

    /// The plan of a training on these texts, the most wanted first; `report` is that of the file they came from.
    pub(crate) fn prepare_from(
        &self,
        request: &TrainRequest,
        mut judged: Vec<JudgedText>,
        report: Option<DatasetReport>,
    ) -> Result<(TrainingPlan, FrozenDataset), ApiError> {
        let settings = self.home().store.settings()?;
        let base = self.base_id(request.base.as_ref())?;
        let config = self.base_config(&base)?;
        // A file stands for itself: what the person compared in the app is not mixed in.
        let pairs = if report.is_some() { pairs::own_pairs(&judged) } else { self.pairs_to_learn(&settings, &judged)? };
        let liked = judged.iter().filter(|text| text.liked).count();
        let only_pairs = report.is_some() && training_file::all_pairs(&judged);
        let has = Material { liked, disliked: judged.len() - liked, pairs: &pairs, only_pairs, only_liked: config.is_t5() };
        let (objective, mut why) = objective(request, &has)?;
        let mut hyperparameters = resolved(&settings, request, objective)?;
        recipe::check_base(request.recipe, &hyperparameters, &config)?;
        let search = search::plan(&settings, request, objective, config.is_t5())?;
        if objective == Objective::Sft {
            judged.retain(|text| text.liked);
        }
        let pairs = if objective.learns_from_pairs() { pairs } else { Vec::new() };
        // A file stands for itself.
        let to_write = if report.is_none() { self.pairs_to_write(&settings, objective, &judged, &pairs) } else { 0 };
        if to_write > 0 {
            why.push_str(&format!(
                " Before it begins it writes {} texts each to {to_write} prompts of yours; the best and the worst by your taste join what it learns from.",
                pairs::WRITTEN
            ));
        }
        let mut dataset = FrozenDataset::split(base.clone(), judged, pairs, hyperparameters.max_samples as usize);
        dataset.to_write = to_write;
        let loaded = self.base(&base)?;
        let (examples, heldout) = dataset.tokenised(&loaded, &hyperparameters)?.counts();
        // Of what is written, as large a share is kept back as of what is there.
        let written = to_write as usize * if objective == Objective::Kto { 2 } else { 1 };
        let to_learn = examples + written * examples / (examples + heldout).max(1);
        hyperparameters.steps = steps(&settings, &request.hyperparameters, &hyperparameters, to_learn);
        let mut plan = TrainingPlan {
            recipe: request.recipe,
            base_name: base_name(&base),
            base: base.clone(),
            examples: examples as u32,
            heldout: heldout as u32,
            estimated_seconds: 0.0,
            estimated_memory_mb: 0.0,
            available_memory_mb: available_mb(),
            ready: false,
            blocked_by: None,
            sentence: String::new(),
            // Texts of a file: those that the app wrote are as the base writes.
            warning: if report.is_some() && examples > 0 { self.warning(&base, &dataset, objective)? } else { String::new() },
            dataset: report,
            why,
            // A search that the settings ask for waits until there is something to compare on.
            search: search.filter(|_| heldout > 0 || request.search.is_some()),
            openings: dataset.train.iter().filter(|text| text.liked).take(5).map(|text| crate::write::opening(&text.text, 80)).collect(),
            hyperparameters,
        };
        plan.sentence = sentence(&plan);
        plan.blocked_by = self.obstacle(&mut plan, &dataset, &settings)?;
        plan.ready = plan.blocked_by.is_none();
        Ok((plan, dataset))
    }

    /// Why the training cannot start now, after filling in what it would cost.
    fn obstacle(&self, plan: &mut TrainingPlan, dataset: &FrozenDataset, settings: &Settings) -> Result<Option<ApiError>, ApiError> {
        if let (0, Some(report)) = (plan.examples, &plan.dataset) {
            let nothing = format!("None of the {} examples of the file can be learned from this way.", report.examples);
            return Ok(Some(ApiError::new(ErrorCode::NotReady, nothing).hint(match plan.hyperparameters.objective {
                Objective::Dpo | Objective::Orpo => {
                    "DPO and ORPO need rows with prompt, chosen and rejected. Choose SFT or KTO for others."
                }
                _ => "It needs rows with an answer that is liked: give some a label of true, or choose another method.",
            })));
        }
        if plan.examples == 0 && plan.hyperparameters.objective.learns_from_pairs() {
            return Ok(Some(
                ApiError::new(ErrorCode::NotReady, "There are no pairs to learn from yet.")
                    .hint("Give a thumb up to one text and a thumb down to another of the same prompt, or edit a text you like."),
            ));
        }
        if plan.examples == 0 {
            return Ok(Some(
                ApiError::new(ErrorCode::NotReady, "There is nothing to learn from yet: no text has a thumb up.")
                    .hint("Write a few texts and give a thumb up to those you like; about ten make a good start."),
            ));
        }
        if plan.search.is_some() && plan.heldout == 0 {
            return Ok(Some(
                ApiError::new(
                    ErrorCode::NotReady,
                    "A search compares on texts that are kept back, and there are too few prompts for that.",
                )
                .hint("Like texts of at least three prompts, or train without a search."),
            ));
        }
        let config = self.base_config(&plan.base)?;
        let base = self.base(&plan.base)?;
        let tokens = dataset.tokenised(&base, &plan.hyperparameters)?;
        let speed = self.training_speed(&plan.base, plan.recipe, &plan.hyperparameters, None)?;
        let budget = memory_budget(settings, plan.available_memory_mb);
        let estimate = |recompute| recipe::estimate(plan.recipe, &plan.hyperparameters, &tokens, &config, speed, recompute);
        let mut estimate_fitting = estimate(false);
        if budget.is_some_and(|budget| needed_mb(&estimate_fitting) > budget) {
            // Slower, but it may fit.
            estimate_fitting = estimate(true);
        }
        let written = f64::from(dataset.to_write) * (pairs::WRITTEN * pairs::LENGTH) as f64 * WRITING_SHARE / speed.max(1.0);
        plan.estimated_seconds = estimate_fitting.seconds + written + plan.search.as_ref().map_or(0.0, |search| search.budget_seconds);
        plan.estimated_memory_mb = needed_mb(&estimate_fitting);
        if let Some(budget) = budget.filter(|budget| plan.estimated_memory_mb > *budget) {
            let missing = plan.estimated_memory_mb - budget;
            return Ok(Some(
                ApiError::new(
                    ErrorCode::OutOfMemory,
                    format!("This training needs about {:.0} MB; it may use {budget:.0} MB.", plan.estimated_memory_mb),
                )
                .hint(format!(
                    "It would fit with {missing:.0} MB more: close other programs, or raise the memory budget in Settings. \
                     Shorter texts or a smaller base need less."
                )),
            ));
        }
        let busy = self
            .jobs(domain::Limit { limit: Some(200) })?
            .into_iter()
            .find(|job| job.kind == JobKind::Train && matches!(job.state, JobState::Queued | JobState::Running));
        Ok(busy.map(|job| {
            ApiError::new(ErrorCode::Conflict, format!("A training is already {}: {}.", worker::state_in_words(job.state), job.title))
                .hint("Wait until it ends, or cancel it under Activity.")
        }))
    }
}

/// Steps as asked for; else the passes over the texts, and at least the fewest steps that the settings allow.
fn steps(settings: &Settings, choice: &HyperparameterChoice, hyperparameters: &Hyperparameters, texts: usize) -> u32 {
    let per_epoch = (texts as u32).div_ceil(hyperparameters.batch_size).max(1);
    let by_epochs = per_epoch * hyperparameters.epochs;
    let judged = matches!(hyperparameters.objective, Objective::Dpo | Objective::Kto);
    let fewest = if judged { settings.training_min_steps.min(JUDGED_STEPS) } else { settings.training_min_steps };
    // Passes asked for by name are kept to; the default passes are raised when there are few texts.
    choice.steps.unwrap_or(if choice.epochs.is_some() { by_epochs } else { by_epochs.max(fewest) })
}

pub(crate) fn base_name(base: &BaseId) -> String {
    if base.as_str() == BUILT_IN { "the built-in base".to_owned() } else { base.to_string() }
}

fn title(plan: &TrainingPlan, dataset: &FrozenDataset) -> String {
    let (recipe, base) = (plan.recipe.label(), &plan.base_name);
    match &dataset.personal {
        Some(personal) => format!("Personal {recipe} of {} on {base} with {} examples and liked texts", personal.user_id, plan.examples),
        None if plan.search.is_some() => format!("Search and training on {base} with {}", learned_from(plan)),
        None => format!("{recipe} on {base} with {}", learned_from(plan)),
    }
}

/// What is learned from, counted and named.
fn learned_from(plan: &TrainingPlan) -> String {
    let (one, many) = match plan.hyperparameters.objective {
        Objective::Sft if plan.dataset.is_some() => ("example from a file", "examples from a file"),
        Objective::Kto if plan.dataset.is_some() => ("judged example from a file", "judged examples from a file"),
        Objective::Sft => ("liked text", "liked texts"),
        Objective::Dpo | Objective::Orpo => ("pair of a better and a worse text", "pairs of a better and a worse text"),
        Objective::Kto => ("text you judged", "texts you judged"),
    };
    if plan.examples == 1 { format!("1 {one}") } else { format!("{} {many}", plan.examples) }
}

/// What there is to learn from.
struct Material<'a> {
    liked: usize,
    disliked: usize,
    pairs: &'a [JudgedPair],
    /// A file that holds nothing else.
    only_pairs: bool,
    /// For a base that learns from nothing else.
    only_liked: bool,
}

/// The objective and why, in plain words: the one asked for; else pairs where there are enough, else thumbs both ways where there
/// are some of each, else liked texts alone.
fn objective(request: &TrainRequest, has: &Material<'_>) -> Result<(Objective, String), ApiError> {
    let Material { liked, disliked, pairs, only_pairs, only_liked } = *has;
    // Not where most liked texts would be left out.
    let enough_pairs = only_pairs || (pairs.len() >= ENOUGH_PAIRS && 2 * pairs.len() >= liked);
    let found = match pairs.len() {
        0 => "no pairs".to_owned(),
        1 => format!("1 pair ({})", pairs::counted(pairs)),
        many => format!("{many} pairs ({})", pairs::counted(pairs)),
    };
    Ok(match (request.recipe, request.objective) {
        (Recipe::SoftPrompt, None) if only_liked || !enough_pairs => {
            (Objective::Sft, "A soft prompt is small: without many pairs it learns best from liked texts alone.".to_owned())
        }
        (_, Some(objective @ (Objective::Dpo | Objective::Orpo))) => (objective, format!("You chose pairs: there are {found}.")),
        (_, Some(objective @ Objective::Kto)) => (objective, format!("You chose thumbs both ways: {liked} up and {disliked} down.")),
        (_, Some(objective @ Objective::Sft)) => (objective, format!("You chose liked texts: there are {liked}.")),
        (_, None) if only_pairs => (Objective::Dpo, format!("It learns from pairs, because the file holds {} of them.", pairs.len())),
        (_, None) if enough_pairs => (
            Objective::Dpo,
            format!("It learns from pairs, because there are {found}: a better and a worse text side by side show best what you like."),
        ),
        (_, None) if liked.min(disliked) >= ENOUGH_OF_EACH => (
            Objective::Kto,
            format!(
                "It learns from thumbs both ways, because there are {liked} up and {disliked} down: that uses every verdict ({found})."
            ),
        ),
        (_, None) => (
            Objective::Sft,
            format!("It learns from liked texts, because there are too few thumbs down ({disliked}) and {found} to learn what to avoid."),
        ),
    })
}

fn recipe_in_words(recipe: Recipe) -> &'static str {
    match recipe {
        Recipe::SoftPrompt => "soft prompt",
        Recipe::Lora | Recipe::Dora => recipe.label(),
    }
}

fn sentence(plan: &TrainingPlan) -> String {
    let mut sentence = format!("A {} for {} from {}", recipe_in_words(plan.recipe), plan.base_name, learned_from(plan));
    match plan.heldout {
        0 => sentence.push('.'),
        heldout => sentence.push_str(&format!(", measured on {heldout} that it will not see.")),
    }
    if plan.examples > 0 && (plan.examples as usize) < FEW_TEXTS {
        sentence.push_str(" More thumbs would make it better.");
    }
    sentence
}

/// MB that a training may use; `None` where the system does not say what is free.
fn memory_budget(settings: &Settings, available_mb: f64) -> Option<f64> {
    let budget = match settings.memory_budget_mb {
        0 => available_mb * SHARE_OF_FREE_MEMORY,
        set => f64::from(set),
    };
    (available_mb > 0.0).then_some(budget)
}

/// On top of what this process holds already.
fn needed_mb(estimate: &Estimate) -> f64 {
    estimate.peak_memory_bytes as f64 / 1e6 + crate::process_mb()
}

/// Whether a training that starts now fits only if it computes layers twice. The result is the same either way.
pub(crate) fn memory_is_short(
    settings: &Settings,
    recipe: Recipe,
    hyperparameters: &Hyperparameters,
    data: &TrainingData,
    base: &BaseConfig,
) -> bool {
    over_budget(settings, &recipe::estimate(recipe, hyperparameters, data, base, 1.0, false)).is_some()
}

/// The MB that a training needs even when it computes layers twice, if that is more than it may use.
pub(crate) fn needed_mb_of(
    settings: &Settings,
    recipe: Recipe,
    hyperparameters: &Hyperparameters,
    data: &TrainingData,
    base: &BaseConfig,
) -> Option<f64> {
    over_budget(settings, &recipe::estimate(recipe, hyperparameters, data, base, 1.0, true))
}

fn over_budget(settings: &Settings, estimate: &Estimate) -> Option<f64> {
    let needed = needed_mb(estimate);
    memory_budget(settings, crate::available_mb()).filter(|budget| needed > *budget).map(|_| needed)
}
