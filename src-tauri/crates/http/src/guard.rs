//! Who may ask: the checks that keep web pages and other machines out (TRUST.md, security).
//!
//! A page in the person's browser can send requests to loopback addresses, so each request must name exactly our host
//! (against DNS rebinding), come from no foreign origin, carry the token, and hold nothing but JSON (a form cannot send it).

use crate::body::BODY_CAP;
use crate::refusal::Refusal;
use crate::surface::Surface;
use crate::token::Token;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::Response;
use domain::{ApiError, ErrorCode};
use std::net::SocketAddr;
use std::sync::Arc;

/// How requests prove that they come from this person.
#[derive(Debug, Clone)]
pub enum Guard {
    /// A TCP port: exact hosts, no foreign origin, the token.
    Network { token: Token, hosts: AllowedHosts },
    /// A Unix socket that only this user can open; browsers cannot.
    Socket,
}

/// The values of the Host header that are ours.
#[derive(Debug, Clone)]
pub struct AllowedHosts {
    exact: Vec<String>,
    /// Any numeric address with this port: DNS rebinding needs a name.
    numeric_port: Option<u16>,
}

impl AllowedHosts {
    /// The loopback names of this port, and the address itself when it is another one.
    pub fn of(address: SocketAddr) -> Self {
        let port = address.port();
        let mut exact = vec![format!("127.0.0.1:{port}"), format!("localhost:{port}"), format!("[::1]:{port}")];
        if !address.ip().is_loopback() {
            exact.push(address.to_string());
        }
        Self { exact, numeric_port: address.ip().is_unspecified().then_some(port) }
    }

    fn allow(&self, host: &str) -> bool {
        let numeric = || host.parse::<SocketAddr>().is_ok_and(|address| Some(address.port()) == self.numeric_port);
        self.exact.iter().any(|one| one.eq_ignore_ascii_case(host)) || numeric()
    }
}

/// Refuses a hostile Host or Origin; runs before everything else, for every path.
pub(crate) async fn check_site(State(surface): State<Arc<Surface>>, request: Request, next: Next) -> Result<Response, Refusal> {
    if let Guard::Network { hosts, .. } = &surface.guard {
        check_host(hosts, &request)?;
        check_origin(hosts, request.headers())?;
    }
    Ok(next.run(request).await)
}

/// Asks for the token and for JSON; runs for every route that is not a static file.
pub(crate) async fn check_caller(State(surface): State<Arc<Surface>>, request: Request, next: Next) -> Result<Response, Refusal> {
    check_token(&surface.guard, request.headers())?;
    check_media_type(request.method(), request.headers())?;
    let held = surface.in_flight.clone();
    let response = next.run(request).await;
    drop(held);
    Ok(response)
}

pub(crate) fn check_token(guard: &Guard, headers: &HeaderMap) -> Result<(), ApiError> {
    let Guard::Network { token, .. } = guard else { return Ok(()) };
    let offered = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(|value| value.strip_prefix("Bearer "));
    if offered.is_some_and(|offered| token.matches(offered)) {
        return Ok(());
    }
    Err(ApiError::new(ErrorCode::Unauthorized, "This request carries no valid token.").hint(
        "Open the address that `inkling serve` printed, or send its token as \"Authorization: Bearer …\". It changes at every start.",
    ))
}

/// Adds what tells a browser to trust nothing but us, and to keep nothing.
pub(crate) async fn add_headers(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in SECURITY_HEADERS {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

const SECURITY_HEADERS: &[(&str, &str)] = &[
    (
        "content-security-policy",
        "default-src 'self'; connect-src 'self'; img-src 'self' data:; style-src 'self'; object-src 'none'; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'",
    ),
    ("cross-origin-embedder-policy", "require-corp"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("permissions-policy", "camera=(), geolocation=(), microphone=()"),
    ("referrer-policy", "no-referrer"),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
];

fn check_host(hosts: &AllowedHosts, request: &Request) -> Result<(), ApiError> {
    let mut named = request.headers().get_all(header::HOST).iter();
    let host = named.next().and_then(|host| host.to_str().ok());
    let ours = host.is_some_and(|host| hosts.allow(host)) && named.next().is_none();
    // An absolute request target outranks the header, so it must be ours too.
    if ours && request.uri().authority().is_none_or(|authority| hosts.allow(authority.as_str())) {
        return Ok(());
    }
    Err(ApiError::new(ErrorCode::Forbidden, "This request was meant for another host.")
        .hint("Use the address that `inkling serve` printed."))
}

fn check_origin(hosts: &AllowedHosts, headers: &HeaderMap) -> Result<(), ApiError> {
    let foreign = headers.get_all(header::ORIGIN).iter().any(|origin| {
        let host = origin.to_str().ok().and_then(|origin| origin.strip_prefix("http://"));
        !host.is_some_and(|host| hosts.allow(host))
    });
    if foreign {
        return Err(ApiError::new(ErrorCode::Forbidden, "Another web page may not use Inkling."));
    }
    Ok(())
}

fn check_media_type(method: &Method, headers: &HeaderMap) -> Result<(), ApiError> {
    let length = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if length.is_some_and(|length| length > BODY_CAP) {
        return Err(crate::body::too_large());
    }
    let has_body = length.is_some_and(|length| length > 0) || headers.contains_key(header::TRANSFER_ENCODING);
    let json = match headers.get(header::CONTENT_TYPE) {
        Some(value) => value.to_str().is_ok_and(is_json),
        None => !has_body,
    };
    if json {
        return Ok(());
    }
    Err(ApiError::new(ErrorCode::UnsupportedMediaType, format!("The body of this {method} is not JSON."))
        .hint("Send \"Content-Type: application/json\"."))
}

fn is_json(media_type: &str) -> bool {
    let essence = media_type.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_hosts_are_ours() {
        let hosts = AllowedHosts::of("127.0.0.1:9009".parse().unwrap());
        for ours in ["127.0.0.1:9009", "localhost:9009", "LOCALHOST:9009", "[::1]:9009"] {
            assert!(hosts.allow(ours), "{ours} is this machine");
        }
        for foreign in
            ["127.0.0.1", "127.0.0.1:9010", "localhost.:9009", "evil.test:9009", "192.168.1.5:9009", "127.0.0.1:9009.evil.test", ""]
        {
            assert!(!hosts.allow(foreign), "{foreign} is not");
        }
    }

    #[test]
    fn a_server_on_all_addresses_takes_numbers_but_no_names() {
        let hosts = AllowedHosts::of("0.0.0.0:9009".parse().unwrap());
        assert!(hosts.allow("192.168.1.5:9009"), "a number cannot be rebound");
        assert!(!hosts.allow("192.168.1.5:80") && !hosts.allow("nuc.evil.test:9009"), "another port or a name is not ours");
    }

    #[test]
    fn json_is_recognised_with_and_without_a_charset() {
        assert!(is_json("application/json") && is_json("Application/JSON; charset=utf-8"));
        assert!(!is_json("text/plain") && !is_json("application/jsonp") && !is_json("application/x-www-form-urlencoded"));
    }
}
