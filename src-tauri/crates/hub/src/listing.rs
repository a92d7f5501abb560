//! What a repository holds.

use crate::name::{checked_revision, is_hex};
use crate::settings::host_of;
use crate::transport::Transport;
use crate::{HubError, RemoteName, RepoId};
use reqwest::Method;
use serde::Deserialize;
use std::sync::atomic::AtomicBool;

const MOST_BYTES: usize = 16 << 20;
const MOST_FILES: usize = 20_000;

/// A repository at one commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    pub repo: RepoId,
    /// What was asked for: a branch, a tag or a commit.
    pub revision: String,
    /// The commit it stands for, 40 hexadecimal digits.
    pub commit: String,
    pub files: Vec<RemoteFile>,
    /// As the model's card says, such as `apache-2.0`.
    pub license: Option<String>,
}

/// A file of a repository; size and hash are absent where the hub does not say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteFile {
    pub name: RemoteName,
    pub size: Option<u64>,
    pub hash: Option<Hash>,
}

/// What a file's bytes must hash to. Its digits are the blob's name in the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hash {
    /// Of a large file's bytes.
    Sha256(String),
    /// Of a small file, as git counts it: SHA-1 over `blob <size>\0` and the bytes.
    Git(String),
}

impl Hash {
    /// From an ETag, with or without quotes; `None` when it is neither.
    pub(crate) fn from_etag(etag: &str) -> Option<Self> {
        let digits = etag.trim().trim_start_matches("W/").trim_matches('"');
        match digits.len() {
            64 if is_hex(digits, 64) => Some(Self::Sha256(digits.to_owned())),
            40 if is_hex(digits, 40) => Some(Self::Git(digits.to_owned())),
            _ => None,
        }
    }

    pub fn digits(&self) -> &str {
        match self {
            Self::Sha256(digits) | Self::Git(digits) => digits,
        }
    }
}

pub(crate) async fn list(transport: &Transport, repo: &RepoId, revision: &str, cancel: &AtomicBool) -> Result<Listing, HubError> {
    let revision = checked_revision(revision)?;
    let mut url = transport.address(&["api", "models", repo.as_str(), "revision"])?;
    if let Ok(mut path) = url.path_segments_mut() {
        // One segment: a branch's own slash is not a folder here.
        path.push(revision);
    }
    url.set_query(Some("blobs=true"));
    let what = format!("model named {repo}");
    let mut attempt = 0;
    let body = loop {
        let asked = transport.send(transport.request(Method::GET, url.clone()), &what, cancel).await;
        let read = match asked {
            Ok(mut answer) => transport.body(&mut answer, MOST_BYTES, cancel).await,
            Err(error) => Err(error),
        };
        match read {
            Ok(body) => break body,
            Err(error) => {
                attempt += 1;
                transport.wait_after(error, attempt, cancel).await?;
            }
        }
    };
    parse(&body, repo, revision, &host_of(&transport.endpoint))
}

fn parse(body: &[u8], repo: &RepoId, revision: &str, host: &str) -> Result<Listing, HubError> {
    let unreadable = |reason: &str| HubError::Unreadable { host: host.to_owned(), reason: reason.to_owned() };
    let answer: Answered = serde_json::from_slice(body).map_err(|_| unreadable("its answer is not the list of a model's files"))?;
    if !is_hex(&answer.sha, 40) {
        return Err(unreadable("it names no commit"));
    }
    if answer.siblings.len() > MOST_FILES {
        return Err(unreadable("the model has too many files"));
    }
    let files = answer.siblings.into_iter().map(|file| remote_file(file, host)).collect::<Result<Vec<_>, _>>()?;
    let from_tag = || answer.tags.iter().find_map(|tag| tag.strip_prefix("license:")).map(str::to_owned);
    let license = answer.card.and_then(|card| card.license).and_then(|license| license.as_str().map(str::to_owned)).or_else(from_tag);
    // Shown to a person and kept: a line of printable characters, no more.
    let license = license.map(|text| text.chars().filter(|letter| !letter.is_control()).take(80).collect());
    Ok(Listing { repo: repo.clone(), revision: revision.to_owned(), commit: answer.sha, files, license })
}

fn remote_file(file: Sibling, host: &str) -> Result<RemoteFile, HubError> {
    let unsafe_name = |name: &str| HubError::UnsafeName { host: host.to_owned(), name: name.chars().take(120).collect() };
    let name = RemoteName::parse(&file.rfilename).ok_or_else(|| unsafe_name(&file.rfilename))?;
    let (size, hash) = match file.lfs {
        Some(large) => (large.size.or(file.size), large.sha256.as_deref().and_then(Hash::from_etag)),
        None => (file.size, file.blob_id.as_deref().and_then(Hash::from_etag)),
    };
    Ok(RemoteFile { name, size, hash })
}

#[derive(Deserialize)]
struct Answered {
    sha: String,
    siblings: Vec<Sibling>,
    #[serde(default)]
    tags: Vec<String>,
    #[serde(default, rename = "cardData")]
    card: Option<Card>,
}

#[derive(Deserialize)]
struct Card {
    #[serde(default)]
    license: Option<serde_json::Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Sibling {
    rfilename: String,
    #[serde(default)]
    size: Option<u64>,
    #[serde(default)]
    blob_id: Option<String>,
    #[serde(default)]
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    #[serde(default)]
    size: Option<u64>,
    #[serde(default)]
    sha256: Option<String>,
}
