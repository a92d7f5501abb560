//! Which files of a repository are needed: the weights in one form, the configuration, the tokenizer. Never pickle.

use crate::{HubError, Listing, RemoteFile};

/// Beside the weights, where they are there.
const BESIDE: &[&str] = &[
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "LICENSE",
    "LICENSE.txt",
    "LICENSE.md",
];

/// Of several GGUF files, the first of these that is there.
const GGUF_PREFERENCE: &[&str] = &["q4_k_m", "q8_0", "q5_k_m", "q6_k", "q4_0", "q4", "f16"];

/// Which weights are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Weights {
    /// Safetensors, else the one GGUF that suits most machines.
    #[default]
    Any,
    /// This GGUF file.
    Gguf(String),
}

/// The files to download.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    pub files: Vec<RemoteFile>,
    /// Names the GGUF file, when the weights are one.
    pub gguf: Option<String>,
}

impl Selection {
    /// Bytes in all, as far as the hub says.
    pub fn bytes(&self) -> u64 {
        self.files.iter().filter_map(|file| file.size).fold(0, u64::saturating_add)
    }
}

/// Chooses the files that are needed to write with a model.
///
/// # Errors
/// `PickleOnly` and `NoWeights` when there are no weights that can be used.
pub fn select(listing: &Listing, weights: &Weights) -> Result<Selection, HubError> {
    let named = |name: &str| listing.files.iter().find(|file| file.name.as_str() == name);
    let ends = |ending: &'static str| listing.files.iter().filter(move |file| file.name.as_str().to_lowercase().ends_with(ending));
    let mut files: Vec<RemoteFile> = BESIDE.iter().filter_map(|name| named(name)).cloned().collect();
    if let Weights::Gguf(name) = weights {
        let file = named(name).filter(|file| file.name.as_str().to_lowercase().ends_with(".gguf")).ok_or_else(|| no_weights(listing))?;
        files.push(file.clone());
        return Ok(Selection { files, gguf: Some(name.clone()) });
    }
    if let Some(whole) = named("model.safetensors") {
        files.push(whole.clone());
        return Ok(Selection { files, gguf: None });
    }
    if let Some(index) = named("model.safetensors.index.json") {
        files.push(index.clone());
        let parts = listing.files.iter().filter(|file| is_part(file.name.as_str()));
        files.extend(parts.cloned());
        return Ok(Selection { files, gguf: None });
    }
    let suits = |kind: &&str| ends(".gguf").find(|file| file.name.as_str().to_lowercase().ends_with(&format!("{kind}.gguf"))).cloned();
    let only = || ends(".gguf").next().filter(|_| ends(".gguf").count() == 1).cloned();
    if let Some(file) = GGUF_PREFERENCE.iter().find_map(suits).or_else(only) {
        let gguf = Some(file.name.as_str().to_owned());
        files.push(file);
        return Ok(Selection { files, gguf });
    }
    let pickled = [".bin", ".pt", ".pth", ".ckpt", ".pkl"].iter().any(|ending| ends(ending).next().is_some());
    if pickled && ends(".gguf").next().is_none() {
        return Err(HubError::PickleOnly { repo: listing.repo.to_string() });
    }
    Err(no_weights(listing))
}

/// `model-00001-of-00003.safetensors`.
fn is_part(name: &str) -> bool {
    let middle = name.strip_prefix("model-").and_then(|rest| rest.strip_suffix(".safetensors"));
    let numbers = middle.and_then(|middle| middle.split_once("-of-"));
    numbers.is_some_and(|(one, of)| [one, of].iter().all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit())))
}

fn no_weights(listing: &Listing) -> HubError {
    let offered: Vec<&str> = listing.files.iter().map(|file| file.name.as_str()).filter(|name| name.ends_with(".gguf")).take(12).collect();
    HubError::NoWeights { repo: listing.repo.to_string(), found: (!offered.is_empty()).then(|| offered.join(", ")) }
}
