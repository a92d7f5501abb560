//! The hub's cache on this disk: `models--org--name/{blobs,refs,snapshots}`, shared with every program that knows it.

use crate::name::checked_revision;
use crate::{Hash, HubError, RemoteName, RepoId};
use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};

/// A cache at a folder, which is made when something is put into it.
#[derive(Debug, Clone)]
pub struct Cache {
    root: PathBuf,
}

impl Cache {
    pub fn at(root: PathBuf) -> Self {
        Self { root: std::path::absolute(&root).unwrap_or(root) }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Everything of one repository.
    pub fn repo(&self, repo: &RepoId) -> PathBuf {
        self.root.join(repo.folder())
    }

    /// Where the files of a commit are found under their own names.
    pub fn snapshot(&self, repo: &RepoId, commit: &str) -> PathBuf {
        self.repo(repo).join("snapshots").join(commit)
    }

    /// Takes the repository out of the cache, for all programs; a repository that is not there is gone already.
    pub fn remove(&self, repo: &RepoId) -> Result<(), HubError> {
        for folder in [self.repo(repo), self.root.join(".locks").join(repo.folder())] {
            match fs::remove_dir_all(&folder) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(HubError::io(&folder)(error)),
                _ => {}
            }
        }
        Ok(())
    }

    /// Bytes free for this person on the cache's disk.
    pub(crate) fn free(&self) -> Result<u64, HubError> {
        let there = self.root.ancestors().find(|folder| folder.exists()).unwrap_or(&self.root);
        let disk = rustix::fs::statvfs(there).map_err(|error| HubError::io(there)(error.into()))?;
        Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
    }

    pub(crate) fn blob(&self, repo: &RepoId, hash: &Hash) -> PathBuf {
        self.repo(repo).join("blobs").join(hash.digits())
    }

    /// What has arrived of a blob so far.
    pub(crate) fn partial(&self, repo: &RepoId, hash: &Hash) -> PathBuf {
        self.repo(repo).join("blobs").join(format!("{}.incomplete", hash.digits()))
    }

    /// Where the hub's own programs lock a blob while they download it.
    pub(crate) fn lock(&self, repo: &RepoId, hash: &Hash) -> Result<File, HubError> {
        let path = self.root.join(".locks").join(repo.folder()).join(format!("{}.lock", hash.digits()));
        make_parent(&path)?;
        OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(HubError::io(&path))
    }

    /// Makes a file of a commit lead to its blob.
    pub(crate) fn link(&self, repo: &RepoId, commit: &str, name: &RemoteName, hash: &Hash) -> Result<(), HubError> {
        let path = self.snapshot(repo, commit).join(name.path());
        make_parent(&path)?;
        // From the file's folder up to the repository's, then down to the blobs.
        let mut target: PathBuf = std::iter::repeat_n("..", name.depth() + 2).collect();
        target.extend(["blobs", hash.digits()]);
        if fs::read_link(&path).is_ok_and(|existing| existing == target) {
            return Ok(());
        }
        let temporary = path.with_file_name(format!(".link-{}", std::process::id()));
        let _ = fs::remove_file(&temporary);
        #[cfg(unix)]
        let linked = std::os::unix::fs::symlink(&target, &temporary);
        #[cfg(not(unix))]
        let linked = fs::copy(self.blob(repo, hash), &temporary).map(drop);
        linked.and_then(|()| fs::rename(&temporary, &path)).map_err(HubError::io(&path))
    }

    /// Makes the name of a revision lead to its commit.
    pub(crate) fn name_commit(&self, repo: &RepoId, revision: &str, commit: &str) -> Result<(), HubError> {
        if checked_revision(revision)? == commit {
            return Ok(());
        }
        let path = self.repo(repo).join("refs").join(revision.split('/').collect::<PathBuf>());
        make_parent(&path)?;
        let temporary = path.with_file_name(format!(".ref-{}", std::process::id()));
        fs::write(&temporary, commit).and_then(|()| fs::rename(&temporary, &path)).map_err(HubError::io(&path))?;
        sync_folder(&path)
    }
}

pub(crate) fn make_parent(path: &Path) -> Result<(), HubError> {
    path.parent().map_or(Ok(()), |folder| fs::create_dir_all(folder).map_err(HubError::io(folder)))
}

/// Brings the name of a file to the disk.
pub(crate) fn sync_folder(path: &Path) -> Result<(), HubError> {
    path.parent().map_or(Ok(()), |folder| File::open(folder).and_then(|folder| folder.sync_all()).map_err(HubError::io(folder)))
}
