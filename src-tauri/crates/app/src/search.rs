//! Phase 2 of a training: other methods and numbers are tried under a time budget, and what does best on texts kept back is
//! trained. Every trial is stored; a search that was cut off goes on with those that it has.

pub(crate) mod space;

use crate::dataset::TrainingData;
use crate::recipe::{self, Failed};
use crate::train::{memory_is_short, needed_mb_of};
use crate::trainable::TrainableBase;
use crate::{App, Home};
use domain::{
    ApiError, Hyperparameters, Job, Metric, Objective, Phase, Recipe, Run, RunRef, Search, SearchChoice, SearchFound, SearchPlan, Settings,
    TrainRequest, Trial, TrialRung, TrialState,
};
use model::BaseConfig;
use std::path::Path;
use std::time::{Duration, Instant};
use training::{Control, Found, Halving, Measured, NextTrial, Observer, Outcome, TrainError};

/// The longest search, in minutes.
const MOST_MINUTES: f64 = 1440.0;

/// Of the whole job's progress, a search is this share.
const SHARE_OF_PROGRESS: f64 = 0.5;

impl App {
    /// The search of a run with all its trials.
    ///
    /// # Errors
    /// `NotFound` for a run that has none.
    pub fn run_search(&self, which: RunRef) -> Result<Search, ApiError> {
        Ok(self.home().store.search(&which.run_id)?)
    }
}

/// The search that a request asks for, else the settings; `None` for none.
///
/// # Errors
/// `InvalidInput` for minutes that cannot be.
pub(crate) fn plan(
    settings: &Settings,
    request: &TrainRequest,
    objective: Objective,
    only_soft_prompts: bool,
) -> Result<Option<SearchPlan>, ApiError> {
    let by_settings = settings.training_search.then(SearchChoice::default);
    let Some(choice) = request.search.or(by_settings) else { return Ok(None) };
    let minutes = choice.minutes.unwrap_or(f64::from(settings.training_search_minutes));
    if !(0.0..=MOST_MINUTES).contains(&minutes) {
        let message = format!("The search may take {minutes} minutes; it must be 0 to {MOST_MINUTES}.");
        return Err(ApiError::field("search.minutes", message).hint("0 trains without a search."));
    }
    let axes = space::free_axes(request, objective, only_soft_prompts, choice.keep_recipe);
    if axes.is_empty() {
        return Err(ApiError::field("search", "There is nothing left to search for: every number was set.")
            .hint("Leave out some of them, or train without a search."));
    }
    Ok((minutes > 0.0).then_some(SearchPlan { budget_seconds: minutes * 60.0, axes }))
}

/// What a search is done with.
pub(crate) struct Bench<'a> {
    pub home: &'a Home,
    pub base: &'a TrainableBase,
    pub data: &'a TrainingData,
    /// Tokens a second of the method that was asked for.
    pub speed: f64,
    pub run_folder: &'a Path,
    pub control: &'a Control,
}

/// Searches, and puts what is to be trained into `run`. `false` when it was stopped and can go on.
pub(crate) fn search(bench: &Bench<'_>, job: &mut Job, run: &mut Run) -> Result<bool, ApiError> {
    let store = &bench.home.store;
    let settings = store.settings()?;
    let mut search = store.search(&run.run_id)?;
    if search.found.is_some() {
        return Ok(true);
    }
    let budget = Duration::from_secs_f64(search.plan.budget_seconds);
    let mut clock = Instant::now();
    if search.rungs.is_empty() {
        begin(bench, &mut search, run, &settings, budget)?;
        store.update_search(&search)?;
    }
    // One that was killed in the middle goes on with the others.
    for trial in search.trials.iter_mut().filter(|trial| trial.state == TrialState::Running) {
        trial.state = if trial.rungs.is_empty() { TrialState::Waiting } else { TrialState::Climbing };
    }
    let least_gain = Halving::least_gain(judgements(bench.data));
    let halving = Halving { trials: search.trials.len(), rungs: search.rungs.clone(), least_gain };
    let folder = bench.run_folder.join("search");
    let found = loop {
        search.seconds += clock.elapsed().as_secs_f64();
        clock = Instant::now();
        let spent = Duration::from_secs_f64(search.seconds);
        let next = halving.next(&measured(&search), spent, budget);
        let NextTrial::Train { trial, rung } = next else {
            let NextTrial::Over(found) = next else { continue };
            break found;
        };
        let before = search.trials[trial].state;
        search.trials[trial].state = TrialState::Running;
        store.update_search(&search)?;
        job.progress = SHARE_OF_PROGRESS * (search.seconds / search.plan.budget_seconds).min(1.0).max(done(&halving, &search));
        store.update_job_and_run(job, run)?;
        let place = folder.join(format!("{trial}-{rung}"));
        let left = budget.saturating_sub(spent);
        let tried = try_out(bench, &settings, &search.trials[trial], halving.rungs[rung], &place, left)?;
        search.trials[trial].state = before;
        match tried {
            Tried::Stopped => {
                search.seconds += clock.elapsed().as_secs_f64();
                store.update_search(&search)?;
                return Ok(false);
            }
            // The time is over; what it did so far cannot be compared.
            Tried::OutOfTime => search.seconds = search.seconds.max(search.plan.budget_seconds),
            Tried::Measured { heldout_loss, problem } => {
                let one = &mut search.trials[trial];
                one.rungs.push(TrialRung { steps: halving.rungs[rung], heldout_loss, seconds: clock.elapsed().as_secs_f64() });
                one.state = if problem.is_some() { TrialState::Failed } else { TrialState::Climbing };
                one.problem = problem;
                drop_losers(&halving, &mut search);
                store.update_search(&search)?;
            }
        }
        // Its checkpoints have served; that they could not be removed changes nothing.
        let _ = std::fs::remove_dir_all(&place);
    };
    end(&halving, &mut search, run, bench.data, found);
    store.end_search(&search, run)?;
    let _ = std::fs::remove_dir_all(&folder);
    Ok(true)
}

/// The progress of a job whose training is so far, after a search.
pub(crate) fn after(share: f64) -> f64 {
    SHARE_OF_PROGRESS + (1.0 - SHARE_OF_PROGRESS) * share
}

/// Chooses how many trials fit into the budget, and draws them.
fn begin(bench: &Bench<'_>, search: &mut Search, run: &Run, settings: &Settings, budget: Duration) -> Result<(), ApiError> {
    let numbers = &run.hyperparameters;
    let estimate = recipe::estimate(run.recipe, numbers, bench.data, &bench.base.config(), bench.speed, false);
    let halving = Halving::plan(numbers.steps, Duration::from_secs_f64(estimate.seconds), budget);
    let config = bench.base.config();
    let layers = match &config {
        BaseConfig::Decoder(config) => config.layers as u32,
        BaseConfig::T5(config) => config.encoder_layers as u32,
    };
    let possible = |recipe: Recipe, numbers: &Hyperparameters| recipe::check_base(recipe, numbers, &config).is_ok();
    let drawn = space::draw(&search.plan.axes, run.recipe, numbers, settings, layers, &possible, halving.trials);
    let trial = |(number, (recipe, hyperparameters))| Trial {
        number: number as u32,
        recipe,
        hyperparameters,
        state: TrialState::Waiting,
        rungs: Vec::new(),
        problem: None,
    };
    search.trials = drawn.into_iter().enumerate().map(trial).collect();
    search.rungs = halving.rungs;
    Ok(())
}

enum Tried {
    Measured { heldout_loss: Option<f64>, problem: Option<String> },
    Stopped,
    OutOfTime,
}

/// Trains one configuration for so many steps; goes on where it was cut off.
fn try_out(bench: &Bench<'_>, settings: &Settings, trial: &Trial, steps: u32, folder: &Path, left: Duration) -> Result<Tried, ApiError> {
    let numbers = for_rung(&trial.hyperparameters, steps);
    let config = bench.base.config();
    let recompute = memory_is_short(settings, trial.recipe, &numbers, bench.data, &config);
    if let Some(needed) = recompute.then(|| needed_mb_of(settings, trial.recipe, &numbers, bench.data, &config)).flatten() {
        return Ok(Tried::Measured { heldout_loss: None, problem: Some(format!("It needs about {needed:.0} MB, more than there is.")) });
    }
    let part = bench.control.part();
    let mut watch = Watch { control: part.clone(), started: Instant::now(), left };
    let trained = recipe::train(trial.recipe, &numbers, bench.base, bench.data, recompute, folder, &part, &mut watch);
    Ok(match trained {
        Ok(Outcome::Finished(trained)) => Tried::Measured { heldout_loss: trained.heldout_after, problem: None },
        Ok(_) if bench.control.stop().is_some() => Tried::Stopped,
        Ok(_) => Tried::OutOfTime,
        Err(Failed::Training(error @ (TrainError::NotFinite { .. } | TrainError::NoGradient { .. }))) => {
            Tried::Measured { heldout_loss: None, problem: Some(ApiError::from(error).message) }
        }
        Err(error) => return Err(error.into()),
    })
}

/// The numbers of a shorter training: its warm-up is shorter too, or the rate would never reach its peak.
fn for_rung(whole: &Hyperparameters, steps: u32) -> Hyperparameters {
    let warmup_steps = if steps < whole.steps { whole.warmup_steps.min(steps / 4) } else { whole.warmup_steps };
    Hyperparameters { steps, warmup_steps, ..whole.clone() }
}

/// Ends a trial when the time is over.
struct Watch {
    control: Control,
    started: Instant,
    left: Duration,
}

impl Observer for Watch {
    fn phase(&mut self, _: Phase) {}

    fn metric(&mut self, _: Metric) {
        if self.started.elapsed() >= self.left {
            self.control.cancel();
        }
    }

    fn checkpoint(&mut self, _: u32, _: &Path) {}
}

fn measured(search: &Search) -> Vec<Measured> {
    let of = |trial: &Trial| {
        let trial_number = trial.number as usize;
        let rung = move |(rung, one): (usize, &TrialRung)| Measured {
            trial: trial_number,
            rung,
            heldout_loss: one.heldout_loss,
            seconds: one.seconds,
        };
        trial.rungs.iter().enumerate().map(rung).collect::<Vec<_>>()
    };
    search.trials.iter().flat_map(of).collect()
}

/// The share of all updates that are made.
fn done(halving: &Halving, search: &Search) -> f64 {
    let made: u64 = search.trials.iter().flat_map(|trial| &trial.rungs).map(|rung| u64::from(rung.steps)).sum();
    made as f64 / halving.updates().max(1) as f64
}

/// Says of those that did not climb that they were dropped.
fn drop_losers(halving: &Halving, search: &mut Search) {
    let known = measured(search);
    for rung in 1..halving.rungs.len() {
        let below = halving.climbers(rung - 1, &known);
        let complete = below.iter().all(|trial| known.iter().any(|one| (one.trial, one.rung) == (*trial, rung - 1)));
        if !complete {
            return;
        }
        let climbers = halving.climbers(rung, &known);
        for trial in below.into_iter().filter(|trial| !climbers.contains(trial)) {
            let one = &mut search.trials[trial];
            if one.state == TrialState::Climbing {
                one.state = TrialState::Dropped;
            }
        }
    }
}

/// Writes down what was found, and makes it what the run trains.
fn end(halving: &Halving, search: &mut Search, run: &mut Run, data: &TrainingData, found: Found) {
    let reason = in_words(halving, search, &Scale::of(run.hyperparameters.objective, data), &found);
    for trial in &mut search.trials {
        if trial.number as usize == found.winner {
            trial.state = TrialState::Chosen;
        } else if trial.state != TrialState::Failed {
            trial.state = TrialState::Dropped;
        }
    }
    let winner = &search.trials[found.winner];
    (run.recipe, run.hyperparameters) = (winner.recipe, winner.hyperparameters.clone());
    search.found = Some(SearchFound {
        winner: found.winner as u32,
        default_loss: found.default_loss,
        best_loss: found.best.map(|(_, loss)| loss),
        out_of_time: found.out_of_time,
        reason,
    });
}

/// How many judgements were kept back, where it is those that are measured on.
fn judgements(data: &TrainingData) -> Option<usize> {
    match data {
        TrainingData::Examples(_) => None,
        TrainingData::Judgements(data) => Some(data.heldout.len()),
    }
}

/// How held-out figures are said.
struct Scale {
    objective: Objective,
    /// What was kept back.
    kept: usize,
}

/// With fewer judgements kept back than this, what they say is a hint.
const FEW_JUDGEMENTS: usize = 6;

impl Scale {
    fn of(objective: Objective, data: &TrainingData) -> Self {
        Self { objective, kept: data.counts().1 }
    }

    /// A held-out loss in words. Of verdicts it is the `−log` of a chance, which a person can picture.
    fn say(&self, loss: f64) -> String {
        match self.objective {
            Objective::Kto | Objective::Dpo => format!("{:.1}%", 100.0 * (-loss).exp()),
            Objective::Sft | Objective::Orpo => format!("{loss:.3}"),
        }
    }

    /// What was measured, and after how many steps.
    fn measured(&self, steps: u32) -> String {
        let Self { kept, objective } = self;
        let after = format!("after {steps} steps");
        match (objective, kept) {
            (Objective::Kto, 1) => format!("how surely it knows your verdict on the one text kept back, {after} (50% is a guess)"),
            (Objective::Kto, _) => {
                format!("how surely it tells texts you liked from others, of {kept} kept back, {after} (50% is a guess)")
            }
            (Objective::Dpo, 1) => format!("how surely it tells the better text of the one pair kept back, {after} (50% is a guess)"),
            (Objective::Dpo, _) => format!("how surely it tells the better text of {kept} pairs kept back, {after} (50% is a guess)"),
            (Objective::Sft | Objective::Orpo, _) => format!("held-out loss {after}, lower is better"),
        }
    }

    fn caution(&self) -> &'static str {
        let verdicts = matches!(self.objective, Objective::Kto | Objective::Dpo);
        if verdicts && self.kept < FEW_JUDGEMENTS { " With so few kept back, take that as a hint; more thumbs make it surer." } else { "" }
    }
}

fn in_words(halving: &Halving, search: &Search, scale: &Scale, found: &Found) -> String {
    let cut = if found.out_of_time { " The time was over before all of them had climbed." } else { "" };
    let steps = halving.rungs.get(found.rung).copied().unwrap_or(0);
    let tried = search.trials.iter().skip(1).filter(|trial| !trial.rungs.is_empty()).count();
    let name = |trial: usize| space::in_words(search.trials[trial].recipe, &search.trials[trial].hyperparameters);
    let (measured, caution) = (scale.measured(steps), scale.caution());
    match (found.winner, found.best, found.default_loss) {
        (0, None, _) if tried == 0 => {
            "The time was over before anything could be compared, so the default settings are trained.".to_owned()
        }
        (0, None, _) => format!("None of {tried} other settings could be compared with the default ones, so those are trained.{cut}"),
        (0, Some((_, best)), default) => {
            let figures = default.map_or(String::new(), |loss| {
                format!(": the default reaches {}, the best other one {} ({measured})", scale.say(loss), scale.say(best))
            });
            format!(
                "Of {tried} other settings none was clearly better than the default ones{figures}. The default is trained.{caution}{cut}"
            )
        }
        (winner, Some((_, best)), Some(default)) => {
            let (name, best, default) = (name(winner), scale.say(best), scale.say(default));
            format!("Of {tried} other settings the best is a {name}: it reaches {best}, the default {default} ({measured}).{caution}{cut}")
        }
        (winner, ..) => format!("The default settings failed; the best of {tried} others is a {}.{cut}", name(winner)),
    }
}
