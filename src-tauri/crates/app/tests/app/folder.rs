use crate::{Desk, PROMPTS, close, open, short};
use app::{App, OpenOptions, Opened};
use domain::*;

#[test]
fn a_second_start_learns_who_holds_the_folder() {
    let desk = Desk::open();
    let again = App::open(OpenOptions { data_dir: Some(desk.folder.path().to_owned()), assets_dir: None, ..OpenOptions::default() })
        .expect("answers");
    let Opened::HeldBy(holder) = again else { panic!("two owners") };
    assert_eq!(holder.pid, std::process::id());
    assert_eq!(holder.socket, desk.app.socket_path());
}

#[test]
fn a_folder_of_a_newer_version_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    close(open(folder.path()));
    let database = folder.path().join("inkling.db");
    let mut bytes = std::fs::read(&database).expect("a database");
    // The user version stands at offset 60 of the header (SQLite file format, 1.3).
    bytes[60..64].copy_from_slice(&9999u32.to_be_bytes());
    std::fs::write(&database, &bytes).expect("written");
    let error = App::open(OpenOptions { data_dir: Some(folder.path().to_owned()), assets_dir: None, ..OpenOptions::default() })
        .err()
        .expect("newer");
    assert_eq!(error.code, ErrorCode::NewerData);
    assert!(error.hint.is_some());
    assert_eq!(std::fs::read(&database).expect("still there"), bytes, "untouched");
}

#[test]
fn everything_moves_to_another_folder_without_a_restart() {
    // The pointer file goes to a private place.
    let config = tempfile::tempdir().expect("a folder");
    // SAFETY: the other tests of this binary read no configuration folder.
    unsafe { std::env::set_var("XDG_CONFIG_HOME", config.path()) };
    let desk = Desk::open();
    let result = desk.app.write(short(PROMPTS[0], 1)).expect("written");
    let events = desk.app.subscribe();
    let parent = tempfile::tempdir().expect("a folder");
    let target = parent.path().join("moved");
    let refused = desk.app.move_data_folder(DataFolderMove { path: "relative".to_owned() }).expect_err("relative");
    assert_eq!(refused.code, ErrorCode::InvalidInput);
    let status = desk.app.move_data_folder(DataFolderMove { path: target.display().to_string() }).expect("moved");
    assert_eq!(status.data_dir, target.display().to_string());
    desk.app.generation(GenerationRef { generation_id: result.generation_id }).expect("the text came along");
    events.try_iter().for_each(drop);
    desk.app.save_draft(Draft { json: "{}".to_owned() }).expect("saved");
    let heard = events.recv_timeout(std::time::Duration::from_secs(5)).expect("listeners follow to the new folder");
    assert!(matches!(heard.change, Change::DraftSaved));
    assert!(desk.folder.path().join("inkling.db").is_file(), "the old folder stays as it was");
}
