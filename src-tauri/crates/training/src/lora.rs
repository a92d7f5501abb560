//! LoRA (Hu et al., arXiv 2106.09685) and DoRA (Liu et al., arXiv 2402.09353) on examples: small matrices beside the
//! projections are trained, the base stays as it is.
//!
//! The same seed, base, dataset and threads give the same bits, also when the run was stopped and resumed in between.

use crate::batch::BatchOrder;
use crate::objective::{Passes, Task};
use crate::optimizer::clip;
use crate::priority::background_pool;
use crate::report::Reporter;
use crate::schedule::learning_rate;
use crate::state::{State, Trainee, finite, newest_path};
use crate::{
    Checkpoints, Control, Dataset, Disk, FileLayer, Judgements, LoraConfig, LoraLayout, LoraStart, Observer, Outcome, Point, RunIdentity,
    TrainError, TrainableLlama, Workspace,
};
use domain::Phase;
use model::Lora;
use std::path::Path;
use std::time::Instant;

#[derive(Debug, Clone, PartialEq)]
pub struct TrainedLora {
    /// The best one by held-out loss; without held-out examples the last.
    pub lora: Lora,
    /// Training loss of the last update.
    pub final_loss: f64,
    /// Held-out loss of what was used before: the adapter that training started from, else the bare base.
    pub heldout_before: Option<f64>,
    /// Held-out loss of `lora`.
    pub heldout_after: Option<f64>,
    /// Updates made; fewer than asked for if held-out loss stopped falling.
    pub steps: u32,
    /// Rows through the base a second, in this session.
    pub tokens_per_second: f64,
    /// The loss of every update.
    pub history: Vec<Point>,
}

/// Trains a LoRA or DoRA, with checkpoints in `run_dir`.
///
/// With `resume`, goes on from the newest valid checkpoint there, if there is one; without, starts over and removes them.
/// Reports to `observer` on this thread; the arithmetic runs on threads of its own at low priority.
///
/// # Errors
/// See [`TrainError`]; the newest checkpoint stays usable after any of them.
pub fn lora(
    base: &TrainableLlama,
    data: &Dataset,
    config: &LoraConfig,
    run_dir: &Path,
    resume: bool,
    control: &Control,
    observer: &mut dyn Observer,
) -> Result<Outcome<TrainedLora>, TrainError> {
    lora_on(&Disk, base, data, config, run_dir, resume, control, observer)
}

/// [`lora`] from judgements instead of examples: DPO for pairs, KTO for single texts (see [`crate::Judgement`]).
///
/// What texts are compared to is the bare base, asked once before the first update.
///
/// # Errors
/// As [`lora`].
pub fn lora_from_judgements(
    base: &TrainableLlama,
    data: &Judgements,
    config: &LoraConfig,
    run_dir: &Path,
    resume: bool,
    control: &Control,
    observer: &mut dyn Observer,
) -> Result<Outcome<TrainedLora>, TrainError> {
    let task = Task::Judgements { data, beta: config.beta, reference: None };
    recipe(&Disk, base, task, config, run_dir, resume, control, observer)
}

/// [`lora`] on another file layer.
///
/// # Errors
/// As [`lora`].
pub fn lora_on(
    files: &dyn FileLayer,
    base: &TrainableLlama,
    data: &Dataset,
    config: &LoraConfig,
    run_dir: &Path,
    resume: bool,
    control: &Control,
    observer: &mut dyn Observer,
) -> Result<Outcome<TrainedLora>, TrainError> {
    recipe(files, base, Task::Examples(data), config, run_dir, resume, control, observer)
}

fn recipe(
    files: &dyn FileLayer,
    base: &TrainableLlama,
    mut task: Task,
    config: &LoraConfig,
    run_dir: &Path,
    resume: bool,
    control: &Control,
    observer: &mut dyn Observer,
) -> Result<Outcome<TrainedLora>, TrainError> {
    // ── Prepare: what is trained, on what, from where.
    observer.phase(Phase::Prepare);
    config.check(base.config())?;
    task.check(base.config())?;
    let layout = LoraLayout::new(&config.shape, base.config())?;
    let pool = background_pool(config.threads)?;
    let checkpoints = Checkpoints::new(files, run_dir, config.checkpoints_kept);
    let identity = RunIdentity { base: base.identity().to_owned(), dataset: task.identity(), config: config.identity() };
    let trained = Trainee { name: WEIGHTS, shape: vec![layout.parameters()], weight_decay: config.weight_decay };
    let initial = || match &config.start {
        LoraStart::Fresh => base.initial_lora(&layout, config.seed),
        LoraStart::Trained(lora) => layout.flatten(lora),
    };
    let (mut state, mut saved) = State::start(trained, initial, config.seed, &identity, &checkpoints, resume, observer)?;
    let order = BatchOrder::new(config.seed, task.train_len(), config.batch_size);
    let mut workspace = Workspace::default();
    let mut reporter = Reporter::new(observer, config.steps);
    let rate = |step| learning_rate(step, config.steps, config.warmup_steps, config.learning_rate, config.final_rate);
    let passes = Passes { base, layout: &layout, rows_at_once: config.rows_at_once, recompute: config.recompute, control };
    let stopped = |stop, state: &State, saved: Option<u32>, reporter: &mut Reporter| {
        state.stopped(stop, saved, &identity, &order, &checkpoints, reporter.observer)
    };

    if let Err(stop) = pool.install(|| task.prepare(&passes, &mut workspace)) {
        return stopped(stop, &state, saved, &mut reporter);
    }
    let measure = |weights: &[f32], workspace: &mut Workspace| pool.install(|| task.heldout_loss(&passes, weights, workspace));

    // ── Measure where we start from.
    if task.has_heldout() && state.progress.heldout_before.is_none() {
        // A fresh adapter changes nothing, so this is the bare base.
        match measure(&state.weights, &mut workspace) {
            Ok(loss) => state.progress.heldout_before = Some(finite(loss, "held-out loss", 0, || None)?),
            Err(stop) => return stopped(stop, &state, saved, &mut reporter),
        }
    }

    // ── Train.
    reporter.observer.phase(Phase::Train);
    let mut gradient = vec![0f32; state.weights.len()];
    let mut initial_heldout = None;
    loop {
        let step = state.step();
        let resumed = state.fresh_loss.is_none();
        let at_end = step >= config.steps;

        // Held-out loss before the first, every so many and after the last update; the best weights are kept.
        let due = task.has_heldout() && (at_end || step % config.heldout_every == 0) && state.progress.measured != Some(step);
        let mut heldout_loss = None;
        if due {
            match measure(&state.weights, &mut workspace) {
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
            let path = checkpoints.save(&state.checkpoint(&identity, &order))?;
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
        gradient.fill(0.0);
        let batch = order.batch(step);
        let pass = pool.install(|| task.loss_and_gradient(&passes, &state.weights, &batch, &mut workspace, &mut gradient));
        let (loss, rows) = match pass {
            Ok(done) => done,
            Err(stop) => return stopped(stop, &state, saved, &mut reporter),
        };
        let update = step + 1;
        finite(loss, "loss", update, || newest_path(&checkpoints))?;
        if step == 0 {
            reporter.metric(0, loss, initial_heldout, rate(0), false);
        }
        if step < 2 {
            check_gradient(&layout, &state.weights, &gradient)?;
        }
        finite(clip(&mut gradient, config.clip_norm), "gradient", update, || newest_path(&checkpoints))?;
        state.optimizer.update(&mut state.weights, &gradient, rate(update));
        finite(state.weights.iter().map(|value| f64::from(value.abs())).sum(), "adapter", update, || newest_path(&checkpoints))?;
        state.progress.history.push(Point { step: update, loss, heldout_loss: None });
        state.fresh_loss = Some(loss);
        let worked = began.elapsed().saturating_sub(control.waited() - waited);
        reporter.count(rows, worked);
    }

    // ── The best weights by held-out loss is the result.
    let (tokens_per_second, steps) = (reporter.tokens_per_second(), state.step());
    let State { progress, weights, best, .. } = state;
    Ok(Outcome::Finished(TrainedLora {
        lora: layout.adapter(if progress.best.is_some() { &best } else { &weights }),
        final_loss: progress.history.last().map_or(f64::NAN, |point| point.loss),
        heldout_before: progress.heldout_before,
        heldout_after: progress.best.map(|best| best.heldout_loss),
        steps,
        tokens_per_second,
        history: progress.history,
    }))
}

/// The name of what is trained, in checkpoints.
const WEIGHTS: &str = "lora";

/// Every tensor must receive a gradient: at first all but A, whose gradient passes through B, which is still zero.
fn check_gradient(layout: &LoraLayout, weights: &[f32], gradient: &[f32]) -> Result<(), TrainError> {
    let zero = |values: &[f32]| values.iter().all(|value| *value == 0.0);
    let tensors = layout.tensors();
    for (index, (name, place)) in tensors.iter().enumerate() {
        // B stands right behind its A.
        let excused = name.ends_with("lora_A") && zero(&weights[tensors[index + 1].1.clone()]);
        if zero(&gradient[place.clone()]) && !excused {
            return Err(TrainError::NoGradient { tensor: name.clone() });
        }
    }
    Ok(())
}
