//! All routes, and the order of the checks around them.

use crate::guard::{self, Guard};
use crate::refusal::{Refusal, json};
use crate::surface::{InFlight, Surface};
use crate::{admin, answer, auto_training, charts, events, kept, openapi, ui, writing};
use app::App;
use app::calls::Call;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::Response;
use axum::routing::{MethodRouter, delete, get, post};
use domain::{ApiError, Done, ErrorCode};
use std::sync::Arc;

/// The whole surface behind a guard.
pub fn router(app: Arc<App>, guard: Guard) -> Router {
    build(app, guard, InFlight::default())
}

/// A route as the tests and `/openapi.json` see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteInfo {
    pub method: &'static str,
    /// Braces hold path parameters.
    pub path: &'static str,
    pub summary: String,
    /// Type of the body, by name.
    pub input: &'static str,
    /// What a success answers, by name.
    pub output: &'static str,
    /// Status of a success.
    pub status: u16,
    /// Whether it asks for the token.
    pub token: bool,
}

/// Every route there is: the table of calls, then what only HTTP has.
pub fn routes() -> Vec<RouteInfo> {
    macro_rules! describe {
        ($($name:ident $method_name:ident $method:ident $path:literal $input:ty => $output:ty, $status:literal;)*) => {
            vec![$(RouteInfo {
                method: <app::calls::call::$name as Call>::METHOD.name(),
                path: $path,
                summary: in_words(stringify!($method_name)),
                input: stringify!($input),
                output: stringify!($output),
                status: $status,
                token: true,
            }),*]
        };
    }
    let mut all = app::for_each_call!(describe);
    all.extend(http_only().into_iter().map(|(info, _)| info));
    all
}

pub(crate) fn build(app: Arc<App>, guard: Guard, in_flight: InFlight) -> Router {
    let surface = Arc::new(Surface::new(app, guard, in_flight));
    let mut protected = answer::add_all(Router::new());
    let mut open = Router::new();
    for (info, handler) in http_only() {
        if info.token {
            protected = protected.route(info.path, handler);
        } else {
            open = open.route(info.path, handler);
        }
    }
    protected
        .route_layer(from_fn_with_state(surface.clone(), guard::check_caller))
        .merge(open)
        .fallback(page_or_nothing)
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn_with_state(surface.clone(), guard::check_site))
        .layer(from_fn(guard::add_headers))
        .with_state(surface)
}

/// Streams, files and the kept endpoints: what the table of calls cannot say.
fn http_only() -> Vec<(RouteInfo, MethodRouter<Arc<Surface>>)> {
    let route = |method, path, summary: &str, input, output, status| RouteInfo {
        method,
        path,
        summary: summary.to_owned(),
        input,
        output,
        status,
        token: true,
    };
    let admin_runs = "/api/v1/admin/training/runs";
    vec![
        (
            route("POST", "/api/v1/write/stream", "Write, as server-sent events", "WriteRequest", "WriteEvent", 200),
            post(writing::write_stream),
        ),
        (route("GET", "/api/v1/events", "Changes, as server-sent events", "", "Event", 200), get(events::events)),
        (route("GET", "/api/v1/runs/{run_id}/loss.svg", "A run's chart", "", "image/svg+xml", 200), get(charts::svg)),
        (route("GET", "/api/v1/runs/{run_id}/loss.png", "A run's chart", "", "image/png", 200), get(charts::png)),
        (route("GET", admin_runs, "Trainings, newest first", "", "TrainingRow[]", 200), get(admin::runs)),
        (route("DELETE", admin_runs, "Remove old trainings", "", "Pruned", 200), delete(admin::prune)),
        (route("DELETE", "/api/v1/admin/training/runs/{id}", "Remove a training", "", "nothing", 204), delete(admin::delete_run)),
        (route("POST", "/api/v1/admin/training/trigger", "Start a training", "Trigger", "TrainingRow", 202), post(admin::trigger)),
        (route("POST", "/feedback", "Rate a text in words", "RunFeedback", "Done", 200), post(kept::feedback)),
        (
            route("POST", "/training/preference/train", "Learn taste anew", "TasteTraining", "TasteTrained", 200),
            post(kept::train_preference),
        ),
        (
            route("POST", "/training/preference/score", "How likely the person likes a text", "TasteQuestion", "TasteScore", 200),
            post(kept::score_preference),
        ),
        (route("POST", "/training/export", "Training data as JSON lines", "TrainingExport", "TrainingExported", 200), post(kept::export)),
        (
            route("POST", "/auto-train", "Write examples and wait for them", "AutoTrainRequest", "AutoTrainResult", 200),
            post(auto_training::auto_train),
        ),
        (
            route("POST", "/auto-train-stream", "Write examples, as server-sent events", "AutoTrainRequest", "progress", 200),
            post(auto_training::auto_train_stream),
        ),
        (route("GET", "/training/genres", "Genres, prompts and styles", "", "TrainingGenres", 200), get(auto_training::genres)),
        (
            route("GET", "/user/{user_id}/training-stats", "What there is to learn from", "", "TrainingStats", 200),
            get(auto_training::stats),
        ),
        (
            route("POST", "/user/{user_id}/trigger-finetuning", "Train the personal adapter", "", "TrainQueued", 202),
            post(auto_training::trigger),
        ),
        (route("GET", "/openapi.json", "This document", "", "OpenAPI 3.1", 200), get(openapi::document)),
        (RouteInfo { token: false, ..route("GET", "/healthz", "Whether it answers", "", "Done", 200) }, get(healthy)),
    ]
}

async fn healthy() -> Response {
    json(StatusCode::OK, &Done::OK)
}

/// A page of the UI; anything else does not exist, which only those with the token are told.
async fn page_or_nothing(State(surface): State<Arc<Surface>>, request: Request) -> Result<Response, Refusal> {
    let path = request.uri().path();
    if matches!(*request.method(), Method::GET | Method::HEAD)
        && let Some(page) = ui::page(path, request.headers())
    {
        return Ok(page);
    }
    guard::check_token(&surface.guard, request.headers())?;
    Err(ApiError::new(ErrorCode::NotFound, format!("There is nothing at {path}.")).hint("/openapi.json lists what there is.").into())
}

async fn wrong_method(request: Request) -> Refusal {
    let error = ApiError::new(ErrorCode::NotFound, format!("{} cannot be used with {}.", request.uri().path(), request.method()));
    Refusal::with_status(StatusCode::METHOD_NOT_ALLOWED, error)
}

/// `pause_job` is "Pause job".
fn in_words(name: &str) -> String {
    let words = name.replace('_', " ");
    words.get(..1).map(|first| first.to_uppercase() + &words[1..]).unwrap_or_default()
}
