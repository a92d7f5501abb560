//! The fake hub: the API's listing, `resolve` with the hub's headers, and a second server where the large files lie.

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use hub::{Fetch, Hub, HubError, Pace, Progress, RepoId, Settings, Snapshot, Weights};
use serde_json::json;
use sha1::Digest as _;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::runtime::Runtime;

pub const REPO: &str = "tests/tiny";
pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
pub const TOKEN: &str = "hf_canary_token";
pub const WEIGHTS: &str = "model.safetensors";

/// What goes wrong, once it is set.
#[derive(Debug, Clone, PartialEq)]
pub enum Fault {
    None,
    /// So many requests for anything are answered with this status.
    Status(u16, u32),
    /// The weights' connection ends after so many bytes, so many times.
    CutAfter(usize, u32),
    /// The weights come slowly, so that there is time to stop.
    Slow,
    /// Headers promise the right weights, the bytes are others.
    OtherBytes,
    /// More bytes than announced, without a length.
    TooLong,
    /// `Content-Length` is another than the listing's size.
    OtherLength,
    /// `resolve` announces another hash than the listing.
    OtherEtag,
    /// The weights lie at this address.
    RedirectTo(String),
    /// Ranges are not understood: always the whole file.
    NoRanges,
    /// 206, but from another place in the file.
    OtherRange,
    /// The listing says neither sizes nor hashes.
    BareListing,
    /// And `resolve` does not either.
    NoHashAnywhere,
    /// The listing names this file too.
    Name(String),
    /// The listing is this text.
    Listing(String),
    /// Nothing is ever answered.
    Silence,
}

/// A request as the servers saw it.
#[derive(Debug, Clone)]
pub struct Seen {
    pub server: &'static str,
    pub path: String,
    pub range: Option<String>,
    pub authorization: Option<String>,
}

pub struct Shared {
    pub files: Mutex<BTreeMap<String, Vec<u8>>>,
    pub fault: Mutex<Fault>,
    pub seen: Mutex<Vec<Seen>>,
    store: Mutex<String>,
}

pub struct FakeHub {
    pub shared: Arc<Shared>,
    pub address: SocketAddr,
    pub cache: tempfile::TempDir,
    _runtime: Runtime,
}

/// Weights that compress badly and are long enough to be cut.
pub fn weights() -> Vec<u8> {
    let mut state = 88172645463325252u64;
    let mut bytes = b"\x08\0\0\0\0\0\0\0{}      ".to_vec();
    while bytes.len() < 300_000 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes
}

impl FakeHub {
    pub fn start() -> Self {
        let files = [
            (WEIGHTS, weights()),
            ("config.json", br#"{"model_type":"llama"}"#.to_vec()),
            ("tokenizer.json", b"{\"version\":\"1.0\"}".to_vec()),
            ("pytorch_model.bin", b"PK\x03\x04 never wanted".to_vec()),
            ("README.md", b"# tiny".to_vec()),
        ];
        let shared = Arc::new(Shared {
            files: Mutex::new(files.map(|(name, bytes)| (name.to_owned(), bytes)).into()),
            fault: Mutex::new(Fault::None),
            seen: Mutex::new(Vec::new()),
            store: Mutex::new(String::new()),
        });
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let serve = |handler: Router| {
            let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
            let address = listener.local_addr().unwrap();
            runtime.spawn(async move { axum::serve(listener, handler).await });
            address
        };
        let store = serve(Router::new().fallback(store).with_state(shared.clone()));
        *shared.store.lock().unwrap() = format!("http://{store}");
        let address = serve(Router::new().fallback(front).with_state(shared.clone()));
        Self { shared, address, cache: tempfile::tempdir().unwrap(), _runtime: runtime }
    }

    pub fn with(fault: Fault) -> Self {
        let hub = Self::start();
        hub.set(fault);
        hub
    }

    pub fn set(&self, fault: Fault) {
        *self.shared.fault.lock().unwrap() = fault;
    }

    pub fn put(&self, name: &str, bytes: &[u8]) {
        self.shared.files.lock().unwrap().insert(name.into(), bytes.to_vec());
    }

    pub fn take_away(&self, name: &str) {
        self.shared.files.lock().unwrap().remove(name);
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap().clone()
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn client(&self) -> Hub {
        self.client_of(&self.endpoint())
    }

    pub fn client_of(&self, endpoint: &str) -> Hub {
        let cache = self.cache.path().to_string_lossy().into_owned();
        let variables = move |name: &str| match name {
            "HF_ENDPOINT" => Some(endpoint.to_owned()),
            "HF_HUB_CACHE" => Some(cache.clone()),
            "HF_TOKEN" => Some(TOKEN.to_owned()),
            _ => None,
        };
        Hub::with_pace(Settings::from_variables(variables).unwrap(), quick())
    }

    pub fn pull(&self) -> Result<Snapshot, HubError> {
        self.pull_with(&AtomicBool::new(false), &mut |_| {})
    }

    pub fn pull_with(&self, cancel: &AtomicBool, told: &mut dyn FnMut(&Progress)) -> Result<Snapshot, HubError> {
        let hub = self.client();
        let listing = hub.list(&RepoId::parse(REPO)?, "main", cancel)?;
        let selection = hub::select(&listing, &Weights::Any)?;
        hub.fetch(&Fetch { listing: &listing, selection: &selection, free: None }, cancel, told)
    }

    /// Names in the snapshot; none while nothing is installed.
    pub fn installed(&self) -> Vec<String> {
        let folder = self.client().cache().snapshot(&RepoId::parse(REPO).unwrap(), COMMIT);
        let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    pub fn refs(&self) -> Option<String> {
        std::fs::read_to_string(self.client().cache().repo(&RepoId::parse(REPO).unwrap()).join("refs/main")).ok()
    }
}

/// Waits that suit a server on the same machine.
pub fn quick() -> Pace {
    Pace { connect: Duration::from_secs(2), silence: Duration::from_millis(800), retries: 3, backoff: Duration::from_millis(5) }
}

pub fn sha256(bytes: &[u8]) -> String {
    sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn git_hash(bytes: &[u8]) -> String {
    let mut hash = sha1::Sha1::new();
    hash.update(format!("blob {}\0", bytes.len()));
    hash.update(bytes);
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn is_large(name: &str) -> bool {
    [".safetensors", ".gguf", ".bin"].iter().any(|ending| name.ends_with(ending))
}

fn note(shared: &Shared, server: &'static str, request: &Request) {
    let header = |name: &str| request.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
    let seen = Seen { server, path: request.uri().to_string(), range: header("range"), authorization: header("authorization") };
    shared.seen.lock().unwrap().push(seen);
}

async fn front(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    note(&shared, "hub", &request);
    let fault = shared.fault.lock().unwrap().clone();
    if fault == Fault::Silence {
        tokio::time::sleep(Duration::from_secs(60)).await;
    }
    if let Fault::Status(status, times) = fault
        && times > 0
    {
        *shared.fault.lock().unwrap() = Fault::Status(status, times - 1);
        return (StatusCode::from_u16(status).unwrap(), "no").into_response();
    }
    let path = request.uri().path().to_owned();
    let files = shared.files.lock().unwrap().clone();
    if path == format!("/api/models/{REPO}/revision/main") {
        return listing(&files, &fault).into_response();
    }
    let Some(name) = path.strip_prefix(&format!("/{REPO}/resolve/{COMMIT}/")) else { return StatusCode::NOT_FOUND.into_response() };
    let Some(bytes) = files.get(name) else { return StatusCode::NOT_FOUND.into_response() };
    let hashless = fault == Fault::NoHashAnywhere;
    if !is_large(name) {
        let mut headers = HeaderMap::new();
        if !hashless {
            headers.insert("etag", format!("\"{}\"", git_hash(bytes)).parse().unwrap());
        }
        return (headers, bytes.clone()).into_response();
    }
    let etag = if fault == Fault::OtherEtag { sha256(b"something else") } else { sha256(bytes) };
    let store = shared.store.lock().unwrap().clone();
    let location = match &fault {
        Fault::RedirectTo(address) => address.clone(),
        _ => format!("{store}/large/{name}?signature=secret"),
    };
    let mut headers = HeaderMap::new();
    headers.insert("location", location.parse().unwrap());
    if !hashless {
        headers.insert("x-linked-etag", format!("\"{etag}\"").parse().unwrap());
        headers.insert("x-linked-size", bytes.len().to_string().parse().unwrap());
    }
    headers.insert("x-repo-commit", COMMIT.parse().unwrap());
    (StatusCode::FOUND, headers).into_response()
}

fn listing(files: &BTreeMap<String, Vec<u8>>, fault: &Fault) -> String {
    if let Fault::Listing(text) = fault {
        return text.clone();
    }
    let bare = matches!(fault, Fault::BareListing | Fault::NoHashAnywhere);
    let mut siblings: Vec<_> = files
        .iter()
        .map(|(name, bytes)| match (bare, is_large(name)) {
            (true, _) => json!({ "rfilename": name }),
            (false, true) => json!({ "rfilename": name, "size": bytes.len(), "blobId": git_hash(b"pointer"),
                "lfs": { "sha256": sha256(bytes), "size": bytes.len(), "pointerSize": 134 } }),
            (false, false) => json!({ "rfilename": name, "size": bytes.len(), "blobId": git_hash(bytes) }),
        })
        .collect();
    if let Fault::Name(name) = fault {
        siblings.push(json!({ "rfilename": name, "size": 3, "blobId": git_hash(b"abc") }));
    }
    json!({ "id": REPO, "sha": COMMIT, "siblings": siblings, "tags": ["license:apache-2.0"] }).to_string()
}

/// Where the large files lie.
async fn store(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    note(&shared, "store", &request);
    let fault = shared.fault.lock().unwrap().clone();
    let name = request.uri().path().rsplit('/').next().unwrap().to_owned();
    let Some(mut bytes) = shared.files.lock().unwrap().get(&name).cloned() else { return StatusCode::NOT_FOUND.into_response() };
    let total = bytes.len();
    if fault == Fault::OtherBytes {
        bytes.iter_mut().for_each(|byte| *byte ^= 1);
    }
    let range = request.headers().get("range").filter(|_| fault != Fault::NoRanges);
    let mut from: usize = range.map_or(0, |range| range.to_str().unwrap()[6..].trim_end_matches('-').parse().unwrap());
    if from >= total && total > 0 {
        return StatusCode::RANGE_NOT_SATISFIABLE.into_response();
    }
    if fault == Fault::OtherRange && from > 0 {
        from += 7;
    }
    let part = bytes[from..].to_vec();
    let mut response = Response::builder().status(if range.is_some() { 206 } else { 200 });
    if range.is_some() {
        response = response.header("content-range", format!("bytes {from}-{}/{total}", total - 1));
    }
    let chunked = |parts: Vec<Bytes>, pause: u64, broken: bool| {
        let parts = parts.into_iter().map(Ok).chain(broken.then(|| Err(std::io::Error::other("cut"))));
        let slow = futures(parts.collect(), pause);
        Body::from_stream(slow)
    };
    match fault {
        Fault::CutAfter(bytes, times) if times > 0 => {
            *shared.fault.lock().unwrap() = Fault::CutAfter(bytes, times - 1);
            let kept = Bytes::from(part[..bytes.min(part.len())].to_vec());
            response.header("content-length", part.len()).body(chunked(vec![kept], 20, true)).unwrap()
        }
        Fault::Slow => {
            let parts = part.chunks(4096).map(|piece| Bytes::from(piece.to_vec())).collect();
            response.header("content-length", part.len()).body(chunked(parts, 20, false)).unwrap()
        }
        Fault::TooLong => response.body(chunked(vec![part.into(), Bytes::from_static(b"and more")], 0, false)).unwrap(),
        Fault::OtherLength => response.header("content-length", 5).body(Body::from("short")).unwrap(),
        _ => response.body(Body::from(part)).unwrap(),
    }
}

/// A stream of pieces with a pause between them.
fn futures(
    pieces: Vec<Result<Bytes, std::io::Error>>,
    pause: u64,
) -> impl futures_util::Stream<Item = Result<Bytes, std::io::Error>> + Send + 'static {
    futures_util::stream::unfold(pieces.into_iter(), move |mut left| async move {
        let piece = left.next()?;
        tokio::time::sleep(Duration::from_millis(pause)).await;
        Some((piece, left))
    })
}

/// Sets a flag once so many bytes have come.
pub fn stop_at<'a>(bytes: u64, flag: &'a AtomicBool) -> impl FnMut(&Progress) + 'a {
    move |progress| {
        if progress.bytes >= bytes {
            flag.store(true, Ordering::Relaxed);
        }
    }
}

pub fn read(folder: &Path, name: &str) -> Vec<u8> {
    std::fs::read(folder.join(name)).unwrap()
}
