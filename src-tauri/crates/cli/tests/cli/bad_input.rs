//! Each kind of bad input gives a code, a sentence and a hint, and loses nothing.

use crate::terminal::Home;
use serde_json::json;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

#[test]
fn unusable_requests_end_with_2_and_name_their_fields() {
    let home = Home::new();
    let long = "x".repeat(10);
    let cases: &[(&[&str], &str)] = &[
        (&["write", ""], "prompt"),
        (&["write"], "prompt"),
        (&["write", "a", "-n", "99"], "n"),
        (&["write", "a", "--genre", "fantasy=0", "--genre", "horror=0"], "genres"),
        (&["write", "a", "--genre", "fantasy=-1"], "genres.fantasy"),
        (&["write", "a", "--genre", "western=3"], "genre"),
        (&["write", "a", "--genre", "fantasy=much"], "genres"),
        (&["write", "a", "--style", "baroque"], "style"),
        (&["write", "a", "--temperature", "9"], "temperature"),
        (&["write", "a", "--max-tokens", "100000"], "max_tokens"),
        (&["write", "a", "--adapter", "ad_1=strong"], "adapters"),
        (&["train", "soft-prompt", "--steps", "0"], "hyperparameters.steps"),
        (&["train", "soft-prompt", "--learning-rate", "7"], "hyperparameters.learning_rate"),
        (&["train", "soft-prompt", "--run-id", &long], "run_id"),
        (&["train", "soft-prompt", "--run-id", "../elsewhere", "--output-dir", "/tmp/x"], "run_id"),
        (&["train", "adapter", "--rank", "0"], "hyperparameters.rank"),
        (&["train", "adapter", "--lr", "-1"], "hyperparameters.learning_rate"),
        (&["train", "adapter", "--dropout", "1"], "hyperparameters.dropout"),
        (&["train", "adapter", "--target-modules", "q_proj,wq"], "hyperparameters.target_modules"),
        (&["train", "adapter", "--peft", "qlora", "--quantization", "fp16"], "quantization"),
        (&["train", "adapter", "--peft", "qlora", "--quantization", "bf16"], "quantization"),
        (&["train", "adapter", "--search-minutes", "-1"], "search.minutes"),
        (&["train", "adapter", "--data", "/no/such/file.jsonl"], "dataset"),
        (&["train", "soft-prompt", "--db-path", "/no/such/place"], "db_path"),
        (&["train", "soft-prompt", "--resume-from", "run_1", "--epochs", "3"], "epochs"),
        (&["serve", "--host", "0.0.0.0", "--port", "0"], "host"),
    ];
    for (words, field) in cases {
        let ended = home.run_words(words.iter().chain(&["--json"]));
        let error = ended.error();
        assert_eq!((ended.code, &error["code"]), (2, &json!("invalid_input")), "{words:?}: {}", ended.out);
        assert_eq!(error["detail"][0]["field"], *field, "{words:?}: {error}");
        assert!(error["hint"].is_string(), "{words:?} says what to do: {error}");
        let spoken = home.run_words(*words);
        assert!(spoken.code == 2 && spoken.err.starts_with("error: ") && spoken.err.contains("hint: "), "{words:?}: {}", spoken.err);
        assert_eq!(spoken.out, "", "{words:?}: errors are no output");
    }
    assert_eq!(home.run("jobs --json").json(), json!([]), "nothing was queued");
}

#[test]
fn several_faults_come_at_once() {
    let home = Home::new();
    let error = home.run_words(["write", "a", "--genre", "western=3", "--genre", "noir", "--style", "baroque", "--json"]).error();
    assert_eq!(error["detail"].as_array().map(Vec::len), Some(3), "{error}");
    let error = home.run_words(["write", "", "-n", "0", "--temperature", "9", "--json"]).error();
    assert_eq!(error["detail"].as_array().map(Vec::len), Some(3), "{error}");
}

#[test]
fn a_mistyped_command_is_an_error_in_the_wanted_form() {
    let home = Home::new();
    let ended = home.run("wrote --json");
    assert_eq!((ended.code, &ended.error()["code"]), (2, &json!("invalid_input")));
    let ended = home.run("write a -n many");
    assert!(ended.code == 2 && ended.err.contains("many"), "{}", ended.err);
}

#[test]
fn a_training_without_examples_ends_with_1_and_says_what_is_missing() {
    let home = Home::new();
    for line in ["train soft-prompt", "train soft-prompt --db-path ."] {
        let mut command = home.command(line.split_whitespace().chain(["--json"]));
        let output = command.current_dir(home.path()).output().unwrap();
        let error: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!((output.status.code(), &error["error"]["code"]), (Some(1), &json!("not_ready")), "{line}");
        assert!(error["error"]["hint"].is_string());
    }
    assert_eq!(home.run("runs --json").json(), json!([]), "no run was made");
}

#[test]
fn a_missing_model_is_said_and_the_rest_works() {
    let nothing = TempDir::new().unwrap();
    let home = Home::with_assets(nothing.path());
    let ended = home.run_words(["write", "a", "--json"]);
    let error = ended.error();
    assert_eq!((ended.code, &error["code"]), (1, &json!("model_missing")), "{error}");
    assert!(error["hint"].is_string());
    assert_eq!(home.run("settings get candidates --json").json(), json!(4), "settings open without it");
    let doctor = home.run("doctor --json");
    assert_eq!(doctor.code, 1, "the doctor finds it");
    assert!(doctor.out.contains("model_missing"), "{}", doctor.out);
}

#[test]
fn a_damaged_model_is_said() {
    let copy = TempDir::new().unwrap();
    copy_folder(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../assets")), copy.path());
    let weights = copy.path().join("models/story/model.safetensors");
    let mut bytes = std::fs::read(&weights).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&weights, &bytes).unwrap();
    let home = Home::with_assets(copy.path());
    let ended = home.run_words(["write", "a", "--json"]);
    let error = ended.error();
    assert_eq!((ended.code, &error["code"]), (1, &json!("model_damaged")), "one flipped bit: {error}");
    assert!(error["hint"].is_string());
    std::fs::write(&weights, &bytes[..middle]).unwrap();
    assert_eq!(home.run_words(["write", "a", "--json"]).error()["code"], "model_damaged", "cut in half");
}

#[test]
fn a_data_folder_that_cannot_be_used_is_said() {
    let home = Home::new();
    let file = home.path().join("file");
    std::fs::write(&file, "not a folder").unwrap();
    let ended = home.run_words(["taste".as_ref(), "--json".as_ref(), "--data-dir".as_ref(), file.as_os_str()]);
    let error = ended.error();
    assert_eq!((ended.code, &error["code"]), (1, &json!("storage")), "{error}");
    assert!(error["hint"].is_string());
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        let target: PathBuf = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[test]
fn a_damaged_database_is_named_and_a_backup_takes_its_place() {
    let home = Home::new();
    let written = home.write(3);
    let (database, backup) = (home.path().join("inkling.db"), home.path().join("my-backup.db"));
    std::fs::copy(&database, &backup).expect("copied while nothing runs");
    std::fs::write(&database, [b'x'; 9000]).expect("damaged");
    let refused = home.run_words(["runs", "--json"]);
    assert_eq!(refused.code, 1);
    assert!(refused.out.contains("\"damaged\"") && refused.out.contains("inkling restore"), "{}", refused.out);
    let restored = home.run_words(["restore", &backup.display().to_string()]);
    assert_eq!(restored.code, 0, "{}", restored.err);
    assert_eq!(home.write(3)["candidates"][0]["text"], written["candidates"][0]["text"], "it writes again");
    let history = std::fs::read(&database).expect("the database");
    assert!(history.starts_with(b"SQLite format 3"), "a database is back in its place");
}
