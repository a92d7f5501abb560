//! Bases that are known to work well.

use super::{facts, refuse_without_room};
use crate::{App, memory};
use domain::{ApiError, BaseKind, CatalogueEntry, JobState, Nothing};
use serde::Deserialize;
use std::sync::LazyLock;

/// Part of the program, so that it is there even when its files are not.
static CATALOGUE: LazyLock<Vec<Known>> =
    LazyLock::new(|| serde_json::from_str(include_str!("../../../../../assets/catalogue.json")).unwrap_or_default());

/// The share of the machine's memory that a base may take.
const SHARE_OF_MEMORY: f64 = 0.8;

#[derive(Deserialize)]
struct Known {
    id: String,
    name: String,
    repo: String,
    #[serde(default)]
    gguf: Option<String>,
    architecture: String,
    kind: BaseKind,
    parameters: f64,
    size_bytes: f64,
    license: String,
    good_for: String,
}

impl App {
    /// The catalogue, with what is here already, what comes, and what this machine is too small for.
    pub fn catalogue(&self, _: Nothing) -> Result<Vec<CatalogueEntry>, ApiError> {
        let home = self.home();
        let installed = home.store.installed_bases()?;
        let pulls = home.store.pulls(200)?;
        let under_way = |repo: &str| {
            let comes = |state| matches!(state, JobState::Queued | JobState::Running | JobState::Paused | JobState::Interrupted);
            pulls.iter().find(|(job, request)| request.model == repo && comes(job.state)).map(|(job, _)| job.id.clone())
        };
        let entries = CATALOGUE.iter().map(|known| {
            let memory_mb = known.memory_mb();
            CatalogueEntry {
                id: known.id.clone(),
                name: known.name.clone(),
                repo: known.repo.clone(),
                gguf: known.gguf.clone(),
                architecture: known.architecture.clone(),
                kind: known.kind,
                parameters: known.parameters,
                size_bytes: known.size_bytes,
                memory_mb,
                license: known.license.clone(),
                good_for: known.good_for.clone(),
                installed: installed.iter().find(|one| one.repo.as_deref() == Some(&known.repo)).map(|one| one.base.id.clone()),
                job_id: under_way(&known.repo),
                problem: fits_machine(memory_mb).err(),
            }
        });
        Ok(entries.collect())
    }
}

impl Known {
    /// Weights that come in 4 bits stay so.
    fn memory_mb(&self) -> f64 {
        if self.gguf.is_some() { self.size_bytes / 1e6 + 400.0 } else { facts::estimated_mb(self.parameters) }
    }
}

/// The repository, file and licence that a name of the catalogue stands for.
pub(super) fn known(name: &str) -> Option<(&'static str, Option<&'static str>, &'static str, BaseKind)> {
    let known = CATALOGUE.iter().find(|known| known.id.eq_ignore_ascii_case(name) || known.repo.eq_ignore_ascii_case(name))?;
    Some((&known.repo, known.gguf.as_deref(), &known.license, known.kind))
}

/// Refuses what the catalogue knows not to work here, before anything is downloaded.
pub(super) fn check_known(name: &str) -> Result<(), ApiError> {
    match CATALOGUE.iter().find(|known| known.id.eq_ignore_ascii_case(name) || known.repo.eq_ignore_ascii_case(name)) {
        Some(known) => fits_machine(known.memory_mb()),
        None => Ok(()),
    }
}

/// Refuses what this machine can never hold.
pub(super) fn fits_machine(needed_mb: f64) -> Result<(), ApiError> {
    refuse_without_room(needed_mb, memory::total_mb() * SHARE_OF_MEMORY, "of this machine's memory can be used for it")
}
