//! `--output-dir`, `--run-directory`, `--run-id`: a copy of the result where the old command put it, with `latest` moved last.

use crate::backend::Backend;
use crate::command::adapters::absolute;
use app::calls::call;
use domain::{AdapterExport, AdapterFormat, AdapterId, ApiError, ErrorCode, RunId, RunRef};
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// Where a copy of the result goes, if anywhere.
#[derive(Debug, Clone, Default)]
pub struct Target {
    /// Gets a folder for each run, and `latest`.
    pub folder: Option<PathBuf>,
    /// The folder of this run itself.
    pub exactly: Option<PathBuf>,
    /// What the run is called there.
    pub name: Option<String>,
}

impl Target {
    /// # Errors
    /// `InvalidInput` for a name that is no plain folder name, or one without a place for it.
    pub fn check(&self) -> Result<(), ApiError> {
        let Some(name) = &self.name else { return Ok(()) };
        let plain = |letter: char| letter.is_alphanumeric() || matches!(letter, '-' | '_' | '.' | ':');
        if name.is_empty() || name.len() > 120 || name.starts_with('.') || name == "latest" || !name.chars().all(plain) {
            return Err(ApiError::field("run_id", format!("\"{name}\" cannot be the name of a run."))
                .hint("Use letters, digits, dots, hyphens and underscores."));
        }
        if self.folder.is_none() && self.exactly.is_none() {
            return Err(ApiError::field("run_id", "--run-id names the copy of the result, and none is asked for.")
                .hint("Give --output-dir or --run-directory too; `inkling runs` lists runs by their own ids."));
        }
        Ok(())
    }
}

/// Saves the adapter and `training_run.json` as `<folder>/<run>`, or in the folder named, and points `latest` beside it there.
/// `None` when no copy is wanted.
///
/// # Errors
/// `Storage` when the folder cannot be written; the adapter itself is safe in the data folder.
pub fn publish(run_id: &RunId, adapter_id: &AdapterId, target: &Target, backend: &Backend) -> Result<Option<PathBuf>, ApiError> {
    let name = target.name.as_deref().unwrap_or(run_id.as_str());
    let place = match (&target.exactly, &target.folder) {
        (Some(exactly), _) => PathBuf::from(absolute(exactly)?),
        (None, Some(folder)) => PathBuf::from(absolute(folder)?).join(name),
        (None, None) => return Ok(None),
    };
    let failed = |error: io::Error| {
        ApiError::new(ErrorCode::Storage, format!("{} could not be written: {error}.", place.display()))
            .hint(format!("The adapter is safe: `inkling adapters export {adapter_id} --out FOLDER` saves it elsewhere."))
    };
    fs::create_dir_all(&place).map_err(failed)?;
    let out = place.to_string_lossy().into_owned();
    backend.call::<call::ExportAdapter>(AdapterExport { adapter_id: adapter_id.clone(), format: AdapterFormat::Peft, out })?;
    let run = backend.call::<call::Run>(RunRef { run_id: run_id.clone() })?;
    let record = fs::read(Path::new(&run.directory).join(RECORD)).map_err(failed)?;
    let record = under_its_name(&record, name, &place, run_id).unwrap_or(record);
    fs::write(place.join(RECORD), record).map_err(failed)?;
    // Beside the copy, or in the folder for all runs when both are named.
    let folder = target.folder.as_deref().map(absolute).transpose()?.map(PathBuf::from);
    if let Some(folder) = folder.or_else(|| place.parent().map(Path::to_owned)) {
        fs::create_dir_all(&folder).map_err(failed)?;
        point_latest(&folder, place.strip_prefix(&folder).unwrap_or(&place)).map_err(failed)?;
    }
    Ok(Some(place))
}

const RECORD: &str = "training_run.json";

/// The record of a run as its copy says it: called `name`, in `place`, with its own id beside that.
fn under_its_name(record: &[u8], name: &str, place: &Path, run_id: &RunId) -> Option<Vec<u8>> {
    let mut record: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(record).ok()?;
    record.insert("run_id".to_owned(), name.into());
    record.insert("run_directory".to_owned(), place.display().to_string().into());
    record.insert("inkling_run_id".to_owned(), run_id.as_str().into());
    serde_json::to_vec_pretty(&record).ok()
}

/// The run that a copy of a result is of.
pub fn recorded(folder: &Path) -> Option<RunId> {
    let record: serde_json::Value = serde_json::from_slice(&fs::read(folder.join(RECORD)).ok()?).ok()?;
    Some(RunId(record.get("inkling_run_id")?.as_str()?.to_owned()))
}

/// Renamed over the old link, so that `latest` always leads to a whole result.
fn point_latest(folder: &Path, to: &Path) -> io::Result<()> {
    let fresh = folder.join(format!(".latest-{}", std::process::id()));
    let _ = fs::remove_file(&fresh);
    symlink(to, &fresh)?;
    fs::rename(&fresh, folder.join("latest"))
}
