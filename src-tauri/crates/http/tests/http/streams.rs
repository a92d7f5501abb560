//! Server-sent events: the order of a generation, resuming after an absence, hanging up.

use crate::house::{House, short_request};
use ::http::sse::{Message, Parser};
use axum::body::{Body, BodyDataStream};
use domain::{Change, Event, FinishReason, GenerationDetail, GenerationPage, WriteEvent};
use futures_util::StreamExt;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

struct Stream {
    body: BodyDataStream,
    parser: Parser,
    ready: VecDeque<Message>,
}

impl Stream {
    async fn open(house: &House, request: axum::http::Request<Body>) -> Self {
        let response = house.respond(request).await;
        assert_eq!(response.headers()["content-type"], "text/event-stream", "{}", response.status());
        Self { body: response.into_body().into_data_stream(), parser: Parser::default(), ready: VecDeque::new() }
    }

    /// The next message; `None` at the end, or when nothing comes for a while.
    async fn next(&mut self) -> Option<Message> {
        while self.ready.is_empty() {
            let bytes = tokio::time::timeout(Duration::from_secs(20), self.body.next()).await.ok()??;
            self.ready.extend(self.parser.feed(&bytes.expect("the stream is not broken off")));
        }
        self.ready.pop_front()
    }

    async fn next_change(&mut self) -> (u32, Change) {
        loop {
            let message = self.next().await.expect("a change");
            let event: Event = serde_json::from_str(&message.data).expect("an event");
            if let Some(seq) = event.seq {
                assert_eq!(message.id, Some(seq.to_string()), "the id is the row of the change log");
                return (seq, event.change);
            }
        }
    }
}

fn events(house: &House, last: Option<u32>) -> axum::http::Request<Body> {
    let mut request = house.request("GET", "/api/v1/events");
    if let Some(last) = last {
        request = request.header("last-event-id", last.to_string());
    }
    request.body(Body::empty()).expect("a request")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_generation_streams_in_order_and_ends_with_its_result() {
    let house = House::open();
    let mut stream = Stream::open(&house, house.json("POST", "/api/v1/write/stream", &short_request(4))).await;
    let mut told = Vec::new();
    while let Some(message) = stream.next().await {
        let event: WriteEvent = serde_json::from_str(&message.data).expect("a write event");
        let named: Value = serde_json::from_str(&message.data).expect("JSON");
        assert_eq!(named["event"], message.event, "the event's name is said twice, alike");
        told.push(event);
    }
    assert!(matches!(told.first(), Some(WriteEvent::Started { n: 2, seed: 4, .. })), "it starts with what was decided");
    let Some(WriteEvent::Chosen { result }) = told.last() else { panic!("it ends with the vote: {:?}", told.last()) };
    for index in 0..2 {
        let tokens: String = told
            .iter()
            .filter_map(|event| match event {
                WriteEvent::Token { index: of, text } if *of == index => Some(text.as_str()),
                _ => None,
            })
            .collect();
        let whole = told.iter().find_map(|event| match event {
            WriteEvent::Candidate { index: of, candidate } if *of == index => Some(candidate),
            _ => None,
        });
        let candidate = whole.expect("each candidate is told whole");
        assert_eq!(tokens.trim(), candidate.text.trim(), "its pieces are its text");
        assert!(result.candidates.iter().any(|one| one.id == candidate.id && one.text == candidate.text));
    }
    let stored: GenerationDetail = house.get(&format!("/api/v1/generations/{}", result.generation_id)).await.as_json();
    assert_eq!(stored.result.chosen, result.chosen, "what was streamed is what was stored");
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_are_told_as_they_happen_and_again_after_an_absence() {
    let house = House::open();
    let mut live = Stream::open(&house, events(&house, None)).await;
    let written = house.write(1).await;
    let (first, _) = live.next_change().await;
    house.put("/api/v1/settings", json!({ "candidates": 3 })).await.as_json::<Value>();
    house.put("/api/v1/settings", json!({ "candidates": 5 })).await.as_json::<Value>();
    let mut seen = Vec::new();
    while seen.len() < 2 {
        let (seq, change) = live.next_change().await;
        if let Change::SettingsChanged { keys } = change {
            assert_eq!(keys, ["candidates"]);
            seen.push(seq);
        }
    }
    drop(live);
    // Away: this change is in the log only.
    house.delete(&format!("/api/v1/generations/{}", written.generation_id)).await.as_json::<Value>();
    let mut resumed = Stream::open(&house, events(&house, Some(first))).await;
    let mut last = first;
    loop {
        let (seq, change) = resumed.next_change().await;
        assert_eq!(seq, last + 1, "nothing is missing and nothing comes twice");
        last = seq;
        if matches!(&change, Change::GenerationRemoved { generation_id } if *generation_id == written.generation_id) {
            break;
        }
    }
    assert!(last > seen[1], "the missed change came last");
    // And from there on live again.
    house.put("/api/v1/settings", json!({ "candidates": 4 })).await.as_json::<Value>();
    assert_eq!(resumed.next_change().await.0, last + 1);
    let mut by_query =
        Stream::open(&house, house.request("GET", &format!("/api/v1/events?after={last}")).body(Body::empty()).expect("a request")).await;
    assert_eq!(by_query.next_change().await.0, last + 1, "a client that cannot set headers resumes by ?after");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nonsense_position_is_refused() {
    let house = House::open();
    let request = house.request("GET", "/api/v1/events").header("last-event-id", "yesterday").body(Body::empty()).expect("a request");
    assert_eq!(house.send(request).await.error().detail[0].field, "Last-Event-ID");
}

#[tokio::test(flavor = "multi_thread")]
async fn hanging_up_stops_the_generation_and_keeps_what_it_wrote() {
    let house = House::open();
    let long = json!({ "prompt": "A storm", "n": 4, "max_tokens": 800, "seed": 2 });
    let mut stream = Stream::open(&house, house.json("POST", "/api/v1/write/stream", &long)).await;
    let started: WriteEvent = serde_json::from_str(&stream.next().await.expect("a first event").data).expect("a write event");
    let WriteEvent::Started { generation_id, .. } = started else { panic!("it starts with its id") };
    while stream.next().await.is_some_and(|message| message.event != "token") {}
    drop(stream);
    let hung_up = Instant::now();
    let detail = loop {
        let page: GenerationPage = house.get("/api/v1/generations").await.as_json();
        let answer = house.get(&format!("/api/v1/generations/{generation_id}")).await;
        if answer.status.is_success() && page.items.iter().any(|one| one.generation_id == generation_id && one.candidates == 4) {
            break answer.as_json::<GenerationDetail>();
        }
        assert!(hung_up.elapsed() < Duration::from_secs(5), "it is stored soon after");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    println!("stored {} ms after hanging up", hung_up.elapsed().as_millis());
    assert!(
        detail.result.candidates.iter().any(|one| one.finish_reason == FinishReason::Cancelled && one.tokens < 800),
        "it was cut short"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn giving_up_a_whole_answer_stops_its_generation_too() {
    let house = House::open();
    let long = json!({ "prompt": "A storm", "n": 16, "max_tokens": 900, "seed": 2 });
    let request = house.json("POST", "/api/v1/write", &long);
    let gave_up = tokio::time::timeout(Duration::from_millis(20), house.respond(request)).await;
    assert!(gave_up.is_err(), "loading the base and 16 long texts take longer than that");
    let hung_up = Instant::now();
    house.write(1).await;
    assert!(hung_up.elapsed() < Duration::from_secs(5), "the next one does not wait for the whole of it: {:?}", hung_up.elapsed());
}
