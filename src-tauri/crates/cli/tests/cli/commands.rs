//! Every command once, in both forms.

use crate::terminal::Home;
use serde_json::json;
use std::io::Write;
use std::process::{Command, Stdio};

#[test]
fn writing_prints_one_object_and_repeats_with_its_seed() {
    let home = Home::new();
    let first = home.write(7);
    assert_eq!(first["candidates"].as_array().map(Vec::len), Some(2));
    assert_eq!(first["candidates"][0]["id"], first["chosen"], "the winner comes first");
    for field in ["generation_id", "seconds", "tokens_per_second"] {
        assert!(!first[field].is_null(), "{field} is there");
    }
    let scores = &first["candidates"][0]["scores"];
    for field in ["quality", "on_prompt", "fluency", "genre", "total"] {
        assert!(scores[field].is_number(), "{field} is a number: {scores}");
    }
    let again = home.write(7);
    let texts = |result: &serde_json::Value| {
        let mut texts: Vec<_> = result["candidates"].as_array().into_iter().flatten().map(|one| one["text"].to_string()).collect();
        texts.sort();
        texts
    };
    assert_eq!(texts(&first), texts(&again), "the same seed and settings give the same texts");
    assert_ne!(texts(&first), texts(&home.write(8)), "another seed gives others");
}

#[test]
fn in_a_pipe_the_text_alone_is_the_output() {
    let home = Home::new();
    let ended = home.run_words(["write", "A storm at sea", "-n", "2", "--max-tokens", "12", "--seed", "1", "--adapter", "none"]);
    assert_eq!(ended.code, 0, "{}", ended.err);
    assert!(!ended.out.contains("cand_") && !ended.out.trim().is_empty(), "only the winner's text: {}", ended.out);
    assert!(ended.err.contains("cand_") && ended.err.contains("quality"), "scores and ids go to standard error: {}", ended.err);
    let quiet = home.run_words(["write", "A storm at sea", "-n", "2", "--max-tokens", "12", "--seed", "1", "--quiet"]);
    assert_eq!((quiet.out, quiet.err.as_str()), (ended.out, ""), "--quiet says nothing else");
}

#[test]
fn a_prompt_is_read_from_standard_input_and_a_text_is_continued() {
    let home = Home::new();
    let mut child = home
        .command(["write", "-", "-n", "1", "--max-tokens", "8", "--json"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"A lighthouse\n").unwrap();
    let first: serde_json::Value = serde_json::from_slice(&child.wait_with_output().unwrap().stdout).unwrap();
    let candidate = first["chosen"].as_str().unwrap();
    let more = home.run_words(["write", "--continue", candidate, "-n", "1", "--max-tokens", "8", "--json"]).json();
    let (before, after) = (first["candidates"][0]["text"].as_str().unwrap(), more["candidates"][0]["text"].as_str().unwrap());
    assert!(after.starts_with(before.trim_end()) && after.len() > before.len(), "{before:?} goes on as {after:?}");
}

#[test]
fn feedback_finds_its_text_by_id() {
    let home = Home::new();
    let written = home.write(1);
    let id = written["chosen"].as_str().unwrap();
    let stored = home.run_words(["feedback", id, "--up", "--tags", "vivid,warm", "--comment", "lovely", "--json"]).json();
    assert!(stored["feedback_id"].as_str().is_some_and(|id| id.starts_with("fb_")), "{stored}");
    assert_eq!(stored["taste"]["thumbs"], 1);
    assert_eq!(home.run_words(["feedback", id, "--tags", "pos", "--json"]).code, 0, "a tag alone is a verdict");
    assert_eq!(home.run_words(["feedback", id, "this is great", "--json"]).code, 0, "so are words");
    let edit = home.path().join("mine.txt");
    std::fs::write(&edit, "My own version of it.").unwrap();
    assert_eq!(
        home.run_words(["feedback".as_ref(), id.as_ref(), "--edit".as_ref(), edit.as_os_str(), "--json".as_ref()]).code,
        0,
        "so is an edit"
    );
    let unknown = home.run("feedback cand_none --up --json");
    assert_eq!((unknown.code, &unknown.error()["code"]), (1, &json!("not_found")));
    let unclear = home.run_words(["feedback", id, "--tags", "blue", "--json"]);
    assert_eq!((unclear.code, &unclear.error()["code"]), (2, &json!("invalid_input")), "neither yes nor no");
    assert_eq!(home.run_words(["feedback", id, "--up", "--down"]).code, 2, "both thumbs are none");
}

#[test]
fn settings_are_read_changed_and_refused_with_every_fault() {
    let home = Home::new();
    assert_eq!(home.run("settings get candidates").out.trim(), "4");
    assert_eq!(home.run("settings set candidates=6 theme=dark --json").json()["theme"], "dark");
    assert_eq!(home.run("settings get candidates --json").json(), json!(6));
    let refused = home.run("settings set candidates=99 temperature=warm nothing=1 --json");
    assert_eq!((refused.code, refused.error()["detail"].as_array().map(Vec::len)), (2, Some(3)), "{}", refused.out);
    let spoken = home.run("settings set candidates=99 temperature=9");
    assert!(spoken.err.contains("error: ") && spoken.err.contains("  temperature: "), "each fault has its line: {}", spoken.err);
    assert_eq!(home.run("settings get nothing --json").code, 2);
}

#[test]
fn lists_are_empty_at_first_and_say_what_fills_them() {
    let home = Home::new();
    for list in ["runs", "jobs", "adapters"] {
        assert_eq!(home.run(&format!("{list} --json")).json(), json!([]), "{list}");
        let words = home.run(list);
        assert_eq!(words.code, 0);
        assert!(words.out.contains("No ") || words.out.contains("empty"), "{list}: {}", words.out);
    }
    let card = home.run("taste --json").json();
    assert_eq!(card["summary"]["thumbs"], 0);
    assert!(!home.run("taste").out.trim().is_empty());
}

#[test]
fn ids_that_do_not_exist_end_with_1() {
    let home = Home::new();
    for line in [
        "runs show run_none",
        "runs chart run_none",
        "runs resume run_none",
        "runs delete run_none",
        "runs decide run_none keep",
        "jobs cancel job_none",
        "jobs pause job_none",
        "adapters activate ad_none",
        "adapters export ad_none --out /nowhere",
        "adapters delete ad_none",
        "write --continue cand_none x",
        "train soft-prompt --resume-from run_none",
    ] {
        let ended = home.run(&format!("{line} --json"));
        assert_eq!((ended.code, &ended.error()["code"]), (1, &json!("not_found")), "{line}: {}", ended.out);
    }
}

#[test]
fn the_doctor_reports_a_healthy_installation() {
    let home = Home::new();
    let report = home.run("doctor --json").json();
    assert_eq!(report["problems"], json!([]));
    assert_eq!(report["models"][0]["id"], "story");
    let allowed = report["network_allowed"].as_array().expect("a list");
    assert_eq!(allowed.len(), 1, "no server was entered, so only downloads that are started: {allowed:?}");
    assert!(allowed[0].as_str().is_some_and(|address| address.contains("downloads that you start")));
    assert!(home.run("doctor").out.contains("No problems found."));
}

#[test]
fn models_are_listed_imported_made_the_default_and_removed() {
    let home = Home::new();
    let listed = home.run("models --json").json();
    assert_eq!(listed["models"][0]["id"], "story");
    assert!(listed["catalogue"].as_array().is_some_and(|entries| entries.len() >= 12));
    assert!(home.run("models list").out.contains("inkling models pull"));
    let story = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../assets/models/story");
    let imported = home.run_words(["models", "import", story, "--name", "Tale", "--in-place", "--json"]).json();
    assert_eq!((&imported["id"], &imported["kind"], &imported["origin"]), (&json!("tale"), &json!("story"), &json!("import")));
    assert_eq!(home.run("models default tale --json").json()["defaultBase"], "tale");
    assert_eq!(home.run("models remove tale --json").json()["files_deleted"], json!(false), "what is used in place stays");
    assert_eq!(home.run("models remove story").code, 1, "the built-in base stays");
    assert_eq!(home.run("models pull ../evil").code, 2);
}

#[test]
fn completions_and_the_manual_need_no_data_folder() {
    let home = Home::new();
    for shell in ["bash", "zsh", "fish"] {
        let script = home.run(&format!("completions {shell}"));
        assert!(script.code == 0 && script.out.contains("inkling") && script.out.contains("soft-prompt"), "{shell}");
    }
    let manual = home.run("man");
    assert!(manual.out.starts_with(".ie") || manual.out.contains(".TH"), "a roff page");
    assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 0, "nothing was made");
    assert_eq!(home.run("--version").code, 0);
    let help = home.run("train soft-prompt --help").out;
    for flag in [
        "--db-path",
        "--output-dir",
        "--run-directory",
        "--run-id",
        "--resume-from",
        "--base-model",
        "--max-samples",
        "--epochs",
        "--learning-rate",
        "--batch-size",
        "--source-max-tokens",
        "--target-max-tokens",
        "--num-virtual-tokens",
        "--json",
    ] {
        assert!(help.contains(flag), "the kept flag {flag}");
    }
    let help = home.run("train adapter --help").out;
    for flag in [
        "--mode",
        "--base-model",
        "--data",
        "--output-dir",
        "--epochs",
        "--lr",
        "--batch-size",
        "--grad-accum",
        "--max-seq-len",
        "--quantization",
        "--peft",
        "--rank",
        "--alpha",
        "--dropout",
        "--checkpoint-steps",
        "--checkpoint-total-limit",
        "--resume-from",
        "--no-resume",
        "--search",
        "--search-minutes",
        "--target-modules",
    ] {
        assert!(help.contains(flag), "the kept flag {flag}");
    }
    for word in ["orpo", "qlora", "int4", "int8", "fp16", "bf16"] {
        assert!(help.contains(word), "the kept choice {word}");
    }
}

#[test]
fn alone_without_a_display_it_says_what_to_do() {
    let home = Home::new();
    let ended = home.run_words::<&str>([]);
    assert_eq!(ended.code, 1);
    assert!(ended.err.contains("hint: ") && ended.err.contains("inkling serve"), "{}", ended.err);
}

#[test]
fn the_old_name_of_the_trainer_still_works() {
    let home = Home::new();
    let link = home.path().join("train_soft_prompt");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_inkling"), &link).unwrap();
    let data = home.path().join("data");
    let output = Command::new(&link).args(["--epochs", "1", "--json"]).env("INKLING_HOME", data).output().unwrap();
    let error: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), &error["error"]["code"]), (Some(1), &json!("not_ready")), "it has no data, and exits with 1");
    assert_eq!(home.run("train_soft_prompt --json").error()["code"], "not_ready", "also as a command");
}

#[test]
fn comparisons_versions_scores_and_exports_have_their_commands() {
    let home = Home::new();
    let written = home.write(3);
    let id = |at: usize| written["candidates"][at]["id"].as_str().unwrap().to_owned();
    let preferred = home.run_words(["prefer", &id(1), &id(0), "--json"]).json();
    assert!(preferred["preference_id"].as_str().is_some_and(|id| id.starts_with("pref_")), "{preferred}");
    assert_eq!(home.run_words(["feedback", &id(0), "not good at all", "--tags", "slow"]).code, 0, "words alone are a verdict");
    let versions = home.run_words(["taste", "versions", "--json"]).json();
    assert_eq!(versions.as_array().map(Vec::len), Some(2), "one for the comparison, one for the verdict: {versions}");
    assert_eq!(home.run_words(["taste", "restore", "1", "--json"]).json()["summary"]["pinned"], true);
    let score = home.run_words(["taste", "score", "The lamp burned.", "--json"]).json();
    assert!(score["score"].as_f64().is_some_and(|score| (0.0..=1.0).contains(&score)), "{score}");
    let out = home.path().join("exported");
    let exported = home.run_words(["export", "dpo", "--out", &out.display().to_string(), "--json"]).json();
    assert_eq!(exported["files"][0]["rows"], 1, "{exported}");
    assert!(out.join("dpo.jsonl").is_file());
    assert_eq!(home.run_words(["export", "sft", "--out", &out.display().to_string()]).code, 1, "nothing is liked yet");
    assert_eq!(home.run_words(["runs", "blind", "run_none", "--answer", "1=maybe"]).code, 2, "an answer that cannot be read");
}

#[test]
fn auto_train_prints_its_result_and_refuses_unknown_genres() {
    let home = Home::new();
    let unknown = home.run("auto-train --genres fantasy,western --num-examples 0 --json");
    assert_eq!((unknown.code, unknown.error()["detail"].as_array().map(Vec::len)), (2, Some(2)), "every fault at once");
    let ended = home.run("auto-train --num-examples 2 --genres fantasy,sci_fi --store-in-memory -n 2 --seed 11 --json");
    assert_eq!(ended.code, 0, "{}{}", ended.out, ended.err);
    let result = ended.json();
    assert_eq!((&result["total_requested"], &result["stored_in_memory"], &result["state"]), (&json!(2), &json!(true), &json!("completed")));
    assert_eq!(result["genre_distribution"].as_object().map(serde_json::Map::len), Some(2));
    let words = home.run("auto-train --num-examples 2 --genres horror -n 1 --max-tokens 16 --seed 2");
    assert!(words.code == 0 && words.out.contains("0 of 2 texts were kept"), "texts that are cut off are not kept: {}", words.out);
    assert!(words.err.contains("not kept:"), "each example is told: {}", words.err);
}
