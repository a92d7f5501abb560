//! A server that speaks OpenAI's chat API, as llama.cpp, Ollama, vLLM and many others do: one text for one request, streamed.

use crate::settings::{host_of, is_inside, server_address};
use crate::transport::{Transport, checked_status};
use crate::{HubError, Pace};
use domain::FinishReason;
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use reqwest::{Method, Response};
use serde_json::{Value, json};
use std::fmt;
use std::sync::atomic::AtomicBool;
use url::Url;

/// The longest answer that is read, in bytes, and the longest part of it that counts as one event.
const MOST_BYTES: usize = 4 << 20;

/// A server that the person entered.
#[derive(Clone)]
pub struct ChatServer {
    url: Url,
    model: String,
    key: Option<String>,
    pace: Pace,
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct ChatRequest {
    /// What the writer is, and how it should write.
    pub system: String,
    /// What to write.
    pub user: String,
    pub max_tokens: u32,
    pub temperature: f64,
    pub top_p: f64,
    pub seed: u64,
}

/// What came back.
#[derive(Debug, Clone, PartialEq)]
pub struct ChatText {
    pub text: String,
    pub finish: FinishReason,
    /// As the server counts, else the number of pieces that came.
    pub tokens: u32,
}

impl ChatServer {
    /// # Errors
    /// `InvalidAddress`.
    pub fn new(address: &str, model: &str, key: Option<&str>) -> Result<Self, HubError> {
        let url = server_address(address)?;
        let key = key.map(str::trim).filter(|key| !key.is_empty()).map(str::to_owned);
        Ok(Self { url, model: model.trim().to_owned(), key, pace: Pace::default() })
    }

    /// The same server with other waiting times, such as a test's.
    pub fn with_pace(mut self, pace: Pace) -> Self {
        self.pace = pace;
        self
    }

    /// The host, and the port when it is an unusual one.
    pub fn host(&self) -> String {
        host_of(&self.url)
    }

    pub fn model(&self) -> &str {
        &self.model
    }

    /// Whether what is sent stays in this person's own network, as far as the address says.
    pub fn is_inside(&self) -> bool {
        is_inside(&self.url)
    }

    /// Asks for one text and tells each piece of it as it comes. A text that is stopped by `cancel` is returned as far as it came.
    ///
    /// # Errors
    /// `Unreachable`, `Silent`, `Unauthorized`, `NotFound`, `TooManyRequests`, `ServerFault`, `Unreadable`. There are no second
    /// tries: the person waits.
    pub fn complete(&self, request: &ChatRequest, cancel: &AtomicBool, on_text: &mut dyn FnMut(&str)) -> Result<ChatText, HubError> {
        let transport = Transport::to(&self.url, self.key.as_deref(), &self.pace)?;
        transport.block_on(self.converse(&transport, request, cancel, on_text))
    }

    async fn converse(
        &self,
        transport: &Transport,
        request: &ChatRequest,
        cancel: &AtomicBool,
        on_text: &mut dyn FnMut(&str),
    ) -> Result<ChatText, HubError> {
        let body = json!({
            "model": self.model,
            "messages": [{ "role": "system", "content": request.system }, { "role": "user", "content": request.user }],
            "max_tokens": request.max_tokens,
            "temperature": request.temperature,
            "top_p": request.top_p,
            // Some servers take 32 bits only.
            "seed": request.seed & 0x7fff_ffff,
            "stream": true,
        });
        let mut asked = transport.request(Method::POST, self.completions()?);
        asked.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        *asked.body_mut() = Some(body.to_string().into());
        let mut reader = Reader { text: String::new(), pieces: 0, counted: None, finish: None, on_text };
        match self.read(transport, asked, cancel, &mut reader).await {
            Ok(()) => {}
            Err(HubError::Cancelled) => reader.finish = Some(FinishReason::Cancelled),
            Err(error) => return Err(error),
        }
        let Reader { text, pieces, counted, finish, .. } = reader;
        Ok(ChatText { text, finish: finish.unwrap_or(FinishReason::Length), tokens: counted.unwrap_or(pieces) })
    }

    async fn read(
        &self,
        transport: &Transport,
        asked: reqwest::Request,
        cancel: &AtomicBool,
        reader: &mut Reader<'_>,
    ) -> Result<(), HubError> {
        let host = self.host();
        let mut response = transport.send_once(asked, cancel).await?;
        if response.status().is_redirection() {
            let reason = "and a person's text goes only where they said";
            return Err(HubError::UnsafeRedirect { host, target: "another address".into(), reason });
        }
        checked_status(&response, &host, &format!("model named {}", self.model))?;
        let streamed =
            response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).is_some_and(|kind| kind.contains("event-stream"));
        let unreadable = |reason: &str| HubError::Unreadable { host: host.clone(), reason: reason.to_owned() };
        if !streamed {
            let body = whole(transport, &mut response, &host, cancel).await?;
            let answer: Value = serde_json::from_slice(&body).map_err(|_| unreadable("its answer is not JSON"))?;
            return if reader.take(&answer) { Ok(()) } else { Err(unreadable("its answer holds no text")) };
        }
        let (mut pending, mut read) = (Vec::new(), 0);
        while let Some(piece) = transport.piece(&mut response, &host, cancel).await? {
            read += piece.len();
            pending.extend_from_slice(&piece);
            if read > MOST_BYTES {
                return Err(unreadable("its answer does not end"));
            }
            while let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = pending.drain(..=end).collect();
                let line = String::from_utf8_lossy(&line);
                let Some(data) = line.trim().strip_prefix("data:") else { continue };
                if data.trim() == "[DONE]" {
                    return Ok(());
                }
                let event: Value = serde_json::from_str(data).map_err(|_| unreadable("a part of its answer is not JSON"))?;
                if let Some(error) = event.get("error") {
                    let said = error.get("message").and_then(Value::as_str).unwrap_or("an error");
                    return Err(HubError::Unexpected { host, status: 200, detail: Some(said.chars().take(200).collect()) });
                }
                reader.take(&event);
            }
        }
        Ok(())
    }

    /// `…/v1/chat/completions`, whether or not the address that was entered ends with `/v1`.
    fn completions(&self) -> Result<Url, HubError> {
        let mut url = self.url.clone();
        let has_version = url.path().trim_end_matches('/').ends_with("/v1");
        match url.path_segments_mut() {
            Ok(mut path) => {
                path.pop_if_empty().extend(if has_version { &["chat", "completions"][..] } else { &["v1", "chat", "completions"] });
            }
            Err(()) => return Err(HubError::InvalidAddress(self.url.to_string(), "it cannot have a path")),
        }
        Ok(url)
    }
}

/// Without the key.
impl fmt::Debug for ChatServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChatServer").field("url", &self.url.as_str()).field("model", &self.model).finish_non_exhaustive()
    }
}

/// Puts a text together from what the server sends.
struct Reader<'a> {
    text: String,
    pieces: u32,
    counted: Option<u32>,
    finish: Option<FinishReason>,
    on_text: &'a mut dyn FnMut(&str),
}

impl Reader<'_> {
    /// Takes an event or a whole answer; whether it held a choice.
    fn take(&mut self, answer: &Value) -> bool {
        if let Some(count) = answer.pointer("/usage/completion_tokens").and_then(Value::as_u64) {
            self.counted = Some(u32::try_from(count).unwrap_or(u32::MAX));
        }
        let Some(choice) = answer.pointer("/choices/0") else { return false };
        let content = choice.pointer("/delta/content").or_else(|| choice.pointer("/message/content")).and_then(Value::as_str);
        if let Some(piece) = content.filter(|piece| !piece.is_empty()) {
            self.text.push_str(piece);
            self.pieces += 1;
            (self.on_text)(piece);
        }
        match choice.get("finish_reason").and_then(Value::as_str) {
            Some("length") => self.finish = Some(FinishReason::Length),
            Some(_) => self.finish = Some(FinishReason::End),
            None => {}
        }
        true
    }
}

async fn whole(transport: &Transport, response: &mut Response, host: &str, cancel: &AtomicBool) -> Result<Vec<u8>, HubError> {
    let mut body = Vec::new();
    while let Some(piece) = transport.piece(response, host, cancel).await? {
        body.extend_from_slice(&piece);
        if body.len() > MOST_BYTES {
            return Err(HubError::Unreadable { host: host.to_owned(), reason: "its answer does not end".into() });
        }
    }
    Ok(body)
}
