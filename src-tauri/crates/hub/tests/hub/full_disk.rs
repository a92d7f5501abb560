//! A disk that fills up while a model comes. The file system is a small one, mounted in a namespace of its own for a child of
//! this program, so that nothing else sees it.

use crate::fake::{FakeHub, REPO, WEIGHTS, read, weights};
use domain::{ApiError, ErrorCode};
use hub::{Fetch, HubError, RepoId, Snapshot, Weights};
use std::process::Command;
use std::sync::atomic::AtomicBool;

/// Set in the child.
const FOLDER: &str = "INKLING_TEST_SMALL_DISK";

/// Smaller than the fake hub's weights of 300 kB. `TMPDIR` is where the fake hub's cache goes.
const CHILD: &str = r#"
    mount -t tmpfs -o size=128k tmpfs "$INKLING_TEST_SMALL_DISK" && echo MOUNTED &&
    TMPDIR="$INKLING_TEST_SMALL_DISK" exec "$PROGRAM" --exact full_disk::a_download_meets_the_end_of_a_disk --ignored --nocapture
"#;

#[test]
fn a_disk_that_fills_up_during_a_download_is_named_and_the_download_goes_on_where_it_ended() {
    let folder = tempfile::tempdir().expect("a folder");
    let program = std::env::current_exe().expect("this program");
    let output = Command::new("unshare")
        .args(["--map-root-user", "--mount", "sh", "-c", CHILD])
        .env(FOLDER, folder.path())
        .env("PROGRAM", program)
        .output()
        .expect("unshare is part of every Linux");
    let said = String::from_utf8_lossy(&output.stdout);
    if !said.contains("MOUNTED") {
        println!("not tried: this machine allows no mount namespaces ({})", String::from_utf8_lossy(&output.stderr).trim());
        return;
    }
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("1 passed"), "the child ran its test: {said}");
}

/// As [`FakeHub::pull`], but told that there is room, as when another program takes it meanwhile.
fn pull(hub: &FakeHub) -> Result<Snapshot, HubError> {
    let (client, go_on) = (hub.client(), AtomicBool::new(false));
    let listing = client.list(&RepoId::parse(REPO)?, "main", &go_on)?;
    let selection = hub::select(&listing, &Weights::Any)?;
    client.fetch(&Fetch { listing: &listing, selection: &selection, free: Some(1 << 40) }, &go_on, &mut |_| {})
}

#[test]
#[ignore = "run by the test above, on a small file system"]
fn a_download_meets_the_end_of_a_disk() {
    let disk = std::env::var(FOLDER).expect("started by the test above");
    let hub = FakeHub::start();
    let error = pull(&hub).expect_err("300 kB do not fit 128 kB");
    let error = ApiError::from(error);
    assert_eq!(error.code, ErrorCode::DiskFull, "{error}");
    assert!(error.hint.is_some_and(|hint| hint.contains("space")), "a person can free some");
    assert_eq!((hub.installed(), hub.refs()), (Vec::<String>::new(), None), "half a model is no model");

    let grown = Command::new("mount").args(["-o", "remount,size=4m", &disk]).status().expect("mount");
    assert!(grown.success());
    let snapshot = pull(&hub).expect("there is room now");
    assert_eq!(read(&snapshot.folder, WEIGHTS), weights());
    let resumed = hub.seen().into_iter().filter(|one| one.server == "store").find_map(|one| one.range).expect("a range");
    let from: usize = resumed["bytes=".len()..].trim_end_matches('-').parse().expect("a number");
    assert!(from > 50_000, "what had come was kept: {resumed}");
}
