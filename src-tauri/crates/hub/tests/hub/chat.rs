//! A writing server that speaks OpenAI's chat API, on loopback.

use crate::fake::quick;
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use domain::FinishReason;
use hub::{ChatRequest, ChatServer, HubError};
use serde_json::{Value, json};
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

#[derive(Clone, Copy, PartialEq)]
enum Manner {
    Streams,
    Whole,
    Slow,
    Status(u16),
    Redirects,
    Nonsense,
    Fails,
    Endless,
}

struct Writer {
    address: String,
    seen: Arc<Mutex<Vec<(String, Option<String>, Value)>>>,
    _runtime: Runtime,
}

impl Writer {
    fn start(manner: Manner) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().fallback(answer).with_state((manner, seen.clone()));
        runtime.spawn(async move { axum::serve(listener, router).await });
        Self { address, seen, _runtime: runtime }
    }

    fn server(&self) -> ChatServer {
        ChatServer::new(&self.address, "writer-1", Some("sk-canary")).unwrap().with_pace(quick())
    }
}

type Shared = (Manner, Arc<Mutex<Vec<(String, Option<String>, Value)>>>);

async fn answer(State((manner, seen)): State<Shared>, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    let key = request.headers().get("authorization").map(|value| value.to_str().unwrap().to_owned());
    let body = axum::body::to_bytes(request.into_body(), 1 << 20).await.unwrap();
    seen.lock().unwrap().push((path, key, serde_json::from_slice(&body).unwrap_or_default()));
    let event = |text: &str| format!("data: {}\n\n", json!({ "choices": [{ "index": 0, "delta": { "content": text } }] }));
    let end = format!(
        "data: {}\n\ndata: [DONE]\n\n",
        json!({ "choices": [{ "delta": {}, "finish_reason": "stop" }], "usage": { "completion_tokens": 9 } })
    );
    let stream = |parts: Vec<String>, pause: u64| {
        let parts = futures_util::stream::unfold(parts.into_iter(), move |mut left| async move {
            let part = left.next()?;
            tokio::time::sleep(Duration::from_millis(pause)).await;
            Some((Ok::<_, Infallible>(part), left))
        });
        Response::builder().header("content-type", "text/event-stream; charset=utf-8").body(Body::from_stream(parts)).unwrap()
    };
    match manner {
        // An event in two pieces, a comment and a line end of two characters, as real servers send them.
        Manner::Streams => {
            stream(vec![": hello\r\n\r\n".into(), event("Once"), event(" upon")[..20].into(), event(" upon")[20..].into(), end], 1)
        }
        Manner::Whole => {
            axum::Json(json!({ "choices": [{ "message": { "content": "Once upon" }, "finish_reason": "length" }] })).into_response()
        }
        Manner::Slow => stream((0..1000).map(|_| event("word ")).collect(), 20),
        Manner::Status(status) => StatusCode::from_u16(status).unwrap().into_response(),
        Manner::Redirects => (StatusCode::TEMPORARY_REDIRECT, [("location", "http://127.0.0.1:9/steal")]).into_response(),
        Manner::Nonsense => "<html>".into_response(),
        Manner::Fails => stream(vec!["data: {\"error\":{\"message\":\"no such model\"}}\n\n".into()], 0),
        Manner::Endless => stream(vec![event(&"x".repeat(100_000)); 100], 0),
    }
}

fn request() -> ChatRequest {
    ChatRequest { system: "You write.".into(), user: "A fox.".into(), max_tokens: 50, temperature: 0.8, top_p: 0.9, seed: u64::MAX }
}

fn ask(manner: Manner) -> (Result<hub::ChatText, HubError>, Writer) {
    let writer = Writer::start(manner);
    let answer = writer.server().complete(&request(), &AtomicBool::new(false), &mut |_| {});
    (answer, writer)
}

#[test]
fn a_text_is_streamed_and_put_together() {
    let writer = Writer::start(Manner::Streams);
    let mut pieces = Vec::new();
    let text = writer.server().complete(&request(), &AtomicBool::new(false), &mut |piece| pieces.push(piece.to_owned())).unwrap();
    assert_eq!((text.text.as_str(), text.finish, text.tokens), ("Once upon", FinishReason::End, 9));
    assert_eq!(pieces, ["Once", " upon"]);
    let (path, key, body) = writer.seen.lock().unwrap()[0].clone();
    assert_eq!((path.as_str(), key.as_deref()), ("/v1/chat/completions", Some("Bearer sk-canary")));
    assert_eq!(body["messages"][1]["content"], "A fox.");
    assert_eq!((&body["model"], &body["max_tokens"], &body["stream"]), (&json!("writer-1"), &json!(50), &json!(true)));
    assert!(body["seed"].as_u64().unwrap() < 1 << 31);
    assert!(!format!("{:?}", writer.server()).contains("canary"), "the key stays out of what is printed");
}

#[test]
fn an_address_may_end_with_the_version_or_not() {
    let writer = Writer::start(Manner::Whole);
    for address in [format!("{}/v1", writer.address), format!("{}/", writer.address), format!("{}/api/v1/", writer.address)] {
        let server = ChatServer::new(&address, "m", None).unwrap().with_pace(quick());
        let text = server.complete(&request(), &AtomicBool::new(false), &mut |_| {}).unwrap();
        assert_eq!((text.text.as_str(), text.finish), ("Once upon", FinishReason::Length));
    }
    let seen = writer.seen.lock().unwrap();
    let paths: Vec<_> = seen.iter().map(|(path, ..)| path.as_str()).collect();
    assert_eq!(paths, ["/v1/chat/completions", "/v1/chat/completions", "/api/v1/chat/completions"]);
    assert!(seen.iter().all(|(_, key, _)| key.is_none()), "no key, no header");
}

#[test]
fn a_text_that_is_stopped_is_kept_as_far_as_it_came() {
    let writer = Writer::start(Manner::Slow);
    let stop = AtomicBool::new(false);
    let mut stopped = None;
    let text = writer.server().complete(&request(), &stop, &mut |_| {
        stop.store(true, Ordering::Relaxed);
        stopped.get_or_insert_with(Instant::now);
    });
    let text = text.unwrap();
    assert_eq!(text.finish, FinishReason::Cancelled);
    assert!(text.text.starts_with("word"));
    assert!(stopped.unwrap().elapsed() < Duration::from_millis(250), "{:?}", stopped.unwrap().elapsed());
}

#[test]
fn what_a_server_does_wrong_is_told_apart() {
    assert!(matches!(ask(Manner::Status(401)).0, Err(HubError::Unauthorized { .. })));
    assert!(matches!(ask(Manner::Status(404)).0, Err(HubError::NotFound { .. })));
    assert!(matches!(ask(Manner::Status(429)).0, Err(HubError::TooManyRequests { .. })));
    assert!(matches!(ask(Manner::Status(500)).0, Err(HubError::ServerFault { .. })));
    assert!(matches!(ask(Manner::Nonsense).0, Err(HubError::Unreadable { .. })));
    assert!(matches!(ask(Manner::Endless).0, Err(HubError::Unreadable { .. })));
    let (failed, _) = ask(Manner::Fails);
    assert!(failed.unwrap_err().to_string().contains("no such model"));
    let (redirected, writer) = ask(Manner::Redirects);
    assert!(matches!(redirected, Err(HubError::UnsafeRedirect { .. })));
    assert_eq!(writer.seen.lock().unwrap().len(), 1, "a text is not sent anywhere else");
    let nobody = ChatServer::new("http://127.0.0.1:9", "m", None).unwrap().with_pace(quick());
    assert!(matches!(nobody.complete(&request(), &AtomicBool::new(false), &mut |_| {}), Err(HubError::Unreachable { .. })));
}

#[test]
fn an_address_says_whether_it_is_inside_the_network() {
    let inside = |address: &str| ChatServer::new(address, "m", None).unwrap().is_inside();
    for address in ["http://localhost:8080", "http://127.0.0.1", "http://192.168.1.5:11434", "http://[::1]:80", "http://nas.local"] {
        assert!(inside(address), "{address}");
    }
    for address in ["https://api.example.com/v1", "http://8.8.8.8"] {
        assert!(!inside(address), "{address}");
    }
}
