//! `inkling adapters …`

use crate::args::{Adapters, Layout};
use crate::backend::Backend;
use crate::output::{Printer, name, table};
use app::calls::call;
use domain::{
    Adapter, AdapterActivation, AdapterExport, AdapterFormat, AdapterId, AdapterImport, AdapterRef, ApiError, ErrorCode, Nothing,
};
use std::path::Path;

pub fn run(action: Option<Adapters>, backend: &Backend, printer: &Printer) -> Result<(), ApiError> {
    match action.unwrap_or(Adapters::List) {
        Adapters::List => {
            let adapters = backend.call::<call::Adapters>(Nothing {})?;
            printer.result(&adapters, || list(&adapters));
        }
        Adapters::Activate { id, strength } => {
            let adapter = backend.call::<call::ActivateAdapter>(AdapterActivation { adapter_id: AdapterId(id), strength })?;
            printer.result(&adapter, || format!("{} ({}) writes from the next text on.", adapter.name, adapter.id));
        }
        Adapters::Deactivate { id } => {
            let adapter = backend.call::<call::DeactivateAdapter>(AdapterRef { adapter_id: AdapterId(id) })?;
            printer.result(&adapter, || format!("{} ({}) no longer writes.", adapter.name, adapter.id));
        }
        Adapters::Export { id, format, out } => {
            let format = match format {
                Layout::Peft => AdapterFormat::Peft,
                Layout::Gguf => AdapterFormat::Gguf,
                Layout::Merged => AdapterFormat::Merged,
            };
            let export = AdapterExport { adapter_id: AdapterId(id), format, out: absolute(&out)? };
            let saved = backend.call::<call::ExportAdapter>(export)?;
            printer.result(&saved, || format!("Saved to {}.", saved.path));
        }
        Adapters::Import { folder, name } => {
            let adapter = backend.call::<call::ImportAdapter>(AdapterImport { path: absolute(&folder)?, name })?;
            printer.result(&adapter, || format!("{} is here as {}; `inkling adapters activate` uses it.", adapter.name, adapter.id));
        }
        Adapters::Delete { id } => {
            let done = backend.call::<call::DeleteAdapter>(AdapterRef { adapter_id: AdapterId(id) })?;
            printer.result(&done, || "Deleted.".to_owned());
        }
    }
    Ok(())
}

fn list(adapters: &[Adapter]) -> String {
    if adapters.is_empty() {
        return "No adapters yet. `inkling train soft-prompt` makes one from the texts you liked.".to_owned();
    }
    let rows: Vec<_> = adapters
        .iter()
        .map(|one| {
            let verdict = one.verdict.as_ref().map_or(String::new(), |verdict| verdict.reason.clone());
            vec![one.id.to_string(), name(&one.state), one.name.clone(), format!("× {}", one.strength), verdict]
        })
        .collect();
    table(&rows)
}

/// The owner of the data folder may run in another working folder, so paths go out whole.
pub fn absolute(path: &Path) -> Result<String, ApiError> {
    let path = std::path::absolute(path)
        .map_err(|error| ApiError::new(ErrorCode::InvalidInput, format!("{} is not a path that can be used: {error}.", path.display())))?;
    Ok(path.to_string_lossy().into_owned())
}
