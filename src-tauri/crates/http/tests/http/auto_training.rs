//! Auto-train under the names of an earlier program.

use crate::house::House;
use ::http::sse::{Message, Parser};
use axum::http::StatusCode;
use domain::{AutoTrain, JobState};
use futures_util::StreamExt;
use serde_json::{Value, json};
use std::time::Duration;

fn request(examples: u32) -> Value {
    json!({ "num_examples": examples, "genres": ["fantasy", "sci_fi"], "n": 2, "seed": 11 })
}

async fn sessions(house: &House) -> Vec<AutoTrain> {
    house.get("/api/v1/auto-train?limit=5").await.as_json()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_answers_with_the_old_fields_and_unknown_names_with_422() {
    let house = House::open();
    for path in ["/auto-train", "/auto-train-stream"] {
        let answer = house.post(path, json!({ "num_examples": 0, "genres": ["western"] })).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{path}");
        let faults: Value = serde_json::from_slice(&answer.bytes).expect("JSON");
        let fields: Vec<_> = faults["detail"].as_array().expect("faults").iter().map(|fault| fault["field"].clone()).collect();
        assert_eq!(fields, ["genres", "num_examples"], "every fault is listed");
    }
    let result: Value = house.post("/auto-train", request(3)).await.as_json();
    for field in ["total_requested", "successful", "failed", "average_quality", "total_time", "stored_in_memory", "ready_for_finetuning"] {
        assert!(!result[field].is_null(), "{field} of {result}");
    }
    assert_eq!(result["total_requested"], 3);
    assert_eq!(result["genre_distribution"].as_object().expect("genres").len(), 2);
    let stats: Value = house.get("/user/me/training-stats").await.as_json();
    assert_eq!(stats, result["training_stats"]);
    for field in ["training_examples", "examples_until_next_training", "custom_model_exists"] {
        assert!(!stats[field].is_null(), "{field} of {stats}");
    }
    let genres: Value = house.get("/training/genres").await.as_json();
    assert_eq!((genres["genres"].as_array().map(Vec::len), genres["styles"].as_array().map(Vec::len)), (Some(8), Some(10)));
    let nothing = house.post("/user/nobody/trigger-finetuning", json!({})).await;
    assert_eq!(nothing.status, StatusCode::CONFLICT, "there is nothing to learn from");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_tells_its_progress_and_closing_it_cancels() {
    let house = House::open();
    let messages = |count: usize, body: axum::body::Body| async move {
        let (mut body, mut parser, mut told) = (body.into_data_stream(), Parser::default(), Vec::<Message>::new());
        while told.len() < count {
            let next = tokio::time::timeout(Duration::from_secs(240), body.next()).await.expect("the stream goes on");
            let Some(bytes) = next else { break };
            told.extend(parser.feed(&bytes.expect("bytes")));
        }
        told
    };
    let response = house.respond(house.json("POST", "/auto-train-stream", &request(2))).await;
    let told = messages(usize::MAX, response.into_body()).await;
    let data = |message: &Message| serde_json::from_str::<Value>(&message.data).expect("JSON");
    let counted: Vec<_> = told.iter().filter(|one| one.event == "progress").map(|one| data(one)["current"].as_u64().unwrap_or(9)).collect();
    assert!(counted.first() == Some(&0) && counted.last() == Some(&2) && counted.is_sorted(), "{counted:?}");
    let last = told.last().expect("messages");
    assert_eq!((last.event.as_str(), &data(last)["total_requested"]), ("complete", &json!(2)));
    let progress = told.iter().rfind(|one| one.event == "progress").map(data).expect("progress");
    assert_eq!(progress["percentage"], 100.0);
    assert!(progress["latest_quality"].is_number() && progress["current_genre"].is_string() && progress["best_model"].is_string());

    let response = house.respond(house.json("POST", "/auto-train-stream", &request(500))).await;
    drop(messages(3, response.into_body()).await);
    for _ in 0..600 {
        if sessions(&house).await[0].state == JobState::Cancelled {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let cancelled = sessions(&house).await.remove(0);
    assert_eq!(cancelled.state, JobState::Cancelled, "nobody listens, so nothing more is written");
    assert!(cancelled.current >= 1 && cancelled.current < 500, "what was made is kept");
}
