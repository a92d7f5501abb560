//! `inkling restore BACKUP`: for a data folder that no longer opens.

use crate::output::Printer;
use app::{App, OpenOptions};
use domain::ApiError;
use std::path::{Path, PathBuf};

/// Puts the backup in place. The data folder is not opened first, because it may not open.
///
/// # Errors
/// `Busy` while an Inkling holds the folder, `Damaged` when the backup itself is not whole, and what copying reports.
pub fn run(data_dir: Option<PathBuf>, backup: &Path, printer: &Printer) -> Result<(), ApiError> {
    let damaged = App::restore(OpenOptions { data_dir, ..OpenOptions::default() }, backup)?;
    let kept = damaged.display().to_string();
    printer.result(&serde_json::json!({ "ok": true, "damaged_files": kept }), || {
        format!("Restored from {}. What was there before lies in {kept}.", backup.display())
    });
    Ok(())
}
