//! A folder in memory with sound files, one of which each round replaces.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

/// Lives as long as the program; `/dev/shm` is memory, so that a round costs microseconds.
static FOLDER: LazyLock<tempfile::TempDir> = LazyLock::new(|| {
    let memory = Path::new("/dev/shm");
    let parent = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    tempfile::tempdir_in(parent).expect("a folder in memory")
});

/// The sound files that the tests of this crate compare with transformers.
pub fn reference(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/reference").join(name)
}

/// The folder, into which `files` of `from` were copied once.
pub fn folder(from: &Path, files: &[&str]) -> &'static Path {
    let folder = FOLDER.path();
    for name in files {
        let to = folder.join(name);
        if !to.exists() {
            fs::copy(from.join(name), to).expect("a sound file to begin with");
        }
    }
    folder
}

/// Writes the round's file, followed by zeros up to `length` (of which none are stored).
pub fn put(folder: &Path, name: &str, bytes: &[u8], length: u64) -> PathBuf {
    let path = folder.join(name);
    let mut file = File::create(&path).expect("a file in memory");
    file.write_all(bytes).and_then(|()| file.set_len(length.max(bytes.len() as u64))).expect("written");
    path
}

/// libFuzzer's hook aborts at every panic. The tokenizer's parser panics on some files and is contained where it is called; a panic
/// that is not contained still ends the run, when it reaches libFuzzer.
pub fn let_panics_unwind() {
    std::panic::set_hook(Box::new(|_| {}));
}
