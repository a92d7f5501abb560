//! Auto-train as a story writer's program offered it (CONTRACT.md §5): its paths, its fields, 422 for what cannot be used.

use crate::body::from_body;
use crate::refusal::{Refusal, json};
use crate::surface::{InFlight, Surface};
use app::{App, EventReceiver};
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use domain::{
    ApiError, AutoTrain, AutoTrainId, AutoTrainRef, AutoTrainRequest, AutoTrainResult, Change, ErrorCode, Genre, JobRef, JobState, Nothing,
    UserRef,
};
use futures_util::stream;
use serde::Serialize;
use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc::{Receiver, Sender, channel};

/// A stream says at least so often that it is alive.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// How often a quiet session is looked at, should a change have been lost, and whether anyone still listens.
const LOOK: Duration = Duration::from_millis(400);

/// `POST /auto-train`: answers when the session has ended. A client that hangs up cancels it; what was made is kept.
pub(crate) async fn auto_train(State(surface): State<Arc<Surface>>, request: Request) -> Result<Response, Refusal> {
    let mut session = Session::start(&surface, request).await?;
    while session.next().await.is_some() {}
    Ok(json(StatusCode::OK, &session.outcome(&surface).await??))
}

/// `POST /auto-train-stream`: server-sent events `progress`, `heartbeat`, `complete`, `error`. Closing it cancels.
pub(crate) async fn auto_train_stream(State(surface): State<Arc<Surface>>, request: Request) -> Result<Response, Refusal> {
    let session = Session::start(&surface, request).await?;
    let reader = Some((session, surface.clone()));
    let events = stream::unfold(reader, |reader| async move {
        let (mut session, surface) = reader?;
        match tokio::time::timeout(HEARTBEAT, session.next()).await {
            Err(_quiet) => Some((Ok::<_, axum::Error>(message("heartbeat", &Nothing {})), Some((session, surface)))),
            Ok(Some(state)) => Some((Ok(message("progress", &Progress::of(&state))), Some((session, surface)))),
            Ok(None) => {
                let last = match session.outcome(&surface).await {
                    Ok(Ok(result)) => message("complete", &result),
                    Ok(Err(error)) => message("error", &error),
                    Err(_refused) => message("error", &ApiError::internal("the outcome could not be read")),
                };
                Some((Ok(last), None))
            }
        }
    });
    Ok(Sse::new(events).into_response())
}

/// `GET /training/genres`
pub(crate) async fn genres(State(surface): State<Arc<Surface>>) -> Result<Response, Refusal> {
    let genres = surface.call(|app| app.training_genres(Nothing {})).await?;
    Ok(json(StatusCode::OK, &genres))
}

/// `GET /user/{id}/training-stats`
pub(crate) async fn stats(State(surface): State<Arc<Surface>>, Path(user_id): Path<String>) -> Result<Response, Refusal> {
    let stats = surface.call(move |app| app.training_stats(UserRef { user_id })).await?;
    Ok(json(StatusCode::OK, &stats))
}

/// `POST /user/{id}/trigger-finetuning`
pub(crate) async fn trigger(State(surface): State<Arc<Surface>>, Path(user_id): Path<String>) -> Result<Response, Refusal> {
    let queued = surface.call(move |app| app.train_personal(UserRef { user_id })).await?;
    Ok(json(StatusCode::ACCEPTED, &queued))
}

/// The data of a `progress` event.
#[derive(Serialize)]
struct Progress {
    auto_train_id: AutoTrainId,
    current: u32,
    total: u32,
    percentage: f64,
    latest_quality: Option<f64>,
    current_genre: Option<Genre>,
    /// Who wrote the latest winner.
    best_model: Option<String>,
    successful: u32,
    failed: u32,
    eta_s: Option<f64>,
}

impl Progress {
    fn of(state: &AutoTrain) -> Self {
        let latest = state.latest.as_ref();
        let total = state.settings.num_examples;
        Self {
            auto_train_id: state.id.clone(),
            current: state.current,
            total,
            percentage: (f64::from(state.current) / f64::from(total.max(1)) * 1000.0).round() / 10.0,
            latest_quality: latest.and_then(|one| one.quality),
            current_genre: latest.map(|one| one.genre),
            best_model: latest.and_then(|one| one.member.clone()),
            successful: state.successful,
            failed: state.failed,
            eta_s: state.eta_s,
        }
    }
}

/// A session that one client waits for; dropped before its end, it is cancelled.
struct Session {
    app: Arc<App>,
    started: AutoTrain,
    states: Receiver<AutoTrain>,
    over: bool,
    _slot: OwnedSemaphorePermit,
    _in_flight: InFlight,
}

impl Session {
    async fn start(surface: &Arc<Surface>, request: Request) -> Result<Self, Refusal> {
        let input: AutoTrainRequest = from_body(Vec::new(), request.into_body()).await.map_err(unprocessable)?;
        let slot = surface.streams.enter().await?;
        // Subscribed before it starts, so that no change is missed.
        let live = surface.app.subscribe();
        let started = surface.call(move |app| Ok(app.auto_train(input))).await?.map_err(unprocessable)?;
        let (sender, states) = channel(64);
        let (app, in_flight) = (surface.app.clone(), surface.in_flight.clone());
        let session = Self { app: app.clone(), started: started.clone(), states, over: false, _slot: slot, _in_flight: in_flight };
        let follow = move || follow(&app, &started, &live, &sender);
        std::thread::Builder::new().name("auto-train stream".into()).spawn(follow).map_err(ApiError::internal)?;
        Ok(session)
    }

    /// The next state; `None` once it has ended.
    async fn next(&mut self) -> Option<AutoTrain> {
        let state = self.states.recv().await;
        self.over |= state.as_ref().is_none_or(|state| is_over(state.state));
        state
    }

    /// The result, or why there is none.
    async fn outcome(&self, surface: &Surface) -> Result<Result<AutoTrainResult, ApiError>, Refusal> {
        let auto_train_id = self.started.id.clone();
        let which = AutoTrainRef { auto_train_id };
        surface
            .call(move |app| {
                let session = app.auto_train_session(which.clone())?;
                Ok(match session.state {
                    JobState::Failed => Err(session.error.unwrap_or_else(|| ApiError::internal("the session failed without a reason"))),
                    _ => Ok(app.auto_train_result(which)?),
                })
            })
            .await
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        let (app, job_id) = (self.app.clone(), self.started.job_id.clone());
        // On a thread of its own: this is dropped on an asynchronous one.
        std::thread::spawn(move || app.cancel_job(JobRef { job_id }));
    }
}

/// Passes on each new state, in order, until the session or its reader has ended.
fn follow(app: &App, started: &AutoTrain, live: &EventReceiver, sender: &Sender<AutoTrain>) {
    let mut told = started.clone();
    if sender.blocking_send(told.clone()).is_err() {
        return;
    }
    while !is_over(told.state) {
        let state = match live.recv_timeout(LOOK) {
            Ok(event) => match event.change {
                Change::AutoTrainChanged { auto_train } if auto_train.id == started.id => *auto_train,
                _ => continue,
            },
            Err(RecvTimeoutError::Timeout) if sender.is_closed() => return,
            Err(_) => match app.auto_train_session(AutoTrainRef { auto_train_id: started.id.clone() }) {
                Ok(state) => state,
                Err(_) => return,
            },
        };
        if state != told {
            told = state;
            if sender.blocking_send(told.clone()).is_err() {
                return;
            }
        }
    }
}

fn is_over(state: JobState) -> bool {
    matches!(state, JobState::Completed | JobState::Failed | JobState::Cancelled)
}

/// That program answered 422 for fields that cannot be used.
fn unprocessable(error: ApiError) -> Refusal {
    match error.code {
        ErrorCode::InvalidInput => Refusal::with_status(StatusCode::UNPROCESSABLE_ENTITY, error),
        _ => error.into(),
    }
}

fn message(name: &str, data: &impl Serialize) -> Event {
    Event::default().event(name).json_data(data).unwrap_or_else(|error| {
        tracing::error!(%error, "an event could not be written as JSON");
        Event::default().comment("unwritable")
    })
}
