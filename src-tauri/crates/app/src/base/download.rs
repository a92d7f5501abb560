//! Downloads: a thread of their own, one at a time, that a training does not hold up.

use super::catalogue;
use super::install::Arrival;
use crate::{App, Home, lock};
use domain::{ApiError, BaseOrigin, Change, Job, JobId, JobKind, JobState, Priority, PullProgress, PullQueued, PullRequest, Timestamp};
use hub::{Fetch, Hub, RepoId, Weights};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, Weak};
use std::time::{Duration, Instant};

/// How often the progress of a download is stored; it is told more often.
const STORE_EVERY: Duration = Duration::from_secs(2);

/// How often an idle thread looks whether the app is still there.
const IDLE_INTERVAL: Duration = Duration::from_secs(5);

#[derive(Default)]
pub(crate) struct Downloads {
    current: Mutex<Option<Running>>,
    queue: Mutex<Queue>,
    changed: Condvar,
    thread: Mutex<Option<std::thread::JoinHandle<()>>>,
}

/// The download under way, and how to stop it.
struct Running {
    job_id: JobId,
    stop: Arc<AtomicBool>,
    cancelled: Arc<AtomicBool>,
}

#[derive(Default)]
struct Queue {
    /// Queued downloads wait until this process queues or resumes one.
    deferred: bool,
    woken: bool,
    stopping: bool,
}

impl Downloads {
    pub fn new(defer_jobs: bool) -> Self {
        Self { queue: Mutex::new(Queue { deferred: defer_jobs, ..Queue::default() }), ..Self::default() }
    }

    pub fn busy(&self) -> bool {
        lock(&self.current).is_some()
    }

    fn wake(&self) {
        let mut queue = lock(&self.queue);
        (queue.woken, queue.deferred) = (true, false);
        drop(queue);
        self.changed.notify_all();
    }

    fn stopping(&self) -> bool {
        lock(&self.queue).stopping
    }

    /// Stops the download if it is this one.
    fn halt(&self, id: &JobId, cancel: bool) {
        if let Some(running) = lock(&self.current).as_ref().filter(|running| running.job_id == *id) {
            running.cancelled.store(cancel, Ordering::Relaxed);
            running.stop.store(true, Ordering::Relaxed);
        }
    }
}

impl App {
    /// Queues the download of a base: a name of the catalogue, or a repository of the hub.
    ///
    /// # Errors
    /// `InvalidInput` for a name that is none, `OutOfMemory` with the figures when the catalogue knows that it cannot fit,
    /// `Conflict` when it is here or comes already.
    pub fn pull_base(&self, request: PullRequest) -> Result<PullQueued, ApiError> {
        let known = catalogue::known(request.model.trim());
        let repo = RepoId::parse(known.map_or(request.model.as_str(), |(repo, ..)| repo))?;
        catalogue::check_known(repo.as_str())?;
        self.hub()?;
        let home = self.home();
        let gguf = request.gguf.clone().or_else(|| known.and_then(|(_, gguf, ..)| gguf.map(str::to_owned)));
        let request = PullRequest { model: repo.to_string(), revision: request.revision, gguf };
        let here = home.store.installed_bases()?.into_iter().find(|one| one.repo.as_deref() == Some(repo.as_str()));
        if let Some(here) = here.filter(|_| request.revision.is_none()) {
            let message = format!("{repo} is here already, as {}.", here.base.id);
            return Err(ApiError::new(domain::ErrorCode::Conflict, message).hint("Remove it first to download it again."));
        }
        let job = Job {
            id: JobId::fresh(),
            kind: JobKind::Pull,
            state: JobState::Queued,
            priority: Priority::Normal,
            phase: None,
            progress: 0.0,
            run_id: None,
            attempts: 0,
            error: None,
            created_at: Timestamp::now(),
            started_at: None,
            finished_at: None,
            title: format!("Download {repo}"),
        };
        match home.store.enqueue_pull(&job, &request) {
            // Asked for once more: what was halted goes on.
            Err(store::StoreError::Conflict(store::Conflict::AlreadyQueued { job_id })) => {
                let other = home.store.pull(&job_id)?.map(|(job, _)| job);
                let job = other.ok_or_else(|| ApiError::not_found("job", &job_id))?;
                self.resume_pull(job)?;
                Ok(PullQueued { job_id, repo: repo.to_string() })
            }
            Err(error) => Err(error.into()),
            Ok(()) => {
                self.downloads.wake();
                Ok(PullQueued { job_id: job.id, repo: repo.to_string() })
            }
        }
    }

    /// The hub as the environment, or whoever opened the app, says.
    pub(crate) fn hub(&self) -> Result<Hub, ApiError> {
        let settings = match &self.hub {
            Some(settings) => settings.clone(),
            None => hub::Settings::from_env()?,
        };
        Ok(Hub::new(settings))
    }

    /// Every address that this installation may contact, and only when the person asks for it.
    pub(crate) fn addresses(&self) -> Result<Vec<String>, ApiError> {
        let settings = match &self.hub {
            Some(settings) => Ok(settings.clone()),
            None => hub::Settings::from_env(),
        };
        let hub = settings.ok().and_then(|settings| settings.endpoint.host_str().map(str::to_owned));
        let member = self.member(domain::Nothing {})?.host;
        let hub = hub.map(|host| format!("{host} (downloads that you start)"));
        Ok(hub.into_iter().chain(member.map(|host| format!("{host} (the server that you entered)"))).collect())
    }

    pub(crate) fn pause_pull(&self, mut job: Job) -> Result<Job, ApiError> {
        match job.state {
            JobState::Running => self.downloads.halt(&job.id, false),
            JobState::Queued => {
                job.state = JobState::Paused;
                self.home().store.update_pull(&job)?;
            }
            JobState::Paused | JobState::Interrupted => {}
            JobState::Completed | JobState::Failed | JobState::Cancelled => return Err(crate::job::over(&job.id)),
        }
        Ok(job)
    }

    pub(crate) fn resume_pull(&self, mut job: Job) -> Result<Job, ApiError> {
        match job.state {
            JobState::Paused | JobState::Interrupted => {
                (job.state, job.error) = (JobState::Queued, None);
                self.home().store.update_pull(&job)?;
            }
            JobState::Queued | JobState::Running => {}
            JobState::Completed | JobState::Failed | JobState::Cancelled => return Err(crate::job::over(&job.id)),
        }
        self.downloads.wake();
        Ok(job)
    }

    pub(crate) fn cancel_pull(&self, mut job: Job) -> Result<Job, ApiError> {
        match job.state {
            JobState::Running => self.downloads.halt(&job.id, true),
            JobState::Queued | JobState::Paused | JobState::Interrupted => {
                let request = self.home().store.pull(&job.id)?.map(|(_, request)| request);
                (job.state, job.finished_at) = (JobState::Cancelled, Some(Timestamp::now()));
                self.home().store.update_pull(&job)?;
                if let Some(request) = request {
                    self.drop_partial(&request);
                }
            }
            JobState::Cancelled => {}
            JobState::Completed | JobState::Failed => return Err(crate::job::over(&job.id)),
        }
        Ok(job)
    }

    /// Removes what had arrived of a cancelled download, unless the cache has a whole snapshot of that repository.
    fn drop_partial(&self, request: &PullRequest) {
        let dropped = self.hub().and_then(|hub| {
            let repo = RepoId::parse(&request.model)?;
            let cache = hub.cache();
            if cache.repo(&repo).join("snapshots").exists() { Ok(()) } else { Ok(cache.remove(&repo)?) }
        });
        if let Err(error) = dropped {
            tracing::warn!(message = error.message, "what had arrived of a cancelled download was not removed");
        }
    }

    /// One download from its list to the stored base.
    fn pull(&self, home: &Home, job: &mut Job, request: &PullRequest, stop: &AtomicBool) -> Result<(), ApiError> {
        let hub = self.hub()?;
        let repo = RepoId::parse(&request.model)?;
        let told = |doing: &str, progress: &hub::Progress| PullProgress {
            job_id: job.id.clone(),
            repo: request.model.clone(),
            doing: doing.to_owned(),
            bytes: progress.bytes as f64,
            total_bytes: progress.total as f64,
            bytes_per_second: progress.bytes_per_second,
            eta_s: progress.eta_s,
        };
        let listing = hub.list(&repo, request.revision.as_deref().unwrap_or("main"), stop)?;
        let weights = request.gguf.clone().map_or(Weights::Any, Weights::Gguf);
        let selection = hub::select(&listing, &weights)?;
        let mut stored = Instant::now();
        let mut last = None;
        let mut saved = job.clone();
        let snapshot = hub.fetch(&Fetch { listing: &listing, selection: &selection, free: None }, stop, &mut |progress| {
            home.store.announce_transient(Change::PullProgress { progress: told(&progress.file, progress) });
            saved.progress = progress.bytes as f64 / (progress.total as f64).max(1.0);
            if stored.elapsed() >= STORE_EVERY {
                stored = Instant::now();
                // A progress that is not stored is no reason to end a download.
                let _ = home.store.update_pull(&saved);
            }
            last = Some(progress.clone());
        })?;
        if let Some(progress) = last {
            let done = hub::Progress { eta_s: None, bytes_per_second: 0.0, ..progress };
            home.store.announce_transient(Change::PullProgress { progress: told("checking", &done) });
        }
        job.progress = 1.0;
        let path = match &selection.gguf {
            Some(file) => snapshot.folder.join(file),
            None => snapshot.folder.clone(),
        };
        let short = repo.as_str().rsplit('/').next().unwrap_or(repo.as_str()).to_owned();
        let arrival = Arrival {
            name: short,
            origin: BaseOrigin::Hub,
            source: format!("{repo}@{}", &snapshot.commit[..12]),
            license: listing.license.clone().or_else(|| catalogue::known(repo.as_str()).map(|(_, _, license, _)| license.to_owned())),
            path,
            repo: Some(repo.to_string()),
            owned: snapshot.fresh,
        };
        match self.install(home, arrival) {
            Ok(_) => Ok(()),
            Err(error) => {
                if snapshot.fresh {
                    hub.cache().remove(&repo)?;
                }
                Err(error)
            }
        }
    }
}

/// Starts the thread. It holds no strong reference, so an app that is dropped ends it.
pub(crate) fn start(app: &Arc<App>) -> Result<(), ApiError> {
    let weak = Arc::downgrade(app);
    let thread = std::thread::Builder::new().name("downloads".into()).spawn(move || work(&weak)).map_err(ApiError::internal)?;
    *lock(&app.downloads.thread) = Some(thread);
    Ok(())
}

/// Stops the thread: a download under way becomes *interrupted* and can go on.
pub(crate) fn stop(app: &App) {
    lock(&app.downloads.queue).stopping = true;
    app.downloads.changed.notify_all();
    if let Some(running) = lock(&app.downloads.current).as_ref() {
        running.stop.store(true, Ordering::Relaxed);
    }
    let thread = lock(&app.downloads.thread).take();
    // The last reference may be dropped by the thread itself: it cannot wait for itself.
    if let Some(thread) = thread.filter(|thread| thread.thread().id() != std::thread::current().id()) {
        let _ = thread.join();
    }
}

fn work(app: &Weak<App>) {
    loop {
        let Some(app) = app.upgrade() else { return };
        if app.downloads.stopping() {
            return;
        }
        let home = app.home();
        let claimed = if lock(&app.downloads.queue).deferred { Ok(None) } else { home.store.claim_pull() };
        match claimed {
            Ok(Some((job, request))) => {
                perform(&app, &home, job, &request);
                continue;
            }
            Ok(None) => {}
            Err(error) => tracing::error!(%error, "the downloads could not be read"),
        }
        drop(home);
        let mut queue = lock(&app.downloads.queue);
        if !queue.woken && !queue.stopping {
            let waited = app.downloads.changed.wait_timeout(queue, IDLE_INTERVAL);
            queue = waited.map_or_else(|poisoned| poisoned.into_inner().0, |(queue, _)| queue);
        }
        queue.woken = false;
    }
}

/// Runs one download and records how it ended, whatever happens.
fn perform(app: &App, home: &Home, mut job: Job, request: &PullRequest) {
    let (stop, cancelled) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    *lock(&app.downloads.current) = Some(Running { job_id: job.id.clone(), stop: stop.clone(), cancelled: cancelled.clone() });
    let ended = app.pull(home, &mut job, request, &stop);
    *lock(&app.downloads.current) = None;
    // How far it was, as last stored.
    let progress = home.store.pull(&job.id).ok().flatten().map_or(0.0, |(job, _)| job.progress);
    match ended {
        Ok(()) => (job.state, job.progress, job.finished_at) = (JobState::Completed, 1.0, Some(Timestamp::now())),
        Err(_) if cancelled.load(Ordering::Relaxed) => {
            app.drop_partial(request);
            (job.state, job.progress, job.finished_at) = (JobState::Cancelled, progress, Some(Timestamp::now()));
        }
        Err(_) if app.downloads.stopping() => (job.state, job.progress) = (JobState::Interrupted, progress),
        Err(_) if stop.load(Ordering::Relaxed) => (job.state, job.progress) = (JobState::Paused, progress),
        Err(error) => {
            tracing::warn!(code = ?error.code, message = error.message, "a download failed");
            (job.state, job.progress, job.finished_at) = (JobState::Failed, progress, Some(Timestamp::now()));
            job.error = Some(error);
        }
    }
    if let Err(error) = home.store.update_pull(&job) {
        // The row still says running: the next start finds it and it can go on.
        tracing::error!(%error, "the end of a download could not be recorded");
    }
}
