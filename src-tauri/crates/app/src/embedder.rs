//! The built-in sentence embedder: loaded at its first use, and as a row for the doctor.

use crate::App;
use domain::{ApiError, Base, BaseId, BaseKind, BaseOrigin};
use model::Embedder;

const EMBEDDER: &str = "embedder";

impl App {
    /// The embedder; `None` where its files are missing or damaged, which the doctor reports.
    pub(crate) fn embedder(&self) -> Option<&Embedder> {
        let load = || {
            let threads = std::thread::available_parallelism().map_or(1, usize::from);
            let loaded = Embedder::load(&self.assets.base(EMBEDDER), threads);
            loaded.inspect_err(|error| tracing::warn!(%error, "texts are compared by their words alone")).ok()
        };
        self.models.embedder.get_or_init(load).as_ref()
    }

    /// The embedder as a row, with what is wrong with its files, if anything.
    pub(crate) fn embedder_row(&self) -> Base {
        let folder = self.assets.base(EMBEDDER);
        let size = std::fs::metadata(folder.join("model.safetensors")).map_or(0, |file| file.len());
        let facts = |loaded: &Embedder| (loaded.parameters() as f64, loaded.memory_bytes() as f64 / 1e6);
        // A loaded one was verified when it was loaded; otherwise loading says what is wrong.
        let found = match self.models.embedder.get() {
            Some(Some(loaded)) => Ok(facts(loaded)),
            _ => Embedder::load(&folder, 1).map(|loaded| facts(&loaded)),
        };
        let (parameters, memory_mb) = *found.as_ref().unwrap_or(&(0.0, 0.0));
        Base {
            id: BaseId::from(EMBEDDER),
            name: "Sentence embedder (built in)".to_owned(),
            architecture: "bert".to_owned(),
            parameters,
            size_bytes: size as f64,
            context: Embedder::MOST_PIECES as u32,
            license: "Apache-2.0".to_owned(),
            built_in: true,
            kind: BaseKind::default(),
            answers: false,
            origin: BaseOrigin::BuiltIn,
            source: None,
            memory_mb,
            tokens_per_second: None,
            is_default: false,
            problem: found.err().map(ApiError::from),
        }
    }
}
