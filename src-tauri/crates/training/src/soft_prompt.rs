//! Prompt tuning (Lester et al., arXiv 2104.08691): a few vectors before the text are trained, the base stays as it is.
//!
//! The same seed, base, dataset and threads give the same bits, also when the run was stopped and resumed in between.

use crate::batch::BatchOrder;
use crate::optimizer::{AdamW, clip};
use crate::priority::background_pool;
use crate::report::Reporter;
use crate::schedule::learning_rate;
use crate::seed::Draws;
use crate::{
    Best, Checkpoint, Checkpoints, Control, Dataset, Disk, Example, FileLayer, Observer, PackedBatch, Point, Progress, PromptStart,
    RunIdentity, SoftPromptConfig, Stop, Tensor, TrainError, TrainableLlama, Workspace,
};
use domain::Phase;
use model::SoftPrompt;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// How a training ended, unless it failed.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    Finished(Trained),
    /// Stopped for good; the checkpoint of `step` is kept (none at step 0).
    Cancelled {
        step: u32,
    },
    /// Stopped for now; `resume` goes on from `step`.
    Paused {
        step: u32,
    },
}

#[derive(Debug, Clone, PartialEq)]
pub struct Trained {
    /// The best one by held-out loss; without held-out examples the last.
    pub soft_prompt: SoftPrompt,
    /// Training loss of the last update.
    pub final_loss: f64,
    /// Held-out loss of what was used before: the prompt that training started from if that was trained, else the bare base.
    pub heldout_before: Option<f64>,
    /// Held-out loss of `soft_prompt`.
    pub heldout_after: Option<f64>,
    /// Updates made; fewer than asked for if held-out loss stopped falling.
    pub steps: u32,
    /// Rows through the base a second, in this session.
    pub tokens_per_second: f64,
    /// The loss of every update.
    pub history: Vec<Point>,
}

/// Trains a soft prompt, with checkpoints in `run_dir`.
///
/// With `resume`, goes on from the newest valid checkpoint there, if there is one; without, starts over and removes them.
/// Reports to `observer` on this thread; the arithmetic runs on threads of its own at low priority.
///
/// # Errors
/// See [`TrainError`]; the newest checkpoint stays usable after any of them.
pub fn soft_prompt(
    base: &TrainableLlama,
    data: &Dataset,
    config: &SoftPromptConfig,
    run_dir: &Path,
    resume: bool,
    control: &Control,
    observer: &mut dyn Observer,
) -> Result<Outcome, TrainError> {
    soft_prompt_on(&Disk, base, data, config, run_dir, resume, control, observer)
}

/// [`soft_prompt`] on another file layer.
///
/// # Errors
/// As [`soft_prompt`].
pub fn soft_prompt_on(
    files: &dyn FileLayer,
    base: &TrainableLlama,
    data: &Dataset,
    config: &SoftPromptConfig,
    run_dir: &Path,
    resume: bool,
    control: &Control,
    observer: &mut dyn Observer,
) -> Result<Outcome, TrainError> {
    // ── Prepare: what is trained, on what, from where.
    observer.phase(Phase::Prepare);
    config.check(base.config())?;
    data.check(base.config(), config.virtual_tokens)?;
    let pool = background_pool(config.threads)?;
    let checkpoints = Checkpoints::new(files, run_dir, config.checkpoints_kept);
    let identity = RunIdentity { base: base.identity().to_owned(), dataset: data.identity(), config: config.identity() };
    let (mut state, mut saved) = start(base, config, &identity, &checkpoints, resume, observer)?;
    let order = BatchOrder::new(config.seed, data.train.len(), config.batch_size);
    let mut workspace = Workspace::default();
    let mut reporter = Reporter::new(observer, config.steps);
    let rate = |step| learning_rate(step, config.steps, config.warmup_steps, config.learning_rate, config.final_rate);
    let measure = |prompt: &[f32], virtual_tokens, workspace: &mut Workspace| {
        pool.install(|| mean_loss(base, prompt, &data.heldout, virtual_tokens, config.rows_at_once, workspace, control))
    };
    let stopped = |stop, state: &State, saved: Option<u32>, reporter: &mut Reporter| {
        // What was done since the last checkpoint is kept too: a pause costs nothing.
        if saved != Some(state.step()) && state.step() > 0 {
            let path = checkpoints.save(&state.checkpoint(&identity, config, &order))?;
            reporter.observer.checkpoint(state.step(), &path);
        }
        Ok(match stop {
            Stop::Cancelled => Outcome::Cancelled { step: state.step() },
            Stop::Paused => Outcome::Paused { step: state.step() },
        })
    };

    // ── Measure where we start from.
    if !data.heldout.is_empty() && state.progress.heldout_before.is_none() {
        let before = match config.start {
            PromptStart::Trained(_) => measure(&state.prompt, config.virtual_tokens, &mut workspace),
            PromptStart::Tokens(_) | PromptStart::Vocabulary => measure(&[], 0, &mut workspace),
        };
        match before {
            Ok(loss) => state.progress.heldout_before = Some(finite(loss, "held-out loss", 0, || None)?),
            Err(stop) => return stopped(stop, &state, saved, &mut reporter),
        }
    }

    // ── Train.
    reporter.observer.phase(Phase::Train);
    let mut gradient = vec![0f32; state.prompt.len()];
    let mut initial_heldout = None;
    loop {
        let step = state.step();
        let resumed = state.fresh_loss.is_none();
        let at_end = step >= config.steps;

        // Held-out loss before the first, every so many and after the last update; the best prompt is kept.
        let due = !data.heldout.is_empty() && (at_end || step % config.heldout_every == 0) && state.progress.measured != Some(step);
        let mut heldout_loss = None;
        if due {
            match measure(&state.prompt, config.virtual_tokens, &mut workspace) {
                Ok(loss) => {
                    state.record_heldout(finite(loss, "held-out loss", step, || newest_path(&checkpoints))?);
                    heldout_loss = Some(loss);
                }
                Err(stop) => return stopped(stop, &state, saved, &mut reporter),
            }
        }
        let given_up = config.patience.is_some_and(|patience| state.progress.strikes >= patience);
        let last = at_end || given_up;
        match state.progress.history.last() {
            Some(point) if last || !resumed || heldout_loss.is_some() => {
                reporter.metric(step, point.loss, point.heldout_loss, rate(step), last);
            }
            Some(_) => {}
            None => initial_heldout = heldout_loss,
        }

        let wanted = last || (config.checkpoint_steps > 0 && step > 0 && step % config.checkpoint_steps == 0);
        if wanted && saved != Some(step) {
            let path = checkpoints.save(&state.checkpoint(&identity, config, &order))?;
            saved = Some(step);
            reporter.observer.checkpoint(step, &path);
        }
        if last {
            break;
        }

        // One update: gradient over the batch in parts, clipped, then AdamW.
        if let Err(stop) = control.breathe() {
            return stopped(stop, &state, saved, &mut reporter);
        }
        let (began, waited) = (Instant::now(), control.waited());
        let examples = order.batch(step).into_iter().map(|index| &data.train[index]);
        let parts = PackedBatch::split(examples, config.virtual_tokens, config.rows_at_once);
        let normalizer: f64 = parts.iter().map(PackedBatch::total_weight).sum();
        let mut loss = 0.0;
        gradient.fill(0.0);
        for part in &parts {
            let pass = pool.install(|| {
                base.loss_and_gradient(&state.prompt, part, normalizer, config.recompute, &mut workspace, control, &mut gradient)
            });
            match pass {
                Ok(partial) => loss += partial,
                Err(stop) => return stopped(stop, &state, saved, &mut reporter),
            }
        }
        let update = step + 1;
        finite(loss, "loss", update, || newest_path(&checkpoints))?;
        if step == 0 {
            if gradient.iter().all(|value| *value == 0.0) {
                return Err(TrainError::NoGradient { tensor: PROMPT.to_owned() });
            }
            reporter.metric(0, loss, initial_heldout, rate(0), false);
        }
        finite(clip(&mut gradient, config.clip_norm), "gradient", update, || newest_path(&checkpoints))?;
        state.optimizer.update(&mut state.prompt, &gradient, rate(update));
        finite(overflow(&state.prompt, base.config().hidden), "soft prompt", update, || newest_path(&checkpoints))?;
        state.progress.history.push(Point { step: update, loss, heldout_loss: None });
        state.fresh_loss = Some(loss);
        let worked = began.elapsed().saturating_sub(control.waited() - waited);
        reporter.count(parts.iter().map(PackedBatch::rows).sum(), worked);
    }

    // ── The best prompt by held-out loss is the result.
    let tokens_per_second = reporter.tokens_per_second();
    Ok(Outcome::Finished(state.finish(config, base.config().hidden, tokens_per_second)))
}

/// Names of tensors in checkpoints and errors.
const PROMPT: &str = "prompt_embeddings";
const BEST: &str = "best_prompt_embeddings";
const FIRST: &str = "adamw.first_moment";
const SECOND: &str = "adamw.second_moment";

/// Everything that changes from update to update.
struct State {
    progress: Progress,
    /// `[virtual_tokens, hidden]`, as the next three.
    prompt: Vec<f32>,
    best: Vec<f32>,
    optimizer: AdamW,
    /// Loss of an update made in this session.
    fresh_loss: Option<f64>,
}

/// A new state, or the one of the newest checkpoint with the step that is therefore saved already.
fn start(
    base: &TrainableLlama,
    config: &SoftPromptConfig,
    identity: &RunIdentity,
    checkpoints: &Checkpoints,
    resume: bool,
    observer: &mut dyn Observer,
) -> Result<(State, Option<u32>), TrainError> {
    if resume {
        let newest = checkpoints.newest()?;
        newest.skipped.iter().for_each(|skipped| observer.skipped(skipped));
        if let Some((path, checkpoint)) = newest.found {
            let step = checkpoint.progress.step;
            return Ok((State::restore(checkpoint, &path, identity, config, base.config().hidden)?, Some(step)));
        }
    } else {
        checkpoints.clear()?;
    }
    let prompt = initial_prompt(base, config);
    let progress = Progress {
        format: 1,
        run: identity.clone(),
        seed: config.seed,
        step: 0,
        epoch: 0,
        epoch_position: 0,
        best: None,
        strikes: 0,
        measured: None,
        heldout_before: None,
        history: Vec::new(),
    };
    let optimizer = AdamW::new(prompt.len(), config.weight_decay);
    Ok((State { progress, best: prompt.clone(), prompt, optimizer, fresh_loss: None }, None))
}

fn initial_prompt(base: &TrainableLlama, config: &SoftPromptConfig) -> Vec<f32> {
    let rows =
        |tokens: &mut dyn Iterator<Item = u32>| tokens.take(config.virtual_tokens).flat_map(|t| base.embedding_of(t)).copied().collect();
    match &config.start {
        PromptStart::Tokens(tokens) => rows(&mut tokens.iter().copied().cycle()),
        PromptStart::Vocabulary => {
            // A stream far from those of the epochs.
            let mut draws = Draws::new(config.seed, u64::MAX);
            rows(&mut std::iter::repeat_with(|| draws.below(base.config().vocab) as u32))
        }
        PromptStart::Trained(prompt) => prompt.vectors.clone(),
    }
}

/// Mean loss over all answer tokens of `examples`, by weight.
fn mean_loss(
    base: &TrainableLlama,
    prompt: &[f32],
    examples: &[Example],
    virtual_tokens: usize,
    rows_at_once: usize,
    workspace: &mut Workspace,
    control: &Control,
) -> Result<f64, Stop> {
    let batches = PackedBatch::split(examples, virtual_tokens, rows_at_once);
    let normalizer: f64 = batches.iter().map(PackedBatch::total_weight).sum();
    let mut loss = 0.0;
    for batch in &batches {
        loss += base.loss(prompt, batch, normalizer, workspace, control)?;
    }
    Ok(loss)
}

fn finite(value: f64, what: &'static str, step: u32, checkpoint: impl FnOnce() -> Option<PathBuf>) -> Result<f64, TrainError> {
    if value.is_finite() { Ok(value) } else { Err(TrainError::NotFinite { what, step, checkpoint: checkpoint() }) }
}

/// 0, or the first squared length that is not finite, in f32 as RMSNorm computes it: where that overflows, the norm turns
/// the vector into zeros and the loss looks sound.
fn overflow(prompt: &[f32], hidden: usize) -> f64 {
    let squares = prompt.chunks_exact(hidden).map(|vector| vector.iter().map(|value| value * value).sum::<f32>());
    squares.filter(|square| !square.is_finite()).map(f64::from).next().unwrap_or(0.0)
}

/// For error messages only, so a folder that cannot be read counts as empty.
fn newest_path(checkpoints: &Checkpoints) -> Option<PathBuf> {
    checkpoints.list().ok()?.pop().map(|(_, path)| path)
}

impl State {
    fn step(&self) -> u32 {
        self.progress.history.last().map_or(0, |point| point.step)
    }

    fn record_heldout(&mut self, loss: f64) {
        let step = self.step();
        self.progress.measured = Some(step);
        if let Some(point) = self.progress.history.last_mut() {
            point.heldout_loss = Some(loss);
        }
        if self.progress.best.is_none_or(|best| loss < best.heldout_loss) {
            self.progress.best = Some(Best { step, heldout_loss: loss });
            self.best.copy_from_slice(&self.prompt);
            self.progress.strikes = 0;
        } else {
            self.progress.strikes += 1;
        }
    }

    fn checkpoint(&self, identity: &RunIdentity, config: &SoftPromptConfig, order: &BatchOrder) -> Checkpoint {
        let shape = vec![config.virtual_tokens, self.prompt.len() / config.virtual_tokens];
        let tensors = [(PROMPT, &self.prompt), (BEST, &self.best), (FIRST, &self.optimizer.first), (SECOND, &self.optimizer.second)];
        let (epoch, epoch_position) = order.position(self.step());
        Checkpoint {
            progress: Progress { run: identity.clone(), step: self.step(), epoch, epoch_position, ..self.progress.clone() },
            tensors: tensors
                .into_iter()
                .map(|(name, values)| (name.to_owned(), Tensor { shape: shape.clone(), values: values.clone() }))
                .collect(),
        }
    }

    fn restore(
        mut checkpoint: Checkpoint,
        path: &Path,
        identity: &RunIdentity,
        config: &SoftPromptConfig,
        hidden: usize,
    ) -> Result<Self, TrainError> {
        let run = &checkpoint.progress.run;
        let parts = [("base", &run.base, &identity.base), ("dataset", &run.dataset, &identity.dataset)];
        for (what, then, now) in parts.into_iter().chain([("configuration", &run.config, &identity.config)]) {
            if then != now {
                return Err(TrainError::DifferentRun { what, checkpoint: path.to_owned() });
            }
        }
        let shape = [config.virtual_tokens, hidden];
        let mut take = |name| {
            let different = || TrainError::DifferentRun { what: "recipe", checkpoint: path.to_owned() };
            checkpoint.take(name, &shape).ok_or_else(different)
        };
        let (prompt, best, first, second) = (take(PROMPT)?, take(BEST)?, take(FIRST)?, take(SECOND)?);
        let optimizer = AdamW { step: checkpoint.progress.step, first, second, weight_decay: config.weight_decay };
        Ok(Self { progress: checkpoint.progress, prompt, best, optimizer, fresh_loss: None })
    }

    fn finish(self, config: &SoftPromptConfig, hidden: usize, tokens_per_second: f64) -> Trained {
        let steps = self.step();
        let vectors = if self.progress.best.is_some() { self.best } else { self.prompt };
        Trained {
            soft_prompt: SoftPrompt { tokens: config.virtual_tokens, hidden, vectors },
            final_loss: self.progress.history.last().map_or(f64::NAN, |point| point.loss),
            heldout_before: self.progress.heldout_before,
            heldout_after: self.progress.best.map(|best| best.heldout_loss),
            steps,
            tokens_per_second,
            history: self.progress.history,
        }
    }
}
