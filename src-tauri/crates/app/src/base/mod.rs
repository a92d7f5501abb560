//! Bases: which there are, and the loaded ones, kept for the next call.

mod catalogue;
pub(crate) mod download;
mod facts;
mod genres;
mod install;
mod loaded;

pub(crate) use loaded::LoadedBase;

use crate::recipe::AdapterWeights;
use crate::{App, Home, lock, memory};
use domain::{Adapter, AdapterId, ApiError, Base, BaseId, BaseKind, BaseOrigin, ErrorCode, InstalledBase, Nothing};
use model::{BaseConfig, Embedder, LlamaConfig, LoadOptions, TextModel};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};

/// The built-in story model.
pub(crate) const BUILT_IN: &str = "story";

/// What is loaded. A base or adapter is loaded at its first use and shared from then on; of the bases that were installed,
/// only the one that was used last stays.
#[derive(Default)]
pub(crate) struct Models {
    bases: Mutex<HashMap<BaseId, Arc<LoadedBase>>>,
    adapters: Mutex<HashMap<AdapterId, AdapterWeights>>,
    /// `None` once it could not be loaded: trying again before every text would cost more than it gives.
    pub(crate) embedder: OnceLock<Option<Embedder>>,
}

impl Models {
    pub(crate) fn forget(&self, id: &BaseId) {
        lock(&self.bases).remove(id);
    }
}

impl App {
    /// The built-in base and what was installed, in the order in which it came.
    pub fn bases(&self, _: Nothing) -> Result<Vec<Base>, ApiError> {
        let home = self.home();
        let default = home.store.settings()?.default_base;
        let installed = home.store.installed_bases()?.into_iter().map(|one| self.installed_row(&home, one));
        let mut rows: Vec<Base> = std::iter::once(self.base_row()).chain(installed).collect();
        for row in &mut rows {
            row.is_default = row.id.as_str() == default;
        }
        // A default that is gone: the built-in base writes.
        if let (false, Some(first)) = (rows.iter().any(|row| row.is_default), rows.first_mut()) {
            first.is_default = true;
        }
        Ok(rows)
    }

    /// Loads the built-in models ahead of the first request, on a thread of its own. A failure is reported by that request.
    pub fn warm_up(self: &Arc<Self>) {
        let app = self.clone();
        let warming = std::thread::Builder::new().name("warm-up".into()).spawn(move || {
            let _ = app.base(&BaseId::from(BUILT_IN));
            let _ = app.embedder();
        });
        if let Err(error) = warming {
            tracing::warn!(%error, "no thread to load the base ahead of time");
        }
    }

    /// The base that a request names, or the built-in one.
    pub(crate) fn base_id(&self, wanted: Option<&BaseId>) -> Result<BaseId, ApiError> {
        match wanted {
            None => Ok(BaseId::from(BUILT_IN)),
            Some(id) if id.as_str() == BUILT_IN => Ok(id.clone()),
            Some(id) => match self.home().store.installed_base(id) {
                Ok(_) => Ok(id.clone()),
                Err(store::StoreError::NotFound { .. }) => self.base_named(id),
                Err(error) => Err(error.into()),
            },
        }
    }

    /// A base by the name that it has elsewhere: its repository on the hub, that repository's last part, or what it was called
    /// when it came.
    fn base_named(&self, name: &BaseId) -> Result<BaseId, ApiError> {
        let same = |other: &str| other.eq_ignore_ascii_case(name.as_str());
        let installed = self.home().store.installed_bases()?;
        let by_name = || installed.iter().find(|one| one.repo.as_deref().is_some_and(same) || same(&one.base.name));
        // `google/flan-t5-small` may have come from a folder of that name.
        let last = name.as_str().rsplit('/').next().unwrap_or_default();
        let by_last =
            || installed.iter().find(|one| [one.base.id.as_str(), &one.base.name].iter().any(|own| own.eq_ignore_ascii_case(last)));
        by_name().or_else(by_last).map(|one| one.base.id.clone()).ok_or_else(|| no_base(name))
    }

    /// The base that texts are written with: the one that a request names, else the default one, else the built-in one.
    pub(crate) fn writing_base(&self, wanted: Option<&BaseId>, default: &str) -> Result<BaseId, ApiError> {
        match wanted {
            Some(_) => self.base_id(wanted),
            // A default that was removed must not keep the person from writing.
            None => self.base_id(Some(&BaseId::from(default))).or_else(|_| self.base_id(None)),
        }
    }

    /// What a base was taught.
    pub(crate) fn base_kind(&self, id: &BaseId) -> Result<BaseKind, ApiError> {
        if id.as_str() == BUILT_IN { Ok(BaseKind::Story) } else { Ok(self.home().store.installed_base(id)?.base.kind) }
    }

    /// Where a base's files are.
    pub(crate) fn base_path(&self, id: &BaseId) -> Result<PathBuf, ApiError> {
        if id.as_str() == BUILT_IN {
            return Ok(self.assets.base(BUILT_IN));
        }
        let home = self.home();
        let installed = home.store.installed_base(id)?;
        Ok(path_of(&home, &installed))
    }

    /// The loaded base.
    ///
    /// # Errors
    /// `OutOfMemory` with the figures when an installed base does not fit into the memory that is free; what loading reports.
    pub(crate) fn base(&self, id: &BaseId) -> Result<Arc<LoadedBase>, ApiError> {
        // Loading under the lock: a second caller waits for the first instead of loading the same weights again.
        let mut bases = lock(&self.models.bases);
        if let Some(loaded) = bases.get(id) {
            return Ok(loaded.clone());
        }
        let path = self.base_path(id)?;
        if id.as_str() != BUILT_IN {
            bases.retain(|other, _| other.as_str() == BUILT_IN);
            let needed = self.home().store.installed_base(id)?.base.memory_mb;
            refuse_without_room(needed, memory::available_mb(), "is free now")?;
        }
        let loaded = Arc::new(LoadedBase::new(load(&path)?, self.base_kind(id)?, &path));
        bases.insert(id.clone(), loaded.clone());
        Ok(loaded)
    }

    pub(crate) fn base_config(&self, id: &BaseId) -> Result<BaseConfig, ApiError> {
        facts::config(&self.base_path(id)?)
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
            kind: BaseKind::Story,
            answers: false,
            origin: BaseOrigin::BuiltIn,
            source: None,
            memory_mb: 0.0,
            tokens_per_second: None,
            is_default: true,
            problem: None,
        };
        // A loaded base was verified when it was loaded; otherwise its files are checked against their hashes now.
        let sound = if lock(&self.models.bases).contains_key(&row.id) { Ok(()) } else { model::verify_manifest(&folder) };
        match sound.and_then(|()| LlamaConfig::load(&folder)) {
            Ok(config) => {
                row.parameters = config.parameters() as f64;
                row.context = config.context as u32;
                row.memory_mb = facts::estimated_mb(config.parameters() as f64);
            }
            Err(error) => row.problem = Some(error.into()),
        }
        row
    }

    /// An installed base as a row; its files may have gone since.
    fn installed_row(&self, home: &Home, installed: InstalledBase) -> Base {
        let path = path_of(home, &installed);
        let mut row = installed.base;
        if !path.exists() {
            let message = format!("The files of {} are gone from {}.", row.name, path.display());
            row.problem = Some(ApiError::new(ErrorCode::ModelMissing, message).hint("Remove it here, then download or import it again."));
        }
        row
    }
}

pub(crate) fn load(path: &Path) -> Result<TextModel, ApiError> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    Ok(TextModel::load(path, &LoadOptions::new(threads))?)
}

fn path_of(home: &Home, installed: &InstalledBase) -> PathBuf {
    home.folder.root().join(&installed.path)
}

fn no_base(id: &BaseId) -> ApiError {
    let hint = match id.as_str().contains('/') {
        true => format!("Get it with `inkling models pull {id}`, or from a folder with `inkling models import`."),
        false => "The built-in base is named \"story\"; `inkling models list` lists all that are here.".to_owned(),
    };
    ApiError::new(ErrorCode::NotFound, format!("There is no base named {id} here.")).hint(hint)
}

/// Refuses what needs more memory than there is; 0 stands for a figure that is not known.
fn refuse_without_room(needed_mb: f64, there_mb: f64, what: &str) -> Result<(), ApiError> {
    if there_mb <= 0.0 || needed_mb <= there_mb {
        return Ok(());
    }
    let gb = |mb: f64| format!("{:.1} GB", mb / 1000.0);
    let message = format!("This base needs about {} of memory; {} {what}.", gb(needed_mb), gb(there_mb));
    Err(ApiError::new(ErrorCode::OutOfMemory, message).hint("Choose a smaller base, or close other programs."))
}
