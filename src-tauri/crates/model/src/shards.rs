//! The weights of a folder: one safetensors file, or several with an index.

use crate::ModelError;
use crate::checkpoint::Checkpoint;
use crate::files::read_capped;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

const WHOLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
const MAX_INDEX_BYTES: u64 = 8 << 20;
const MAX_FILES: usize = 256;

/// All safetensors files of a folder as one.
pub(crate) struct Shards {
    path: PathBuf,
    files: Vec<Checkpoint>,
    /// Index of the file that holds a tensor.
    places: BTreeMap<String, usize>,
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl Shards {
    /// Opens `model.safetensors`, or the files that `model.safetensors.index.json` names.
    ///
    /// # Errors
    /// `Missing`, `Io`, `Damaged` when the files do not hold what the index says, or as [`Checkpoint::open`].
    pub fn open(folder: &Path) -> Result<Self, ModelError> {
        let whole = folder.join(WHOLE);
        let index = folder.join(INDEX);
        if whole.exists() || !index.exists() {
            let file = Checkpoint::open(&whole)?;
            let places = file.names().map(|name| (name.to_owned(), 0)).collect();
            return Ok(Self { path: whole, files: vec![file], places });
        }
        let damaged = |reason: String| ModelError::damaged(&index, reason);
        let bytes = read_capped(&index, MAX_INDEX_BYTES)?;
        let parsed: Index = serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
        let names: BTreeSet<&String> = parsed.weight_map.values().collect();
        if names.is_empty() || names.len() > MAX_FILES {
            return Err(damaged(format!("it names {} files", names.len())));
        }
        let (mut files, mut places) = (Vec::new(), BTreeMap::new());
        for (number, name) in names.into_iter().enumerate() {
            let mut parts = Path::new(name).components();
            if !matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None)) {
                return Err(damaged(format!("\"{name}\" is not a plain file name")));
            }
            let file = Checkpoint::open(&folder.join(name))?;
            for tensor in file.names() {
                if parsed.weight_map.get(tensor) != Some(name) {
                    return Err(damaged(format!("it does not place {tensor} in {name}, which holds it")));
                }
                places.insert(tensor.to_owned(), number);
            }
            files.push(file);
        }
        match parsed.weight_map.keys().find(|name| !places.contains_key(*name)) {
            Some(missing) => Err(damaged(format!("the file that should hold {missing} does not"))),
            None => Ok(Self { path: index, files, places }),
        }
    }

    /// The file to name in errors about the whole.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn bytes(&self) -> u64 {
        self.files.iter().map(Checkpoint::bytes).sum()
    }

    pub fn contains(&self, name: &str) -> bool {
        self.places.contains_key(name)
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.places.keys().map(String::as_str)
    }

    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.places.get(name).and_then(|file| self.files[*file].shape(name))
    }

    pub fn dtype(&self, name: &str) -> Option<&'static str> {
        self.places.get(name).and_then(|file| self.files[*file].dtype(name))
    }

    /// Some rows of a tensor of exactly this shape; a vector counts as one row.
    ///
    /// # Errors
    /// As [`Checkpoint::read`].
    pub fn rows(&mut self, name: &str, rows: usize, cols: usize, first: usize, count: usize) -> Result<Vec<f32>, ModelError> {
        let Some(file) = self.places.get(name) else {
            return Err(ModelError::damaged(&self.path, format!("the tensor {name} is missing")));
        };
        self.files[*file].rows(name, rows, cols, first, count)
    }
}
