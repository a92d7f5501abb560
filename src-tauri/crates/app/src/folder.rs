//! The data folder: where it is, what lies where in it, and which process owns it.

use domain::{ApiError, ErrorCode};
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

/// Longest path that fits a Unix socket address, with room for the terminator.
const SOCKET_PATH_LIMIT: usize = 100;

/// The person's data folder: `INKLING_HOME`, else where they moved it to, else the XDG data folder.
///
/// # Errors
/// `Storage` when there is no home folder to derive it from.
pub fn data_folder() -> Result<PathBuf, ApiError> {
    if let Some(path) = set("INKLING_HOME") {
        return Ok(path);
    }
    if let Some(moved) = pointer_file().and_then(|file| std::fs::read_to_string(file).ok()) {
        let path = PathBuf::from(moved.trim());
        if path.is_absolute() {
            return Ok(path);
        }
    }
    set("XDG_DATA_HOME").or_else(|| Some(set("HOME")?.join(".local/share"))).map(|base| base.join("inkling")).ok_or_else(|| {
        ApiError::new(ErrorCode::Storage, "There is no home folder to keep your texts in.").hint("Set INKLING_HOME to a folder of yours.")
    })
}

/// Remembers a data folder for the next start. An `INKLING_HOME` in the environment still comes first.
pub(crate) fn remember_data_folder(path: &Path) -> Result<(), ApiError> {
    let file = pointer_file().ok_or_else(|| ApiError::new(ErrorCode::Storage, "There is no folder for settings of this person."))?;
    if let Some(parent) = file.parent() {
        std::fs::create_dir_all(parent).map_err(|error| storage(parent, &error))?;
    }
    write_whole(&file, path.to_string_lossy().as_bytes())
}

fn pointer_file() -> Option<PathBuf> {
    let config = set("XDG_CONFIG_HOME").or_else(|| Some(set("HOME")?.join(".config")))?;
    Some(config.join("inkling/data-folder"))
}

fn set(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// What lies where in the data folder.
#[derive(Debug, Clone)]
pub(crate) struct DataFolder {
    root: PathBuf,
}

impl DataFolder {
    pub fn at(root: PathBuf) -> Self {
        Self { root: std::path::absolute(&root).unwrap_or(root) }
    }

    pub fn create(&self) -> Result<(), ApiError> {
        for folder in [self.root.clone(), self.runs(), self.adapters(), self.bases()] {
            std::fs::create_dir_all(&folder).map_err(|error| storage(&folder, &error))?;
        }
        Ok(())
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// One folder a run: dataset, checkpoints, `training_run.json`; `latest` links to the newest finished one.
    pub fn runs(&self) -> PathBuf {
        self.root.join("runs")
    }

    /// One folder an adapter, in PEFT's layout.
    pub fn adapters(&self) -> PathBuf {
        self.root.join("adapters")
    }

    /// One folder a base that was copied in.
    pub fn bases(&self) -> PathBuf {
        self.root.join("bases")
    }

    /// The key of the writing server, readable by this person only.
    pub fn member_key(&self) -> PathBuf {
        self.root.join("member.key")
    }

    pub fn preference_model(&self) -> PathBuf {
        self.root.join("preference_model.json")
    }

    pub fn socket(&self) -> PathBuf {
        let inside = self.root.join("inkling.sock");
        if inside.as_os_str().len() <= SOCKET_PATH_LIMIT {
            return inside;
        }
        // Too long for a socket address: a name derived from the folder, in the temporary folder.
        let name = sha256_hex(self.root.to_string_lossy().as_bytes());
        std::env::temp_dir().join(format!("inkling-{}.sock", &name[..16]))
    }

    fn lock_file(&self) -> PathBuf {
        self.root.join("inkling.lock")
    }
}

/// The process that owns a data folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    pub pid: u32,
    /// Where it takes requests.
    pub socket: PathBuf,
}

/// Ownership of a data folder, until dropped or the process ends.
pub(crate) struct FolderLock {
    _file: File,
}

pub(crate) enum Taken {
    Ours(FolderLock),
    HeldBy(Holder),
}

impl FolderLock {
    /// Takes the lock without waiting, and names the socket where the owner takes requests. The operating system releases it when the process ends, however it ends.
    pub fn take(folder: &DataFolder, socket: &Path) -> Result<Taken, ApiError> {
        let path = folder.lock_file();
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(|error| storage(&path, &error))?;
        match file.try_lock() {
            Ok(()) => {
                let holder = Holder { pid: std::process::id(), socket: socket.to_owned() };
                let text = serde_json::to_string(&holder).map_err(ApiError::internal)?;
                file.set_len(0).and_then(|()| file.write_all(text.as_bytes())).map_err(|error| storage(&path, &error))?;
                Ok(Taken::Ours(Self { _file: file }))
            }
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                // The holder writes its line right after locking: an empty file means that it is just starting.
                for _ in 0..50 {
                    text.clear();
                    file.rewind().and_then(|()| file.read_to_string(&mut text)).map_err(|error| storage(&path, &error))?;
                    if let Ok(holder) = serde_json::from_str(&text) {
                        return Ok(Taken::HeldBy(holder));
                    }
                    std::thread::sleep(std::time::Duration::from_millis(20));
                }
                Err(ApiError::new(ErrorCode::Busy, "Another Inkling holds your data folder and does not say which one it is.")
                    .hint("Close other Inkling windows and terminals, then try again."))
            }
            Err(TryLockError::Error(error)) => Err(storage(&path, &error)),
        }
    }
}

/// The files that come with the program.
#[derive(Debug, Clone)]
pub struct Assets {
    root: PathBuf,
}

impl Assets {
    /// The given folder, else `INKLING_ASSETS`, else beside the program, else where packages put it, else the source tree.
    pub fn find(given: Option<PathBuf>) -> Self {
        if let Some(root) = given.or_else(|| set("INKLING_ASSETS")) {
            return Self { root };
        }
        let beside = std::env::current_exe().ok().and_then(|exe| exe.canonicalize().ok());
        let folder = beside.as_deref().and_then(Path::parent);
        let source_tree = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../assets");
        folder
            .into_iter()
            .flat_map(|folder| [folder.join("assets"), folder.join("../lib/Inkling/assets"), folder.join("../lib/inkling/assets")])
            .chain([source_tree])
            .find(|root| root.join("models").is_dir())
            .map(|root| Self { root: root.canonicalize().unwrap_or(root) })
            // Nothing was found: name the place beside the program, so that the error says where the files belong.
            .unwrap_or_else(|| Self { root: folder.map(|folder| folder.join("assets")).unwrap_or_else(|| PathBuf::from("assets")) })
    }

    pub fn base(&self, id: &str) -> PathBuf {
        self.root.join("models").join(id)
    }
}

/// Writes a small file whole or not at all: temporary file, fsync, rename, fsync of the folder.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), ApiError> {
    let temporary = path.with_extension(format!("tmp-{}", std::process::id()));
    let written = (|| {
        let mut file = File::create(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)?;
        path.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all())
    })();
    if written.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    written.map_err(|error| storage(path, &error))
}

pub(crate) fn sha256_hex(bytes: &[u8]) -> String {
    use sha2::{Digest, Sha256};
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A file error in words, with what helps.
pub(crate) fn storage(path: &Path, error: &std::io::Error) -> ApiError {
    let path = path.display();
    match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
            ApiError::new(ErrorCode::DiskFull, format!("The disk is full: {path} was not written. What was saved before is safe."))
                .hint("Free some space, then try again.")
        }
        std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem => {
            ApiError::new(ErrorCode::Storage, format!("Inkling may not write to {path}."))
                .hint("Give yourself permission to write there, or choose another data folder with INKLING_HOME.")
        }
        _ => ApiError::new(ErrorCode::Storage, format!("{path} could not be read or written: {error}."))
            .hint("Check that the disk is connected and healthy, then try again."),
    }
}
