//! The owner's socket and the client at its other end.

use crate::house::{House, assets};
use ::http::{Client, serve_socket};
use app::calls::call;
use app::{App, OpenOptions, Opened};
use domain::{ErrorCode, GenerationQuery, MetricsQuery, Nothing, SettingsUpdate, WriteEvent, WriteRequest};
use std::os::unix::fs::PermissionsExt;

fn request() -> WriteRequest {
    WriteRequest { prompt: "A quiet harbour".into(), n: Some(2), max_tokens: Some(10), seed: Some(9), ..Default::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_this_user_can_open_the_socket_and_it_goes_when_done() {
    let house = House::open();
    let path = house.app.socket_path();
    std::fs::write(&path, "left behind by a killed owner").expect("the folder is writable");
    let served = serve_socket(house.app.clone(), &path).await.expect("a stale file does not matter");
    let mode = std::fs::metadata(&path).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let left: Vec<_> =
        std::fs::read_dir(path.parent().expect("a folder")).expect("readable").flatten().map(|entry| entry.file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().starts_with(".sock")), "no trace of its making: {left:?}");
    drop(Client::new(&path).join().await.expect("the owner answers"));
    served.finish().await;
    assert!(!path.exists(), "the file is gone");
    let Err(alone) = Client::new(&path).join().await else { panic!("nobody is there") };
    assert_eq!(alone.code, ErrorCode::Busy);
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_streams_and_errors_come_through_as_if_they_were_local() {
    let house = House::open();
    let path = house.app.socket_path();
    let served = serve_socket(house.app.clone(), &path).await.expect("a socket");
    let client = Client::new(&path);
    let mut events = client.events(None).await.expect("a stream");
    assert_eq!(served.in_flight(), 1, "an open stream keeps the owner");

    let mut told = Vec::new();
    let written = client.write_streaming(&request(), &mut |event| told.push(event)).await.expect("a text");
    assert!(matches!(told.first(), Some(WriteEvent::Started { .. })) && matches!(told.last(), Some(WriteEvent::Chosen { .. })));
    let change = events.next().await.expect("no error").expect("a change");
    assert!(change.seq.is_some(), "{change:?}");

    let page = client
        .call::<call::Generations>(GenerationQuery { search: Some("quiet harbour".into()), ..Default::default() })
        .await
        .expect("a page");
    assert_eq!(page.items[0].generation_id, written.generation_id, "a query with spaces arrives");
    let mut update = SettingsUpdate::default();
    update.0.insert("candidates".into(), 7.into());
    assert_eq!(client.call::<call::UpdateSettings>(update.clone()).await.expect("settings").candidates, 7);
    update.0.insert("candidates".into(), 99.into());
    let refused = client.call::<call::UpdateSettings>(update).await.expect_err("out of range");
    assert_eq!((refused.code, refused.detail[0].field.as_str()), (ErrorCode::InvalidInput, "candidates"), "errors arrive whole");
    let missing = client.call::<call::RunMetrics>(MetricsQuery { run_id: "run_none".into(), after: Some(1) }).await.expect_err("no run");
    assert_eq!(missing.code, ErrorCode::NotFound);
    let empty = client.write_streaming(&WriteRequest::default(), &mut |_| {}).await.expect_err("an empty prompt");
    assert_eq!(empty.code, ErrorCode::InvalidInput);
    client.call::<call::Status>(Nothing {}).await.expect("a status");

    drop(events);
    let waited = std::time::Instant::now();
    while served.in_flight() > 0 {
        assert!(waited.elapsed() < std::time::Duration::from_secs(2), "a closed stream frees the owner");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    served.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_start_finds_the_owner() {
    let house = House::open();
    let served = serve_socket(house.app.clone(), &house.app.socket_path()).await.expect("a socket");
    let options = OpenOptions { data_dir: Some(house.app.data_dir()), assets_dir: Some(assets()), ..OpenOptions::default() };
    let Opened::HeldBy(holder) = App::open(options).expect("it is asked, not broken") else { panic!("the folder has one owner") };
    assert_eq!(holder.pid, std::process::id());
    drop(Client::new(&holder.socket).join().await.expect("and the owner answers there"));
    served.finish().await;
}
