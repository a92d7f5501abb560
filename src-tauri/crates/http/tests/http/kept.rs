//! Endpoints of earlier programs under their own names.

use crate::house::House;
use axum::http::StatusCode;
use domain::ErrorCode;
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn feedback_in_words_finds_its_text_by_candidate_and_by_generation() {
    let house = House::open();
    let written = house.write(5).await;
    for (id, words, tags) in
        [(written.chosen.to_string(), "this is great", json!([])), (written.generation_id.to_string(), "", json!(["neg"]))]
    {
        let body = json!({ "run_id": id, "feedback": words, "tags": tags });
        assert_eq!(house.post("/feedback", body).await.as_json::<Value>(), json!({ "ok": true }), "{id}");
    }
    let detail: Value = house.get(&format!("/api/v1/generations/{}", written.generation_id)).await.as_json();
    assert_eq!(detail["result"]["candidates"][0]["feedback"]["verdict"], -1, "the newest verdict counts");
    for id in ["cand_none", "gen_none", ""] {
        let answer = house.post("/feedback", json!({ "run_id": id, "feedback": "great" })).await;
        assert_eq!(answer.error().code, ErrorCode::NotFound, "{id:?} names no text");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn preference_training_answers_in_the_old_shape() {
    let house = House::open();
    for (seed, verdict) in [(1, 1), (2, -1)] {
        let written = house.write(seed).await;
        house.post("/api/v1/feedback", json!({ "candidate_id": written.chosen, "verdict": verdict })).await.as_json::<Value>();
    }
    let trained: Value = house.post("/training/preference/train", json!({ "epochs": 5, "max_vocab": 5000, "lr": 0.1 })).await.as_json();
    assert_eq!((&trained["ok"], &trained["examples"]), (&json!(true), &json!(2)), "{trained}");
    let path = trained["model_path"].as_str().expect("a path");
    let scored: Value =
        house.post("/training/preference/score", json!({ "prompt": "a lamp", "completion": "The lamp burned." })).await.as_json();
    assert!(scored["ok"] == json!(true) && (0.0..=1.0).contains(&scored["score"].as_f64().expect("a score")), "{scored}");
    let out = std::path::Path::new(path).with_file_name("exported.jsonl");
    let exported: Value = house.post("/training/export", json!({ "out_path": out })).await.as_json();
    assert_eq!((&exported["ok"], &exported["files"][0]["rows"]), (&json!(true), &json!(1)), "{exported}");
    assert!(out.with_file_name("exported-sft.jsonl").is_file());
    assert!(path.ends_with("preference_model.json") && std::path::Path::new(path).is_file(), "{path} is a readable file");
}

#[tokio::test(flavor = "multi_thread")]
async fn administration_lists_and_prunes() {
    let house = House::open();
    assert_eq!(house.get("/api/v1/admin/training/runs?limit=5").await.as_json::<Value>(), json!([]));
    assert_eq!(house.get("/api/v1/admin/training/runs?limit=0").await.error().code, ErrorCode::InvalidInput);
    assert_eq!(house.post("/api/v1/admin/training/trigger", json!({})).await.error().code, ErrorCode::NotReady, "nothing to learn from");
    assert_eq!(house.delete("/api/v1/admin/training/runs/run_none").await.status, StatusCode::NOT_FOUND);
    let pruned: Value = house.delete("/api/v1/admin/training/runs?older_than=30&keep_recent=10").await.as_json();
    assert_eq!(pruned, json!({ "deleted": [] }));
    let error = house.delete("/api/v1/admin/training/runs?older_than=ages").await.error();
    assert_eq!(error.detail[0].field, "older_than");
}
