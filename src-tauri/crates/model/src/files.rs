//! Reading with a cap, the manifest of a model folder, and writing whole or not at all.

use crate::ModelError;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Component, Path, PathBuf};

const MAX_MANIFEST_BYTES: u64 = 1 << 20;

/// Where a base's files are.
pub(crate) enum BaseFiles {
    /// `config.json`, `tokenizer.json` and safetensors.
    Folder(PathBuf),
    /// One file with everything in it.
    Gguf(PathBuf),
}

impl BaseFiles {
    /// What a path means: a GGUF file, a folder with `config.json`, or a folder that holds one GGUF file.
    ///
    /// # Errors
    /// `Missing`, `Io`; `Unsupported` for any other file, told by its first bytes.
    pub fn find(path: &Path) -> Result<Self, ModelError> {
        if path.is_file() {
            let mut start = [0u8; 4];
            // A file too short for that is no GGUF file.
            let read = File::open(path).map_err(ModelError::io(path))?.read_exact(&mut start);
            return match read.is_ok() && &start == b"GGUF" {
                true => Ok(Self::Gguf(path.to_owned())),
                false => Err(ModelError::unsupported(path, "it is neither a GGUF file nor a folder with config.json")),
            };
        }
        if !path.join("config.json").exists() {
            let entries = fs::read_dir(path).map_err(ModelError::io(path))?;
            let files = entries.filter_map(|entry| entry.ok().map(|entry| entry.path()));
            let mut models = files.filter(|file| file.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("gguf")));
            if let (Some(only), None) = (models.next(), models.next()) {
                return Self::find(&only);
            }
        }
        Ok(Self::Folder(path.to_owned()))
    }
}

/// Reads a whole file of at most `cap` bytes.
pub(crate) fn read_capped(path: &Path, cap: u64) -> Result<Vec<u8>, ModelError> {
    let file = File::open(path).map_err(ModelError::io(path))?;
    let mut bytes = Vec::new();
    // One byte more than the cap tells a file that is too long from one that just fits, even while it grows.
    file.take(cap + 1).read_to_end(&mut bytes).map_err(ModelError::io(path))?;
    if bytes.len() as u64 > cap {
        return Err(ModelError::damaged(path, format!("it is larger than {cap} bytes")));
    }
    Ok(bytes)
}

/// Checks the size and SHA-256 of every file that `model.json` of `dir` names; a folder without one passes.
///
/// # Errors
/// `Missing` or `Damaged`, with the path of the first file that is not as it should be.
pub fn verify_manifest(dir: &Path) -> Result<(), ModelError> {
    let path = dir.join("model.json");
    let bytes = match read_capped(&path, MAX_MANIFEST_BYTES) {
        Err(ModelError::Missing { .. }) => return Ok(()),
        bytes => bytes?,
    };
    let manifest: Manifest = serde_json::from_slice(&bytes).map_err(|error| ModelError::damaged(&path, error.to_string()))?;
    for (name, wanted) in &manifest.files {
        let mut parts = Path::new(name).components();
        if !matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None)) {
            return Err(ModelError::damaged(&path, format!("\"{name}\" is not a plain file name")));
        }
        wanted.check(&dir.join(name))?;
    }
    Ok(())
}

#[derive(Deserialize)]
struct Manifest {
    files: BTreeMap<String, ManifestFile>,
}

#[derive(Deserialize)]
struct ManifestFile {
    sha256: String,
    bytes: u64,
}

impl ManifestFile {
    fn check(&self, path: &Path) -> Result<(), ModelError> {
        let mut file = File::open(path).map_err(ModelError::io(path))?;
        let length = file.metadata().map_err(ModelError::io(path))?.len();
        if length != self.bytes {
            return Err(ModelError::damaged(path, format!("it has {length} bytes instead of {}", self.bytes)));
        }
        let mut hash = Sha256::new();
        let mut buffer = vec![0u8; 1 << 18];
        loop {
            match file.read(&mut buffer).map_err(ModelError::io(path))? {
                0 => break,
                count => hash.update(&buffer[..count]),
            }
        }
        let found = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        if found != self.sha256.to_lowercase() {
            return Err(ModelError::damaged(path, "its SHA-256 is not the one in model.json"));
        }
        Ok(())
    }
}

/// Writes a file whole or not at all, also across a power loss: temporary file, fsync, rename, fsync of the folder.
pub(crate) fn write_atomic(path: &Path, bytes: &[u8]) -> Result<(), ModelError> {
    let temporary = path.with_extension("partial");
    let write = || {
        let mut file = File::create(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        match path.parent() {
            Some(folder) => File::open(folder)?.sync_all(),
            None => Ok(()),
        }
    };
    write().map_err(|error| {
        // The rest of a failed write is of no use; a failure to remove it changes nothing.
        let _ = fs::remove_file(&temporary);
        ModelError::io(path)(error)
    })
}
