//! An open app behind the network guard, and short ways to ask it.

use ::http::{AllowedHosts, Guard, Token, router};
use app::{App, OpenOptions, Opened};
use axum::body::{Body, to_bytes};
use axum::http::request::Builder;
use axum::http::{HeaderMap, Request, StatusCode, header};
use axum::{Router, response::Response};
use domain::{ApiError, ErrorCode, WriteResult};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::Arc;
use tempfile::TempDir;
use tower::ServiceExt;

/// The Host that the guard of these tests expects.
pub const HOST: &str = "127.0.0.1:9009";

pub struct House {
    pub app: Arc<App>,
    pub token: Token,
    pub router: Router,
    _folder: TempDir,
}

pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub bytes: Vec<u8>,
}

impl House {
    pub fn open() -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        let options = OpenOptions { data_dir: Some(folder.path().to_owned()), assets_dir: Some(assets()), ..OpenOptions::default() };
        let Opened::Owner(app) = App::open(options).expect("an empty folder opens") else { panic!("nobody else holds a fresh folder") };
        let token = Token::fresh().expect("random numbers");
        let hosts = AllowedHosts::of(HOST.parse().expect("an address"));
        let router = router(app.clone(), Guard::Network { token: token.clone(), hosts });
        Self { app, token, router, _folder: folder }
    }

    /// A request that passes the guard.
    pub fn request(&self, method: &str, path: &str) -> Builder {
        Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, HOST)
            .header(header::AUTHORIZATION, format!("Bearer {}", self.token.as_str()))
    }

    pub async fn respond(&self, request: Request<Body>) -> Response {
        self.router.clone().oneshot(request).await.expect("the router always answers")
    }

    pub async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.respond(request).await;
        let (status, headers) = (response.status(), response.headers().clone());
        let bytes = to_bytes(response.into_body(), usize::MAX).await.expect("a whole body").to_vec();
        Answer { status, headers, bytes }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(self.request("GET", path).body(Body::empty()).expect("a request")).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.send(self.request("DELETE", path).body(Body::empty()).expect("a request")).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.send(self.json("POST", path, &body)).await
    }

    pub async fn put(&self, path: &str, body: Value) -> Answer {
        self.send(self.json("PUT", path, &body)).await
    }

    pub fn json(&self, method: &str, path: &str, body: &Value) -> Request<Body> {
        let request = self.request(method, path).header(header::CONTENT_TYPE, "application/json");
        request.body(Body::from(body.to_string())).expect("a request")
    }

    /// A short text, written and stored.
    pub async fn write(&self, seed: u32) -> WriteResult {
        self.post("/api/v1/write", short_request(seed)).await.as_json()
    }
}

impl Drop for House {
    fn drop(&mut self) {
        self.app.shutdown();
    }
}

impl Answer {
    /// The body of a success.
    pub fn as_json<T: DeserializeOwned>(&self) -> T {
        assert!(self.status.is_success(), "{}: {}", self.status, String::from_utf8_lossy(&self.bytes));
        serde_json::from_slice(&self.bytes).expect("JSON of the promised shape")
    }

    /// The error of a refusal, which must be JSON and agree with its status.
    pub fn error(&self) -> ApiError {
        let text = String::from_utf8_lossy(&self.bytes);
        assert!(!self.status.is_success(), "{}: {text}", self.status);
        let error: ApiError =
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("{} is no ApiError ({error}): {text}", self.status));
        let wrong_method = self.status == StatusCode::METHOD_NOT_ALLOWED && error.code == ErrorCode::NotFound;
        assert!(wrong_method || self.status.as_u16() == error.code.status(), "{} for {:?}", self.status, error.code);
        error
    }
}

pub fn short_request(seed: u32) -> Value {
    json!({ "prompt": "A young wizard finds a book", "genres": { "fantasy": 70, "mystery": 30 }, "n": 2, "max_tokens": 12, "seed": seed })
}

pub fn assets() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../assets"))
}
