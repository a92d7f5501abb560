//! Prompt tuning (Lester et al., arXiv 2104.08691): a few vectors before the text are trained, the base stays as it is.
//!
//! The same seed, base, dataset and threads give the same bits, also when the run was stopped and resumed in between.

use crate::objective::Task;
use crate::run::{Halt, Run, Surroundings};
use crate::seed::{Draws, INITIAL};
use crate::state::Trainee;
use crate::tuned::Tuned;
use crate::{
    Control, Dataset, Disk, FileLayer, Judgements, Observer, Outcome, PromptBase, PromptStart, RunIdentity, SoftPromptConfig, TrainError,
    Trained,
};
use domain::Phase;
use model::SoftPrompt;
use std::path::Path;

/// Trains a soft prompt, with checkpoints in `run_dir`.
///
/// With `resume`, goes on from the newest valid checkpoint there, if there is one; without, starts over and removes them.
/// Reports to `observer` on this thread; the arithmetic runs on threads of its own at low priority.
///
/// # Errors
/// See [`TrainError`]; the newest checkpoint stays usable after any of them.
pub fn soft_prompt(
    base: &dyn PromptBase,
    data: &Dataset,
    config: &SoftPromptConfig,
    run_dir: &Path,
    resume: bool,
    control: &Control,
    observer: &mut dyn Observer,
) -> Result<Outcome<Trained<SoftPrompt>>, TrainError> {
    soft_prompt_on(&Disk, base, data, config, run_dir, resume, control, observer)
}

/// [`soft_prompt`] from judgements instead of examples (see [`crate::Preference`]).
///
/// # Errors
/// As [`soft_prompt`].
pub fn soft_prompt_from_judgements(
    base: &dyn PromptBase,
    data: &Judgements,
    config: &SoftPromptConfig,
    run_dir: &Path,
    resume: bool,
    control: &Control,
    observer: &mut dyn Observer,
) -> Result<Outcome<Trained<SoftPrompt>>, TrainError> {
    let around = Surroundings { files: &Disk, folder: run_dir, resume, control, observer };
    recipe(base, Task::of_judgements(data, config.preference), config, around)
}

/// [`soft_prompt`] on another file layer.
///
/// # Errors
/// As [`soft_prompt`].
pub fn soft_prompt_on(
    files: &dyn FileLayer,
    base: &dyn PromptBase,
    data: &Dataset,
    config: &SoftPromptConfig,
    run_dir: &Path,
    resume: bool,
    control: &Control,
    observer: &mut dyn Observer,
) -> Result<Outcome<Trained<SoftPrompt>>, TrainError> {
    let around = Surroundings { files, folder: run_dir, resume, control, observer };
    recipe(base, Task::of_examples(data), config, around)
}

fn recipe<'a>(
    base: &dyn PromptBase,
    mut task: Task,
    config: &'a SoftPromptConfig,
    around: Surroundings<'a>,
) -> Result<Outcome<Trained<SoftPrompt>>, TrainError> {
    // ── Prepare: what is trained, on what, from where.
    around.observer.phase(Phase::Prepare);
    config.check(base)?;
    let tuned = base.with_prompt(config.virtual_tokens, config.run.recompute);
    task.check(&*tuned)?;
    let trainee = Trainee { name: PROMPT, shape: vec![config.virtual_tokens, base.hidden()], weight_decay: config.run.weight_decay };
    let identity = RunIdentity { base: base.identity().to_owned(), dataset: task.identity(), config: config.identity() };
    let mut run = Run::begin(&config.run, trainee, || initial_prompt(base, config), identity, task.len(), around)?;

    let ended = train(&mut run, &mut task, &*tuned, config);
    run.end(ended, |vectors| SoftPrompt { tokens: config.virtual_tokens, hidden: base.hidden(), vectors })
}

fn train(run: &mut Run, task: &mut Task, tuned: &dyn Tuned, config: &SoftPromptConfig) -> Result<(), Halt> {
    // ── What the bare base thinks of judged texts that are held out, and the held-out loss that we start from.
    run.compute(|_, desk| task.begin(tuned, desk))?;
    if task.has_heldout() && run.start_unknown() {
        let trained_before = matches!(config.start, PromptStart::Trained(_));
        let loss = run.compute(|prompt, desk| task.heldout_loss(tuned, trained_before.then_some(prompt), desk))?;
        run.record_start(loss)?;
    }

    run.phase(Phase::Train);
    loop {
        // ── Held-out loss before the first, every so many and after the last update; the best prompt is kept.
        if task.has_heldout() && run.heldout_due() {
            let loss = run.compute(|prompt, desk| task.heldout_loss(tuned, Some(prompt), desk))?;
            run.record_heldout(loss)?;
        }
        if run.rest()? {
            return Ok(());
        }

        // ── One update: gradient over the batch in parts, clipped, then AdamW.
        let (loss, rows) = run.differentiate(|prompt, batch, step, desk, gradient| {
            task.loss_and_gradient(tuned, prompt, batch, u64::from(step), desk, gradient)
        })?;
        if run.step() == 0 && run.gradient().1.iter().all(|value| *value == 0.0) {
            return Err(TrainError::NoGradient { tensor: PROMPT.to_owned() }.into());
        }
        run.update(loss, rows)?;
    }
}

/// The name of what is trained, in checkpoints and errors.
const PROMPT: &str = "prompt_embeddings";

fn initial_prompt(base: &dyn PromptBase, config: &SoftPromptConfig) -> Vec<f32> {
    let rows =
        |tokens: &mut dyn Iterator<Item = u32>| tokens.take(config.virtual_tokens).flat_map(|t| base.embedding_of(t)).copied().collect();
    match &config.start {
        PromptStart::Tokens(tokens) => rows(&mut tokens.iter().copied().cycle()),
        PromptStart::Labels(labels) => {
            labels.iter().cycle().take(config.virtual_tokens).flat_map(|label| mean_embedding(base, label)).collect()
        }
        PromptStart::Vocabulary => {
            let mut draws = Draws::new(config.run.seed, INITIAL);
            rows(&mut std::iter::repeat_with(|| draws.below(base.vocab()) as u32))
        }
        PromptStart::Trained(prompt) => prompt.vectors.clone(),
    }
}

fn mean_embedding(base: &dyn PromptBase, tokens: &[u32]) -> Vec<f32> {
    let mut sum = vec![0.0; base.hidden()];
    for token in tokens {
        sum.iter_mut().zip(base.embedding_of(*token)).for_each(|(sum, value)| *sum += value);
    }
    sum.iter_mut().for_each(|sum| *sum /= tokens.len() as f32);
    sum
}
