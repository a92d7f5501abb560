//! The worker: one thread that claims queued jobs and runs them, at a lower priority than writing.

use crate::base::LoadedBase;
use crate::dataset::{FrozenDataset, Personal};
use crate::recipe::{self, TrainedAdapter};
use crate::train::memory_is_short;
use crate::trainable::TrainableBase;
use crate::{App, Home, auto_train, evaluate, folder, lock, memory, pairs, personal, search};
use domain::{
    Adapter, AdapterId, AdapterKind, AdapterState, ApiError, BaseId, BasePrecision, Change, ErrorCode, Hyperparameters, Job, JobId,
    JobKind, JobState, Metric, Phase, Recipe, Run, RunStatus, Timestamp,
};
use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, Weak};
use std::time::{Duration, Instant};
use training::{Checkpoints, Control, Disk, Observer, Outcome, Stop};

/// The store and the surfaces get metrics at most ten times a second, in batches.
const METRIC_INTERVAL: Duration = Duration::from_millis(100);

/// The only worker of a data folder; the folder's lock sees to that.
const WORKER: &str = "worker";

/// How often an idle worker looks at the queue when nobody wakes it (a job may be due after a clock change).
const IDLE_INTERVAL: Duration = Duration::from_secs(5);

/// Days that a removed generation can be restored.
const REMOVED_KEPT_DAYS: u64 = 30;

/// Backups of the database kept in the data folder.
const BACKUPS_KEPT: usize = 3;

#[derive(Default)]
pub(crate) struct Worker {
    /// The job under way and how to stop it.
    current: Mutex<Option<(JobId, Control)>>,
    queue: Mutex<Queue>,
    changed: Condvar,
    thread: Mutex<Option<std::thread::JoinHandle<()>>>,
    /// Tokens a second that this machine trains a base by each recipe, measured at its first plan.
    speed: Mutex<HashMap<(BaseId, Recipe, BasePrecision), f64>>,
}

#[derive(Default)]
struct Queue {
    /// Queued jobs wait until this process queues or resumes one.
    deferred: bool,
    woken: bool,
    stopping: bool,
}

impl Worker {
    pub fn new(defer_jobs: bool) -> Self {
        Self { queue: Mutex::new(Queue { deferred: defer_jobs, ..Queue::default() }), ..Self::default() }
    }

    /// Tells the worker that the queue changed.
    pub fn wake(&self) {
        let mut queue = lock(&self.queue);
        (queue.woken, queue.deferred) = (true, false);
        drop(queue);
        self.changed.notify_all();
    }

    pub fn with_control(&self, id: &JobId, act: impl FnOnce(&Control)) {
        if let Some((_, control)) = lock(&self.current).as_ref().filter(|(running, _)| running == id) {
            act(control);
        }
    }

    pub fn busy(&self) -> bool {
        lock(&self.current).is_some()
    }

    fn stopping(&self) -> bool {
        lock(&self.queue).stopping
    }
}

impl App {
    /// Tokens a second that training reaches here; measured once, in under a second.
    ///
    /// `loaded` is the base for training where it is in memory already; otherwise it is read for the measurement.
    pub(crate) fn training_speed(
        &self,
        base: &BaseId,
        recipe: Recipe,
        numbers: &Hyperparameters,
        loaded: Option<&TrainableBase>,
    ) -> Result<f64, ApiError> {
        let mut speed = lock(&self.worker.speed);
        let key = (base.clone(), recipe, numbers.quantization);
        if let Some(known) = speed.get(&key) {
            return Ok(*known);
        }
        let measured = match loaded {
            Some(loaded) => recipe::measure_speed(recipe, numbers, loaded)?,
            None => recipe::measure_speed(recipe, numbers, &self.trainable(base, numbers.quantization)?)?,
        };
        speed.insert(key, measured);
        Ok(measured)
    }
}

/// Starts the worker thread. It holds no strong reference, so an app that is dropped ends it.
pub(crate) fn start(app: &Arc<App>) -> Result<(), ApiError> {
    let weak = Arc::downgrade(app);
    let thread = std::thread::Builder::new().name("worker".into()).spawn(move || work(&weak)).map_err(ApiError::internal)?;
    *lock(&app.worker.thread) = Some(thread);
    Ok(())
}

/// Stops the worker: a running training keeps a checkpoint and becomes *interrupted*.
pub(crate) fn stop(app: &App) {
    lock(&app.worker.queue).stopping = true;
    app.worker.changed.notify_all();
    if let Some((_, control)) = lock(&app.worker.current).as_ref() {
        control.pause();
    }
    let thread = lock(&app.worker.thread).take();
    // The last reference may be dropped by the worker itself: a thread cannot wait for itself.
    if let Some(thread) = thread.filter(|thread| thread.thread().id() != std::thread::current().id()) {
        let _ = thread.join();
    }
}

fn work(app: &Weak<App>) {
    let mut tidied = false;
    loop {
        let Some(app) = app.upgrade() else { return };
        if app.worker.stopping() {
            return;
        }
        let home = app.home();
        match claim(&app, &home) {
            Ok(Some((job, control))) => {
                match job.kind {
                    JobKind::Train => perform(&app, &home, job, &control),
                    JobKind::AutoTrain => write_examples(&app, &home, &job, &control),
                    // Downloads have a table, a slot and a thread of their own.
                    JobKind::Pull => tracing::error!(job = %job.id, "a download stood in the queue of the heavy slot"),
                }
                // For the jobs that could not even be begun.
                *lock(&app.worker.current) = None;
                continue;
            }
            Ok(None) => {}
            Err(error) => tracing::error!(%error, "the queue could not be read"),
        }
        drop(home);
        let mut queue = lock(&app.worker.queue);
        if !queue.woken && !queue.stopping {
            queue =
                app.worker.changed.wait_timeout(queue, IDLE_INTERVAL).map_or_else(|poisoned| poisoned.into_inner().0, |(queue, _)| queue);
        }
        if !queue.woken && !queue.stopping && !tidied {
            tidied = true;
            drop(queue);
            tidy(&app.home());
            continue;
        }
        queue.woken = false;
    }
}

/// The next job with what stops it. Both are there at once for everybody else: whoever sees a job running can stop it.
fn claim(app: &App, home: &Home) -> Result<Option<(Job, Control)>, store::StoreError> {
    let waits = lock(&app.worker.queue).deferred;
    let mut current = lock(&app.worker.current);
    if waits || app.worker.stopping() {
        return Ok(None);
    }
    let Some(job) = home.store.claim_job(WORKER)? else { return Ok(None) };
    let control = Control::new(app.writing.gate.clone());
    *current = Some((job.id.clone(), control.clone()));
    Ok(Some((job, control)))
}

/// Once, when there is nothing else to do: a backup if anything changed, and a last goodbye to what was removed long ago.
fn tidy(home: &Home) {
    let tidied = home.store.keep_backup(BACKUPS_KEPT).map(drop);
    let tidied = tidied.and_then(|()| home.store.purge_removed_generations(&Timestamp::days_ago(REMOVED_KEPT_DAYS)).map(drop));
    if let Err(error) = tidied {
        tracing::warn!(%error, "no backup was made, or removed texts were not purged");
    }
}

/// Runs one claimed job and records how it ended, whatever happens.
fn perform(app: &Arc<App>, home: &Arc<Home>, mut job: Job, control: &Control) {
    let Some(mut run) = job.run_id.as_ref().and_then(|id| home.store.run(id).ok()) else {
        tracing::error!(job = %job.id, "a job without a run was claimed");
        return;
    };
    let started = Instant::now();
    let before = run.seconds.unwrap_or(0.0);
    memory::reset_peak();
    let ended = train_and_judge(app, home, &mut job, &mut run, control);
    run.seconds = Some(before + started.elapsed().as_secs_f64());
    let peak = memory::peak_process_mb();
    run.peak_memory_mb = Some(run.peak_memory_mb.map_or(peak, |known| known.max(peak)));
    let finished = Some(Timestamp::now());
    match ended {
        Ok(End::Completed) => {
            (job.state, run.status) = (JobState::Completed, RunStatus::Completed);
            (job.progress, job.finished_at, run.finished_at) = (1.0, finished.clone(), finished);
        }
        Ok(End::Stopped) if app.worker.stopping() => (job.state, run.status) = (JobState::Interrupted, RunStatus::Interrupted),
        Ok(End::Stopped) => (job.state, run.status) = (JobState::Paused, RunStatus::Paused),
        Ok(End::Cancelled) => {
            (job.state, run.status) = (JobState::Cancelled, RunStatus::Cancelled);
            (job.finished_at, run.finished_at) = (finished.clone(), finished);
        }
        Err(error) => {
            tracing::warn!(code = ?error.code, message = error.message, "a training failed");
            (job.state, run.status) = (JobState::Failed, RunStatus::Failed);
            (job.finished_at, run.finished_at) = (finished.clone(), finished);
            (job.error, run.error) = (Some(error.clone()), Some(error));
        }
    }
    if run.status == RunStatus::Completed
        && let Err(error) = record(home, &run)
    {
        tracing::warn!(message = error.message, "training_run.json was not written");
    }
    *lock(&app.worker.current) = None;
    if let Err(error) = home.store.update_job_and_run(&job, &run) {
        // The row still says running: the next start finds it and offers to resume.
        tracing::error!(%error, "the end of a training could not be recorded");
    }
}

/// Runs a session of auto-train and records how it ended, whatever happens.
fn write_examples(app: &App, home: &Home, claimed: &Job, control: &Control) {
    let ended = auto_train::writing::write_examples(app, home, &claimed.id, control);
    *lock(&app.worker.current) = None;
    let (state, error) = match ended {
        Ok(None) => (JobState::Completed, None),
        Ok(Some(Stop::Cancelled)) => (JobState::Cancelled, None),
        Ok(Some(Stop::Paused)) if app.worker.stopping() => (JobState::Interrupted, None),
        Ok(Some(Stop::Paused)) => (JobState::Paused, None),
        Err(error) => {
            tracing::warn!(code = ?error.code, message = error.message, "auto-train failed");
            (JobState::Failed, Some(error))
        }
    };
    let over = matches!(state, JobState::Completed | JobState::Cancelled | JobState::Failed);
    // Read again: its progress was stored with each example.
    let stored = home.store.job(&claimed.id).map_err(ApiError::from).and_then(|job| {
        home.store.update_job(&Job { state, error, finished_at: over.then(Timestamp::now), ..job })?;
        Ok(home.store.auto_train_of_job(&claimed.id)?.settings.user_id)
    });
    match stored {
        Ok(user_id) if over => app.train_personal_if_due(&user_id),
        Ok(_) => {}
        // The row still says running: the next start finds it and offers to resume.
        Err(error) => tracing::error!(message = error.message, "the end of a session of auto-train could not be recorded"),
    }
}

enum End {
    Completed,
    Cancelled,
    /// With a checkpoint: it can go on.
    Stopped,
}

/// Prepare, search where that was asked for, train, evaluate and publish: the phases of a training in order.
fn train_and_judge(app: &Arc<App>, home: &Arc<Home>, job: &mut Job, run: &mut Run, control: &Control) -> Result<End, ApiError> {
    run.started_at.get_or_insert_with(Timestamp::now);
    let run_folder = home.folder.runs().join(run.run_id.as_str());
    let mut observer = Recorder::new(home, job, run);
    observer.enter(Phase::Prepare);
    let mut dataset = FrozenDataset::load(&run_folder)?;
    let base = app.base(&observer.run.base)?;
    if dataset.to_write > 0 && !write_pairs(app, &base, &mut dataset, &run_folder, control, &mut observer)? {
        return Ok(stopped(control));
    }
    let tokens = dataset.tokenised(&base, &observer.run.hyperparameters)?;
    let trainable = app.trainable(&observer.run.base, observer.run.hyperparameters.quantization)?;
    if observer.run.search.is_some() {
        observer.enter(Phase::Search);
        let speed = app.training_speed(&observer.run.base, observer.run.recipe, &observer.run.hyperparameters, Some(&trainable))?;
        let bench = search::Bench { home, base: &trainable, data: &tokens, speed, run_folder: &run_folder, control };
        if !search::search(&bench, observer.job, observer.run)? {
            return Ok(stopped(control));
        }
    }
    let checkpoints = Checkpoints::new(&Disk, &run_folder, observer.run.hyperparameters.checkpoints_kept as usize).newest()?;
    for skipped in &checkpoints.skipped {
        tracing::warn!(path = %skipped.path.display(), reason = skipped.reason, "a damaged checkpoint was passed over");
    }
    // Points after the checkpoint will be reported again.
    let from = checkpoints.found.map_or(0, |(_, checkpoint)| checkpoint.progress.step);
    home.store.truncate_metrics(&observer.run.run_id, from)?;
    let (recipe, hyperparameters) = (observer.run.recipe, observer.run.hyperparameters.clone());
    let recompute = memory_is_short(&home.store.settings()?, recipe, &hyperparameters, &tokens, &trainable.config());
    let outcome = recipe::train(recipe, &hyperparameters, &trainable, &tokens, recompute, &run_folder, control, &mut observer);
    observer.flush();
    drop(trainable);
    let trained = match outcome? {
        Outcome::Finished(trained) => trained,
        Outcome::Paused { .. } => return Ok(End::Stopped),
        Outcome::Cancelled { .. } => return Ok(End::Cancelled),
    };
    observer.enter(Phase::Evaluate);
    observer.run.final_loss = Some(trained.final_loss);
    let verdict = match evaluate::against_current(app, home, &base, &dataset, hyperparameters.objective, &trained, control)? {
        Some(verdict) => verdict,
        // Stopped while evaluating: the last checkpoint holds the finished training, a resume comes straight back here.
        None => return Ok(stopped(control)),
    };
    observer.run.verdict = Some(verdict);
    publish(app, home, observer.run, &trained, dataset.personal.as_ref())?;
    Ok(End::Completed)
}

fn stopped(control: &Control) -> End {
    if control.stop() == Some(Stop::Cancelled) { End::Cancelled } else { End::Stopped }
}

/// Writes what taste makes pairs of, and freezes them with the rest. `false` when it was stopped: a resume writes them from the start.
fn write_pairs(
    app: &App,
    base: &LoadedBase,
    dataset: &mut FrozenDataset,
    run_folder: &Path,
    control: &Control,
    observer: &mut Recorder<'_>,
) -> Result<bool, ApiError> {
    match app.confident_taste() {
        Some(taste) => {
            let numbers = observer.run.hyperparameters.clone();
            let written = pairs::write_more(dataset, base, &taste, &numbers, control, &mut |share| observer.prepared(share))?;
            if !written {
                return Ok(false);
            }
        }
        // Thumbs since the plan took it away: the person's own pairs are there.
        None => dataset.to_write = 0,
    }
    let (examples, heldout) = dataset.tokenised(base, &observer.run.hyperparameters)?.counts();
    (observer.run.samples, observer.run.heldout) = (examples as u32, heldout as u32);
    observer.save();
    dataset.save(run_folder)?;
    Ok(true)
}

/// Writes the adapter, then its row: a row never names files that are not whole.
fn publish(app: &App, home: &Home, run: &mut Run, trained: &TrainedAdapter, personal: Option<&Personal>) -> Result<(), ApiError> {
    // Derived from the run, so that a crash between two steps and a resume publish the same adapter once.
    let id = AdapterId(run.run_id.as_str().replacen("run_", AdapterId::PREFIX, 1));
    let folder = home.folder.adapters().join(id.as_str());
    trained.weights.save(&folder, &app.base_config(&run.base)?, run.base.as_str())?;
    let weights = folder.join("adapter_model.safetensors");
    let bytes = std::fs::read(&weights).map_err(|error| folder::storage(&weights, &error))?;
    let promoted = run.verdict.as_ref().is_some_and(|verdict| verdict.promoted) && home.store.settings()?.activate_when_better;
    let kind = AdapterKind::from(run.recipe);
    let mut others = home.store.adapters()?;
    others.retain(|adapter| adapter.id != id);
    let name = match personal {
        Some(personal) => personal::next_name(&others, &personal.user_id),
        None => format!("{} {}", run.recipe.label(), others.iter().filter(|adapter| adapter.kind == kind).count() + 1),
    };
    let adapter = Adapter {
        id: id.clone(),
        name,
        kind,
        state: AdapterState::Trial,
        base: run.base.clone(),
        run_id: Some(run.run_id.clone()),
        strength: 1.0,
        path: format!("adapters/{id}"),
        sha256: folder::sha256_hex(&bytes),
        size_bytes: bytes.len() as f64,
        verdict: run.verdict.clone(),
        created_at: Timestamp::now(),
    };
    match home.store.insert_adapter(&adapter) {
        // A resume after a crash between this row and the end of the run.
        Ok(()) | Err(store::StoreError::Conflict(store::Conflict::Exists { .. })) => {}
        Err(error) => return Err(error.into()),
    }
    if promoted {
        home.store.set_adapter_state(&id, AdapterState::Active)?;
    }
    if let Some(personal) = personal {
        home.store.mark_examples_learned(&personal.user_id, personal.up_to, &run.run_id)?;
    }
    run.adapter_id = Some(id);
    Ok(())
}

/// Writes `training_run.json` and moves `latest` to this run, in that order.
fn record(home: &Home, run: &Run) -> Result<(), ApiError> {
    let run_folder = home.folder.runs().join(run.run_id.as_str());
    let record = serde_json::json!({
        "base_model": run.base,
        "samples_used": run.samples,
        "epochs": run.hyperparameters.epochs,
        "learning_rate": run.hyperparameters.learning_rate,
        "run_directory": run.directory,
        "trained_at": run.finished_at,
        "final_loss": run.final_loss,
        "run_id": run.run_id,
        "adapter_id": run.adapter_id,
        "hyperparameters": run.hyperparameters,
        "heldout": run.heldout,
        "seconds": run.seconds,
        "peak_memory_mb": run.peak_memory_mb,
        "verdict": run.verdict,
    });
    let json = serde_json::to_vec_pretty(&record).map_err(ApiError::internal)?;
    folder::write_whole(&run_folder.join("training_run.json"), &json)?;
    point_latest(&home.folder.runs(), run.run_id.as_str())
}

/// A link is replaced by renaming another over it, so that `latest` always leads somewhere whole.
fn point_latest(runs: &Path, run: &str) -> Result<(), ApiError> {
    let (temporary, latest) = (runs.join(".latest.tmp"), runs.join("latest"));
    let _ = std::fs::remove_file(&temporary);
    #[cfg(unix)]
    let linked = std::os::unix::fs::symlink(run, &temporary);
    #[cfg(not(unix))]
    let linked = std::fs::write(&temporary, run);
    linked.and_then(|()| std::fs::rename(&temporary, &latest)).map_err(|error| folder::storage(&latest, &error))
}

pub(crate) fn state_in_words(state: JobState) -> &'static str {
    match state {
        JobState::Queued => "waiting",
        JobState::Running => "running",
        JobState::Paused => "paused",
        JobState::Interrupted => "interrupted",
        JobState::Completed => "finished",
        JobState::Failed => "failed",
        JobState::Cancelled => "cancelled",
    }
}

/// Passes what the trainer reports to the store, which announces it.
struct Recorder<'a> {
    home: &'a Home,
    job: &'a mut Job,
    run: &'a mut Run,
    batch: Vec<Metric>,
    flushed: Instant,
}

impl<'a> Recorder<'a> {
    fn new(home: &'a Home, job: &'a mut Job, run: &'a mut Run) -> Self {
        Self { home, job, run, batch: Vec::new(), flushed: Instant::now() }
    }

    fn enter(&mut self, phase: Phase) {
        self.flush();
        self.run.phase = Some(phase);
        self.job.phase = Some(phase);
        self.save();
    }

    /// So much of the pairs is written. The training itself starts from 0 again.
    fn prepared(&mut self, share: f64) {
        if self.flushed.elapsed() >= METRIC_INTERVAL {
            self.flushed = Instant::now();
            self.job.progress = share;
            self.save();
        }
    }

    fn flush(&mut self) {
        self.flushed = Instant::now();
        if self.batch.is_empty() {
            return;
        }
        // A chart point that cannot be stored must not end a training: the disk may have room again at the next one.
        if let Err(error) = self.home.store.append_metrics(&self.run.run_id, &self.batch) {
            tracing::warn!(%error, "chart points were not stored");
        }
        self.batch.clear();
    }

    fn save(&mut self) {
        if let Err(error) = self.home.store.update_job_and_run(self.job, self.run) {
            tracing::warn!(%error, "the state of a training was not stored");
        }
    }
}

impl Observer for Recorder<'_> {
    fn phase(&mut self, phase: Phase) {
        // The recipe prepares its own part; this training was prepared before its search.
        if phase != Phase::Prepare {
            self.enter(phase);
        }
    }

    fn metric(&mut self, metric: Metric) {
        self.run.step = metric.step;
        let share = f64::from(metric.step) / f64::from(metric.total_steps.max(1));
        self.job.progress = if self.run.search.is_some() { search::after(share) } else { share };
        self.batch.push(metric);
        if self.flushed.elapsed() >= METRIC_INTERVAL {
            self.flush();
        }
    }

    fn checkpoint(&mut self, step: u32, _: &Path) {
        self.flush();
        self.run.checkpoint_step = Some(step);
        self.save();
        self.home.store.announce_transient(Change::RunCheckpoint { run_id: self.run.run_id.clone(), step });
    }
}

/// The error for a run that another state forbids.
pub(crate) fn not_now(run: &Run, what: &str) -> ApiError {
    ApiError::new(ErrorCode::Conflict, format!("The run {} is {}; it cannot be {what} now.", run.run_id, status_in_words(run.status)))
}

fn status_in_words(status: RunStatus) -> &'static str {
    match status {
        RunStatus::Queued => "waiting",
        RunStatus::Running => "running",
        RunStatus::Paused => "paused",
        RunStatus::Interrupted => "interrupted",
        RunStatus::Completed => "finished",
        RunStatus::Failed => "failed",
        RunStatus::Cancelled => "cancelled",
    }
}
