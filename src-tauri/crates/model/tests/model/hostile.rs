//! Changed and crafted model files: never a panic, never an allocation out of proportion, an answer soon (R5, R6).
//!
//! Each round changes a sound file by chance and loads it. `INKLING_FUZZ_SECONDS=600 cargo test --release -p inkling-model --test
//! model hostile -- --nocapture` goes on for so long with each kind of file; `INKLING_FUZZ_SEED` begins elsewhere. A failing
//! input is left where the message says.

use crate::decoders::reference;
use model::{DenseWeights, LanguageModel, LoadOptions, ModelError, Tokenizer, inspect};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The system's allocator, which remembers the largest request of a thread.
struct Watching;

thread_local! {
    static LARGEST: Cell<usize> = const { Cell::new(0) };
}

fn note(size: usize) {
    // Gone while a thread ends; then nobody asks.
    let _ = LARGEST.try_with(|largest| largest.set(largest.get().max(size)));
}

// SAFETY: everything is handed on to the system's allocator.
unsafe impl GlobalAlloc for Watching {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(size);
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Watching = Watching;

/// Largest single allocation for a file of a few hundred kilobytes.
const LARGEST_ALLOWED: usize = 48 << 20;

struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((self.0 >> 11) % bound.max(1) as u64) as usize
    }
}

const EXTREMES: [u64; 12] = [0, 1, 2, 0x7f, 0xffff, 1 << 24, 1 << 31, u32::MAX as u64, 1 << 40, i64::MAX as u64, u64::MAX - 31, u64::MAX];

/// Changes a file by chance, mostly within its first `head` bytes.
fn change(bytes: &mut Vec<u8>, head: usize, chance: &mut Chance) {
    for _ in 0..1 + chance.below(3) {
        let place = if chance.below(8) == 0 { bytes.len() } else { head.min(bytes.len()) };
        let at = chance.below(place);
        let end = bytes.len().min(at + 1 + chance.below(40));
        let extreme = EXTREMES[chance.below(EXTREMES.len())];
        match chance.below(7) {
            0 if at < bytes.len() => bytes[at] ^= 1 << chance.below(8),
            1 if at < bytes.len() => bytes[at] = chance.below(256) as u8,
            2 => bytes.truncate(at),
            3 if at + 8 <= bytes.len() => bytes[at..at + 8].copy_from_slice(&extreme.to_le_bytes()),
            4 if at + 4 <= bytes.len() => bytes[at..at + 4].copy_from_slice(&(extreme as u32).to_le_bytes()),
            5 if at < end => drop(bytes.drain(at..end)),
            _ if at < end => {
                let piece = bytes[at..end].to_vec();
                let to = chance.below(bytes.len());
                bytes.splice(to..to, piece);
            }
            _ => {}
        }
    }
}

/// Replaces a value of a JSON text.
fn change_json(bytes: &mut Vec<u8>, chance: &mut Chance) {
    if chance.below(4) == 0 {
        return change(bytes, usize::MAX, chance);
    }
    let starts: Vec<usize> = (1..bytes.len()).filter(|at| bytes[at - 1].is_ascii_whitespace() || bytes[at - 1] == b':').collect();
    let Some(at) = starts.get(chance.below(starts.len())).copied() else { return };
    let end = (at..bytes.len()).find(|end| matches!(bytes[*end], b',' | b'}' | b']' | b'\n')).unwrap_or(bytes.len());
    let values = [
        "0",
        "-1",
        "1e308",
        "-1e-308",
        "18446744073709551615",
        "99999999",
        "null",
        "true",
        "\"\"",
        "[]",
        "{}",
        "[[[[[[]]]]]]",
        "\"(((((a+)+)+)+)+$\"",
        "3.5",
    ];
    bytes.splice(at..end, values[chance.below(values.len())].bytes());
}

/// Loads changed copies of the file `name` in `folder`, `count` of them or for as long as asked.
fn rounds(folder: &Path, name: &str, count: u32, change: impl Fn(&mut Vec<u8>, &mut Chance), load: impl Fn() -> Result<(), ModelError>) {
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let seconds = number("INKLING_FUZZ_SECONDS").map(Duration::from_secs);
    let mut chance = Chance(number("INKLING_FUZZ_SEED").unwrap_or(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let path = folder.join(name);
    let sound = std::fs::read(&path).unwrap();
    load().unwrap();
    let (mut tried, mut accepted, start) = (0u32, 0u32, Instant::now());
    let mut slowest = Duration::ZERO;
    while seconds.map_or(tried < count, |limit| start.elapsed() < limit) {
        let mut bytes = sound.clone();
        change(&mut bytes, &mut chance);
        std::fs::write(&path, &bytes).unwrap();
        LARGEST.set(0);
        let began = Instant::now();
        let result = catch_unwind(AssertUnwindSafe(&load));
        slowest = slowest.max(began.elapsed());
        let largest = LARGEST.get();
        let keep = || {
            let kept = std::env::temp_dir().join(format!("inkling-hostile-{tried}-{name}"));
            std::fs::write(&kept, &bytes).unwrap();
            kept.display().to_string()
        };
        let result = result.unwrap_or_else(|_| panic!("{name}: a panic; see {}", keep()));
        assert!(largest <= LARGEST_ALLOWED, "{name}: {largest} bytes at once; see {}", keep());
        match result {
            Ok(()) => accepted += 1,
            Err(ModelError::Damaged { .. } | ModelError::Unsupported { .. } | ModelError::Missing { .. }) => {}
            Err(other) => panic!("{name}: {other}; see {}", keep()),
        }
        tried += 1;
    }
    std::fs::write(&path, &sound).unwrap();
    println!("R6 {name}: {tried} changed files, {accepted} harmless, slowest {slowest:?}, {:?} in all", start.elapsed());
    assert!(tried > 0 && accepted < tried, "most changes matter");
}

fn copy(from: PathBuf, names: &[&str]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for name in names {
        std::fs::copy(from.join(name), dir.path().join(name)).unwrap();
    }
    dir
}

#[test]
fn changed_gguf_files_are_refused_or_harmless_r6() {
    for name in ["llama-f16.gguf", "qwen2-q8_0.gguf", "phi3-q4_0.gguf"] {
        let dir = copy(reference("gguf"), &[name]);
        let path = dir.path().join(name);
        // Metadata and the table of tensors: everything before the weights.
        let head = |bytes: &mut Vec<u8>, chance: &mut Chance| change(bytes, 16_000, chance);
        rounds(dir.path(), name, 500, head, || inspect(&path).map(drop));
        rounds(dir.path(), name, 60, head, || LanguageModel::load(&path, &LoadOptions::new(1)).map(drop));
    }
}

#[test]
fn changed_gguf_tokenizers_are_refused_or_harmless_r6() {
    for name in ["llama.gguf", "qwen2.gguf"] {
        let dir = copy(reference("tokenizers"), &[name]);
        let path = dir.path().join(name);
        let load = || {
            let tokenizer = Tokenizer::load(&path)?;
            tokenizer.decode(&tokenizer.encode("a fox, 日本 and <|x|>"));
            Ok(())
        };
        rounds(dir.path(), name, 150, |bytes, chance| change(bytes, usize::MAX, chance), load);
    }
}

const FOLDER: [&str; 5] = ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"];

#[test]
fn changed_folders_are_refused_or_harmless_r6() {
    let dir = copy(reference("decoders/phi3-long"), &FOLDER);
    let load = || LanguageModel::load(dir.path(), &LoadOptions::new(1)).map(drop);
    rounds(dir.path(), "model.safetensors", 150, |bytes, chance| change(bytes, 3_000, chance), load);
    rounds(dir.path(), "config.json", 200, change_json, load);
    rounds(dir.path(), "generation_config.json", 100, change_json, load);
    rounds(dir.path(), "tokenizer.json", 150, change_json, load);
    rounds(dir.path(), "config.json", 100, change_json, || DenseWeights::load(dir.path()).map(drop));
}

/// A GGUF header: version, counts, and whatever follows.
fn header(version: u32, tensors: u64, entries: u64, rest: &[u8]) -> Vec<u8> {
    [b"GGUF", &version.to_le_bytes()[..], &tensors.to_le_bytes(), &entries.to_le_bytes(), rest].concat()
}

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()
}

fn tensor(name: &str, sides: &[u64], kind: u32, offset: u64) -> Vec<u8> {
    let count = (sides.len() as u32).to_le_bytes().to_vec();
    let sides: Vec<u8> = sides.iter().flat_map(|side| side.to_le_bytes()).collect();
    [text(name), count, sides, kind.to_le_bytes().to_vec(), offset.to_le_bytes().to_vec()].concat()
}

fn entry(key: &str, kind: u32, value: &[u8]) -> Vec<u8> {
    [text(key), kind.to_le_bytes().to_vec(), value.to_vec()].concat()
}

#[test]
fn crafted_gguf_headers_are_refused_before_anything_is_allocated_r6() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("crafted.gguf");
    let array = |kind: u32, count: u64| [kind.to_le_bytes().to_vec(), count.to_le_bytes().to_vec()].concat();
    let two = |a: Vec<u8>, b: Vec<u8>| [a, b, vec![0; 256]].concat();
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("nothing behind the magic", b"GGUF".to_vec()),
        ("2^63 tensors", header(3, 1 << 63, 0, &[])),
        ("2^63 entries", header(3, 0, 1 << 63, &[])),
        ("a key of 2^60 bytes", header(3, 0, 1, &(1u64 << 60).to_le_bytes())),
        ("a text of 2^62 bytes", header(3, 0, 1, &entry("k", 8, &(1u64 << 62).to_le_bytes()))),
        ("an array of 2^61 numbers", header(3, 0, 1, &entry("k", 9, &array(10, 1 << 61)))),
        ("an array of arrays", header(3, 0, 1, &entry("k", 9, &array(9, 1)))),
        ("an unknown type", header(3, 0, 1, &entry("k", 77, &[0; 8]))),
        ("a truth of 7", header(3, 0, 1, &entry("k", 7, &[7]))),
        ("an alignment of 0", header(3, 0, 1, &entry("general.alignment", 4, &0u32.to_le_bytes()))),
        ("an alignment of 3", header(3, 0, 1, &entry("general.alignment", 4, &3u32.to_le_bytes()))),
        ("an alignment of 2^31", header(3, 0, 1, &entry("general.alignment", 4, &(1u32 << 31).to_le_bytes()))),
        ("the same key twice", header(3, 0, 2, &[entry("k", 0, &[1]), entry("k", 0, &[1])].concat())),
        ("a size that overflows", header(3, 1, 0, &tensor("t", &[1 << 32, 1 << 32], 0, 0))),
        ("bytes that overflow", header(3, 1, 0, &tensor("t", &[1 << 62], 0, 0))),
        ("a side of 0", header(3, 1, 0, &tensor("t", &[0, 4], 0, 0))),
        ("no sides", header(3, 1, 0, &tensor("t", &[], 0, 0))),
        ("nine sides", header(3, 1, 0, &tensor("t", &[1; 9], 0, 0))),
        ("half a block", header(3, 1, 0, &two(tensor("t", &[16], 8, 0), vec![]))),
        ("beyond the end", header(3, 1, 0, &two(tensor("t", &[1 << 20], 0, 0), vec![]))),
        ("an offset of 2^64 - 1", header(3, 1, 0, &two(tensor("t", &[4], 0, u64::MAX), vec![]))),
        ("an offset off the alignment", header(3, 1, 0, &two(tensor("t", &[4], 0, 4), vec![]))),
        ("two in one place", header(3, 2, 0, &two(tensor("a", &[8], 0, 0), tensor("b", &[8], 0, 0)))),
        ("one within another", header(3, 2, 0, &two(tensor("a", &[32], 0, 0), tensor("b", &[8], 0, 32)))),
        ("two of one name", header(3, 2, 0, &two(tensor("a", &[8], 0, 0), tensor("a", &[8], 0, 32)))),
        ("no architecture", header(3, 0, 0, &[0; 64])),
    ];
    for (what, bytes) in cases {
        std::fs::write(&path, bytes).unwrap();
        LARGEST.set(0);
        let start = Instant::now();
        let error = inspect(&path).unwrap_err();
        assert!(matches!(error, ModelError::Damaged { .. }), "{what}: {error}");
        assert!(LARGEST.get() < 1 << 20, "{what} took {} bytes at once", LARGEST.get());
        assert!(start.elapsed() < Duration::from_secs(1), "{what} took {:?}", start.elapsed());
    }
    let unsupported = [
        ("version 1", header(1, 0, 0, &[0; 8])),
        ("version 4", header(4, 0, 0, &[0; 8])),
        ("big-endian", header(3u32.swap_bytes(), 0, 0, &[0; 8])),
        ("a kind of numbers that nobody knows", header(3, 1, 0, &two(tensor("t", &[256], 999, 0), vec![]))),
        ("another architecture", header(3, 0, 1, &entry("general.architecture", 8, &text("mamba")))),
    ];
    for (what, bytes) in unsupported {
        std::fs::write(&path, bytes).unwrap();
        let error = inspect(&path).unwrap_err();
        assert!(matches!(error, ModelError::Unsupported { .. }), "{what}: {error}");
    }
}

#[test]
fn a_gguf_file_cut_anywhere_is_damaged_r6() {
    let dir = copy(reference("gguf"), &["llama-q8_0.gguf"]);
    let path = dir.path().join("llama-q8_0.gguf");
    let bytes = std::fs::read(&path).unwrap();
    let (mut tried, start) = (0, Instant::now());
    for cut in (0..bytes.len()).step_by(bytes.len() / 256) {
        std::fs::write(&path, &bytes[..cut]).unwrap();
        let error = LanguageModel::load(&path, &LoadOptions::new(1)).err().unwrap();
        assert!(matches!(error, ModelError::Damaged { .. } | ModelError::Unsupported { .. }), "cut at {cut}: {error}");
        tried += 1;
    }
    println!("R6: {tried} cuts in {:?}", start.elapsed());
}

#[test]
fn a_tokenizer_of_another_model_is_refused() {
    let dir = copy(reference("decoders/llama"), &FOLDER);
    std::fs::copy(reference("tokenizers/qwen2/tokenizer.json"), dir.path().join("tokenizer.json")).unwrap();
    let error = LanguageModel::load(dir.path(), &LoadOptions::new(1)).err().unwrap();
    assert!(matches!(&error, ModelError::Damaged { reason, .. } if reason.contains("120 tokens")), "{error}");
}
