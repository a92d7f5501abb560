//! `--output-dir`: a copy of the result where the old command put it, with `latest` moved last.

use crate::backend::Backend;
use crate::command::adapters::absolute;
use app::calls::call;
use domain::{AdapterExport, AdapterFormat, AdapterId, ApiError, ErrorCode, RunId, RunRef};
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// Saves the adapter and `training_run.json` as `<folder>/<run>` and points `<folder>/latest` there.
///
/// # Errors
/// `Storage` when the folder cannot be written; the adapter itself is safe in the data folder.
pub fn publish(run_id: &RunId, adapter_id: &AdapterId, folder: &Path, backend: &Backend) -> Result<PathBuf, ApiError> {
    let folder = PathBuf::from(absolute(folder)?);
    let failed = |error: io::Error| {
        ApiError::new(ErrorCode::Storage, format!("{} could not be written: {error}.", folder.display()))
            .hint(format!("The adapter is safe: `inkling adapters export {adapter_id} --out FOLDER` saves it elsewhere."))
    };
    fs::create_dir_all(&folder).map_err(failed)?;
    let target = folder.join(run_id.as_str());
    let out = target.to_string_lossy().into_owned();
    backend.call::<call::ExportAdapter>(AdapterExport { adapter_id: adapter_id.clone(), format: AdapterFormat::Peft, out })?;
    let run = backend.call::<call::Run>(RunRef { run_id: run_id.clone() })?;
    fs::copy(Path::new(&run.directory).join("training_run.json"), target.join("training_run.json")).map_err(failed)?;
    point_latest(&folder, run_id).map_err(failed)?;
    Ok(target)
}

/// Renamed over the old link, so that `latest` always leads to a whole result.
fn point_latest(folder: &Path, run_id: &RunId) -> io::Result<()> {
    let fresh = folder.join(format!(".latest-{}", std::process::id()));
    let _ = fs::remove_file(&fresh);
    symlink(run_id.as_str(), &fresh)?;
    fs::rename(&fresh, folder.join("latest"))
}
