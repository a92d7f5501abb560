//! Downloading: each file goes on where it ended, is hashed as it comes, and is put in place when it is right.

use crate::cache::{make_parent, sync_folder};
use crate::listing::{Hash, Listing, RemoteFile};
use crate::settings::host_of;
use crate::transport::{Answer, Transport, stop_if};
use crate::{Cache, HubError, Selection};
use reqwest::Method;
use reqwest::header::{ACCEPT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderMap, HeaderValue, RANGE};
use sha1::Sha1;
use sha2::{Digest, Sha256};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

/// Progress is told at most this often.
const TELL_EVERY: Duration = Duration::from_millis(100);

/// What must stay free on the disk after the download.
const KEPT_FREE: u64 = 200 << 20;

/// A file that is not weights is never this large.
const MOST_BESIDE: u64 = 128 << 20;

const LONGEST_HEADER: u64 = 100 << 20;

const INDEX: &str = "model.safetensors.index.json";

/// What to download.
pub struct Fetch<'a> {
    pub listing: &'a Listing,
    pub selection: &'a Selection,
    /// Bytes free on the disk; asked of the system when left out.
    pub free: Option<u64>,
}

/// How far a download is.
#[derive(Debug, Clone, PartialEq)]
pub struct Progress {
    pub file: String,
    /// Of all files, with what was there before.
    pub bytes: u64,
    pub total: u64,
    pub bytes_per_second: f64,
    /// Absent until the speed is known.
    pub eta_s: Option<f64>,
}

/// A commit's files, all there and verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    pub folder: PathBuf,
    pub commit: String,
    pub bytes: u64,
    /// Whether the cache had nothing of this repository before.
    pub fresh: bool,
}

pub(crate) async fn fetch(
    transport: &Transport,
    cache: &Cache,
    fetch: &Fetch<'_>,
    cancel: &AtomicBool,
    on_progress: &mut dyn FnMut(&Progress),
) -> Result<Snapshot, HubError> {
    let Fetch { listing, selection, free } = fetch;
    let fresh = !cache.repo(&listing.repo).join("snapshots").exists();
    let mut files = Vec::new();
    for file in &selection.files {
        files.push(Wanted::of(transport, listing, file, cancel).await?);
    }
    // The small ones first: a mistake in them shows before gigabytes have come.
    files.sort_by_key(|file| file.size);
    let missing: u64 = files.iter().map(|file| file.size.saturating_sub(file.there(cache, listing))).sum();
    let needed = missing.saturating_add(KEPT_FREE);
    let free = free.map_or_else(|| cache.free(), Ok)?;
    if missing > 0 && needed > free {
        return Err(HubError::NoSpace { needed, free, path: cache.root().to_owned() });
    }
    let total = files.iter().map(|file| file.size).sum();
    let mut meter = Meter::new(total, on_progress);
    for file in &files {
        Download { transport, cache, listing, file, cancel }.run(&mut meter).await?;
        if file.name.as_str() == INDEX {
            check_parts(&cache.blob(&listing.repo, &file.hash), listing, selection)?;
        }
    }
    for file in &files {
        cache.link(&listing.repo, &listing.commit, &file.name, &file.hash)?;
    }
    cache.name_commit(&listing.repo, &listing.revision, &listing.commit)?;
    Ok(Snapshot { folder: cache.snapshot(&listing.repo, &listing.commit), commit: listing.commit.clone(), bytes: total, fresh })
}

/// A file with its size and hash, both known.
struct Wanted {
    name: crate::RemoteName,
    size: u64,
    hash: Hash,
}

impl Wanted {
    async fn of(transport: &Transport, listing: &Listing, file: &RemoteFile, cancel: &AtomicBool) -> Result<Self, HubError> {
        let host = host_of(&transport.endpoint);
        let (mut size, mut hash) = (file.size, file.hash.clone());
        if size.is_none() || hash.is_none() {
            let headers = announced(transport, listing, file, cancel).await?;
            size = size.or_else(|| number(&headers, "x-linked-size")).or_else(|| number(&headers, CONTENT_LENGTH.as_str()));
            hash = hash.or_else(|| announced_hash(&headers));
        }
        let name = file.name.clone();
        let (Some(size), Some(hash)) = (size, hash) else { return Err(HubError::Unverifiable { host, file: name.to_string() }) };
        let beside = !name.as_str().ends_with(".safetensors") && !name.as_str().to_lowercase().ends_with(".gguf");
        if beside && size > MOST_BESIDE {
            return Err(HubError::WrongLength { host, file: name.to_string(), expected: MOST_BESIDE, found: size });
        }
        Ok(Self { name, size, hash })
    }

    /// Bytes that need not be downloaded.
    fn there(&self, cache: &Cache, listing: &Listing) -> u64 {
        let length = |path: PathBuf| fs::metadata(path).map(|file| file.len()).ok();
        let there = length(cache.blob(&listing.repo, &self.hash)).or_else(|| length(cache.partial(&listing.repo, &self.hash)));
        there.unwrap_or(0).min(self.size)
    }
}

/// What the hub says about one file without sending it.
async fn announced(transport: &Transport, listing: &Listing, file: &RemoteFile, cancel: &AtomicBool) -> Result<HeaderMap, HubError> {
    let mut attempt = 0;
    loop {
        let mut request = transport.request(Method::HEAD, address(transport, listing, file.name.as_str())?);
        request.headers_mut().insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        match transport.send(request, file.name.as_str(), cancel).await {
            Ok(answer) => return Ok(answer.announced),
            Err(error) => {
                attempt += 1;
                transport.wait_after(error, attempt, cancel).await?;
            }
        }
    }
}

fn address(transport: &Transport, listing: &Listing, name: &str) -> Result<url::Url, HubError> {
    transport.address(&[listing.repo.as_str(), "resolve", &listing.commit, name])
}

fn announced_hash(headers: &HeaderMap) -> Option<Hash> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    text("x-linked-etag").or_else(|| text(ETAG.as_str())).and_then(Hash::from_etag)
}

fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.trim().parse().ok()
}

/// One file's way into the cache.
struct Download<'a> {
    transport: &'a Transport,
    cache: &'a Cache,
    listing: &'a Listing,
    file: &'a Wanted,
    cancel: &'a AtomicBool,
}

impl Download<'_> {
    async fn run(&self, meter: &mut Meter<'_>) -> Result<(), HubError> {
        let repo = &self.listing.repo;
        let (blob, partial) = (self.cache.blob(repo, &self.file.hash), self.cache.partial(repo, &self.file.hash));
        make_parent(&blob)?;
        let lock = self.cache.lock(repo, &self.file.hash)?;
        self.wait_for(&lock).await?;
        meter.enter(self.file.name.as_str());
        if blob.exists() {
            // Perhaps put there by another program: it counts when it is right.
            let mut file = File::open(&blob).map_err(HubError::io(&blob))?;
            let mut hasher = Hasher::of(&self.file.hash, self.file.size);
            let length = hasher.read(&mut file, self.cancel).map_err(|error| error.at(&blob))?;
            if length == self.file.size && hasher.digits() == self.file.hash.digits() {
                meter.at(self.file.size);
                meter.leave(self.file.size);
                return Ok(());
            }
            fs::remove_file(&blob).map_err(HubError::io(&blob))?;
        }
        let mut attempt = 0;
        let mut from_zero = false;
        loop {
            let before = fs::metadata(&partial).map_or(0, |file| file.len());
            match self.bytes(&partial, meter).await {
                Ok(()) => break,
                Err(error @ HubError::WrongHash { .. }) => {
                    fs::remove_file(&partial).map_err(HubError::io(&partial))?;
                    // What was there before may have been at fault; a file that came in one piece is what the hub sends.
                    if before == 0 || from_zero {
                        return Err(error);
                    }
                    from_zero = true;
                }
                Err(error @ (HubError::WrongLength { .. } | HubError::Pickle { .. })) => {
                    // Of no use to a later try either.
                    fs::remove_file(&partial).map_err(HubError::io(&partial))?;
                    return Err(error);
                }
                Err(error) => {
                    let after = fs::metadata(&partial).map_or(0, |file| file.len());
                    attempt = if after > before { 1 } else { attempt + 1 };
                    self.transport.wait_after(error, attempt, self.cancel).await?;
                }
            }
        }
        fs::rename(&partial, &blob).map_err(HubError::io(&blob))?;
        sync_folder(&blob)?;
        meter.leave(self.file.size);
        Ok(())
    }

    /// Waits while another program downloads the same file.
    async fn wait_for(&self, lock: &File) -> Result<(), HubError> {
        loop {
            match lock.try_lock() {
                Ok(()) => return Ok(()),
                Err(TryLockError::WouldBlock) => {
                    stop_if(self.cancel)?;
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                Err(TryLockError::Error(error)) => return Err(HubError::io(self.cache.root())(error)),
            }
        }
    }

    /// Brings the partial file to its full length and checks its hash.
    async fn bytes(&self, partial: &Path, meter: &mut Meter<'_>) -> Result<(), HubError> {
        let size = self.file.size;
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(partial).map_err(HubError::io(partial))?;
        let mut hasher = Hasher::of(&self.file.hash, size);
        let mut have = hasher.read(&mut file, self.cancel).map_err(|error| error.at(partial))?;
        if have > size {
            have = self.start_over(&mut file, &mut hasher, partial)?;
        }
        meter.at(have);
        if have < size || size == 0 {
            let mut answer = self.ask(have).await?;
            match self.begin(&answer, have)? {
                Start::Here => {}
                Start::Zero => have = self.start_over(&mut file, &mut hasher, partial)?,
                Start::Again => {
                    self.start_over(&mut file, &mut hasher, partial)?;
                    answer = self.ask(0).await?;
                    have = 0;
                }
            }
            while let Some(piece) = self.transport.piece(&mut answer.response, &answer.host, self.cancel).await? {
                if have == 0 {
                    self.refuse_pickle(&piece)?;
                }
                have += piece.len() as u64;
                if have > size {
                    return Err(self.wrong_length(&answer.host, have));
                }
                hasher.update(&piece);
                file.write_all(&piece).map_err(HubError::io(partial))?;
                meter.at(have);
            }
            if have < size {
                let name = self.file.name.to_string();
                return Err(HubError::CutShort { host: answer.host, file: name, got: have, expected: size });
            }
        }
        let found = hasher.digits();
        if found != self.file.hash.digits() {
            let host = host_of(&self.transport.endpoint);
            let expected = self.file.hash.digits().to_owned();
            return Err(HubError::WrongHash { host, file: self.file.name.to_string(), expected, found });
        }
        file.sync_all().map_err(HubError::io(partial))
    }

    async fn ask(&self, from: u64) -> Result<Answer, HubError> {
        let name = self.file.name.as_str();
        let mut request = self.transport.request(Method::GET, address(self.transport, self.listing, name)?);
        // Bytes are counted and hashed as they are in the repository.
        request.headers_mut().insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if let (true, Ok(range)) = (from > 0, HeaderValue::from_str(&format!("bytes={from}-"))) {
            request.headers_mut().insert(RANGE, range);
        }
        self.transport.send(request, name, self.cancel).await
    }

    /// Whether the answer is what was asked for, before its bytes are read.
    fn begin(&self, answer: &Answer, from: u64) -> Result<Start, HubError> {
        let size = self.file.size;
        if let Some(other) = announced_hash(&answer.announced)
            && let (Hash::Sha256(found), Hash::Sha256(expected)) = (&other, &self.file.hash)
            && found != expected
        {
            let host = host_of(&self.transport.endpoint);
            let (expected, found) = (expected.clone(), found.clone());
            return Err(HubError::WrongHash { host, file: self.file.name.to_string(), expected, found });
        }
        let length = number(answer.response.headers(), CONTENT_LENGTH.as_str());
        match answer.response.status().as_u16() {
            206 => {
                let range = answer.response.headers().get(CONTENT_RANGE).and_then(|value| value.to_str().ok());
                let (first, total) = range.and_then(content_range).unwrap_or((u64::MAX, None));
                if first != from {
                    return Ok(Start::Again);
                }
                match total.filter(|total| *total != size) {
                    Some(total) => Err(self.wrong_length(&answer.host, total)),
                    None => Ok(Start::Here),
                }
            }
            416 => Ok(Start::Again),
            _ => match length.filter(|length| *length != size) {
                Some(length) => Err(self.wrong_length(&answer.host, length)),
                None if from > 0 => Ok(Start::Zero),
                None => Ok(Start::Here),
            },
        }
    }

    fn start_over(&self, file: &mut File, hasher: &mut Hasher, partial: &Path) -> Result<u64, HubError> {
        *hasher = Hasher::of(&self.file.hash, self.file.size);
        file.set_len(0).and_then(|()| file.seek(SeekFrom::Start(0))).map_err(HubError::io(partial))
    }

    /// A zip or a bare pickle behind the name of a safetensors file.
    fn refuse_pickle(&self, first: &[u8]) -> Result<(), HubError> {
        // A safetensors file starts with the length of its header, which is never this large.
        let header = first.first_chunk().map_or(0, |length| u64::from_le_bytes(*length));
        let pickled = first.starts_with(b"PK\x03\x04") || (first.starts_with(b"\x80") && header > LONGEST_HEADER);
        let weights = self.file.name.as_str().ends_with(".safetensors");
        if weights && pickled { Err(HubError::Pickle { file: self.file.name.to_string() }) } else { Ok(()) }
    }

    fn wrong_length(&self, host: &str, found: u64) -> HubError {
        HubError::WrongLength { host: host.to_owned(), file: self.file.name.to_string(), expected: self.file.size, found }
    }
}

enum Start {
    /// The bytes that come follow those that are there.
    Here,
    /// The server sends the whole file: what is there is written anew.
    Zero,
    /// What is there does not fit what the server has.
    Again,
}

/// `bytes 5-9/10` as the first byte and the whole length, where it is known.
fn content_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
    Some((range.split_once('-')?.0.parse().ok()?, total.parse().ok()))
}

/// Every part that the index names must be among the files.
fn check_parts(index: &Path, listing: &Listing, selection: &Selection) -> Result<(), HubError> {
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: std::collections::BTreeMap<String, String>,
    }
    let bytes = fs::read(index).map_err(HubError::io(index))?;
    let unreadable = |_| HubError::Unreadable { host: listing.repo.to_string(), reason: format!("{INDEX} is not a list of parts") };
    let parts: Index = serde_json::from_slice(&bytes).map_err(unreadable)?;
    match parts.weight_map.values().find(|part| !selection.files.iter().any(|file| file.name.as_str() == part.as_str())) {
        Some(part) => Err(HubError::Incomplete { repo: listing.repo.to_string(), file: part.chars().take(120).collect() }),
        None => Ok(()),
    }
}

enum Hasher {
    Sha256(Sha256),
    Git(Sha1),
}

enum ReadFault {
    Io(std::io::Error),
    Cancelled,
}

impl ReadFault {
    fn at(self, path: &Path) -> HubError {
        match self {
            Self::Io(error) => HubError::io(path)(error),
            Self::Cancelled => HubError::Cancelled,
        }
    }
}

impl Hasher {
    fn of(hash: &Hash, size: u64) -> Self {
        match hash {
            Hash::Sha256(_) => Self::Sha256(Sha256::new()),
            Hash::Git(_) => Self::Git(Sha1::new().chain_update(format!("blob {size}\0"))),
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hash) => hash.update(bytes),
            Self::Git(hash) => hash.update(bytes),
        }
    }

    /// Takes in a file from its start to its end, where it is left, and returns its length.
    fn read(&mut self, file: &mut File, cancel: &AtomicBool) -> Result<u64, ReadFault> {
        let mut buffer = vec![0; 1 << 18];
        let mut length = 0;
        loop {
            stop_if(cancel).map_err(|_| ReadFault::Cancelled)?;
            match file.read(&mut buffer).map_err(ReadFault::Io)? {
                0 => return Ok(length),
                count => {
                    length += count as u64;
                    self.update(&buffer[..count]);
                }
            }
        }
    }

    fn digits(self) -> String {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        match self {
            Self::Sha256(hash) => hex(&hash.finalize()),
            Self::Git(hash) => hex(&hash.finalize()),
        }
    }
}

/// Counts bytes over all files and tells how it goes.
struct Meter<'a> {
    told: &'a mut dyn FnMut(&Progress),
    progress: Progress,
    /// Bytes of the files that are done.
    done: u64,
    /// When this download began to bring bytes, and at how many.
    since: Option<(Instant, u64)>,
    last: Option<Instant>,
}

impl<'a> Meter<'a> {
    fn new(total: u64, told: &'a mut dyn FnMut(&Progress)) -> Self {
        let progress = Progress { file: String::new(), bytes: 0, total, bytes_per_second: 0.0, eta_s: None };
        Self { told, progress, done: 0, since: None, last: None }
    }

    fn enter(&mut self, file: &str) {
        file.clone_into(&mut self.progress.file);
    }

    /// Bytes of the current file.
    fn at(&mut self, bytes: u64) {
        let now = self.done + bytes;
        let (start, before) = *self.since.get_or_insert_with(|| (Instant::now(), now));
        // Going back, or over what was there, is not speed.
        if now < before {
            self.since = Some((Instant::now(), now));
        }
        self.progress.bytes = now;
        let seconds = start.elapsed().as_secs_f64();
        if seconds > 0.5 && now > before {
            self.progress.bytes_per_second = (now - before) as f64 / seconds;
            self.progress.eta_s = Some(self.progress.total.saturating_sub(now) as f64 / self.progress.bytes_per_second.max(1.0));
        }
        if self.last.is_none_or(|last| last.elapsed() >= TELL_EVERY) || now == self.progress.total {
            self.last = Some(Instant::now());
            (self.told)(&self.progress);
        }
    }

    fn leave(&mut self, size: u64) {
        self.done += size;
        self.since = None;
    }
}
