//! Two processes on one data folder: one owns it, the other hands its command over.

use crate::terminal::{Home, Running};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A running `inkling serve`.
struct Server {
    child: Running,
    address: String,
    token: String,
}

impl Server {
    fn start(home: &Home) -> Self {
        let mut child = home.start("serve --port 0 --json");
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let first: Value = serde_json::from_str(&line).expect("the first line is JSON");
        let text = |name: &str| first[name].as_str().expect("text").to_owned();
        Self { address: text("address"), token: text("token"), child }
    }

    fn interrupt(&self) {
        assert!(Command::new("kill").args(["-INT", &self.child.id().to_string()]).status().unwrap().success());
    }

    /// Waits for its end.
    fn end(&mut self) -> i32 {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code().unwrap_or(-1);
            }
            assert!(started.elapsed() < Duration::from_secs(10), "it ends");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

#[test]
fn a_command_runs_in_the_owner_while_one_serves() {
    let home = Home::new();
    let mut server = Server::start(&home);
    let written = home.write(3);
    let id = written["chosen"].as_str().unwrap();
    assert_eq!(home.run_words(["feedback", id, "--up", "--json"]).json()["taste"]["thumbs"], 1);
    let spoken = home.run_words(["write", "A storm", "-n", "1", "--max-tokens", "8"]);
    assert!(spoken.code == 0 && !spoken.out.trim().is_empty(), "streaming is handed over too: {}", spoken.err);
    let refused = home.run_words(["write", "", "-n", "99", "--json"]);
    assert_eq!((refused.code, refused.error()["detail"].as_array().map(Vec::len)), (2, Some(2)), "errors arrive whole");
    let second = home.run("serve --port 0 --json");
    assert_eq!((second.code, &second.error()["code"]), (1, &json!("busy")), "one server a data folder");
    assert!(second.error()["message"].as_str().is_some_and(|text| text.contains(&server.child.id().to_string())), "it says which process");

    // The browser's door shows what the terminal wrote.
    let host = server.address.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(host).unwrap();
    write!(
        stream,
        "GET /api/v1/generations HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {}\r\nConnection: close\r\n\r\n",
        server.token
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains(written["generation_id"].as_str().unwrap()), "{answer}");

    server.interrupt();
    assert_eq!(server.end(), 0, "Ctrl-C ends it cleanly");
    assert!(!home.path().join("inkling.sock").exists(), "and takes its socket along");
    assert_eq!(home.run("generations").code, 2, "there is no such command");
    assert_eq!(home.run("taste --json").json()["summary"]["thumbs"], 1, "the next command owns the folder again");
}

#[test]
fn an_owner_that_does_not_answer_is_named() {
    let home = Home::new();
    let server = Server::start(&home);
    // It still holds the lock, but nobody can reach it.
    std::fs::remove_file(home.path().join("inkling.sock")).unwrap();
    let ended = home.run("taste --json");
    let error = ended.error();
    assert_eq!((ended.code, &error["code"]), (1, &json!("busy")));
    assert!(error["message"].as_str().is_some_and(|text| text.contains(&server.child.id().to_string())), "{error}");
    assert!(error["hint"].is_string());
}

#[test]
fn a_killed_owner_leaves_nothing_in_the_way() {
    let home = Home::new();
    let mut server = Server::start(&home);
    let written = home.write(1);
    server.child.kill().unwrap();
    server.end();
    assert!(home.path().join("inkling.sock").exists(), "the socket is left behind");
    let id = written["chosen"].as_str().unwrap();
    assert_eq!(home.run_words(["feedback", id, "--down", "--json"]).code, 0, "the next command takes over, with what was written");
}

#[test]
fn many_commands_at_once_all_succeed() {
    let home = Home::new();
    let commands: Vec<_> = (0..6)
        .map(|seed| {
            let seed = seed.to_string();
            let words = ["write", "A race", "-n", "1", "--max-tokens", "4", "--seed", &seed, "--json"];
            home.command(words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
        })
        .collect();
    for child in commands {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    }
}
