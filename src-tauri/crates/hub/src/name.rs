//! Names that come from outside: of repositories, revisions and files. What passes here is safe as a part of a path.

use crate::HubError;
use std::fmt;
use std::path::{Component, Path, PathBuf};

const LONGEST_PART: usize = 255;
const LONGEST_NAME: usize = 1024;

/// `organisation/model`, or `model` alone for the few that have no organisation.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RepoId(String);

impl RepoId {
    /// # Errors
    /// `InvalidRepo` for anything but one or two parts of letters, digits, `-`, `_` and `.`, of 96 characters at most.
    pub fn parse(text: &str) -> Result<Self, HubError> {
        let text = text.trim();
        let parts: Vec<&str> = text.split('/').collect();
        let fine = |part: &&str| {
            !part.is_empty()
                && part.len() <= 96
                && part.chars().all(|letter| letter.is_ascii_alphanumeric() || "-_.".contains(letter))
                && !part.starts_with(['-', '.'])
                && !part.ends_with(['-', '.'])
                && !part.contains("--")
                && !part.contains("..")
        };
        match parts.len() <= 2 && parts.iter().all(fine) {
            true => Ok(Self(text.to_owned())),
            false => Err(HubError::InvalidRepo(text.chars().take(120).collect())),
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The folder of this repository in a cache.
    pub(crate) fn folder(&self) -> String {
        format!("models--{}", self.0.replace('/', "--"))
    }
}

impl fmt::Display for RepoId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A file's name in a repository, with `/` between folders, that stays inside the folder it is put in.
///
/// This is the only way from a name that came over the network to a path.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RemoteName(String);

impl RemoteName {
    /// `None` for a name that is absolute, climbs, or means something special on any system.
    pub fn parse(text: &str) -> Option<Self> {
        let part_is_fine = |part: &str| {
            !part.is_empty()
                && part.len() <= LONGEST_PART
                && !part.trim_matches(['.', ' ']).is_empty()
                && !part.chars().any(|letter| letter.is_control() || "\\:*?\"<>|".contains(letter))
        };
        if text.len() > LONGEST_NAME || !text.split('/').all(part_is_fine) {
            return None;
        }
        Path::new(text).components().all(|part| matches!(part, Component::Normal(_))).then(|| Self(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.0.split('/').collect()
    }

    /// Folders above the file.
    pub(crate) fn depth(&self) -> usize {
        self.0.matches('/').count()
    }
}

impl fmt::Display for RemoteName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A branch, a tag or a commit that can stand in an address and be a file's name.
pub(crate) fn checked_revision(text: &str) -> Result<&str, HubError> {
    let fine = !text.is_empty()
        && text.len() <= 128
        && text.chars().all(|letter| letter.is_ascii_alphanumeric() || "-_./".contains(letter))
        && RemoteName::parse(text).is_some();
    if fine { Ok(text) } else { Err(HubError::InvalidRevision(text.chars().take(120).collect())) }
}

/// Whether a text is so many hexadecimal digits in lower case.
pub(crate) fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}
