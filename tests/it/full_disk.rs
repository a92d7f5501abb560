//! R4, short form: a disk that is really full. A small file system is mounted in a namespace of its own, so nothing else sees it.

use crate::child::executable;
use std::process::{Command, Output};

/// What the person does; `$B` is the command, `$D` the mounted folder.
const SESSION: &str = r#"
    mount -t tmpfs -o size=4m tmpfs "$D" && export INKLING_HOME="$D/home" && trap 'rm -f "$D/filler"' EXIT
    echo MOUNTED
    "$B" write "the first fox" -n 1 --max-tokens 12 --seed 1 --json > "$D/first.json" || exit 10
    id=$(sed 's/.*"chosen":"\([^"]*\)".*/\1/' "$D/first.json")
    dd if=/dev/zero of="$D/filler" bs=4k count=4000 2>/dev/null
    "$B" write "the second fox" -n 1 --max-tokens 12 --json && exit 11
    "$B" feedback "$id" --up --json && exit 12
    "$B" train soft-prompt --steps 2 --json && exit 13
    rm "$D/filler"
    "$B" feedback "$id" --up --json || exit 14
    "$B" write "the third fox" -n 1 --max-tokens 12 --json || exit 15
    "$B" doctor --json || exit 16
"#;

#[test]
fn a_full_disk_is_named_and_what_was_saved_stays_usable() {
    let folder = tempfile::tempdir().expect("a folder");
    let output: Output = Command::new("unshare")
        .args(["--map-root-user", "--mount", "sh", "-c", SESSION])
        .env("B", executable())
        .env("D", folder.path())
        .output()
        .expect("unshare is part of every Linux");
    let said = String::from_utf8_lossy(&output.stdout);
    if !said.contains("MOUNTED") {
        println!("not tried: this machine allows no mount namespaces ({})", String::from_utf8_lossy(&output.stderr).trim());
        return;
    }
    assert_eq!(output.status.code(), Some(0), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let refusals = said.lines().filter(|line| line.contains("\"disk_full\"")).count();
    assert_eq!(refusals, 3, "writing, judging and training all say that the disk is full: {said}");
    assert!(said.lines().filter(|line| line.contains("disk_full")).all(|line| line.contains("hint")), "with a hint: {said}");
    assert!(said.contains("\"feedback_id\""), "once there is room, the thumb is stored: {said}");
    println!("R4: a full disk refused {refusals} writes, nothing saved was lost");
}
