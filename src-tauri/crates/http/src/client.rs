//! The other end of the owner's socket: the same calls, made from another process.

use crate::socket;
use crate::sse::{Message, Parser};
use app::calls::{Call, Method};
use axum::body::Bytes;
use axum::http::{Request, StatusCode, header};
use domain::{ApiError, ErrorCode, Event, WriteEvent, WriteRequest, WriteResult};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use serde_json::{Map, Value};
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Talks to the process that owns a data folder; each request has a connection of its own.
#[derive(Debug, Clone)]
pub struct Client {
    path: PathBuf,
}

impl Client {
    pub fn new(socket: &Path) -> Self {
        Self { path: socket.to_owned() }
    }

    /// Reaches the owner. Until the stream is dropped, an owner that would end by itself waits for us.
    ///
    /// # Errors
    /// `Busy` when it does not answer within two seconds.
    pub async fn join(&self) -> Result<EventStream, ApiError> {
        let answer = tokio::time::timeout(Duration::from_secs(2), self.events(None)).await;
        answer.map_err(|_| self.silent("no answer within two seconds"))?
    }

    /// Runs a call in the owner.
    ///
    /// # Errors
    /// What the call itself returns, and `Busy` when the owner is gone.
    pub async fn call<C: Call>(&self, input: C::Input) -> Result<C::Output, ApiError> {
        let target = Target::of(C::METHOD, C::PATH, &input)?;
        let response = self.send(C::METHOD.name(), &target.path, target.body).await?;
        let bytes = response.into_body().collect().await.map_err(|error| self.silent(error))?.to_bytes();
        serde_json::from_slice(&bytes).map_err(ApiError::internal)
    }

    /// Writes in the owner and passes on what it streams; the last event is the result.
    ///
    /// # Errors
    /// What writing itself returns, and `Busy` when the owner goes away in between.
    pub async fn write_streaming(&self, request: &WriteRequest, on_event: &mut dyn FnMut(WriteEvent)) -> Result<WriteResult, ApiError> {
        let body = serde_json::to_vec(request).map_err(ApiError::internal)?;
        let mut stream = Messages::of(self.send("POST", "/api/v1/write/stream", Some(body)).await?.into_body());
        while let Some(message) = stream.next().await.map_err(|error| self.silent(error))? {
            if message.event == "error" {
                return Err(serde_json::from_str(&message.data).map_err(ApiError::internal)?);
            }
            let event: WriteEvent = serde_json::from_str(&message.data).map_err(ApiError::internal)?;
            let result = if let WriteEvent::Chosen { result } = &event { Some(result.clone()) } else { None };
            on_event(event);
            if let Some(result) = result {
                return Ok(*result);
            }
        }
        Err(self.silent("the stream ended before the vote"))
    }

    /// Follows changes from now on, or from after a sequence number. The stream is open when this returns.
    ///
    /// # Errors
    /// `Busy` when the owner does not answer.
    pub async fn events(&self, after: Option<u32>) -> Result<EventStream, ApiError> {
        let path = after.map_or_else(|| "/api/v1/events".to_owned(), |seq| format!("/api/v1/events?after={seq}"));
        Ok(EventStream { messages: Messages::of(self.send("GET", &path, None).await?.into_body()), client: self.clone() })
    }

    /// Sends a request and returns a successful response, or the error that the owner answered with.
    async fn send(&self, method: &str, path: &str, body: Option<Vec<u8>>) -> Result<axum::http::Response<Incoming>, ApiError> {
        let stream = socket::connect(&self.path).await.map_err(|error| self.silent(error))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| self.silent(error))?;
        tokio::spawn(connection);
        let mut request = Request::builder().method(method).uri(path).header(header::HOST, "inkling");
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let request = request.body(Full::new(Bytes::from(body.unwrap_or_default()))).map_err(ApiError::internal)?;
        let response = sender.send_request(request).await.map_err(|error| self.silent(error))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let bytes = response.into_body().collect().await.map_err(|error| self.silent(error))?.to_bytes();
        Err(serde_json::from_slice(&bytes).unwrap_or_else(|_| strange(status)))
    }

    fn silent(&self, why: impl std::fmt::Display) -> ApiError {
        ApiError::new(ErrorCode::Busy, format!("The Inkling that holds the data folder does not answer ({why})."))
            .hint(format!("Close it, or end its process, and try again. Its socket is {}.", self.path.display()))
    }
}

/// Changes as the owner announces them.
pub struct EventStream {
    messages: Messages,
    client: Client,
}

impl EventStream {
    /// The next change; `None` when the owner ended the stream.
    ///
    /// # Errors
    /// `Busy` when the owner is gone.
    pub async fn next(&mut self) -> Result<Option<Event>, ApiError> {
        match self.messages.next().await.map_err(|error| self.client.silent(error))? {
            Some(message) => serde_json::from_str(&message.data).map(Some).map_err(ApiError::internal),
            None => Ok(None),
        }
    }
}

struct Messages {
    body: Incoming,
    parser: Parser,
    ready: VecDeque<Message>,
}

impl Messages {
    fn of(body: Incoming) -> Self {
        Self { body, parser: Parser::default(), ready: VecDeque::new() }
    }

    async fn next(&mut self) -> Result<Option<Message>, hyper::Error> {
        loop {
            if let Some(message) = self.ready.pop_front() {
                return Ok(Some(message));
            }
            match self.body.frame().await {
                Some(frame) => {
                    if let Ok(bytes) = frame?.into_data() {
                        self.ready.extend(self.parser.feed(&bytes));
                    }
                }
                None => return Ok(None),
            }
        }
    }
}

/// Where a call goes: its input's fields fill the path first, the rest is the query or the body.
struct Target {
    path: String,
    body: Option<Vec<u8>>,
}

impl Target {
    fn of(method: Method, pattern: &str, input: &impl Serialize) -> Result<Self, ApiError> {
        let Value::Object(mut fields) = serde_json::to_value(input).map_err(ApiError::internal)? else {
            return Err(ApiError::internal("a call's input is not an object"));
        };
        let parts = pattern.split('/').map(|part| match part.strip_prefix('{').and_then(|part| part.strip_suffix('}')) {
            Some(name) => encode(&fields.remove(name).unwrap_or_default()),
            None => part.to_owned(),
        });
        let path = parts.collect::<Vec<_>>().join("/");
        Ok(match method {
            Method::Get | Method::Delete => Self { path: with_query(path, &fields), body: None },
            Method::Post | Method::Put => Self { path, body: Some(serde_json::to_vec(&fields).map_err(ApiError::internal)?) },
        })
    }
}

fn with_query(path: String, fields: &Map<String, Value>) -> String {
    let pairs: Vec<_> =
        fields.iter().filter(|(_, value)| !value.is_null()).map(|(name, value)| format!("{name}={}", encode(value))).collect();
    if pairs.is_empty() { path } else { format!("{path}?{}", pairs.join("&")) }
}

fn encode(value: &Value) -> String {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    utf8_percent_encode(&text, NON_ALPHANUMERIC).to_string()
}

fn strange(status: StatusCode) -> ApiError {
    ApiError::new(ErrorCode::Internal, format!("The Inkling that holds the data folder answered {status}."))
        .hint("It may be another version; close it and try again.")
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::{AdapterActivation, MetricsQuery};

    #[test]
    fn inputs_become_paths_queries_and_bodies() {
        let query = MetricsQuery { run_id: "run_a/b".into(), after: Some(3) };
        let target = Target::of(Method::Get, "/api/v1/runs/{run_id}/metrics", &query).unwrap();
        assert_eq!(target.path, "/api/v1/runs/run%5Fa%2Fb/metrics?after=3", "an id cannot leave its part of the path");
        let input = AdapterActivation { adapter_id: "ad_1".into(), strength: Some(0.5) };
        let target = Target::of(Method::Post, "/api/v1/adapters/{adapter_id}/activate", &input).unwrap();
        assert_eq!(
            (target.path.as_str(), target.body.as_deref()),
            ("/api/v1/adapters/ad%5F1/activate", Some(br#"{"strength":0.5}"# as &[u8]))
        );
    }
}
