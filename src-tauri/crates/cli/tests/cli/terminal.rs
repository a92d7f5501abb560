//! Runs the program.

use serde_json::Value;
use std::ffi::OsStr;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use tempfile::TempDir;

/// A data folder to run commands on.
pub struct Home {
    folder: TempDir,
    assets: PathBuf,
}

/// A program under way; a test that fails does not leave it behind.
pub struct Running(Child);

impl Deref for Running {
    type Target = Child;

    fn deref(&self) -> &Child {
        &self.0
    }
}

impl DerefMut for Running {
    fn deref_mut(&mut self) -> &mut Child {
        &mut self.0
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Fails only when it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// How a command ended.
pub struct Ended {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Home {
    pub fn new() -> Self {
        Self::with_assets(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../assets")))
    }

    pub fn with_assets(assets: &Path) -> Self {
        Self { folder: TempDir::new().expect("a temporary folder"), assets: assets.to_owned() }
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn command<I: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = I>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_inkling"));
        command.args(words).env("INKLING_HOME", self.path()).env("INKLING_ASSETS", &self.assets).stdin(Stdio::null());
        for name in ["DISPLAY", "WAYLAND_DISPLAY", "INKLING_LOG"] {
            command.env_remove(name);
        }
        command
    }

    /// A command with its words separated by spaces.
    pub fn run(&self, line: &str) -> Ended {
        self.run_words(line.split_whitespace())
    }

    pub fn run_words<I: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = I>) -> Ended {
        self.command(words).output().expect("the program starts").into()
    }

    pub fn start(&self, line: &str) -> Running {
        let mut command = self.command(line.split_whitespace());
        Running(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts"))
    }

    /// Writes a short text and returns the result.
    pub fn write(&self, seed: u32) -> Value {
        let seed = seed.to_string();
        let words = [
            "write",
            "A young wizard",
            "--genre",
            "fantasy=70",
            "--genre",
            "mystery=30",
            "-n",
            "2",
            "--max-tokens",
            "12",
            "--seed",
            &seed,
            "--json",
        ];
        self.run_words(words).json()
    }
}

impl Ended {
    /// The one object that a success prints.
    pub fn json(&self) -> Value {
        assert_eq!(self.code, 0, "{}{}", self.out, self.err);
        assert_eq!(self.out.lines().count(), 1, "exactly one object: {}", self.out);
        serde_json::from_str(&self.out).expect("JSON")
    }

    /// The error that a failure prints with `--json`.
    pub fn error(&self) -> Value {
        assert_ne!(self.code, 0, "{}{}", self.out, self.err);
        let last = self.out.lines().last().unwrap_or_default();
        let mut value: Value = serde_json::from_str(last).unwrap_or_else(|error| panic!("no JSON ({error}): {}{}", self.out, self.err));
        value["error"].take()
    }

    /// The lines of a training.
    pub fn lines(&self) -> Vec<Value> {
        self.out.lines().map(|line| serde_json::from_str(line).expect("a JSON line")).collect()
    }
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Self { code: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
    }
}
