//! `inkling export …`

use crate::args::ExportChoice;
use crate::backend::Backend;
use crate::output::Printer;
use app::calls::call;
use domain::{ApiError, ExportKind, TrainingExport};
use std::path::Path;

pub fn run(kind: ExportChoice, out: &Path, backend: &Backend, printer: &Printer) -> Result<(), ApiError> {
    let kind = match kind {
        ExportChoice::Sft => ExportKind::Sft,
        ExportChoice::Kto => ExportKind::Kto,
        ExportChoice::Dpo => ExportKind::Dpo,
        ExportChoice::All => ExportKind::All,
    };
    // Another process may do the work: it stands in another folder.
    let absolute = std::path::absolute(out).unwrap_or_else(|_| out.to_owned());
    let exported = backend.call::<call::ExportTraining>(TrainingExport { kind, out_path: absolute.display().to_string() })?;
    printer.result(&exported, || {
        let lines = exported.files.iter().map(|file| format!("{} rows in {}", file.rows, file.path));
        lines.collect::<Vec<_>>().join("\n")
    });
    Ok(())
}
