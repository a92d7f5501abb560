//! What goes right, and what goes on after it went wrong.

use crate::fake::{COMMIT, FakeHub, Fault, REPO, TOKEN, WEIGHTS, read, stop_at, weights};
use hub::{Fetch, HubError, RepoId, Weights};
use std::sync::atomic::AtomicBool;
use std::time::Instant;

#[test]
fn a_model_comes_with_what_is_needed_in_the_hubs_own_layout() {
    let hub = FakeHub::start();
    let mut last = None;
    let snapshot = hub.pull_with(&AtomicBool::new(false), &mut |progress| last = Some(progress.clone())).expect("pulled");
    assert_eq!(hub.installed(), ["config.json", WEIGHTS, "tokenizer.json"], "no pickle, no page");
    assert_eq!(read(&snapshot.folder, WEIGHTS), weights());
    assert_eq!(hub.refs().as_deref(), Some(COMMIT));
    assert!(snapshot.fresh);
    let repo = hub.client().cache().repo(&RepoId::parse(REPO).unwrap());
    let target = std::fs::read_link(snapshot.folder.join(WEIGHTS)).expect("a link");
    assert!(target.starts_with("../../blobs"), "{}", target.display());
    assert_eq!(std::fs::read_dir(repo.join("blobs")).unwrap().count(), 3, "no partial file stays");
    let last = last.expect("progress was told");
    assert_eq!(last.bytes, last.total, "the last word is that all is there");
}

#[test]
fn what_is_there_is_not_downloaded_again() {
    let hub = FakeHub::start();
    hub.pull().expect("pulled");
    let before = hub.seen().len();
    let again = hub.pull().expect("pulled again");
    assert!(!again.fresh);
    assert_eq!(hub.seen().len(), before + 1, "only the listing is asked for");
}

#[test]
fn a_blob_that_was_damaged_on_the_disk_is_downloaded_again() {
    let hub = FakeHub::start();
    let snapshot = hub.pull().expect("pulled");
    let blob = std::fs::canonicalize(snapshot.folder.join(WEIGHTS)).unwrap();
    let mut bytes = weights();
    bytes[1000] ^= 1;
    std::fs::write(&blob, bytes).unwrap();
    hub.pull().expect("pulled again");
    assert_eq!(read(&snapshot.folder, WEIGHTS), weights());
}

#[test]
fn a_connection_that_breaks_goes_on_where_it_ended() {
    let hub = FakeHub::with(Fault::CutAfter(50_000, 4));
    let snapshot = hub.pull().expect("pulled in the end");
    assert_eq!(read(&snapshot.folder, WEIGHTS), weights());
    let ranges: Vec<_> = hub.seen().into_iter().filter(|one| one.server == "store").filter_map(|one| one.range).collect();
    assert_eq!(ranges, ["bytes=50000-", "bytes=100000-", "bytes=150000-", "bytes=200000-"]);
}

#[test]
fn a_stopped_download_shows_nothing_and_goes_on_later() {
    let hub = FakeHub::with(Fault::Slow);
    let stop = AtomicBool::new(false);
    let error = hub.pull_with(&stop, &mut stop_at(40_000, &stop)).expect_err("stopped");
    assert!(matches!(error, HubError::Cancelled), "{error}");
    assert_eq!((hub.installed(), hub.refs()), (Vec::<String>::new(), None), "half a model is no model");
    hub.set(Fault::None);
    let snapshot = hub.pull().expect("goes on");
    assert_eq!(read(&snapshot.folder, WEIGHTS), weights());
    let resumed = hub.seen().into_iter().filter(|one| one.server == "store").find_map(|one| one.range).expect("a range");
    let from: usize = resumed["bytes=".len()..].trim_end_matches('-').parse().unwrap();
    assert!(from >= 36_000, "what had come was kept: {resumed}");
}

#[test]
fn a_wish_to_stop_is_heard_while_the_hub_says_nothing() {
    let hub = FakeHub::with(Fault::Silence);
    let stop = AtomicBool::new(true);
    let started = Instant::now();
    assert!(matches!(hub.pull_with(&stop, &mut |_| {}), Err(HubError::Cancelled)));
    assert!(started.elapsed().as_millis() < 250, "{:?}", started.elapsed());
}

#[test]
fn servers_without_ranges_or_with_wrong_ones_cost_time_only() {
    for fault in [Fault::NoRanges, Fault::OtherRange] {
        let hub = FakeHub::with(Fault::Slow);
        let stop = AtomicBool::new(false);
        hub.pull_with(&stop, &mut stop_at(40_000, &stop)).expect_err("stopped");
        hub.set(fault.clone());
        let snapshot = hub.pull().unwrap_or_else(|error| panic!("{fault:?}: {error}"));
        assert_eq!(read(&snapshot.folder, WEIGHTS), weights(), "{fault:?}");
    }
}

#[test]
fn a_partial_file_that_another_program_left_is_used_or_thrown_away() {
    for (left, resumed) in [(weights()[..70_000].to_vec(), true), (vec![7; 70_000], true), (vec![7; 900_000], false)] {
        let hub = FakeHub::start();
        let blobs = hub.client().cache().repo(&RepoId::parse(REPO).unwrap()).join("blobs");
        std::fs::create_dir_all(&blobs).unwrap();
        std::fs::write(blobs.join(format!("{}.incomplete", crate::fake::sha256(&weights()))), &left).unwrap();
        let snapshot = hub.pull().expect("pulled");
        assert_eq!(read(&snapshot.folder, WEIGHTS), weights());
        assert_eq!(hub.seen().iter().any(|one| one.range.is_some()), resumed);
    }
}

#[test]
fn a_busy_or_failing_hub_is_asked_again_and_then_given_up() {
    for status in [429, 500, 503] {
        let hub = FakeHub::with(Fault::Status(status, 3));
        hub.pull().unwrap_or_else(|error| panic!("{status}: {error}"));
        hub.set(Fault::Status(status, 1000));
        let asked = hub.seen().len();
        let error = hub.pull().expect_err("it does not get better");
        assert!(error.is_transient(), "{status}: {error}");
        assert_eq!(hub.seen().len() - asked, 4, "one try and three more");
    }
}

#[test]
fn the_token_goes_to_its_own_origin_only() {
    let hub = FakeHub::start();
    hub.pull().expect("pulled");
    let seen = hub.seen();
    let bearer = format!("Bearer {TOKEN}");
    assert!(seen.iter().filter(|one| one.server == "hub").all(|one| one.authorization.as_deref() == Some(&bearer)));
    let elsewhere: Vec<_> = seen.iter().filter(|one| one.server == "store").collect();
    assert!(!elsewhere.is_empty() && elsewhere.iter().all(|one| one.authorization.is_none()), "{elsewhere:?}");
    assert!(!format!("{:?}", hub.client()).contains(TOKEN), "the token stays out of what is printed");
}

#[test]
fn a_hub_without_sizes_in_its_listing_is_asked_for_each_file() {
    let hub = FakeHub::with(Fault::BareListing);
    let snapshot = hub.pull().expect("pulled");
    assert_eq!(read(&snapshot.folder, WEIGHTS), weights());
}

#[test]
fn too_little_space_is_refused_before_anything_is_written() {
    let hub = FakeHub::start();
    let client = hub.client();
    let never = AtomicBool::new(false);
    let listing = client.list(&RepoId::parse(REPO).unwrap(), "main", &never).expect("listed");
    let selection = hub::select(&listing, &Weights::Any).expect("selected");
    let fetch = Fetch { listing: &listing, selection: &selection, free: Some(100 << 20) };
    let error = client.fetch(&fetch, &never, &mut |_| {}).expect_err("refused");
    assert!(matches!(error, HubError::NoSpace { needed, free, .. } if needed > free), "{error}");
    assert!(error.to_string().contains("210 MB") && error.to_string().contains("105 MB"), "with figures: {error}");
    assert_eq!(hub.seen().len(), 1, "only the listing was asked for");
    assert!(!client.cache().repo(&listing.repo).exists());
}

#[test]
fn parts_come_with_their_list_and_a_missing_part_is_named() {
    let hub = FakeHub::start();
    hub.take_away(WEIGHTS);
    let (one, two) = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors");
    hub.put("model.safetensors.index.json", format!(r#"{{"weight_map":{{"a":"{one}","b":"{two}"}}}}"#).as_bytes());
    hub.put(one, &weights());
    let error = hub.pull().expect_err("a part is missing");
    assert!(matches!(&error, HubError::Incomplete { file, .. } if file == two), "{error}");
    assert!(!hub.seen().iter().any(|seen| seen.server == "store"), "found before any weights are downloaded");
    hub.put(two, &weights()[..100_000]);
    hub.pull().expect("pulled");
    assert!(hub.installed().iter().any(|name| name == two));
}
