//! Checkpoints: everything needed to resume a run exactly, on disk whole or not at all.
//!
//! A checkpoint is a folder `checkpoint-<step>` with `state.safetensors` (weights, moments), `state.json` ([`Progress`])
//! and `manifest.json` (SHA-256 of both, written last). It is prepared under a temporary name, every file and the folder
//! are synced, then it is renamed and the parent synced: a crash leaves either the whole checkpoint or none. The order of
//! batches follows from seed and step, so no generator state needs keeping.

use crate::data::hex;
use crate::{FileLayer, TrainError};
use safetensors::tensor::{Dtype, SafeTensors, TensorView, serialize};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

const FORMAT: u32 = 1;
const TENSORS: &str = "state.safetensors";
const PROGRESS: &str = "state.json";
const MANIFEST: &str = "manifest.json";
const PREFIX: &str = "checkpoint-";
/// Written before the rename, so that a leftover of a crash is recognised and replaced.
const UNFINISHED: &str = ".unfinished-";
/// Far above any manifest; a hostile one must not fill the memory.
const MANIFEST_LIMIT: u64 = 1 << 16;

/// The state of a run after `progress.step` updates.
#[derive(Debug, Clone, PartialEq)]
pub struct Checkpoint {
    pub progress: Progress,
    pub tensors: BTreeMap<String, Tensor>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    pub shape: Vec<usize>,
    pub values: Vec<f32>,
}

/// The part of a run's state that is not tensors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    pub format: u32,
    pub run: RunIdentity,
    pub seed: u64,
    /// Updates made.
    pub step: u32,
    /// Passes over the training examples completed or begun, and how many examples of the current one are used.
    pub epoch: u32,
    pub epoch_position: u32,
    pub best: Option<Best>,
    /// Held-out measurements since the best one.
    pub strikes: u32,
    /// Update after which held-out examples were last measured.
    pub measured: Option<u32>,
    pub heldout_before: Option<f64>,
    pub history: Vec<Point>,
}

/// What a run was made from, as hashes; a checkpoint continues that run only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunIdentity {
    pub base: String,
    pub dataset: String,
    pub config: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Best {
    pub step: u32,
    pub heldout_loss: f64,
}

/// One update: its loss before the update, and the held-out loss after it where that was measured.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Point {
    pub step: u32,
    pub loss: f64,
    pub heldout_loss: Option<f64>,
}

/// The checkpoints of one run, in its folder.
pub struct Checkpoints<'a> {
    files: &'a dyn FileLayer,
    dir: PathBuf,
    kept: usize,
}

/// The newest usable checkpoint, and those that were passed over to get to it.
#[derive(Debug, Default)]
pub struct Newest {
    pub found: Option<(PathBuf, Checkpoint)>,
    pub skipped: Vec<Skipped>,
}

/// A checkpoint that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    pub path: PathBuf,
    pub reason: String,
}

impl<'a> Checkpoints<'a> {
    /// `kept` is how many stay; older ones are removed as new ones arrive.
    pub fn new(files: &'a dyn FileLayer, dir: &Path, kept: usize) -> Self {
        Self { files, dir: dir.to_owned(), kept: kept.max(1) }
    }

    /// Writes a checkpoint and returns its folder.
    ///
    /// # Errors
    /// `DiskFull`, `File` or `Encoding`; earlier checkpoints are then untouched.
    pub fn save(&self, checkpoint: &Checkpoint) -> Result<PathBuf, TrainError> {
        let step = checkpoint.progress.step;
        let unfinished = self.dir.join(format!("{UNFINISHED}{step}"));
        let finished = self.dir.join(format!("{PREFIX}{step}"));
        let tensors = encode_tensors(&checkpoint.tensors)?;
        let progress = encode_json(&checkpoint.progress)?;
        let manifest = encode_json(&Manifest::of([(TENSORS, &tensors), (PROGRESS, &progress)]))?;

        // A leftover of a crash, or a damaged checkpoint that a resumed run passed over and now reaches again.
        for stale in [&unfinished, &finished] {
            if stale.exists() {
                self.files.remove_dir(stale).map_err(|source| TrainError::file("remove", stale, source))?;
            }
        }
        self.files.create_dir(&unfinished).map_err(|source| TrainError::file("create", &unfinished, source))?;
        for (name, bytes) in [(TENSORS, &tensors), (PROGRESS, &progress), (MANIFEST, &manifest)] {
            let path = unfinished.join(name);
            self.files.write(&path, bytes).map_err(|source| TrainError::file("write", &path, source))?;
            self.files.sync_file(&path).map_err(|source| TrainError::file("sync", &path, source))?;
        }
        self.files.sync_dir(&unfinished).map_err(|source| TrainError::file("sync", &unfinished, source))?;
        self.files.rename(&unfinished, &finished).map_err(|source| TrainError::file("rename", &unfinished, source))?;
        self.files.sync_dir(&self.dir).map_err(|source| TrainError::file("sync", &self.dir, source))?;
        self.prune();
        Ok(finished)
    }

    /// The newest checkpoint whose files match their hashes.
    ///
    /// # Errors
    /// `NewerCheckpoint` rather than resuming from before it; `File` if the folder cannot be listed (one that does not exist
    /// holds none).
    pub fn newest(&self) -> Result<Newest, TrainError> {
        let mut newest = Newest::default();
        for (_, path) in self.list()?.into_iter().rev() {
            match read(&path) {
                Ok(checkpoint) => {
                    newest.found = Some((path, checkpoint));
                    break;
                }
                Err(Unusable::Newer(format)) => return Err(TrainError::NewerCheckpoint { checkpoint: path, format }),
                Err(Unusable::Damaged(reason)) => newest.skipped.push(Skipped { path, reason }),
            }
        }
        Ok(newest)
    }

    /// Removes all checkpoints, for a run that starts over.
    ///
    /// # Errors
    /// `File` if one cannot be removed.
    pub fn clear(&self) -> Result<(), TrainError> {
        for (_, path) in self.list()? {
            self.files.remove_dir(&path).map_err(|source| TrainError::file("remove", &path, source))?;
        }
        Ok(())
    }

    /// Steps and folders, oldest first.
    pub fn list(&self) -> Result<Vec<(u32, PathBuf)>, TrainError> {
        let entries = match fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(TrainError::file("list", &self.dir, error)),
        };
        let mut found = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|source| TrainError::file("list", &self.dir, source))?;
            let step = entry.file_name().to_str().and_then(|name| name.strip_prefix(PREFIX)).and_then(|step| step.parse().ok());
            found.extend(step.map(|step| (step, entry.path())));
        }
        found.sort_unstable();
        Ok(found)
    }

    /// Not being able to remove an old checkpoint harms nothing: the next one tries again.
    fn prune(&self) {
        let Ok(all) = self.list() else { return };
        for (_, path) in all.iter().take(all.len().saturating_sub(self.kept)) {
            let _ = self.files.remove_dir(path);
        }
    }
}

impl Checkpoint {
    /// The values of a tensor, if it is there with this shape.
    pub fn take(&mut self, name: &str, shape: &[usize]) -> Option<Vec<f32>> {
        self.tensors.remove(name).filter(|tensor| tensor.shape == shape).map(|tensor| tensor.values)
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Manifest {
    format: u32,
    files: BTreeMap<String, Entry>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    bytes: u64,
    sha256: String,
}

impl Manifest {
    fn of(files: [(&str, &Vec<u8>); 2]) -> Self {
        let entry = |bytes: &Vec<u8>| Entry { bytes: bytes.len() as u64, sha256: hex(&Sha256::digest(bytes)) };
        Self { format: FORMAT, files: files.into_iter().map(|(name, bytes)| (name.to_owned(), entry(bytes))).collect() }
    }
}

enum Unusable {
    Newer(u32),
    /// In words.
    Damaged(String),
}

impl From<String> for Unusable {
    fn from(reason: String) -> Self {
        Self::Damaged(reason)
    }
}

fn read(dir: &Path) -> Result<Checkpoint, Unusable> {
    let path = dir.join(MANIFEST);
    let size = fs::metadata(&path).map_err(|error| format!("{MANIFEST}: {error}"))?.len();
    if size > MANIFEST_LIMIT {
        return Err(format!("{MANIFEST} has {size} bytes").into());
    }
    let manifest = fs::read(&path).map_err(|error| format!("{MANIFEST}: {error}"))?;
    let manifest: Manifest = serde_json::from_slice(&manifest).map_err(|error| format!("{MANIFEST}: {error}"))?;
    if manifest.format > FORMAT {
        return Err(Unusable::Newer(manifest.format));
    }
    let progress = read_listed(dir, &manifest, PROGRESS)?;
    let progress: Progress = serde_json::from_slice(&progress).map_err(|error| format!("{PROGRESS}: {error}"))?;
    let tensors = decode_tensors(&read_listed(dir, &manifest, TENSORS)?)?;
    Ok(Checkpoint { progress, tensors })
}

/// Size first, so that a file that grew is not read at all; then the hash.
fn read_listed(dir: &Path, manifest: &Manifest, name: &str) -> Result<Vec<u8>, String> {
    let entry = manifest.files.get(name).ok_or_else(|| format!("{MANIFEST} does not list {name}"))?;
    let path = dir.join(name);
    let size = fs::metadata(&path).map_err(|error| format!("{name}: {error}"))?.len();
    if size != entry.bytes {
        return Err(format!("{name} has {size} bytes instead of {}", entry.bytes));
    }
    let bytes = fs::read(&path).map_err(|error| format!("{name}: {error}"))?;
    if hex(&Sha256::digest(&bytes)) != entry.sha256 {
        return Err(format!("{name} does not match its SHA-256"));
    }
    Ok(bytes)
}

fn encode_json(value: &impl Serialize) -> Result<Vec<u8>, TrainError> {
    serde_json::to_vec_pretty(value).map_err(|error| TrainError::Encoding { problem: error.to_string() })
}

fn encode_tensors(tensors: &BTreeMap<String, Tensor>) -> Result<Vec<u8>, TrainError> {
    let encoding = |error: safetensors::SafeTensorError| TrainError::Encoding { problem: error.to_string() };
    let bytes: Vec<(&str, &[usize], Vec<u8>)> = tensors
        .iter()
        .map(|(name, tensor)| (name.as_str(), &tensor.shape[..], tensor.values.iter().flat_map(|value| value.to_le_bytes()).collect()))
        .collect();
    let views = bytes
        .iter()
        .map(|(name, shape, bytes)| Ok((*name, TensorView::new(Dtype::F32, shape.to_vec(), bytes)?)))
        .collect::<Result<Vec<_>, _>>()
        .map_err(encoding)?;
    serialize(views, None).map_err(encoding)
}

/// Only reached with bytes that match their hash, so the library's own checks suffice here.
fn decode_tensors(bytes: &[u8]) -> Result<BTreeMap<String, Tensor>, String> {
    let file = SafeTensors::deserialize(bytes).map_err(|error| format!("{TENSORS}: {error}"))?;
    file.iter()
        .map(|(name, view)| {
            if view.dtype() != Dtype::F32 {
                return Err(format!("{TENSORS}: {name} is not f32"));
            }
            let values = view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
            Ok((name.to_owned(), Tensor { shape: view.shape().to_vec(), values }))
        })
        .collect()
}
