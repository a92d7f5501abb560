//! Bases that come and go: import, measurement, removal.

use super::{BUILT_IN, catalogue, facts, load};
use crate::{App, Home, folder, lock, memory};
use domain::{
    ApiError, Base, BaseId, BaseImport, BaseOrigin, BaseRemoval, BaseRemoved, ErrorCode, InstalledBase, SettingsUpdate, Timestamp,
};
use model::{Generate, Guidance, MemberSpec, Sampler, TextModel};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Instant;

/// Tokens written to measure a base.
const MEASURED_TOKENS: usize = 24;

/// A base whose files are in place, before it is measured and stored.
pub(super) struct Arrival {
    pub name: String,
    pub origin: BaseOrigin,
    pub source: String,
    pub license: Option<String>,
    /// Relative to the data folder, or absolute.
    pub path: PathBuf,
    pub repo: Option<String>,
    pub owned: bool,
}

impl App {
    /// Takes a base from a folder or a GGUF file of this machine, once its files are known to be usable.
    ///
    /// # Errors
    /// `InvalidInput` for a path that is none, `UnsupportedMediaType` for pickle, `ModelMissing`, `ModelDamaged`, `OutOfMemory`
    /// with the figures, `DiskFull`. Nothing is left behind then.
    pub fn import_base(&self, import: BaseImport) -> Result<Base, ApiError> {
        let home = self.home();
        let path = PathBuf::from(&import.path);
        if !path.is_absolute() || !path.exists() {
            let message =
                if path.is_absolute() { format!("There is nothing at {}.", import.path) } else { "The path must be a full one.".into() };
            return Err(ApiError::field("path", message).hint("Give the full path of a folder with safetensors, or of a .gguf file."));
        }
        let name = import.name.clone().filter(|name| !name.trim().is_empty()).unwrap_or_else(|| name_of(&path));
        if name.chars().count() > 80 || name.contains(char::is_control) {
            return Err(ApiError::field("name", "The name must be one line of at most 80 characters."));
        }
        let facts = facts::facts(&path, &name)?;
        catalogue::fits_machine(facts.memory_mb)?;
        let mut arrival = Arrival {
            name: name.trim().to_owned(),
            origin: BaseOrigin::Import,
            source: path.display().to_string(),
            license: None,
            path: path.clone(),
            repo: None,
            owned: false,
        };
        if import.in_place {
            return self.install(&home, arrival);
        }
        let id = self.free_id(&home, &arrival.name)?;
        let folder = home.folder.bases().join(id.as_str());
        copy_whole(&path, &folder)?;
        let inside = if path.is_dir() { PathBuf::new() } else { PathBuf::from(path.file_name().unwrap_or_default()) };
        arrival.path = PathBuf::from("bases").join(id.as_str()).join(inside);
        arrival.owned = true;
        self.install(&home, arrival).inspect_err(|_| drop(std::fs::remove_dir_all(&folder)))
    }

    /// Takes a base off the list, with its files if they came with it.
    ///
    /// # Errors
    /// `Conflict` for the built-in base, and, unless it is meant anyway, when adapters were trained on it: they are named.
    pub fn remove_base(&self, removal: BaseRemoval) -> Result<BaseRemoved, ApiError> {
        let id = removal.base_id;
        if id.as_str() == BUILT_IN {
            return Err(ApiError::new(
                ErrorCode::Conflict,
                "The built-in base stays: it is what Inkling writes with when all else is gone.",
            )
            .hint("Make another base the default one in Settings."));
        }
        let home = self.home();
        let installed = home.store.installed_base(&id)?;
        let trained: Vec<_> = home.store.adapters()?.into_iter().filter(|adapter| adapter.base == id).collect();
        if !trained.is_empty() && !removal.anyway {
            let names = trained.iter().map(|adapter| adapter.name.as_str()).collect::<Vec<_>>().join(", ");
            let message = format!("These adapters were trained on {} and cannot be used without it: {names}.", installed.base.name);
            return Err(ApiError::new(ErrorCode::Conflict, message).hint("Remove it anyway to keep them for when the base is back."));
        }
        // The row goes first: files without a row are garbage, a row without files would be a broken promise.
        home.store.delete_base(&id)?;
        self.models.forget(&id);
        if home.store.settings()?.default_base == id.as_str() {
            let back = serde_json::Map::from_iter([("defaultBase".to_owned(), BUILT_IN.into())]);
            self.update_settings(SettingsUpdate(back))?;
        }
        if installed.owned {
            self.delete_files(&home, &installed)?;
        }
        Ok(BaseRemoved { ok: true, files_deleted: installed.owned, adapters: trained.into_iter().map(|adapter| adapter.id).collect() })
    }

    fn delete_files(&self, home: &Home, installed: &InstalledBase) -> Result<(), ApiError> {
        match &installed.repo {
            Some(repo) => Ok(self.hub()?.cache().remove(&hub::RepoId::parse(repo)?)?),
            None => {
                let folder = home.folder.bases().join(installed.base.id.as_str());
                match std::fs::remove_dir_all(&folder) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(folder::storage(&folder, &error)),
                    _ => Ok(()),
                }
            }
        }
    }

    /// Checks, measures and stores a base whose files are in place.
    pub(super) fn install(&self, home: &Home, arrival: Arrival) -> Result<Base, ApiError> {
        let path = home.folder.root().join(&arrival.path);
        let facts = facts::facts(&path, &arrival.name)?;
        catalogue::fits_machine(facts.memory_mb)?;
        let speed = self.measure(&path, facts.memory_mb)?;
        let id = match arrival.path.strip_prefix("bases").ok().and_then(|rest| rest.iter().next()).filter(|_| arrival.owned) {
            Some(folder) => BaseId(folder.to_string_lossy().into_owned()),
            None => self.free_id(home, &arrival.name)?,
        };
        let base = Base {
            id,
            name: arrival.name,
            architecture: facts.architecture,
            parameters: facts.parameters,
            size_bytes: facts.size_bytes,
            context: facts.context,
            license: arrival.license.unwrap_or_else(|| "not stated".to_owned()),
            built_in: false,
            kind: facts.kind,
            answers: facts.kind.answers(),
            origin: arrival.origin,
            source: Some(arrival.source),
            memory_mb: facts.memory_mb,
            tokens_per_second: speed,
            is_default: false,
            problem: None,
        };
        let path = arrival.path.to_string_lossy().into_owned();
        let installed = InstalledBase { base, path, repo: arrival.repo, owned: arrival.owned, installed_at: Timestamp::now() };
        home.store.insert_base(&installed)?;
        Ok(installed.base)
    }

    /// Loads a base, which checks all of its weights, and writes a few words with it. `None` when there is no room now.
    fn measure(&self, path: &Path, needed_mb: f64) -> Result<Option<f64>, ApiError> {
        if super::refuse_without_room(needed_mb, memory::available_mb(), "").is_err() {
            return Ok(None);
        }
        let loaded = load(path)?;
        // Nothing else computes meanwhile: not a training, not another text.
        let _training_waits = self.writing.gate.enter();
        let _turn = lock(&self.writing.turn);
        tokens_per_second(&loaded)
    }

    /// An id made of a name that no base has yet.
    fn free_id(&self, home: &Home, name: &str) -> Result<BaseId, ApiError> {
        let plain = |letter: char| if letter.is_ascii_alphanumeric() || letter == '.' { letter.to_ascii_lowercase() } else { '-' };
        let slug = name.chars().map(plain).collect::<String>();
        let slug = slug.split(['-']).filter(|part| !part.is_empty()).collect::<Vec<_>>().join("-");
        let slug = slug.trim_matches('.').chars().take(60).collect::<String>();
        let slug = if slug.is_empty() { "base".to_owned() } else { slug };
        let taken: Vec<BaseId> = home.store.installed_bases()?.into_iter().map(|one| one.base.id).collect();
        let free = |id: &BaseId| id.as_str() != BUILT_IN && !taken.contains(id) && !home.folder.bases().join(id.as_str()).exists();
        let numbered = (1..).map(|number| if number == 1 { BaseId(slug.clone()) } else { BaseId(format!("{slug}-{number}")) });
        numbered.take(taken.len() + 1000).find(free).ok_or_else(|| ApiError::internal("no free name for the base"))
    }
}

/// Greedy tokens a second, one text at a time, after the prompt was read.
fn tokens_per_second(base: &TextModel) -> Result<Option<f64>, ApiError> {
    let sampler = Sampler { temperature: 0.0, top_k: 0, top_p: 1.0, min_p: 0.0, repetition_penalty: 1.0, seed: 1 };
    let request = Generate {
        prompt: base.plain_prompt("Once upon a time there was a"),
        written: 0,
        members: vec![MemberSpec::with(sampler, model::Adapters::default())],
        max_tokens: MEASURED_TOKENS,
        stop: Vec::new(),
        stop_texts: Vec::new(),
        guidance: Guidance::default(),
    };
    let mut times = Vec::new();
    base.generate(&request, &AtomicBool::new(false), &mut |_| times.push(Instant::now()))?;
    Ok(match (times.first(), times.last()) {
        (Some(first), Some(last)) if last > first => Some((times.len() - 1) as f64 / (*last - *first).as_secs_f64()),
        _ => None,
    })
}

/// Copies a base's files into a new folder, whole or not at all.
fn copy_whole(from: &Path, to: &Path) -> Result<(), ApiError> {
    let temporary = to.with_extension("partial");
    let _ = std::fs::remove_dir_all(&temporary);
    let copied = (|| {
        std::fs::create_dir_all(&temporary).map_err(|error| folder::storage(&temporary, &error))?;
        for file in facts::files(from)? {
            let target = temporary.join(file.file_name().unwrap_or_default());
            std::fs::copy(&file, &target)
                .and_then(|_| std::fs::File::open(&target)?.sync_all())
                .map_err(|error| folder::storage(&target, &error))?;
        }
        std::fs::rename(&temporary, to).map_err(|error| folder::storage(to, &error))
    })();
    copied.inspect_err(|_: &ApiError| drop(std::fs::remove_dir_all(&temporary)))
}

fn name_of(path: &Path) -> String {
    let name = if path.is_dir() { path.file_name() } else { path.file_stem() };
    name.map(|name| name.to_string_lossy().chars().take(80).collect()).unwrap_or_else(|| "Base".to_owned())
}
