//! Endpoints that earlier programs had, under their own names (CONTRACT.md §4).

use crate::body::from_body;
use crate::refusal::{Refusal, json};
use crate::surface::Surface;
use app::App;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use domain::{ApiError, CandidateId, Done, FeedbackRequest, GenerationId, GenerationRef, TasteQuestion, TasteTraining, TrainingExport};
use serde::Deserialize;
use std::sync::Arc;

/// Body of `POST /feedback`. What was a *run* there is a generation or one of its candidates here.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RunFeedback {
    run_id: String,
    #[serde(default)]
    feedback: String,
    #[serde(default)]
    tags: Vec<String>,
}

/// `POST /feedback {run_id, feedback, tags?}` → `{ok}`; 404 for an unknown id. Words and tags say whether it is praise.
pub(crate) async fn feedback(State(surface): State<Arc<Surface>>, request: Request) -> Result<Response, Refusal> {
    let body: RunFeedback = from_body(Vec::new(), request.into_body()).await?;
    let stored = surface.call(move |app| {
        let candidate_id = chosen(app, &body.run_id)?;
        let comment = Some(body.feedback).filter(|words| !words.trim().is_empty());
        app.feedback(FeedbackRequest { candidate_id, verdict: None, tags: body.tags, comment, edited_text: None })
    });
    stored.await?;
    Ok(json(StatusCode::OK, &Done::OK))
}

/// `POST /training/preference/train {epochs, max_vocab, lr}` → `{ok, model_path, vocab_size, auc, examples}`.
pub(crate) async fn train_preference(State(surface): State<Arc<Surface>>, request: Request) -> Result<Response, Refusal> {
    let body: TasteTraining = from_body(Vec::new(), request.into_body()).await?;
    let trained = surface.call(move |app| app.train_taste(body)).await?;
    Ok(json(StatusCode::OK, &trained))
}

/// `POST /training/preference/score {prompt, completion}` → `{ok, score}` and how sure that is.
pub(crate) async fn score_preference(State(surface): State<Arc<Surface>>, request: Request) -> Result<Response, Refusal> {
    let body: TasteQuestion = from_body(Vec::new(), request.into_body()).await?;
    let score = surface.call(move |app| app.score_taste(body)).await?;
    Ok(json(StatusCode::OK, &score))
}

/// `POST /training/export {out_path, kind?}` → `{ok, files}`; without a kind all there are.
pub(crate) async fn export(State(surface): State<Arc<Surface>>, request: Request) -> Result<Response, Refusal> {
    let body: TrainingExport = from_body(Vec::new(), request.into_body()).await?;
    let exported = surface.call(move |app| app.export_training(body)).await?;
    Ok(json(StatusCode::OK, &exported))
}

/// The candidate that an id means: itself, or the winner of its generation.
fn chosen(app: &App, id: &str) -> Result<CandidateId, ApiError> {
    if id.starts_with(GenerationId::PREFIX) {
        let generation_id = GenerationId(id.to_owned());
        return Ok(app.generation(GenerationRef { generation_id })?.result.chosen);
    }
    Ok(CandidateId(id.to_owned()))
}
