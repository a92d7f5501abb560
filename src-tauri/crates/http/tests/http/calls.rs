//! The table of calls over HTTP: good paths and every kind of bad input.

use crate::house::{House, short_request};
use axum::body::Body;
use axum::http::{StatusCode, header};
use domain::{ErrorCode, FeedbackResult, GenerationPage, RunStatus, Settings, TrainQueued, WriteResult};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

#[tokio::test(flavor = "multi_thread")]
async fn writing_answers_with_ranked_candidates_and_repeats_with_its_seed() {
    let house = House::open();
    let first = house.write(7).await;
    assert_eq!(first.candidates.len(), 2);
    assert_eq!(first.candidates[0].id, first.chosen, "the winner comes first");
    let again = house.write(7).await;
    let texts = |result: &WriteResult| {
        let mut texts: Vec<_> = result.candidates.iter().map(|candidate| candidate.text.clone()).collect();
        texts.sort();
        texts
    };
    assert_eq!(texts(&first), texts(&again), "the same seed and settings give the same texts");
    let page: GenerationPage = house.get("/api/v1/generations?limit=1").await.as_json();
    assert_eq!(page.items[0].generation_id, again.generation_id, "the newest generation is listed first");
    assert!(page.next.is_some(), "there is another page");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_verdict_is_stored_and_shown() {
    let house = House::open();
    let written = house.write(1).await;
    let body = json!({ "candidate_id": written.chosen, "verdict": 1, "tags": ["vivid"], "comment": "lovely" });
    let stored: FeedbackResult = house.post("/api/v1/feedback", body).await.as_json();
    assert!(stored.feedback_id.as_str().starts_with("fb_"));
    let detail: Value = house.get(&format!("/api/v1/generations/{}", written.generation_id)).await.as_json();
    assert_eq!(detail["result"]["candidates"][0]["feedback"]["verdict"], 1, "the generation shows it");
    let unknown = house.post("/api/v1/feedback", json!({ "candidate_id": "cand_none", "verdict": 1 })).await;
    assert_eq!(unknown.error().code, ErrorCode::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn all_faults_of_a_setting_change_come_at_once_and_nothing_changes() {
    let house = House::open();
    let before: Settings = house.get("/api/v1/settings").await.as_json();
    let update = json!({ "candidates": 99, "temperature": "warm", "noSuchThing": 1, "theme": "dark" });
    let error = house.put("/api/v1/settings", update).await.error();
    assert_eq!(error.code, ErrorCode::InvalidInput);
    let mut fields: Vec<_> = error.detail.iter().map(|fault| fault.field.as_str()).collect();
    fields.sort_unstable();
    assert_eq!(fields, ["candidates", "noSuchThing", "temperature"], "every fault is listed");
    assert_eq!(house.get("/api/v1/settings").await.as_json::<Settings>(), before, "not even the good key was applied");
    let changed: Settings = house.put("/api/v1/settings", json!({ "candidates": 6 })).await.as_json();
    assert_eq!(changed.candidates, 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_writing_requests_are_refused_with_every_fault() {
    let house = House::open();
    let error = house.post("/api/v1/write", json!({ "prompt": "  ", "n": 99, "genres": { "horror": 0 } })).await.error();
    let mut fields: Vec<_> = error.detail.iter().map(|fault| fault.field.as_str()).collect();
    fields.sort_unstable();
    assert_eq!(fields, ["genres", "n", "prompt"]);
    assert!(error.hint.is_some(), "and what to do about it");
    for body in [json!({ "prompt": "x", "genres": { "western": 1 } }), json!({ "prompt": "x", "colour": 1 }), json!({}), json!([1])] {
        assert_eq!(house.post("/api/v1/write", body.clone()).await.error().code, ErrorCode::InvalidInput, "{body}");
        let streamed = house.post("/api/v1/write/stream", body.clone()).await;
        assert_eq!(streamed.error().code, ErrorCode::InvalidInput, "{body}: refused with a status, before any stream");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_exist_is_said_in_json() {
    let house = House::open();
    assert_eq!(house.get("/api/v1/nothing/here").await.error().code, ErrorCode::NotFound);
    assert_eq!(house.get("/api/v1/runs/run_none").await.error().code, ErrorCode::NotFound);
    let wrong = house.put("/api/v1/write", json!({})).await;
    assert_eq!(wrong.status, StatusCode::METHOD_NOT_ALLOWED);
    wrong.error();
    assert_eq!(wrong.headers[header::ALLOW], "POST", "and what would be right");
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_are_bounded_and_must_be_json() {
    let house = House::open();
    let large = json!({ "prompt": "word ".repeat(500_000) });
    assert_eq!(house.post("/api/v1/write", large).await.error().code, ErrorCode::TooLarge, "2.5 MB");
    // Without a length, as a stream sends it.
    let pieces = futures_util::stream::iter((0..300).map(|_| Ok::<_, std::io::Error>(vec![b' '; 10_000])));
    let request =
        house.request("POST", "/api/v1/write").header(header::CONTENT_TYPE, "application/json").header("transfer-encoding", "chunked");
    let answer = house.send(request.body(Body::from_stream(pieces)).expect("a request")).await;
    assert_eq!(answer.error().code, ErrorCode::TooLarge, "3 MB in pieces");
    let request = house.request("POST", "/api/v1/write").header(header::CONTENT_TYPE, "application/json");
    let answer = house.send(request.body(Body::from("{\"prompt\":")).expect("a request")).await;
    assert_eq!(answer.error().code, ErrorCode::InvalidInput, "broken JSON");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_without_input_needs_no_body() {
    let house = House::open();
    let request = house.request("POST", "/api/v1/jobs/job_none/cancel").body(Body::empty()).expect("a request");
    assert_eq!(house.send(request).await.error().code, ErrorCode::NotFound, "the call ran: there is no such job");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_training_without_liked_texts_says_what_is_missing() {
    let house = House::open();
    let error = house.post("/api/v1/train", json!({ "recipe": "soft_prompt" })).await.error();
    assert_eq!(error.code, ErrorCode::NotReady);
    assert!(error.hint.is_some());
    let error =
        house.post("/api/v1/train", json!({ "recipe": "soft_prompt", "hyperparameters": { "steps": 0, "batch_size": 0 } })).await.error();
    assert_eq!(error.detail.len(), 2, "both faults: {}", error.message);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_training_is_queued_charted_and_cancelled() {
    let house = House::open();
    for seed in 0..3 {
        let written = house.write(seed).await;
        let body = json!({ "candidate_id": written.chosen, "verdict": 1 });
        assert!(house.post("/api/v1/feedback", body).await.status.is_success());
    }
    let request = json!({ "recipe": "soft_prompt", "hyperparameters": { "steps": 1000, "batch_size": 1, "virtual_tokens": 4 } });
    let answer = house.post("/api/v1/train", request.clone()).await;
    assert_eq!(answer.status, StatusCode::ACCEPTED);
    let queued: TrainQueued = answer.as_json();
    assert_eq!(house.post("/api/v1/train", request).await.error().code, ErrorCode::Conflict, "one at a time");
    assert_eq!(house.post("/api/v1/admin/training/trigger", json!({})).await.error().code, ErrorCode::Conflict, "by any door");

    let metrics = format!("/api/v1/runs/{}/metrics?after=0", queued.run_id);
    let started = Instant::now();
    while house.get(&metrics).await.as_json::<Value>()["metrics"].as_array().is_none_or(|all| all.len() < 3) {
        assert!(started.elapsed() < Duration::from_secs(240), "the training reports its first steps");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let svg = house.get(&format!("/api/v1/runs/{}/loss.svg", queued.run_id)).await;
    assert_eq!(svg.headers[header::CONTENT_TYPE], "image/svg+xml");
    assert!(String::from_utf8_lossy(&svg.bytes).contains("<svg"), "an image, not its base64");
    let png = house.get(&format!("/api/v1/runs/{}/loss.png", queued.run_id)).await;
    assert_eq!((&png.headers[header::CONTENT_TYPE], &png.bytes[..4]), (&"image/png".parse().expect("a value"), b"\x89PNG" as &[u8]));

    let rows: Value = house.get("/api/v1/admin/training/runs").await.as_json();
    assert_eq!((&rows[0]["status"], &rows[0]["runIdentifier"]), (&json!("running"), &json!(queued.run_id)));
    assert_eq!(rows[0]["datasetSize"].as_u64().map(|size| (1..=3).contains(&size)), Some(true), "{rows}");

    house.post(&format!("/api/v1/jobs/{}/cancel", queued.job_id), json!({})).await.as_json::<Value>();
    let run = format!("/api/v1/runs/{}", queued.run_id);
    while house.get(&run).await.as_json::<domain::Run>().status != RunStatus::Cancelled {
        assert!(started.elapsed() < Duration::from_secs(90), "cancelling ends it");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let rows: Value = house.get("/api/v1/admin/training/runs").await.as_json();
    assert_eq!((&rows[0]["status"], &rows[0]["errorMessage"]), (&json!("failed"), &json!("Cancelled.")), "an old client knows four states");
    assert_eq!(house.delete(&format!("/api/v1/admin/training/runs/{}", queued.run_id)).await.status, StatusCode::NO_CONTENT);
    assert_eq!(house.delete(&format!("/api/v1/admin/training/runs/{}", queued.run_id)).await.error().code, ErrorCode::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_description_lists_every_route() {
    let house = House::open();
    let document: Value = house.get("/openapi.json").await.as_json();
    for route in ::http::routes() {
        let operation = &document["paths"][route.path][route.method.to_lowercase()];
        assert!(operation["responses"][route.status.to_string()].is_object(), "{} {}", route.method, route.path);
    }
    assert_eq!(document["paths"]["/api/v1/runs/{run_id}"]["get"]["parameters"][0]["name"], "run_id");
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_writers_are_told_to_come_back() {
    let house = House::open();
    let request = || {
        let mut body = short_request(1);
        body["max_tokens"] = json!(300);
        house.respond(house.json("POST", "/api/v1/write", &body))
    };
    let all: Vec<_> = (0..50).map(|_| request()).collect();
    let mut refused = 0;
    let answers = futures_util::future::join_all(all.into_iter().map(|answer| async {
        // Those that wait are given up, which must free their places.
        tokio::time::timeout(Duration::from_secs(2), answer).await
    }));
    for response in answers.await.into_iter().flatten() {
        if response.status() == StatusCode::TOO_MANY_REQUESTS {
            assert!(response.headers().contains_key(header::RETRY_AFTER), "and when");
            refused += 1;
        }
    }
    assert!(refused >= 50 - 34, "two run and 32 wait at most: {refused} of 50 were refused");
    let written = tokio::time::timeout(Duration::from_secs(20), house.write(3)).await;
    assert_eq!(written.expect("the places are free again").candidates.len(), 2);
}
