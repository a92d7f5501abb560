//! LoRA (Hu et al., arXiv 2106.09685) and DoRA (Liu et al., arXiv 2402.09353): small matrices beside the projections are
//! trained, the base stays as it is. On a base that is held in int8 or int4 this is QLoRA (Dettmers et al., arXiv 2305.14314).
//!
//! The same seed, base, dataset and threads give the same bits, also when the run was stopped and resumed in between.

use crate::objective::Task;
use crate::run::{Halt, Run, Surroundings};
use crate::state::Trainee;
use crate::tuned::AdaptedLlama;
use crate::{
    Control, Dataset, Disk, FileLayer, Judgements, LoraConfig, LoraLayout, LoraStart, Observer, Outcome, RunIdentity, TrainError,
    TrainableLlama, Trained,
};
use domain::Phase;
use model::Lora;
use std::path::Path;

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
) -> Result<Outcome<Trained<Lora>>, TrainError> {
    lora_on(&Disk, base, data, config, run_dir, resume, control, observer)
}

/// [`lora`] from judgements instead of examples (see [`crate::Preference`]).
///
/// What texts are compared to is the bare base, asked about each text once.
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
) -> Result<Outcome<Trained<Lora>>, TrainError> {
    let around = Surroundings { files: &Disk, folder: run_dir, resume, control, observer };
    recipe(base, Task::of_judgements(data, config.preference), config, around)
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
) -> Result<Outcome<Trained<Lora>>, TrainError> {
    let around = Surroundings { files, folder: run_dir, resume, control, observer };
    recipe(base, Task::of_examples(data), config, around)
}

fn recipe<'a>(
    base: &TrainableLlama,
    mut task: Task,
    config: &'a LoraConfig,
    around: Surroundings<'a>,
) -> Result<Outcome<Trained<Lora>>, TrainError> {
    // ── Prepare: what is trained, on what, from where.
    around.observer.phase(Phase::Prepare);
    config.check(base.config())?;
    let layout = config.layout(base.config())?;
    let tuned = AdaptedLlama { base, layout: &layout, dropout: config.dropout, seed: config.run.seed, recompute: config.run.recompute };
    task.check(&tuned)?;
    let trainee = Trainee { name: WEIGHTS, shape: vec![layout.parameters()], weight_decay: config.run.weight_decay };
    let identity = RunIdentity { base: base.identity().to_owned(), dataset: task.identity(), config: config.identity() };
    let initial = || match &config.start {
        LoraStart::Fresh => base.initial_lora(&layout, config.run.seed),
        LoraStart::Trained(lora) => layout.flatten(lora),
    };
    let mut run = Run::begin(&config.run, trainee, initial, identity, task.len(), around)?;

    let ended = train(&mut run, &mut task, &tuned);
    run.end(ended, |weights| layout.adapter(&weights))
}

fn train(run: &mut Run, task: &mut Task, tuned: &AdaptedLlama) -> Result<(), Halt> {
    // ── What the bare base thinks of judged texts that are held out, and the held-out loss that we start from.
    run.compute(|_, desk| task.begin(tuned, desk))?;
    if task.has_heldout() && run.start_unknown() {
        // A fresh adapter changes nothing, so this is the bare base.
        let loss = run.compute(|weights, desk| task.heldout_loss(tuned, Some(weights), desk))?;
        run.record_start(loss)?;
    }

    run.phase(Phase::Train);
    loop {
        // ── Held-out loss before the first, every so many and after the last update; the best weights are kept.
        if task.has_heldout() && run.heldout_due() {
            let loss = run.compute(|weights, desk| task.heldout_loss(tuned, Some(weights), desk))?;
            run.record_heldout(loss)?;
        }
        if run.rest()? {
            return Ok(());
        }

        // ── One update: gradient over the batch in parts, clipped, then AdamW.
        let (loss, rows) = run.differentiate(|weights, batch, step, desk, gradient| {
            task.loss_and_gradient(tuned, weights, batch, u64::from(step), desk, gradient)
        })?;
        if run.step() < 2 {
            let (weights, gradient) = run.gradient();
            check_gradient(tuned.layout, weights, gradient)?;
        }
        run.update(loss, rows)?;
    }
}

/// The name of what is trained, in checkpoints.
const WEIGHTS: &str = "lora";

/// Every tensor must receive a gradient: at first all but A, whose gradient passes through B, which is still zero.
fn check_gradient(layout: &LoraLayout, weights: &[f32], gradient: &[f32]) -> Result<(), TrainError> {
    let zero = |values: &[f32]| values.iter().all(|value| *value == 0.0);
    let tensors = layout.tensors();
    for (index, (name, place)) in tensors.iter().enumerate() {
        // B stands right behind its A; where several share one, they leave zero together.
        let excused = name.ends_with("lora_A") && zero(&weights[tensors[index + 1].1.clone()]);
        if zero(&gradient[place.clone()]) && !excused {
            return Err(TrainError::NoGradient { tensor: name.clone() });
        }
    }
    Ok(())
}
