//! Writing over HTTP: whole, or as a stream. Either way a client that hangs up stops its generation and frees its slot.

use crate::body::from_body;
use crate::refusal::{Refusal, json};
use crate::surface::{InFlight, Surface, blocking};
use app::App;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use domain::{ApiError, GenerationId, GenerationRef, WriteEvent, WriteRequest, WriteResult};
use futures_util::stream;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// `POST /api/v1/write`: answers when the vote is over.
pub(crate) async fn write(State(surface): State<Arc<Surface>>, request: Request) -> Result<Response, Refusal> {
    let input: WriteRequest = from_body(Vec::new(), request.into_body()).await?;
    let slot = surface.writing.enter().await?;
    let generation = Generation::new(surface.app.clone());
    let _hangup = Hangup(generation.clone());
    let result = blocking(move || {
        let _slot = slot;
        generation.run(input, |_| {})
    })
    .await?;
    Ok(json(StatusCode::OK, &result))
}

/// `POST /api/v1/write/stream`: server-sent events `started`, `token`, `candidate`, `chosen`, `error`.
///
/// A request that cannot be started is refused with its status before the stream begins.
pub(crate) async fn write_stream(State(surface): State<Arc<Surface>>, request: Request) -> Result<Response, Refusal> {
    let input: WriteRequest = from_body(Vec::new(), request.into_body()).await?;
    let slot = surface.writing.enter().await?;
    let generation = Generation::new(surface.app.clone());
    let hangup = Hangup(generation.clone());
    // Unbounded on purpose: its length is bounded by the generation's own limits (16 candidates of 900 tokens), and a
    // bounded one would let a client that reads slowly hold a writing slot.
    let (sender, mut receiver) = unbounded_channel();
    tokio::task::spawn_blocking(move || {
        let _slot = slot;
        // A send fails when the client is gone; the hang-up guard stops the generation then.
        if let Err(error) = generation.run(input, |event| drop(sender.send(Ok(event)))) {
            let _ = sender.send(Err(error));
        }
    });
    let first = match receiver.recv().await {
        Some(Ok(event)) => event,
        Some(Err(error)) => return Err(error.into()),
        None => return Err(ApiError::internal("the writing thread ended without a word").into()),
    };
    let reader = Reader { first: Some(first), receiver, _hangup: hangup, _in_flight: surface.in_flight.clone() };
    let events = stream::unfold(reader, |mut reader| async move {
        let next = match reader.first.take() {
            Some(event) => Some(Ok(event)),
            None => reader.receiver.recv().await,
        };
        next.map(|next| (Ok::<_, axum::Error>(as_sse(&next)), reader))
    });
    let keep_alive = KeepAlive::new().interval(Duration::from_secs(5)).text("writing");
    Ok(Sse::new(events).keep_alive(keep_alive).into_response())
}

struct Reader {
    first: Option<WriteEvent>,
    receiver: UnboundedReceiver<Result<WriteEvent, ApiError>>,
    _hangup: Hangup,
    _in_flight: InFlight,
}

fn as_sse(next: &Result<WriteEvent, ApiError>) -> Event {
    let event = match next {
        Ok(event) => Event::default().event(name(event)).json_data(event),
        Err(error) => Event::default().event("error").json_data(error),
    };
    event.unwrap_or_else(|error| {
        tracing::error!(%error, "an event could not be written as JSON");
        Event::default().comment("unwritable")
    })
}

/// The event's name, as its own `event` field says it.
fn name(event: &WriteEvent) -> &'static str {
    match event {
        WriteEvent::Started { .. } => "started",
        WriteEvent::Retrying { .. } => "retrying",
        WriteEvent::Token { .. } => "token",
        WriteEvent::Candidate { .. } => "candidate",
        WriteEvent::Chosen { .. } => "chosen",
    }
}

/// A generation that can be stopped from outside, also before it has told its id.
struct Generation {
    app: Arc<App>,
    progress: Mutex<Progress>,
}

#[derive(Default)]
struct Progress {
    id: Option<GenerationId>,
    unwanted: bool,
    ended: bool,
}

impl Generation {
    fn new(app: Arc<App>) -> Arc<Self> {
        Arc::new(Self { app, progress: Mutex::default() })
    }

    fn run(self: &Arc<Self>, request: WriteRequest, mut tell: impl FnMut(WriteEvent)) -> Result<WriteResult, ApiError> {
        let outcome = self.app.write_streaming(request, &mut |event| {
            if let WriteEvent::Started { generation_id, .. } = &event {
                self.update(|progress| progress.id = Some(generation_id.clone()));
            }
            tell(event);
        });
        self.update(|progress| progress.ended = true);
        outcome
    }

    /// Changes what is known, and stops the generation when nobody wants it.
    fn update(&self, change: impl FnOnce(&mut Progress)) {
        let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut progress);
        if let Progress { id: Some(generation_id), unwanted: true, ended: false } = &*progress {
            let (app, generation_id) = (self.app.clone(), generation_id.clone());
            // On a thread of its own: this may run on an asynchronous thread, or inside the generation's own callback.
            std::thread::spawn(move || app.cancel_write(GenerationRef { generation_id }));
        }
    }
}

/// Held by whoever reads the answer; dropped when the client is gone.
struct Hangup(Arc<Generation>);

impl Drop for Hangup {
    fn drop(&mut self) {
        self.0.update(|progress| progress.unwanted = true);
    }
}
