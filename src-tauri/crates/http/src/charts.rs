//! A run's chart as a plain file.

use crate::refusal::Refusal;
use crate::surface::Surface;
use axum::extract::{Path, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use domain::{ApiError, ChartFormat, ChartQuery, RunId};
use std::sync::Arc;

/// `GET /api/v1/runs/{run_id}/loss.svg`
pub(crate) async fn svg(State(surface): State<Arc<Surface>>, Path(run_id): Path<String>) -> Result<Response, Refusal> {
    chart(&surface, run_id, ChartFormat::Svg).await
}

/// `GET /api/v1/runs/{run_id}/loss.png`
pub(crate) async fn png(State(surface): State<Arc<Surface>>, Path(run_id): Path<String>) -> Result<Response, Refusal> {
    chart(&surface, run_id, ChartFormat::Png).await
}

async fn chart(surface: &Surface, run_id: String, format: ChartFormat) -> Result<Response, Refusal> {
    let image = surface.call(move |app| app.run_chart(ChartQuery { run_id: RunId(run_id), format })).await?;
    let bytes = base64::engine::general_purpose::STANDARD.decode(&image.base64).map_err(ApiError::internal)?;
    let name = image.file_name.replace(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '.' | '-' | '_'), "_");
    Ok(([(header::CONTENT_TYPE, image.mime), (header::CONTENT_DISPOSITION, format!("inline; filename=\"{name}\""))], bytes).into_response())
}
