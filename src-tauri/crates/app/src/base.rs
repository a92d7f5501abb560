//! Bases: which there are, and the loaded ones, kept for the next call.

use crate::recipe::AdapterWeights;
use crate::{App, Home, lock};
use domain::{Adapter, AdapterId, ApiError, Base, BaseId, ErrorCode, Nothing};
use model::{DenseWeights, LanguageModel, LlamaConfig, LoadOptions};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// The built-in story model.
pub(crate) const BUILT_IN: &str = "story";

/// What is loaded. A base or adapter is loaded at its first use and shared from then on.
#[derive(Default)]
pub(crate) struct Models {
    bases: Mutex<HashMap<BaseId, Arc<LanguageModel>>>,
    adapters: Mutex<HashMap<AdapterId, AdapterWeights>>,
}

impl App {
    pub fn bases(&self, _: Nothing) -> Result<Vec<Base>, ApiError> {
        Ok(vec![self.base_row()])
    }

    /// Loads the built-in base ahead of the first request, on a thread of its own. A failure is reported by that request.
    pub fn warm_up(self: &Arc<Self>) {
        let app = self.clone();
        let warming = std::thread::Builder::new().name("warm-up".into()).spawn(move || app.base(&BaseId::from(BUILT_IN)).map(drop));
        if let Err(error) = warming {
            tracing::warn!(%error, "no thread to load the base ahead of time");
        }
    }

    /// The base that a request names, or the built-in one.
    pub(crate) fn base_id(&self, wanted: Option<&BaseId>) -> Result<BaseId, ApiError> {
        match wanted {
            None => Ok(BaseId::from(BUILT_IN)),
            Some(id) if id.as_str() == BUILT_IN => Ok(id.clone()),
            Some(id) => Err(ApiError::new(ErrorCode::NotFound, format!("There is no base named {id} here."))
                .hint("The built-in base is named \"story\"; `inkling doctor` lists all.")),
        }
    }

    /// The loaded base.
    pub(crate) fn base(&self, id: &BaseId) -> Result<Arc<LanguageModel>, ApiError> {
        // Loading under the lock: a second caller waits for the first instead of loading the same weights again.
        let mut bases = lock(&self.models.bases);
        if let Some(loaded) = bases.get(id) {
            return Ok(loaded.clone());
        }
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let loaded = Arc::new(LanguageModel::load(&self.assets.base(id.as_str()), &LoadOptions::new(threads))?);
        bases.insert(id.clone(), loaded.clone());
        Ok(loaded)
    }

    /// The frozen weights in f32, for training. They are not kept: only a training needs them.
    pub(crate) fn dense_weights(&self, id: &BaseId) -> Result<DenseWeights, ApiError> {
        Ok(DenseWeights::load(&self.assets.base(id.as_str()))?)
    }

    pub(crate) fn base_config(&self, id: &BaseId) -> Result<LlamaConfig, ApiError> {
        Ok(LlamaConfig::load(&self.assets.base(id.as_str()))?)
    }

    /// The weights of a stored adapter.
    ///
    /// # Errors
    /// As [`AdapterWeights::load`].
    pub(crate) fn adapter_weights(&self, home: &Home, adapter: &Adapter) -> Result<AdapterWeights, ApiError> {
        let mut adapters = lock(&self.models.adapters);
        if let Some(loaded) = adapters.get(&adapter.id) {
            return Ok(loaded.clone());
        }
        let loaded = AdapterWeights::load(&home.folder.root().join(&adapter.path), &self.base_config(&adapter.base)?)?;
        adapters.insert(adapter.id.clone(), loaded.clone());
        Ok(loaded)
    }

    /// The built-in base as a row, with what is wrong with its files, if anything.
    pub(crate) fn base_row(&self) -> Base {
        let folder = self.assets.base(BUILT_IN);
        let size = std::fs::metadata(folder.join("model.safetensors")).map_or(0, |file| file.len());
        let mut row = Base {
            id: BaseId::from(BUILT_IN),
            name: "Story (built in)".to_owned(),
            architecture: "llama".to_owned(),
            parameters: 0.0,
            size_bytes: size as f64,
            context: 0,
            license: "Apache-2.0".to_owned(),
            built_in: true,
            problem: None,
        };
        // A loaded base was verified when it was loaded; otherwise its files are checked against their hashes now.
        let sound = if lock(&self.models.bases).contains_key(&row.id) { Ok(()) } else { model::verify_manifest(&folder) };
        match sound.and_then(|()| LlamaConfig::load(&folder)) {
            Ok(config) => {
                row.parameters = config.parameters() as f64;
                row.context = config.context as u32;
            }
            Err(error) => row.problem = Some(error.into()),
        }
        row
    }
}
