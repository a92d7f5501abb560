//! A hub that lies: a clear error each time, and nothing installed.

use crate::fake::{COMMIT, FakeHub, Fault, REPO, WEIGHTS, quick};
use domain::{ApiError, ErrorCode};
use hub::{Hub, HubError, RepoId, Settings};
use std::sync::atomic::AtomicBool;

/// Pulls, expects an error, and expects that nothing can be seen of the model.
fn refused(hub: &FakeHub) -> HubError {
    let error = hub.pull().expect_err("refused");
    assert_eq!((hub.installed(), hub.refs()), (Vec::<String>::new(), None), "nothing is half-installed after: {error}");
    let api = ApiError::from(hub.pull().expect_err("and again"));
    assert!(api.hint.is_some_and(|hint| !hint.is_empty()), "with a hint: {error}");
    error
}

#[test]
fn other_bytes_than_announced_are_thrown_away() {
    let hub = FakeHub::with(Fault::OtherBytes);
    let error = refused(&hub);
    assert!(matches!(&error, HubError::WrongHash { file, .. } if file == WEIGHTS), "{error}");
    let blobs = hub.client().cache().repo(&RepoId::parse(REPO).unwrap()).join("blobs");
    let left: Vec<_> = std::fs::read_dir(blobs).unwrap().map(|one| one.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().ends_with(".incomplete")), "{left:?}");
}

#[test]
fn other_lengths_and_hashes_than_announced_are_refused() {
    assert!(matches!(refused(&FakeHub::with(Fault::TooLong)), HubError::WrongLength { .. }));
    assert!(matches!(refused(&FakeHub::with(Fault::OtherLength)), HubError::WrongLength { found: 5, .. }));
    let hub = FakeHub::with(Fault::OtherEtag);
    assert!(matches!(refused(&hub), HubError::WrongHash { .. }));
    assert!(matches!(refused(&FakeHub::with(Fault::NoHashAnywhere)), HubError::Unverifiable { .. }));
}

#[test]
fn names_that_lead_out_of_the_folder_are_refused_before_anything_is_downloaded() {
    let hostile = [
        "../evil",
        "a/../../evil",
        "/etc/passwd",
        "..",
        ".",
        "",
        "a//b",
        "a/./b",
        "..\\evil",
        "C:\\evil",
        "c:evil",
        "a\0b",
        "a\nb",
        "a/..",
        "a/ /b",
        "model.safetensors/",
        "con|x",
        "x*",
        "\u{7f}",
        "./config.json",
    ];
    for name in hostile {
        let hub = FakeHub::with(Fault::Name(name.to_owned()));
        let error = refused(&hub);
        assert!(matches!(error, HubError::UnsafeName { .. }), "{name:?}: {error}");
        assert!(hub.seen().iter().all(|seen| seen.path.starts_with("/api/")), "{name:?}");
    }
    println!("{} hostile names refused", hostile.len());
}

#[test]
fn redirects_are_followed_to_web_addresses_only() {
    let targets = ["file:///etc/passwd", "ftp://example.org/x", "gopher://example.org/", "javascript:alert(1)", "data:,x", "unix:/run/x"];
    for target in targets {
        let error = refused(&FakeHub::with(Fault::RedirectTo(target.into())));
        assert!(matches!(error, HubError::UnsafeRedirect { .. }), "{target}: {error}");
    }
    let error = refused(&FakeHub::with(Fault::RedirectTo("http://name:word@127.0.0.1:9/x".into())));
    assert!(matches!(error, HubError::UnsafeRedirect { .. }), "{error}");
    let round = FakeHub::start();
    round.set(Fault::RedirectTo(format!("{}/{REPO}/resolve/{COMMIT}/{WEIGHTS}", round.endpoint())));
    assert!(matches!(refused(&round), HubError::UnsafeRedirect { .. }), "a circle ends");
}

#[test]
fn refusals_of_the_hub_are_told_apart_and_not_repeated() {
    for (status, code) in [(401, ErrorCode::Forbidden), (403, ErrorCode::Forbidden), (404, ErrorCode::NotFound), (418, ErrorCode::Network)]
    {
        let hub = FakeHub::with(Fault::Status(status, 1000));
        let error = hub.pull().expect_err("refused");
        assert_eq!(hub.seen().len(), 1, "{status} is not asked again");
        let api = ApiError::from(error);
        assert_eq!(api.code, code, "{status}");
        if code == ErrorCode::Forbidden {
            assert!(api.hint.unwrap().contains("HF_TOKEN"), "{status}");
        }
    }
}

#[test]
fn listings_that_are_none_are_unreadable() {
    let long = format!(r#"{{"sha":"{COMMIT}","siblings":[{}]}}"#, vec![r#"{"rfilename":"a"}"#; 30_000].join(","));
    for text in ["", "<html>", "[]", "{}", r#"{"sha":"../../x","siblings":[]}"#, r#"{"sha":5,"siblings":[]}"#, &long] {
        let error = refused(&FakeHub::with(Fault::Listing(text.to_owned())));
        assert!(matches!(error, HubError::Unreadable { .. }), "{:.30}: {error}", text);
    }
    let empty = refused(&FakeHub::with(Fault::Listing(format!(r#"{{"sha":"{COMMIT}","siblings":[]}}"#))));
    assert!(matches!(empty, HubError::NoWeights { .. }), "{empty}");
}

#[test]
fn pickle_is_refused_by_name_and_by_content() {
    let hub = FakeHub::start();
    hub.take_away(WEIGHTS);
    let error = refused(&hub);
    assert!(matches!(error, HubError::PickleOnly { .. }), "{error}");
    assert!(ApiError::from(error).hint.unwrap().contains("safetensors"));
    for disguised in [&b"PK\x03\x04\x14\0\0\0archive/data.pkl"[..], b"\x80\x02}q\0X\x01\0\0\0wq\x01K\x01s."] {
        let hub = FakeHub::start();
        hub.put(WEIGHTS, disguised);
        assert!(matches!(refused(&hub), HubError::Pickle { .. }));
    }
}

#[test]
fn a_hub_that_is_away_or_silent_is_named() {
    let hub = FakeHub::start();
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = hub.client_of(&format!("http://{gone}")).list(&RepoId::parse(REPO).unwrap(), "main", &AtomicBool::new(false));
    let error = error.expect_err("nobody is there");
    assert!(matches!(&error, HubError::Unreachable { host, .. } if *host == gone.to_string()), "{error}");
    assert_eq!(ApiError::from(error).code, ErrorCode::Network);
    let silent = FakeHub::with(Fault::Silence);
    let error = silent.pull().expect_err("it says nothing");
    assert!(matches!(error, HubError::Silent { .. }), "{error}");
}

#[test]
fn addresses_that_are_none_are_refused() {
    for address in ["", "huggingface.co", "ftp://x", "file:///x", "http://", "https://user:word@host", "http://host?x=1", "http://host#x"] {
        let variables = |name: &str| (name == "HF_ENDPOINT").then(|| format!(" {address}"));
        let settings = Settings::from_variables(variables);
        if address.is_empty() {
            assert!(settings.is_ok(), "an empty variable is none");
        } else {
            assert!(matches!(settings, Err(HubError::InvalidAddress(..))), "{address}");
        }
    }
    // A port that no server can have.
    let settings = Settings::from_variables(|name| (name == "HF_ENDPOINT").then(|| "http://127.0.0.1:1".into())).unwrap();
    let hub = Hub::with_pace(settings, quick());
    assert!(hub.list(&RepoId::parse(REPO).unwrap(), "main", &AtomicBool::new(false)).is_err());
}
