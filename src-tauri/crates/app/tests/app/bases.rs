//! Bases that come from a hub on loopback or from this disk, write, and go again; and a member on another machine.

use crate::{open, short};
use app::{App, HubSettings, OpenOptions, Opened};
use domain::*;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// A server on loopback that answers each request with what `answer` makes of its head and body.
struct Server {
    address: String,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn start(answer: impl Fn(&str, &str) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (log, answer) = (seen.clone(), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (log, answer) = (log.clone(), answer.clone());
                std::thread::spawn(move || serve(stream, &log, &*answer));
            }
        });
        Self { address, seen }
    }

    fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}

fn serve(mut stream: TcpStream, log: &Mutex<Vec<String>>, answer: &dyn Fn(&str, &str) -> Vec<u8>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 || line == "\r\n" {
            break;
        }
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        head.push_str(&line);
    }
    let mut body = vec![0; length];
    let _ = reader.read_exact(&mut body);
    let body = String::from_utf8_lossy(&body).into_owned();
    log.lock().unwrap().push(format!("{head}\n{body}"));
    let _ = stream.write_all(&answer(&head, &body));
}

fn reply(status: &str, kind: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

fn story_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../assets/models/story")
}

/// The built-in base under another name, as a hub would offer it.
fn story_hub(spoil: bool) -> Server {
    let files: BTreeMap<String, Vec<u8>> = ["config.json", "tokenizer.json", "model.safetensors"]
        .map(|name| (name.to_owned(), std::fs::read(story_folder().join(name)).unwrap()))
        .into();
    let listed = |(name, bytes): (&String, &Vec<u8>)| {
        use sha2::Digest;
        let sha: String = sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        serde_json::json!({ "rfilename": name, "size": bytes.len(), "lfs": { "sha256": sha, "size": bytes.len() } })
    };
    let siblings: Vec<_> = files.iter().map(listed).collect();
    let listing = serde_json::json!({ "sha": COMMIT, "siblings": siblings, "cardData": { "license": "apache-2.0" } }).to_string();
    Server::start(move |head, _| {
        let path = head.split(' ').nth(1).unwrap_or_default();
        if path.starts_with("/api/models/tests/tale") {
            return reply("200 OK", "application/json", listing.as_bytes());
        }
        match files.get(path.rsplit('/').next().unwrap_or_default()).filter(|_| path.contains(COMMIT)) {
            Some(bytes) if spoil => reply("200 OK", "application/octet-stream", &vec![0; bytes.len()]),
            Some(bytes) => reply("200 OK", "application/octet-stream", bytes),
            None => reply("404 Not Found", "text/plain", b"no"),
        }
    })
}

struct Desk {
    app: Arc<App>,
    folder: tempfile::TempDir,
}

fn desk_with(hub: &Server) -> Desk {
    let folder = tempfile::tempdir().unwrap();
    let (endpoint, cache) = (hub.address.clone(), folder.path().join("hub-cache").to_string_lossy().into_owned());
    let settings = HubSettings::from_variables(move |name| match name {
        "HF_ENDPOINT" => Some(endpoint.clone()),
        "HF_HUB_CACHE" => Some(cache.clone()),
        _ => None,
    });
    let options = OpenOptions { data_dir: Some(folder.path().join("data")), hub: Some(settings.unwrap()), ..OpenOptions::default() };
    match App::open(options).unwrap() {
        Opened::Owner(app) => Desk { app, folder },
        Opened::HeldBy(_) => panic!("nobody else knows this folder"),
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        self.app.shutdown();
    }
}

fn ended(app: &App, id: &JobId) -> Job {
    let started = Instant::now();
    loop {
        let job = app.jobs(Limit { limit: Some(50) }).unwrap().into_iter().find(|job| job.id == *id).expect("the job is listed");
        if !matches!(job.state, JobState::Queued | JobState::Running) {
            return job;
        }
        assert!(started.elapsed() < Duration::from_secs(120), "it does not end: {job:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn pull(model: &str) -> PullRequest {
    PullRequest { model: model.into(), ..PullRequest::default() }
}

#[test]
fn a_base_is_downloaded_measured_written_with_and_removed() {
    let hub = story_hub(false);
    let desk = desk_with(&hub);
    let events = desk.app.subscribe();
    let queued = desk.app.pull_base(pull("tests/tale")).expect("queued");
    let job = ended(&desk.app, &queued.job_id);
    assert_eq!((job.state, job.kind, job.progress, job.error), (JobState::Completed, JobKind::Pull, 1.0, None));
    let told: Vec<_> = events.try_iter().map(|event| event.change).collect();
    let progress: Vec<_> =
        told.iter().filter_map(|one| if let Change::PullProgress { progress } = one { Some(progress) } else { None }).collect();
    assert!(progress.iter().any(|one| one.doing == "model.safetensors") && progress.last().unwrap().doing == "checking");
    assert!(told.iter().any(|one| matches!(one, Change::BaseChanged { base } if base.id.as_str() == "tale")));
    let bases = desk.app.bases(Nothing {}).unwrap();
    let tale = bases.iter().find(|base| base.id.as_str() == "tale").expect("listed");
    assert_eq!((tale.kind, tale.origin, tale.license.as_str()), (BaseKind::Story, BaseOrigin::Hub, "apache-2.0"));
    assert!(tale.tokens_per_second.is_some_and(|speed| speed > 1.0) && tale.memory_mb > 50.0 && tale.problem.is_none(), "{tale:?}");
    let here = desk.app.pull_base(pull("tests/tale")).expect_err("it is here");
    assert_eq!(here.code, ErrorCode::Conflict);

    let written = desk.app.write(WriteRequest { base: Some("tale".into()), ..short("a fox", 5) }).expect("written");
    let built_in = desk.app.write(short("a fox", 5)).expect("written");
    assert_eq!(written.candidates[0].member, "tale");
    assert_eq!(written.candidates[0].text, built_in.candidates[0].text, "the same weights and seed, the same text");

    let as_default = serde_json::Map::from_iter([("defaultBase".to_owned(), "tale".into())]);
    desk.app.update_settings(SettingsUpdate(as_default)).expect("saved");
    assert!(desk.app.bases(Nothing {}).unwrap().iter().all(|base| base.is_default == (base.id.as_str() == "tale")));
    assert_eq!(desk.app.write(short("a fox", 5)).unwrap().candidates[0].member, "tale");

    let removed = desk.app.remove_base(BaseRemoval { base_id: "tale".into(), anyway: false }).expect("removed");
    assert!(removed.files_deleted && !desk.folder.path().join("hub-cache/models--tests--tale").exists());
    assert_eq!(desk.app.settings(Nothing {}).unwrap().default_base, "story", "the default goes back");
    assert_eq!(desk.app.write(short("a fox", 5)).unwrap().candidates[0].member, "story");
}

#[test]
fn a_download_that_cannot_be_trusted_installs_nothing_and_says_why() {
    let hub = story_hub(true);
    let desk = desk_with(&hub);
    let queued = desk.app.pull_base(pull("tests/tale")).expect("queued");
    let error = ended(&desk.app, &queued.job_id).error.expect("failed");
    assert_eq!(error.code, ErrorCode::Network, "{error:?}");
    assert!(error.message.contains("hash") && error.hint.is_some());
    assert_eq!(desk.app.bases(Nothing {}).unwrap().len(), 1, "only the built-in base");
    for (model, code) in [("../evil", ErrorCode::InvalidInput), ("", ErrorCode::InvalidInput), ("a/b/c", ErrorCode::InvalidInput)] {
        assert_eq!(desk.app.pull_base(pull(model)).expect_err("refused").code, code, "{model}");
    }
    let missing = desk.app.pull_base(pull("tests/nowhere")).expect("queued");
    assert_eq!(ended(&desk.app, &missing.job_id).error.expect("failed").code, ErrorCode::NotFound);
}

#[test]
fn a_download_that_is_cut_off_goes_on_at_the_next_start() {
    // It answers the list and then nothing, so the download is under way for as long as the test wants.
    let slow = Server::start(|head, _| {
        if head.starts_with("GET /api/") {
            let file = serde_json::json!({ "rfilename": "model.safetensors", "size": 9, "lfs": { "sha256": "0".repeat(64), "size": 9 } });
            return reply("200 OK", "application/json", serde_json::json!({ "sha": COMMIT, "siblings": [file] }).to_string().as_bytes());
        }
        std::thread::sleep(Duration::from_secs(20));
        Vec::new()
    });
    let desk = desk_with(&slow);
    let queued = desk.app.pull_base(pull("tests/tale")).expect("queued");
    while !slow.seen().iter().any(|seen| seen.contains("/resolve/")) {
        std::thread::sleep(Duration::from_millis(10));
    }
    let paused = desk.app.pause_job(JobRef { job_id: queued.job_id.clone() }).expect("asked");
    assert_eq!(paused.state, JobState::Running, "it stops in a moment");
    assert_eq!(ended(&desk.app, &queued.job_id).state, JobState::Paused);
    desk.app.resume_job(JobRef { job_id: queued.job_id.clone() }).expect("resumed");
    while slow.seen().iter().filter(|seen| seen.contains("/resolve/")).count() < 2 {
        std::thread::sleep(Duration::from_millis(10));
    }
    let started = Instant::now();
    desk.app.shutdown();
    assert!(started.elapsed() < Duration::from_secs(10), "closing does not wait for the hub");
    assert_eq!(ended(&desk.app, &queued.job_id).state, JobState::Interrupted);
    let cancelled = desk.app.cancel_job(JobRef { job_id: queued.job_id.clone() }).expect("cancelled");
    assert_eq!(cancelled.state, JobState::Cancelled);
    assert_eq!(desk.app.resume_job(JobRef { job_id: queued.job_id }).expect_err("over").code, ErrorCode::Conflict);
}

#[test]
fn an_import_is_checked_copied_or_used_in_place() {
    let folder = tempfile::tempdir().unwrap();
    let app = open(folder.path());
    let import = |path: &Path, in_place| BaseImport { path: path.to_string_lossy().into_owned(), name: Some("My Tale".into()), in_place };
    let elsewhere = tempfile::tempdir().unwrap();
    for name in ["config.json", "tokenizer.json", "model.safetensors"] {
        std::fs::copy(story_folder().join(name), elsewhere.path().join(name)).unwrap();
    }
    let copied = app.import_base(import(elsewhere.path(), false)).expect("imported");
    let linked = app.import_base(import(elsewhere.path(), true)).expect("imported again");
    assert_eq!((copied.id.as_str(), linked.id.as_str()), ("my-tale", "my-tale-2"));
    assert!(folder.path().join("bases/my-tale/model.safetensors").is_file());
    app.write(WriteRequest { base: Some(linked.id.clone()), ..short("a fox", 1) }).expect("written in place");
    std::fs::remove_dir_all(elsewhere.path()).unwrap();
    let rows = app.bases(Nothing {}).unwrap();
    assert!(rows[1].problem.is_none() && rows[2].problem.as_ref().is_some_and(|problem| problem.code == ErrorCode::ModelMissing));
    app.write(WriteRequest { base: Some(copied.id.clone()), ..short("a fox", 1) }).expect("the copy does not need the original");
    for id in [copied.id, linked.id] {
        app.remove_base(BaseRemoval { base_id: id, anyway: false }).expect("removed");
    }
    assert!(!folder.path().join("bases/my-tale").exists());
    let stays = app.remove_base(BaseRemoval { base_id: "story".into(), anyway: true }).expect_err("the built-in base stays");
    assert_eq!(stays.code, ErrorCode::Conflict);
}

#[test]
fn what_is_no_base_is_refused_with_a_hint_and_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let app = open(folder.path());
    let weights = std::fs::read(story_folder().join("model.safetensors")).unwrap();
    let config = std::fs::read_to_string(story_folder().join("config.json")).unwrap();
    let tokenizer = std::fs::read(story_folder().join("tokenizer.json")).unwrap();
    let foreign = config.replace("\"llama\"", "\"mamba\"").replace("LlamaForCausalLM", "MambaForCausalLM");
    let wider = config.replace("\"vocab_size\": 8192", "\"vocab_size\": 8000");
    assert!(foreign != config && wider != config, "the configuration reads as expected");
    let no_tokenizer: &[u8] = br#"{"version":"1.0","model":{"type":"BPE","vocab":{},"merges":[]}}"#;
    let cases: [(&str, Vec<(&str, &[u8])>); 8] = [
        ("an empty folder", vec![]),
        ("pickle", vec![("config.json", config.as_bytes()), ("pytorch_model.bin", b"PK\x03\x04x")]),
        (
            "pickle in disguise",
            vec![("config.json", config.as_bytes()), ("tokenizer.json", &tokenizer), ("model.safetensors", b"PK\x03\x04xxxxxxx")],
        ),
        (
            "a cut file",
            vec![("config.json", config.as_bytes()), ("tokenizer.json", &tokenizer), ("model.safetensors", &weights[..weights.len() / 2])],
        ),
        (
            "an unknown architecture",
            vec![("config.json", foreign.as_bytes()), ("tokenizer.json", &tokenizer), ("model.safetensors", &weights)],
        ),
        ("other shapes", vec![("config.json", wider.as_bytes()), ("tokenizer.json", &tokenizer), ("model.safetensors", &weights)]),
        (
            "no tokenizer to speak of",
            vec![("config.json", config.as_bytes()), ("tokenizer.json", no_tokenizer), ("model.safetensors", &weights)],
        ),
        ("no tokenizer", vec![("config.json", config.as_bytes()), ("model.safetensors", &weights)]),
    ];
    for (what, files) in cases {
        let place = tempfile::tempdir().unwrap();
        for (name, bytes) in &files {
            std::fs::write(place.path().join(name), bytes).unwrap();
        }
        let import = BaseImport { path: place.path().to_string_lossy().into_owned(), ..BaseImport::default() };
        let error = app.import_base(import).map(|base| base.name).expect_err(what);
        assert!(error.hint.is_some(), "{what}: {error:?}");
        if what.starts_with("pickle") {
            assert_eq!(error.code, ErrorCode::UnsupportedMediaType, "{what}: {error:?}");
        }
        println!("{what}: {} {}", error.message, error.hint.unwrap_or_default());
    }
    assert_eq!(app.bases(Nothing {}).unwrap().len(), 1);
    assert_eq!(std::fs::read_dir(folder.path().join("bases")).unwrap().count(), 0, "nothing is half-installed");
    for path in ["", "relative/x", "/does/not/exist"] {
        let error = app.import_base(BaseImport { path: path.into(), ..BaseImport::default() }).expect_err(path);
        assert_eq!(error.code, ErrorCode::InvalidInput);
    }
}

#[test]
fn the_catalogue_says_what_fits_and_what_is_here() {
    let folder = tempfile::tempdir().unwrap();
    let app = open(folder.path());
    let catalogue = app.catalogue(Nothing {}).unwrap();
    assert!(catalogue.len() >= 12);
    for one in &catalogue {
        assert!(one.size_bytes > 1e8 && one.memory_mb > 150.0 && !one.good_for.is_empty() && one.installed.is_none(), "{one:?}");
    }
    assert!(catalogue.iter().any(|one| one.kind.answers()) && catalogue.iter().any(|one| one.kind == BaseKind::Plain));
}

fn writing_server(answer: &'static str) -> Server {
    Server::start(move |_, _| match answer {
        "slow" => {
            std::thread::sleep(Duration::from_secs(20));
            Vec::new()
        }
        "broken" => reply("500 Internal Server Error", "text/plain", b"no"),
        text => {
            let event = serde_json::json!({ "choices": [{ "delta": { "content": text } }] });
            let end = serde_json::json!({ "choices": [{ "delta": {}, "finish_reason": "stop" }], "usage": { "completion_tokens": 7 } });
            reply("200 OK", "text/event-stream", format!("data: {event}\n\ndata: {end}\n\ndata: [DONE]\n\n").as_bytes())
        }
    })
}

fn with_member(app: &App, address: &str) {
    let update = serde_json::Map::from_iter([("memberUrl".to_owned(), address.into()), ("memberModel".to_owned(), "writer-1".into())]);
    app.update_settings(SettingsUpdate(update)).expect("saved");
}

#[test]
fn a_server_that_was_entered_writes_one_more_candidate_and_is_marked() {
    let server = writing_server("A fox crossed the river at dawn and never looked back.");
    let folder = tempfile::tempdir().unwrap();
    let app = open(folder.path());
    with_member(&app, &server.address);
    let view = app.set_member_key(MemberKey { key: "sk-canary-0815".into() }).expect("kept");
    assert!(view.key_set && view.inside && view.host.is_some());
    let mut streamed = String::new();
    let mut counted = 0;
    let result = app.write_streaming(short("a fox", 3), &mut |event| match event {
        WriteEvent::Started { n, notices, .. } => {
            counted = n;
            assert!(notices.iter().any(|notice| notice.code == NoticeCode::LeavesMachine && notice.message.contains("127.0.0.1")));
        }
        WriteEvent::Token { index, text } if index + 1 == counted => streamed.push_str(&text),
        _ => {}
    });
    let result = result.expect("written");
    assert_eq!(result.candidates.len() as u32, counted);
    let away: Vec<_> = result.candidates.iter().filter(|one| one.left_machine).collect();
    assert_eq!(away.len(), 1);
    assert!(away[0].member.starts_with("writer-1 at 127.0.0.1"), "{}", away[0].member);
    assert_eq!(away[0].text, streamed);
    assert!(away[0].scores.fluency > 0.0, "judged like the others");
    let stored = app.generation(GenerationRef { generation_id: result.generation_id.clone() }).unwrap();
    assert_eq!(stored.result.candidates.iter().filter(|one| one.left_machine).count(), 1, "the mark is stored");
    let seen = server.seen().join("\n");
    assert!(seen.contains("sk-canary-0815") && seen.contains("a fox"));

    // The key is in one file of this person's, and nowhere else.
    let path = folder.path().join("member.key");
    #[cfg(unix)]
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).unwrap().permissions()) & 0o777, 0o600);
    let shown =
        serde_json::to_string(&(app.settings_view(Nothing {}).unwrap(), app.member(Nothing {}).unwrap(), app.doctor(Nothing {}).unwrap()));
    assert!(!shown.unwrap().contains("canary"), "no surface is told the key");
    for entry in std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).filter(|file| file.is_file() && *file != path)
    {
        let bytes = std::fs::read(&entry).unwrap_or_default();
        assert!(!bytes.windows(6).any(|part| part == b"canary"), "{}", entry.display());
    }
    assert!(app.doctor(Nothing {}).unwrap().network_allowed.iter().any(|address| address.contains("127.0.0.1")));
    app.set_member_key(MemberKey::default()).expect("forgotten");
    assert!(!path.exists());
}

#[test]
fn a_server_that_fails_is_named_and_the_others_write() {
    let folder = tempfile::tempdir().unwrap();
    let app = open(folder.path());
    let broken = writing_server("broken");
    for address in [broken.address.as_str(), "http://127.0.0.1:9"] {
        with_member(&app, address);
        let result = app.write(short("a fox", 3)).expect("written without it");
        assert!(result.candidates.iter().all(|one| !one.left_machine));
        assert!(result.notices.iter().any(|notice| notice.code == NoticeCode::MemberSkipped), "{address}: {:?}", result.notices);
    }
    let update = serde_json::Map::from_iter([("memberUrl".to_owned(), "not an address".into())]);
    let error = app.update_settings(SettingsUpdate(update)).expect_err("refused");
    assert_eq!(error.detail[0].field, "memberUrl");
}

#[test]
fn stop_is_heard_while_the_server_says_nothing() {
    let server = writing_server("slow");
    let folder = tempfile::tempdir().unwrap();
    let app = open(folder.path());
    with_member(&app, &server.address);
    let id = Mutex::new(None);
    std::thread::scope(|scope| {
        let writing = scope.spawn(|| {
            app.write_streaming(short("a fox", 3), &mut |event| {
                if let WriteEvent::Started { generation_id, .. } = event {
                    *id.lock().unwrap() = Some(generation_id);
                }
            })
        });
        while server.seen().is_empty() {
            std::thread::sleep(Duration::from_millis(10));
        }
        let generation_id = id.lock().unwrap().clone().expect("it has started");
        app.cancel_write(GenerationRef { generation_id }).expect("asked");
        let asked = Instant::now();
        writing.join().unwrap().expect("what was written is kept");
        assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
    });
}
