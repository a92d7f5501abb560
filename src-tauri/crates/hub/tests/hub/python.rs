//! The hub's own Python package finds what was downloaded here, in the same cache.

use crate::fake::{COMMIT, FakeHub, REPO};
use std::process::Command;

/// Prints the folder, without asking any server.
const FIND: &str = "
import sys
from huggingface_hub import snapshot_download, try_to_load_from_cache, scan_cache_dir, __version__
cache, repo = sys.argv[1:]
print(__version__)
print(snapshot_download(repo, cache_dir=cache, local_files_only=True))
print(try_to_load_from_cache(repo, 'model.safetensors', cache_dir=cache))
report = scan_cache_dir(cache)
print(len(report.repos), len(report.warnings))
";

#[test]
fn the_python_package_finds_what_was_downloaded_here() {
    let hub = FakeHub::start();
    let snapshot = hub.pull().expect("pulled");
    let python = std::env::var("INKLING_REFERENCE_PYTHON").unwrap_or_else(|_| "/tmp/refenv/bin/python".into());
    let found = Command::new(&python).args(["-c", FIND]).arg(hub.cache.path()).arg(REPO).env("HF_HUB_OFFLINE", "1").output();
    let output = match found {
        Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout).into_owned(),
        Ok(output) if !String::from_utf8_lossy(&output.stderr).contains("No module named") => {
            panic!("{}", String::from_utf8_lossy(&output.stderr))
        }
        _ => {
            println!("not tried: {python} has no huggingface_hub (INKLING_REFERENCE_PYTHON names another one)");
            return;
        }
    };
    let lines: Vec<&str> = output.lines().collect();
    assert_eq!(lines[1], snapshot.folder.to_string_lossy(), "the whole snapshot");
    assert_eq!(lines[2], snapshot.folder.join("model.safetensors").to_string_lossy(), "one file");
    assert_eq!(lines[3], "1 0", "one repository and no complaint");
    assert!(snapshot.folder.ends_with(COMMIT));
    println!("found by huggingface_hub {}", lines[0]);
}
