//! `GET /api/v1/events`: every change as it happens. The id of an event is its row in the change log, so a client that was
//! away sends the last one it saw (`Last-Event-ID`, or `?after=`) and gets what it missed first.

use crate::body::from_query;
use crate::refusal::Refusal;
use crate::surface::{InFlight, Surface};
use app::App;
use axum::extract::{RawQuery, State};
use axum::http::HeaderMap;
use axum::response::sse::{Event as Message, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use domain::{ApiError, Event};
use futures_util::stream;
use serde::Deserialize;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc::{Sender, channel};

/// How often a quiet stream notices that its client is gone.
const QUIET: Duration = Duration::from_millis(400);

#[derive(Deserialize)]
struct Resume {
    #[serde(default)]
    after: Option<u32>,
}

pub(crate) async fn events(
    State(surface): State<Arc<Surface>>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Response, Refusal> {
    let after = last_seen(&headers, query.as_deref())?;
    let slot = surface.streams.enter().await?;
    // Subscribed before the log is read: a change in between comes twice and is told once.
    let live = surface.app.subscribe();
    let missed = match after {
        Some(seq) => surface.call(move |app| app.changes_after(seq)).await?,
        None => Vec::new(),
    };
    let (sender, receiver) = channel(256);
    let teller = Teller { app: surface.app.clone(), last: after, sender };
    std::thread::Builder::new().name("event stream".into()).spawn(move || teller.tell_all(missed, &live)).map_err(ApiError::internal)?;
    let reader = Reader { receiver, _slot: slot, _in_flight: surface.in_flight.clone() };
    let messages = stream::unfold(reader, |mut reader| async move { reader.receiver.recv().await.map(|event| (as_sse(&event), reader)) });
    let keep_alive = KeepAlive::new().interval(Duration::from_secs(10)).text("alive");
    Ok(Sse::new(messages).keep_alive(keep_alive).into_response())
}

struct Reader {
    receiver: tokio::sync::mpsc::Receiver<Event>,
    _slot: OwnedSemaphorePermit,
    _in_flight: InFlight,
}

fn last_seen(headers: &HeaderMap, query: Option<&str>) -> Result<Option<u32>, ApiError> {
    let Some(header) = headers.get("last-event-id") else { return Ok(from_query::<Resume>(Vec::new(), query)?.after) };
    let seq = header.to_str().ok().and_then(|text| text.trim().parse().ok());
    seq.map(Some).ok_or_else(|| ApiError::field("Last-Event-ID", "The last event id must be a number from this stream."))
}

fn as_sse(event: &Event) -> Result<Message, axum::Error> {
    let message = Message::default().json_data(event)?;
    // Transient events have no id: a client that resumes after one resumes after the last stored change.
    Ok(match event.seq {
        Some(seq) => message.id(seq.to_string()),
        None => message,
    })
}

/// Passes changes on in the order of the log, each once; what a full queue lost is read again from the log.
struct Teller {
    app: Arc<App>,
    last: Option<u32>,
    sender: Sender<Event>,
}

/// The client is gone.
struct Gone;

impl Teller {
    fn tell_all(mut self, missed: Vec<Event>, live: &Receiver<Event>) {
        let _ = missed.into_iter().try_for_each(|event| self.tell(event)).and_then(|()| self.follow(live));
    }

    fn follow(&mut self, live: &Receiver<Event>) -> Result<(), Gone> {
        let mut checked = true;
        loop {
            match live.recv_timeout(QUIET) {
                Ok(event) => {
                    let gap = event.seq.zip(self.last).is_some_and(|(seq, last)| seq > last + 1);
                    if gap {
                        self.catch_up()?;
                    }
                    self.tell(event)?;
                    checked = false;
                }
                Err(RecvTimeoutError::Timeout) if self.sender.is_closed() => return Err(Gone),
                Err(RecvTimeoutError::Timeout) if checked => {}
                // Quiet again: the last events before it may have been lost without a later one to show the gap.
                Err(RecvTimeoutError::Timeout) => {
                    self.catch_up()?;
                    checked = true;
                }
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
        }
    }

    fn catch_up(&mut self) -> Result<(), Gone> {
        let Some(last) = self.last else { return Ok(()) };
        match self.app.changes_after(last) {
            Ok(events) => events.into_iter().try_for_each(|event| self.tell(event)),
            Err(error) => {
                tracing::warn!(%error, "missed changes could not be read; the client will resume");
                Err(Gone)
            }
        }
    }

    fn tell(&mut self, event: Event) -> Result<(), Gone> {
        if let Some(seq) = event.seq {
            if self.last.is_some_and(|last| seq <= last) {
                return Ok(());
            }
            self.last = Some(seq);
        }
        self.sender.blocking_send(event).map_err(|_| Gone)
    }
}
