//! The browser's UI, embedded at build time. Its files hold no secrets, so they need no token.

use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};

mod files {
    include!(concat!(env!("OUT_DIR"), "/ui_files.rs"));
}
use files::FILES;

/// The answer to a GET that is about the UI: a file, or the page itself for any address that a browser shows.
pub(crate) fn page(path: &str, headers: &HeaderMap) -> Option<Response> {
    if let Some(response) = file(path) {
        return Some(response);
    }
    let api = ["/api/", "/v1/"].iter().any(|prefix| path.starts_with(prefix));
    let browser = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).is_some_and(|accept| accept.contains("text/html"));
    let shown = path == "/" || (browser && !api);
    shown.then(|| file("/index.html").unwrap_or_else(not_built))
}

fn file(path: &str) -> Option<Response> {
    let (name, bytes) = FILES.iter().find(|(name, _)| *name == path)?;
    // Vite names assets by their content, so they never change; the page that names them does.
    let cache = if name.starts_with("/assets/") { "public, max-age=31536000, immutable" } else { "no-cache" };
    Some(([(header::CONTENT_TYPE, media_type(name)), (header::CACHE_CONTROL, cache)], *bytes).into_response())
}

fn media_type(name: &str) -> &'static str {
    match name.rsplit('.').next().unwrap_or_default() {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "ico" => "image/x-icon",
        "woff2" => "font/woff2",
        "json" | "map" => "application/json",
        "txt" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

fn not_built() -> Response {
    let page = "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Inkling</title>\
        <p>Inkling answers here, but this build carries no pages yet.</p>\
        <p>Build them with <code>npm --prefix ui ci &amp;&amp; npm --prefix ui run build</code>, then build <code>inkling</code> again.</p>\
        <p>The API and the command line work without them.</p></html>";
    (StatusCode::SERVICE_UNAVAILABLE, [(header::CONTENT_TYPE, "text/html; charset=utf-8")], page).into_response()
}
