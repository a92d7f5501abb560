//! Adapters: which there are, which is active, in and out of PEFT's layout.

use crate::base::BUILT_IN;
use crate::recipe::AdapterWeights;
use crate::{App, folder};
use domain::{
    Adapter, AdapterActivation, AdapterExport, AdapterFormat, AdapterId, AdapterImport, AdapterRef, AdapterState, ApiError, BaseId, Done,
    ErrorCode, Nothing, SavedPath, Timestamp,
};
use std::path::Path;

/// What makes an adapter whole on disk.
const FILES: [&str; 2] = ["adapter_config.json", "adapter_model.safetensors"];

impl App {
    pub fn adapters(&self, _: Nothing) -> Result<Vec<Adapter>, ApiError> {
        Ok(self.home().store.adapters()?)
    }

    /// Uses an adapter from the next generation on; the one that was active goes back to trial.
    ///
    /// # Errors
    /// `NotFound`; `Damaged` or `ModelMissing` when its files cannot be used: then nothing changes.
    pub fn activate_adapter(&self, activation: AdapterActivation) -> Result<Adapter, ApiError> {
        let home = self.home();
        let mut adapter = home.store.adapter(&activation.adapter_id)?;
        if let Some(strength) = activation.strength {
            if !(0.0..=2.0).contains(&strength) {
                return Err(ApiError::field("strength", format!("The strength is {strength}; it must be 0 to 2.")));
            }
            adapter.strength = strength;
        }
        self.adapter_weights(&home, &adapter)?;
        home.store.update_adapter(&adapter)?;
        Ok(home.store.set_adapter_state(&adapter.id, AdapterState::Active)?.adapter)
    }

    pub fn deactivate_adapter(&self, which: AdapterRef) -> Result<Adapter, ApiError> {
        Ok(self.home().store.set_adapter_state(&which.adapter_id, AdapterState::Trial)?.adapter)
    }

    /// Deletes an adapter and its files.
    pub fn delete_adapter(&self, which: AdapterRef) -> Result<Done, ApiError> {
        let home = self.home();
        let adapter = home.store.adapter(&which.adapter_id)?;
        // The row goes first: files without a row are garbage, a row without files would be a broken promise.
        home.store.delete_adapter(&adapter.id)?;
        let files = home.folder.root().join(&adapter.path);
        match std::fs::remove_dir_all(&files) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(folder::storage(&files, &error)),
            _ => Ok(Done::OK),
        }
    }

    /// Copies an adapter's files, in PEFT's layout, into a folder of the person's.
    pub fn export_adapter(&self, export: AdapterExport) -> Result<SavedPath, ApiError> {
        let home = self.home();
        let adapter = home.store.adapter(&export.adapter_id)?;
        if export.format == AdapterFormat::Gguf {
            let why = match adapter.kind.is_soft_prompt() {
                true => "A soft prompt has no GGUF form; llama.cpp cannot load one.",
                false => "GGUF export is not built yet.",
            };
            return Err(ApiError::new(ErrorCode::InvalidInput, why).hint("Export it as PEFT."));
        }
        let (from, to) = (home.folder.root().join(&adapter.path), Path::new(&export.out));
        if export.out.trim().is_empty() {
            return Err(ApiError::field("out", "No folder was named to export to.").hint("Name a folder of yours."));
        }
        std::fs::create_dir_all(to).map_err(|error| folder::storage(to, &error))?;
        for name in FILES {
            let bytes = std::fs::read(from.join(name)).map_err(|error| folder::storage(&from.join(name), &error))?;
            folder::write_whole(&to.join(name), &bytes)?;
        }
        Ok(SavedPath { path: to.display().to_string() })
    }

    /// Takes in an adapter for the built-in base from a folder in PEFT's layout; it starts on trial.
    pub fn import_adapter(&self, import: AdapterImport) -> Result<Adapter, ApiError> {
        let home = self.home();
        let from = Path::new(&import.path);
        let base = BaseId::from(BUILT_IN);
        let config = self.base_config(&base)?;
        let weights_in_memory = AdapterWeights::load(from, &config)?;
        let id = AdapterId::fresh();
        let to = home.folder.adapters().join(id.as_str());
        weights_in_memory.save(&to, &config, base.as_str())?;
        let weights = to.join(FILES[1]);
        let bytes = std::fs::read(&weights).map_err(|error| folder::storage(&weights, &error))?;
        let given = import.name.map(|name| name.trim().to_owned()).filter(|name| !name.is_empty());
        let adapter = Adapter {
            name: given
                .or_else(|| from.file_name().map(|name| name.to_string_lossy().into_owned()))
                .unwrap_or_else(|| "Imported".to_owned()),
            kind: weights_in_memory.kind(),
            state: AdapterState::Trial,
            base,
            run_id: None,
            strength: 1.0,
            path: format!("adapters/{id}"),
            sha256: folder::sha256_hex(&bytes),
            size_bytes: bytes.len() as f64,
            verdict: None,
            created_at: Timestamp::now(),
            id,
        };
        home.store.insert_adapter(&adapter)?;
        Ok(adapter)
    }
}
