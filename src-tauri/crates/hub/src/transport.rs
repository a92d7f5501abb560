//! Requests that can be cancelled, with redirects looked at one by one.

use crate::settings::{host_of, is_inside};
use crate::{HubError, Pace, Settings};
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue, LOCATION, RETRY_AFTER};
use reqwest::{Client, Method, Request, Response, StatusCode};
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use url::Url;

/// How soon a wish to stop is noticed.
const TICK: Duration = Duration::from_millis(50);

const MOST_REDIRECTS: usize = 5;

/// The longest that one wait between two tries may be, whatever the server asks for.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// A client for one operation, with the runtime that drives it.
pub(crate) struct Transport {
    client: Client,
    runtime: Runtime,
    pub endpoint: Url,
    token: Option<HeaderValue>,
    pub pace: Pace,
}

/// An answer after all redirects.
pub(crate) struct Answer {
    pub response: Response,
    /// Of the endpoint's own first answer, which carries a file's hash even when its bytes lie elsewhere.
    pub announced: HeaderMap,
    pub host: String,
}

impl Transport {
    pub fn open(settings: &Settings, pace: &Pace) -> Result<Self, HubError> {
        Self::to(&settings.endpoint, settings.token.as_deref(), pace)
    }

    /// A client for the server at an address, with the bearer token that it wants.
    pub fn to(endpoint: &Url, token: Option<&str>, pace: &Pace) -> Result<Self, HubError> {
        let failed = |reason: String| HubError::Unreachable { host: host_of(endpoint), reason };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| failed(error.to_string()))?;
        let mut client = Client::builder()
            .user_agent(concat!("inkling/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .connect_timeout(pace.connect)
            .tls_backend_preconfigured(tls().map_err(|error| failed(error.to_string()))?);
        if is_inside(endpoint) {
            client = client.no_proxy();
        }
        let bearer = |token: &str| {
            let mut value = HeaderValue::from_str(&format!("Bearer {token}")).ok()?;
            value.set_sensitive(true);
            Some(value)
        };
        let token = match token.map(|token| bearer(token).ok_or_else(|| failed("the token has characters that no token has".into()))) {
            Some(token) => Some(token?),
            None => None,
        };
        let client = client.build().map_err(|error| failed(error.to_string()))?;
        Ok(Self { client, runtime, endpoint: endpoint.clone(), token, pace: pace.clone() })
    }

    pub fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    /// The endpoint's address followed by path segments.
    pub fn address(&self, segments: &[&str]) -> Result<Url, HubError> {
        let mut url = self.endpoint.clone();
        match url.path_segments_mut() {
            Ok(mut path) => {
                path.pop_if_empty().extend(segments.iter().flat_map(|segment| segment.split('/')));
            }
            Err(()) => return Err(HubError::InvalidAddress(self.endpoint.to_string(), "it cannot have a path")),
        }
        Ok(url)
    }

    pub fn request(&self, method: Method, url: Url) -> Request {
        Request::new(method, url)
    }

    /// Sends a request that has no body and follows redirects that are safe to follow.
    ///
    /// # Errors
    /// What [`checked_status`] says, `UnsafeRedirect`, `Unreachable`, `Silent`, `Cancelled`.
    pub async fn send(&self, request: Request, what: &str, cancel: &AtomicBool) -> Result<Answer, HubError> {
        let (method, headers) = (request.method().clone(), request.headers().clone());
        let mut url = request.url().clone();
        let mut announced = None;
        for _ in 0..=MOST_REDIRECTS {
            let mut hop = Request::new(method.clone(), url.clone());
            *hop.headers_mut() = headers.clone();
            let response = self.send_once(hop, cancel).await?;
            let announced = announced.get_or_insert_with(|| response.headers().clone());
            if response.status().is_redirection() && response.status() != StatusCode::NOT_MODIFIED {
                // Only what the endpoint itself says about a file counts, such as after the repository was renamed.
                if url.origin() == self.endpoint.origin() {
                    announced.extend(response.headers().clone());
                }
                url = self.next(&url, response.headers())?;
                continue;
            }
            let host = host_of(&url);
            checked_status(&response, &host, what)?;
            if url.origin() == self.endpoint.origin() {
                *announced = response.headers().clone();
            }
            return Ok(Answer { announced: announced.clone(), response, host });
        }
        Err(self.refused(&url, "which sends on and on"))
    }

    /// Sends one request as it is; the token goes along when it is for the endpoint's own origin.
    pub async fn send_once(&self, mut request: Request, cancel: &AtomicBool) -> Result<Response, HubError> {
        if let Some(token) = self.token.as_ref().filter(|_| request.url().origin() == self.endpoint.origin()) {
            request.headers_mut().insert(AUTHORIZATION, token.clone());
        }
        let host = host_of(request.url());
        self.until(&host, cancel, self.client.execute(request)).await
    }

    /// The next piece of a body; `None` at its end.
    pub async fn piece(&self, response: &mut Response, host: &str, cancel: &AtomicBool) -> Result<Option<Vec<u8>>, HubError> {
        Ok(self.until(host, cancel, response.chunk()).await?.map(|bytes| bytes.to_vec()))
    }

    /// A whole body of at most `cap` bytes.
    pub async fn body(&self, answer: &mut Answer, cap: usize, cancel: &AtomicBool) -> Result<Vec<u8>, HubError> {
        let mut body = Vec::new();
        while let Some(piece) = self.piece(&mut answer.response, &answer.host, cancel).await? {
            body.extend_from_slice(&piece);
            if body.len() > cap {
                return Err(HubError::Unreadable { host: answer.host.clone(), reason: format!("it is longer than {cap} bytes") });
            }
        }
        Ok(body)
    }

    /// Waits before the next try, longer each time; `attempt` counts from 1.
    ///
    /// # Errors
    /// The error itself when it is not worth another try; `Cancelled`.
    pub async fn wait_after(&self, error: HubError, attempt: u32, cancel: &AtomicBool) -> Result<(), HubError> {
        if !error.is_transient() || attempt > self.pace.retries {
            return Err(error);
        }
        let mut wait = self.pace.backoff.saturating_mul(1 << (attempt - 1).min(16));
        if let HubError::TooManyRequests { retry_after_s: Some(seconds), .. } = &error {
            wait = wait.max(Duration::from_secs(*seconds));
        }
        tracing::info!(%error, attempt, "trying again");
        let until = Instant::now() + wait.min(LONGEST_WAIT);
        while Instant::now() < until {
            stop_if(cancel)?;
            tokio::time::sleep(TICK.min(until.saturating_duration_since(Instant::now()))).await;
        }
        stop_if(cancel)
    }

    async fn until<T>(&self, host: &str, cancel: &AtomicBool, work: impl Future<Output = reqwest::Result<T>>) -> Result<T, HubError> {
        let mut work = pin!(work);
        let deadline = Instant::now() + self.pace.silence;
        loop {
            stop_if(cancel)?;
            tokio::select! {
                biased;
                done = &mut work => return done.map_err(|error| HubError::Unreachable { host: host.to_owned(), reason: reason(&error) }),
                () = tokio::time::sleep(TICK) => {
                    if Instant::now() > deadline {
                        return Err(HubError::Silent { host: host.to_owned(), seconds: self.pace.silence.as_secs() });
                    }
                }
            }
        }
    }

    fn next(&self, from: &Url, headers: &HeaderMap) -> Result<Url, HubError> {
        let location = headers.get(LOCATION).and_then(|value| value.to_str().ok());
        let Some(next) = location.and_then(|location| from.join(location).ok()) else {
            return Err(HubError::Unreadable { host: host_of(from), reason: "it sends on without saying where to".into() });
        };
        if !matches!(next.scheme(), "http" | "https") {
            return Err(self.refused(&next, "which is not a web address"));
        }
        if from.scheme() == "https" && next.scheme() == "http" {
            return Err(self.refused(&next, "where the connection would not be encrypted"));
        }
        if !next.username().is_empty() || next.password().is_some() {
            return Err(self.refused(&next, "which carries a name or a password"));
        }
        if is_inside(&next) && !is_inside(&self.endpoint) {
            return Err(self.refused(&next, "which is inside your own network"));
        }
        Ok(next)
    }

    fn refused(&self, target: &Url, reason: &'static str) -> HubError {
        let shown = format!("{}://{}", target.scheme(), host_of(target));
        HubError::UnsafeRedirect { host: host_of(&self.endpoint), target: shown, reason }
    }
}

/// Statuses in words; 2xx, and 416 for the caller who sent a range, pass.
pub(crate) fn checked_status(response: &Response, host: &str, what: &str) -> Result<(), HubError> {
    let (host, what, status) = (host.to_owned(), what.to_owned(), response.status().as_u16());
    let seconds = || response.headers().get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok();
    match status {
        200..300 | 416 => Ok(()),
        401 => Err(HubError::Unauthorized { host, what }),
        403 => Err(HubError::Gated { host, what }),
        404 | 410 => Err(HubError::NotFound { host, what }),
        429 => Err(HubError::TooManyRequests { host, retry_after_s: seconds() }),
        500..600 => Err(HubError::ServerFault { host, status }),
        _ => Err(HubError::Unexpected { host, status, detail: None }),
    }
}

pub(crate) fn stop_if(cancel: &AtomicBool) -> Result<(), HubError> {
    if cancel.load(Ordering::Relaxed) { Err(HubError::Cancelled) } else { Ok(()) }
}

/// The machine's own certificates; where there are none, encrypted connections fail and plain ones still work.
fn tls() -> Result<rustls::ClientConfig, rustls::Error> {
    use rustls_platform_verifier::BuilderVerifierExt;
    let start = || {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()
    };
    match start()?.with_platform_verifier() {
        Ok(config) => Ok(config.with_no_client_auth()),
        Err(error) => {
            tracing::warn!(%error, "this machine has no certificates to check other machines with");
            Ok(start()?.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth())
        }
    }
}

/// The innermost cause, which says most; addresses with queries stay out of it.
fn reason(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    let text = cause.to_string();
    if text.contains("://") { "the connection failed".to_owned() } else { text.trim_end_matches('.').to_owned() }
}
