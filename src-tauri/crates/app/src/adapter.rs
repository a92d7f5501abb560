//! Adapters: which there are, which is active, in and out of PEFT's layout.

use crate::base::BUILT_IN;
use crate::recipe::{AdapterWeights, decoder_of};
use crate::{App, Home, folder};
use domain::{
    Adapter, AdapterActivation, AdapterExport, AdapterFormat, AdapterId, AdapterImport, AdapterRef, AdapterState, ApiError, BaseId, Done,
    ErrorCode, Nothing, SavedPath, Timestamp,
};
use model::{Adapters, DenseWeights, LanguageModel, LoadOptions, Lora, WeightedLora};
use std::path::Path;
use std::sync::Arc;

/// What makes an adapter whole on disk.
const FILES: [&str; 2] = ["adapter_config.json", "adapter_model.safetensors"];

/// Cosine of the logits of a merged base and of base and adapter, both in int8; their rounding differs.
const LEAST_SIMILARITY: f64 = 0.99;

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

    /// Saves an adapter into a folder of the person's: in PEFT's layout, as GGUF for llama.cpp, or merged into its base.
    ///
    /// # Errors
    /// `NotFound`; `InvalidInput` for a kind of adapter that has no such form; `Damaged` when a merged base, loaded again, does
    /// not compute what base and adapter do: then it is removed.
    pub fn export_adapter(&self, export: AdapterExport) -> Result<SavedPath, ApiError> {
        let home = self.home();
        let adapter = home.store.adapter(&export.adapter_id)?;
        if export.out.trim().is_empty() {
            return Err(ApiError::field("out", "No folder was named to export to.").hint("Name a folder of yours."));
        }
        let (from, to) = (home.folder.root().join(&adapter.path), Path::new(&export.out));
        std::fs::create_dir_all(to).map_err(|error| folder::storage(to, &error))?;
        let saved = match export.format {
            AdapterFormat::Peft => {
                for name in FILES {
                    let bytes = std::fs::read(from.join(name)).map_err(|error| folder::storage(&from.join(name), &error))?;
                    folder::write_whole(&to.join(name), &bytes)?;
                }
                to.to_owned()
            }
            AdapterFormat::Gguf => {
                let path = to.join("adapter.gguf");
                self.lora_of(&home, &adapter, "GGUF")?.save_gguf(&path, decoder_of(&self.base_config(&adapter.base)?)?, &adapter.name)?;
                path
            }
            AdapterFormat::Merged => {
                let lora = self.lora_of(&home, &adapter, "merged")?;
                self.save_merged(&adapter, lora, to)?;
                to.to_owned()
            }
        };
        Ok(SavedPath { path: saved.display().to_string() })
    }

    fn lora_of(&self, home: &Home, adapter: &Adapter, form: &str) -> Result<Arc<Lora>, ApiError> {
        match self.adapter_weights(home, adapter)? {
            AdapterWeights::Lora(lora) => Ok(lora),
            AdapterWeights::SoftPrompt(_) => {
                Err(ApiError::new(ErrorCode::InvalidInput, format!("A soft prompt has no {form} form: it changes no weights."))
                    .hint("Export it as PEFT."))
            }
        }
    }

    fn save_merged(&self, adapter: &Adapter, lora: Arc<Lora>, to: &Path) -> Result<(), ApiError> {
        let occupied = std::fs::read_dir(to).map_err(|error| folder::storage(to, &error))?.next().is_some();
        if occupied {
            return Err(ApiError::field("out", "That folder is not empty.").hint("Name a new folder for the merged base."));
        }
        let from = self.base_path(&adapter.base)?;
        let mut weights = DenseWeights::load(&from)?;
        weights.merge(&lora, adapter.strength as f32)?;
        weights.save(&from, to)?;
        drop(weights);
        let base = self.base(&adapter.base)?;
        // Only a decoder can have a LoRA, so this is one.
        let base = base.decoder().ok_or_else(|| ApiError::internal("a LoRA beside a T5"))?;
        let merged = LanguageModel::load(to, &LoadOptions::new(1))?;
        let tokens = base.tokenizer().encode("Once upon a time there was a small house by the sea, and nobody lived in it.");
        let with = Adapters { lora: Some(WeightedLora { lora, strength: adapter.strength as f32 }), ..Adapters::default() };
        let similarity = model::cosine(&base.logits_with(&with, &tokens)?, &merged.logits(None, &tokens)?);
        if similarity < LEAST_SIMILARITY {
            // It is of no use; that it could not be removed changes nothing.
            let _ = std::fs::remove_dir_all(to);
            let message = format!("The merged base does not compute what {} does (similarity {similarity:.4}).", adapter.name);
            return Err(ApiError::new(ErrorCode::Damaged, message).hint("Nothing was saved. Export the adapter as PEFT instead."));
        }
        Ok(())
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
