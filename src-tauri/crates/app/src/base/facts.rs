//! What a base is, told from its files before it is loaded.

use domain::{ApiError, BaseKind, ErrorCode};
use model::{BaseConfig, ModelFacts, Precision, Tokenizer};
use std::io::Read;
use std::path::{Path, PathBuf};

/// MB for the tokenizer, caches and work space of a few candidates.
const BESIDE_WEIGHTS_MB: f64 = 150.0;

/// Bytes a parameter takes in memory: int8 with its scales, and part of the embeddings in 16 bits.
const BYTES_A_PARAMETER: f64 = 1.15;

/// What a base is expected to write at once, for the estimate: so many texts of so many tokens.
const CANDIDATES: usize = 4;
const LENGTH: usize = 1024;

/// The share of the weights' tokens that a tokenizer must know at least.
const LEAST_TOKENS: f64 = 0.9;

const PICKLED: [&str; 5] = ["bin", "pt", "pth", "ckpt", "pkl"];

/// What is known of a base.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Facts {
    pub architecture: String,
    pub parameters: f64,
    pub context: u32,
    pub size_bytes: f64,
    pub memory_mb: f64,
    pub kind: BaseKind,
}

/// Checks the files of a base and says what it is.
///
/// # Errors
/// `UnsupportedMediaType` for pickle, `ModelMissing`, `ModelDamaged`, `InvalidInput` for what the engine cannot do.
pub(crate) fn facts(path: &Path, name: &str) -> Result<Facts, ApiError> {
    refuse_pickle(path)?;
    let found = model::inspect(path)?;
    Ok(Facts {
        architecture: found.architecture.to_owned(),
        parameters: found.parameters as f64,
        context: found.context as u32,
        size_bytes: files(path)?.iter().filter_map(|file| std::fs::metadata(file).ok()).map(|file| file.len() as f64).sum(),
        memory_mb: found.memory_bytes(Precision::Int8, CANDIDATES, LENGTH) as f64 / 1e6,
        kind: kind(path, name, &found)?,
    })
}

pub(crate) fn config(path: &Path) -> Result<BaseConfig, ApiError> {
    Ok(model::inspect(path)?.config)
}

/// MB that writing with a base of so many parameters takes, before its files are here.
pub(crate) fn estimated_mb(parameters: f64) -> f64 {
    parameters * BYTES_A_PARAMETER / 1e6 + BESIDE_WEIGHTS_MB
}

/// The files that make a base: of a folder those that are read, else the file itself.
pub(crate) fn files(path: &Path) -> Result<Vec<PathBuf>, ApiError> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let entries = std::fs::read_dir(path).map_err(|error| crate::folder::storage(path, &error))?;
    let read = ["safetensors", "json", "jinja", "txt", "md", "gguf"];
    let wanted = |file: &PathBuf| {
        let plain = file.file_name().is_some_and(|name| name == "LICENSE");
        file.is_file() && (plain || file.extension().is_some_and(|ending| read.iter().any(|one| ending.eq_ignore_ascii_case(one))))
    };
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).filter(wanted).collect();
    files.sort();
    Ok(files)
}

/// Refuses pickle by its content and by its name, wherever it is.
fn refuse_pickle(path: &Path) -> Result<(), ApiError> {
    let refuse = |file: &Path| {
        let message = format!("{} is a pickle, which can run any program when it is opened. It was not read.", file.display());
        Err(ApiError::new(ErrorCode::UnsupportedMediaType, message)
            .hint("Convert it to safetensors in a place that you trust, or look for a copy in safetensors or GGUF; most have one."))
    };
    let ends = |file: &Path| file.extension().is_some_and(|ending| PICKLED.iter().any(|one| ending.eq_ignore_ascii_case(one)));
    if path.is_file() {
        return if ends(path) || is_pickle(path) { refuse(path) } else { Ok(()) };
    }
    let mut weights = false;
    let mut pickled = None;
    for entry in std::fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path()) {
        let named_well = entry.extension().is_some_and(|ending| ending == "safetensors" || ending == "gguf");
        if named_well && is_pickle(&entry) {
            return refuse(&entry);
        }
        weights |= named_well;
        if ends(&entry) {
            pickled = Some(entry);
        }
    }
    match pickled {
        Some(file) if !weights => refuse(&file),
        _ => Ok(()),
    }
}

/// A zip, as PyTorch writes it, or a bare pickle.
fn is_pickle(file: &Path) -> bool {
    let mut start = [0; 8];
    let read = std::fs::File::open(file).and_then(|mut file| file.read(&mut start)).unwrap_or(0);
    // A safetensors file starts with the length of its header, whose last bytes are zero.
    start[..read].starts_with(b"PK\x03\x04") || (read == 8 && start[0] == 0x80 && (2..=5).contains(&start[1]) && start[4..] != [0; 4])
}

/// What a base was taught, from its tokens, its conversation format and its name.
fn kind(path: &Path, name: &str, found: &ModelFacts) -> Result<BaseKind, ApiError> {
    if path.is_dir() {
        let tokenizer = Tokenizer::load(path)?;
        let (known, wanted) = (tokenizer.ids(), found.config.vocab());
        // Weights have some rows more than there are tokens, for round numbers; never a tenth of all.
        if (known as f64) < LEAST_TOKENS * wanted as f64 {
            let message = format!("The tokenizer knows {known} tokens, the weights {wanted}: it belongs to another model.");
            return Err(ApiError::new(ErrorCode::ModelDamaged, message).hint("Put the tokenizer.json of this model beside its weights."));
        }
        if ["<|genre|>", "<|style|>", "<|prompt|>", "<|story|>"].iter().all(|token| tokenizer.special(token).is_some()) {
            return Ok(BaseKind::Story);
        }
    }
    let name = name.to_lowercase();
    let named = ["instruct", "chat", "flan", "-it"].iter().any(|word| name.contains(word));
    Ok(if found.chat || named { BaseKind::Instruct } else { BaseKind::Plain })
}
