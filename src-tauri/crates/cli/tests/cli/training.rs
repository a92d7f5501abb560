//! A training from the terminal: its JSON lines, Ctrl-C and resume, and what it leaves behind.

use crate::terminal::{Ended, Home};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::process::Command;

/// A home with liked texts.
fn liked(texts: u32) -> Home {
    let home = Home::new();
    for seed in 0..texts {
        let written = home.write(seed);
        assert_eq!(home.run_words(["feedback", written["chosen"].as_str().unwrap(), "--up"]).code, 0);
    }
    home
}

fn named<'a>(lines: &'a [Value], event: &str) -> Vec<&'a Value> {
    lines.iter().filter(|line| line["event"] == event).collect()
}

fn steps(lines: &[Value]) -> Vec<u64> {
    named(lines, "metric").iter().filter_map(|line| line["step"].as_u64()).collect()
}

#[test]
fn a_training_tells_its_points_and_ends_with_its_verdict() {
    let home = liked(3);
    let out = home.path().join("results");
    let line = "train soft-prompt --steps 6 --batch-size 1 --num-virtual-tokens 4 --target-max-tokens 32 --seed 5 --json --output-dir";
    let ended = home.run_words(line.split_whitespace().map(Into::into).chain([out.clone().into_os_string()]));
    assert_eq!(ended.code, 0, "{}{}", ended.out, ended.err);
    let lines = ended.lines();
    assert_eq!((&lines[0]["event"], &lines[0]["total_steps"]), (&json!("started"), &json!(6)), "{}", lines[0]);
    let told = steps(&lines);
    assert!(
        told.first() == Some(&0) && told.last() == Some(&6) && told.is_sorted_by(|a, b| a < b),
        "from first to last, in order: {told:?}"
    );
    assert!(named(&lines, "metric").iter().all(|line| line["loss"].is_number() && line["eta_s"].is_number()));
    let phases: Vec<_> = named(&lines, "phase").iter().filter_map(|line| line["phase"].as_str()).collect();
    assert!(phases.starts_with(&["prepare"]) && phases.ends_with(&["evaluate"]), "{phases:?}");
    let last = lines.last().unwrap();
    assert_eq!(last["event"], "finished");
    for field in ["run_id", "adapter_id", "final_loss", "seconds", "peak_memory_mb"] {
        assert!(!last[field].is_null(), "{field}");
    }
    for field in ["win_rate", "low", "high", "fluency_ratio", "diversity_ratio", "promoted", "reason"] {
        assert!(!last["verdict"][field].is_null(), "verdict.{field}");
    }

    let (run, adapter) = (last["run_id"].as_str().unwrap(), last["adapter_id"].as_str().unwrap());
    assert_eq!(std::fs::read_link(out.join("latest")).unwrap().to_str(), Some(run), "latest leads to the result");
    for file in ["adapter_config.json", "adapter_model.safetensors", "training_run.json"] {
        assert!(out.join("latest").join(file).is_file(), "{file}");
    }
    let record: Value = serde_json::from_slice(&std::fs::read(out.join("latest/training_run.json")).unwrap()).unwrap();
    for field in ["base_model", "samples_used", "epochs", "learning_rate", "run_directory", "trained_at", "final_loss", "run_id"] {
        assert!(!record[field].is_null(), "the kept field {field}");
    }
    let shown = home.run(&format!("runs show {run} --json")).json();
    assert_eq!(shown["status"], "completed");
    let chart = home.path().join("loss.svg");
    let saved = home.run(&format!("runs chart {run} --out {} --json", chart.display())).json();
    assert_eq!(saved["path"].as_str(), chart.to_str());
    assert!(std::fs::read_to_string(&chart).unwrap().contains("<svg"));
    assert_eq!(home.run(&format!("runs decide {run} keep --json")).json()["state"], "active");
    let written = home.write(1);
    assert!(written.to_string().contains("story + "), "the kept adapter writes: {written}");
    assert_eq!(home.run(&format!("runs decide {run} undo --json")).code, 0);
    assert!(!home.write(1).to_string().contains("story + "), "undone, it does not");
    assert_eq!(home.run(&format!("adapters activate {adapter} --strength 0.5 --json")).json()["strength"], 0.5);
    assert_eq!(home.run(&format!("adapters deactivate {adapter} --json")).json()["id"], adapter);
}

#[test]
fn ctrl_c_pauses_at_a_checkpoint_and_resume_goes_on_from_there() {
    let home = liked(2);
    let mut child = home.start("train soft-prompt --steps 400 --batch-size 1 --num-virtual-tokens 4 --target-max-tokens 32 --json");
    let mut told = Vec::new();
    let mut interrupted = false;
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line: Value = serde_json::from_str(&line.unwrap()).unwrap();
        if !interrupted && line["event"] == "metric" && line["step"].as_u64() >= Some(3) {
            interrupted = true;
            assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
        }
        told.push(line);
    }
    assert_eq!(child.wait().unwrap().code(), Some(1), "it is not done");
    let last = told.last().unwrap();
    assert_eq!(last["event"], "interrupted", "{last}");
    let (run, stopped) = (last["run_id"].as_str().unwrap(), last["step"].as_u64().unwrap());
    assert!((3..400).contains(&stopped), "it stopped where it was, not at the end: {stopped}");
    assert_eq!(home.run(&format!("runs show {run} --json")).json()["status"], "paused");

    let mut child = home.start(&format!("runs resume {run} --json"));
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let first =
        lines.map_while(Result::ok).filter_map(|line| serde_json::from_str::<Value>(&line).ok()).find(|line| line["event"] == "metric");
    let next = first.and_then(|line| line["step"].as_u64());
    assert!(next.is_some_and(|step| step > stopped), "it goes on where it stopped, at {stopped}: {next:?}");
    child.kill().unwrap();
    child.wait().unwrap();
    // Killed: the next start finds it interrupted, and it can still be resumed or cancelled.
    let found = home.run(&format!("runs show {run} --json")).json();
    assert_eq!(found["status"], "interrupted");
    let cancelled = home.run(&format!("jobs cancel {} --json", found["job_id"].as_str().unwrap()));
    assert_eq!(cancelled.json()["state"], "cancelled");
}

#[test]
fn a_training_runs_in_the_owner_and_is_followed_from_here() {
    let home = liked(2);
    let mut server = home.start("serve --port 0 --json");
    let mut first = String::new();
    BufReader::new(server.stdout.as_mut().unwrap()).read_line(&mut first).unwrap();
    let ended: Ended = home.run("train soft-prompt --steps 4 --batch-size 1 --num-virtual-tokens 4 --target-max-tokens 32 --json");
    let lines = ended.lines();
    assert_eq!(ended.code, 0, "{}", ended.out);
    let told = steps(&lines);
    assert!(told.first() == Some(&0) && told.last() == Some(&4), "no point is lost on the way: {told:?}");
    assert_eq!(lines.last().unwrap()["event"], "finished");
}

#[test]
fn a_search_tells_its_trials_and_the_result_lies_where_the_old_command_put_it() {
    let home = Home::new();
    let out = home.path().join("results");
    let rows = home.path().join("rows.jsonl");
    let row =
        |index: usize| json!({"prompt": format!("story {index}"), "completion": format!("A fox ran home {index} times.")}).to_string();
    std::fs::write(&rows, (0..6).map(row).collect::<Vec<_>>().join("\n")).unwrap();
    let line =
        "train adapter --steps 4 --rank 2 --target-modules q_proj,v_proj --layers 2 --dropout 0 --max-seq-len 32 --search-minutes 2 --json";
    let files = ["--output-dir".into(), out.clone().into_os_string(), "--data".into(), rows.into_os_string()];
    let ended = home.run_words(line.split_whitespace().map(std::ffi::OsString::from).chain(files));
    assert_eq!(ended.code, 0, "{}{}", ended.out, ended.err);
    let lines = ended.lines();
    let phases: Vec<_> = named(&lines, "phase").iter().filter_map(|line| line["number"].as_u64()).collect();
    assert_eq!(phases, [1, 2, 3, 4]);
    let trials = named(&lines, "trial");
    assert!(trials.len() > 3 && trials.iter().any(|line| line["trial"]["rungs"][0]["heldout_loss"].is_number()), "{trials:?}");
    let found = named(&lines, "searched");
    assert_eq!(found.len(), 1);
    assert!(found[0]["found"]["reason"].as_str().is_some_and(|reason| !reason.is_empty()));
    let last = lines.last().unwrap();
    for field in ["adapter_id", "metrics", "artifact"] {
        assert!(!last[field].is_null(), "the kept field {field}: {last}");
    }
    assert!(std::path::Path::new(last["artifact"].as_str().unwrap()).join("adapter_config.json").is_file());
    assert!(last["metrics"]["loss"].is_number() && last["metrics"]["heldout_loss"].is_number(), "{last}");
    let run = last["run_id"].as_str().unwrap();
    let search = home.run(&format!("runs trials {run} --json")).json();
    assert_eq!(search["found"]["winner"], found[0]["found"]["winner"]);
    let table = home.run(&format!("runs trials {run}")).out;
    assert!(table.contains("default") && table.contains("chosen") && table.contains("4 steps"), "{table}");
    let none = home.run("runs trials run_none --json");
    assert_eq!((none.code, &none.error()["code"]), (1, &json!("not_found")));
}

#[test]
fn a_run_is_named_and_placed_as_the_old_command_did_and_found_again() {
    let home = liked(2);
    let (out, exactly) = (home.path().join("results"), home.path().join("here/it/is"));
    let line = "train soft-prompt --steps 2 --batch-size 1 --num-virtual-tokens 2 --target-max-tokens 16 --json";
    let train = |more: &[&std::ffi::OsStr]| {
        let ended = home.run_words(line.split_whitespace().map(std::ffi::OsStr::new).chain(more.iter().copied()));
        assert_eq!(ended.code, 0, "{}{}", ended.out, ended.err);
        ended.lines().pop().unwrap()["run_id"].as_str().unwrap().to_owned()
    };
    let own = train(&["--run-id".as_ref(), "winter-2".as_ref(), "--output-dir".as_ref(), out.as_ref()]);
    let record =
        |folder: &std::path::Path| -> Value { serde_json::from_slice(&std::fs::read(folder.join("training_run.json")).unwrap()).unwrap() };
    let named = out.join("winter-2");
    assert_eq!((&record(&named)["run_id"], &record(&named)["inkling_run_id"]), (&json!("winter-2"), &json!(own)));
    assert_eq!(std::fs::read_link(out.join("latest")).unwrap().to_str(), Some("winter-2"));
    train(&["--run-directory".as_ref(), exactly.as_ref()]);
    assert!(exactly.join("adapter_model.safetensors").is_file());
    assert_eq!(record(&exactly)["run_directory"].as_str(), exactly.to_str());
    // It is over, so it cannot go on; but it is known which one it is.
    let resumed = home.run_words(["train", "soft-prompt", "--json", "--resume-from", named.to_str().unwrap()]);
    assert_eq!((resumed.code, &resumed.error()["code"]), (1, &json!("conflict")));
    assert!(resumed.error()["message"].as_str().is_some_and(|message| message.contains(&own)));
}
