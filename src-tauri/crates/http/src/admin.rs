//! The soft-prompt administration of a home-automation service (CONTRACT.md §1): its paths, its camelCase rows, its statuses.

use crate::body::{from_body, from_query};
use crate::refusal::{Refusal, json};
use crate::surface::Surface;
use app::App;
use axum::extract::{Path, RawQuery, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use domain::{ApiError, Limit, Recipe, Run, RunId, RunRef, RunStatus, Timestamp, TrainRequest};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// A run as that service listed it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TrainingRow {
    id: RunId,
    status: &'static str,
    created_at: Timestamp,
    started_at: Option<Timestamp>,
    finished_at: Option<Timestamp>,
    dataset_size: u32,
    base_model: String,
    output_dir: String,
    run_identifier: RunId,
    final_loss: Option<f64>,
    error_message: Option<String>,
    metadata_path: String,
    triggered_by: String,
}

impl From<Run> for TrainingRow {
    fn from(run: Run) -> Self {
        let message = run.error.as_ref().map(|error| error.message.clone());
        // There, only four states were known. What rests but can go on counts as queued, what ended early as failed.
        let (status, error_message) = match run.status {
            RunStatus::Queued | RunStatus::Paused => ("queued", message),
            RunStatus::Running => ("running", message),
            RunStatus::Completed => ("completed", message),
            RunStatus::Failed => ("failed", message),
            RunStatus::Interrupted => {
                ("failed", message.or_else(|| Some("Interrupted: the program ended while it ran. It can be resumed.".into())))
            }
            RunStatus::Cancelled => ("failed", message.or_else(|| Some("Cancelled.".into()))),
        };
        Self {
            status,
            error_message,
            created_at: run.created_at,
            started_at: run.started_at,
            finished_at: run.finished_at,
            dataset_size: run.samples,
            base_model: run.base.0,
            metadata_path: format!("{}/training_run.json", run.directory.trim_end_matches('/')),
            output_dir: run.directory,
            run_identifier: run.run_id.clone(),
            id: run.run_id,
            final_loss: run.final_loss,
            triggered_by: run.triggered_by,
        }
    }
}

/// `GET /api/v1/admin/training/runs?limit=20`, newest first.
pub(crate) async fn runs(State(surface): State<Arc<Surface>>, RawQuery(query): RawQuery) -> Result<Response, Refusal> {
    let mut limit: Limit = from_query(Vec::new(), query.as_deref())?;
    limit.limit.get_or_insert(20);
    let runs = surface.call(move |app| app.runs(limit)).await?;
    Ok(json(StatusCode::OK, &runs.into_iter().map(TrainingRow::from).collect::<Vec<_>>()))
}

/// Body of a trigger; nothing is required.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Trigger {
    #[serde(default)]
    triggered_by: Option<String>,
}

/// `POST /api/v1/admin/training/trigger` → 202 with the row, 409 while one is queued or running.
pub(crate) async fn trigger(State(surface): State<Arc<Surface>>, request: Request) -> Result<Response, Refusal> {
    let body: Trigger = from_body(Vec::new(), request.into_body()).await?;
    let run = surface.call(move |app| {
        let triggered_by = Some(body.triggered_by.unwrap_or_else(|| "api".into()));
        let queued = app.train(TrainRequest { triggered_by, ..TrainRequest::of(Recipe::SoftPrompt) })?;
        app.run(RunRef { run_id: queued.run_id })
    });
    Ok(json(StatusCode::ACCEPTED, &TrainingRow::from(run.await?)))
}

/// `DELETE /api/v1/admin/training/runs/{id}` → 204, or 404.
pub(crate) async fn delete_run(State(surface): State<Arc<Surface>>, Path(id): Path<String>) -> Result<Response, Refusal> {
    surface.call(move |app| app.delete_run(RunRef { run_id: RunId(id) })).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

#[derive(Deserialize)]
struct Prune {
    /// Days, a duration such as `30d`, or an RFC 3339 time.
    #[serde(default)]
    older_than: Option<String>,
    #[serde(default = "ten")]
    keep_recent: usize,
}

fn ten() -> usize {
    10
}

#[derive(Serialize)]
struct Pruned {
    deleted: Vec<RunId>,
}

/// `DELETE /api/v1/admin/training/runs?older_than=…&keep_recent=10`: removes ended runs past the newest `keep_recent`.
pub(crate) async fn prune(State(surface): State<Arc<Surface>>, RawQuery(query): RawQuery) -> Result<Response, Refusal> {
    let prune: Prune = from_query(Vec::new(), query.as_deref())?;
    let before = prune.older_than.as_deref().map(|text| cutoff(text, SystemTime::now())).transpose()?;
    let deleted = surface.call(move |app| delete_old(app, before.as_ref(), prune.keep_recent)).await?;
    Ok(json(StatusCode::OK, &Pruned { deleted }))
}

/// As many as one listing gives.
const LISTED: u32 = 1000;

fn delete_old(app: &App, before: Option<&Timestamp>, keep_recent: usize) -> Result<Vec<RunId>, ApiError> {
    let runs = app.runs(Limit { limit: Some(LISTED) })?;
    let old = runs.into_iter().skip(keep_recent).filter(|run| is_over(run.status) && before.is_none_or(|before| run.created_at < *before));
    old.map(|run| app.delete_run(RunRef { run_id: run.run_id.clone() }).map(|_| run.run_id)).collect()
}

/// Whether nothing of it can go on: a paused or interrupted run is never pruned.
fn is_over(status: RunStatus) -> bool {
    matches!(status, RunStatus::Completed | RunStatus::Failed | RunStatus::Cancelled)
}

/// The time before which a run is old.
fn cutoff(older_than: &str, now: SystemTime) -> Result<Timestamp, ApiError> {
    let age = match older_than.parse::<u64>() {
        Ok(days) => Some(Duration::from_secs(days.saturating_mul(24 * 60 * 60))),
        Err(_) => humantime::parse_duration(older_than).ok(),
    };
    let time = match age {
        Some(age) => now.checked_sub(age),
        None => humantime::parse_rfc3339_weak(older_than).ok(),
    };
    time.map(|time| Timestamp(humantime::format_rfc3339_millis(time).to_string())).ok_or_else(|| {
        ApiError::field("older_than", format!("\"{older_than}\" is neither days, a duration nor a time."))
            .hint("Write 30, 30d or 2026-11-21T09:30:00Z.")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_means_days_a_duration_or_a_time() {
        let now = humantime::parse_rfc3339("2026-11-21T12:00:00Z").unwrap();
        for (text, time) in
            [("1", "2026-11-20T12:00:00.000Z"), ("36h", "2026-11-20T00:00:00.000Z"), ("2026-01-02T03:04:05Z", "2026-01-02T03:04:05.000Z")]
        {
            assert_eq!(cutoff(text, now).unwrap().0, time, "{text}");
        }
        assert_eq!(cutoff("long ago", now).unwrap_err().detail[0].field, "older_than");
    }
}
