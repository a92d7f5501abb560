//! Candidates of the built-in base, written once and kept, so that experiments on taste take seconds.

use crate::prompts::{Prompt, prompts};
use crate::{EvalError, Random};
use domain::Settings;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use model::{Generate, LanguageModel, MemberSpec, Sampler, StoryFormat};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

/// Candidates of each prompt: eight to choose from, and one that stands for "a single sample", each in turn.
pub const CANDIDATES: usize = 9;

/// The candidate that nobody thumbs.
pub const SINGLE: usize = CANDIDATES - 1;

/// One prompt of so many is kept from every user's thumbs and from every training.
const HELD_OUT_EVERY: usize = 3;

/// Longest text in tokens.
pub const LENGTH: usize = 180;

/// SHA-256 of the unpacked pool; a test compares.
pub const POOL_SHA256: &str = include_str!("../pool/pool.sha256");

static PACKED: &[u8] = include_bytes!("../pool/pool.jsonl.gz");

/// A prompt with what the base wrote for it.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    pub prompt: Prompt,
    pub texts: Vec<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Pool {
    pub entries: Vec<Entry>,
}

#[derive(Serialize, Deserialize)]
struct Line {
    prompt: String,
    texts: Vec<String>,
}

impl Pool {
    /// The pool that is part of this crate.
    ///
    /// # Errors
    /// `Pool` when its hash or its prompts are not those of this version.
    pub fn frozen() -> Result<Self, EvalError> {
        let mut json = String::new();
        GzDecoder::new(PACKED).read_to_string(&mut json).map_err(|error| EvalError::Pool(error.to_string()))?;
        let found = sha256(json.as_bytes());
        if found != POOL_SHA256.trim() {
            return Err(EvalError::Pool(format!("its SHA-256 is {found}")));
        }
        let lines = json.lines().map(serde_json::from_str).collect::<Result<Vec<Line>, _>>();
        let lines = lines.map_err(|error| EvalError::Pool(error.to_string()))?;
        let prompts = prompts();
        if lines.len() != prompts.len() || lines.iter().zip(&prompts).any(|(line, prompt)| line.prompt != prompt.text) {
            return Err(EvalError::Pool("it was written for other prompts; make it anew with `inkling-eval pool`".to_owned()));
        }
        Ok(Self { entries: prompts.into_iter().zip(lines).map(|(prompt, line)| Entry { prompt, texts: line.texts }).collect() })
    }

    /// Prompts whose texts users judge and trainings learn from.
    pub fn learning(&self) -> Vec<usize> {
        self.part(false)
    }

    /// Prompts that only measure.
    pub fn held_out(&self) -> Vec<usize> {
        self.part(true)
    }

    fn part(&self, held: bool) -> Vec<usize> {
        // By situation, not by position: the heroes of one situation are all on one side.
        let situation = |text: &str| text.split_whitespace().rev().take(3).map(str::to_owned).collect::<Vec<_>>();
        let known: Vec<Vec<String>> = self.entries.iter().map(|entry| situation(&entry.prompt.text)).collect();
        let distinct: Vec<&Vec<String>> = known.iter().collect::<BTreeSet<_>>().into_iter().collect();
        let is_held = |at: usize| distinct.binary_search(&&known[at]).is_ok_and(|place| place.is_multiple_of(HELD_OUT_EVERY));
        (0..self.entries.len()).filter(|at| is_held(*at) == held).collect()
    }

    /// All texts of some prompts.
    pub fn texts<'p>(&'p self, entries: &'p [usize]) -> impl Iterator<Item = &'p str> + 'p {
        entries.iter().flat_map(|entry| self.entries[*entry].texts.iter().map(String::as_str))
    }
}

/// How the app samples unless told otherwise.
pub fn sampler(seed: u64) -> Sampler {
    Sampler::of(&Settings::default(), seed)
}

/// Candidates of another base than the one that the frozen pool was written by, for the same prompts and seeds.
///
/// # Errors
/// What the base reports.
pub fn written_by(base: &LanguageModel) -> Result<Pool, EvalError> {
    let entry = |(at, prompt): (usize, Prompt)| -> Result<Entry, EvalError> {
        let mut random = Random::for_purpose("pool", at as u64);
        let members = (0..CANDIDATES).map(|_| MemberSpec::plain(sampler(random.draw())));
        let texts = texts(base, &prompt, members.collect())?;
        Ok(Entry { prompt, texts })
    };
    Ok(Pool { entries: prompts().into_iter().enumerate().map(entry).collect::<Result<_, _>>()? })
}

/// The tokens before a story for a prompt.
pub fn asked(base: &LanguageModel, prompt: &Prompt) -> Vec<u32> {
    base.tokenizer().encode(&StoryFormat::prompt_text(&prompt.genres, prompt.style, &prompt.text))
}

/// A text of each member, written as the app does by default.
///
/// # Errors
/// What the base reports.
pub fn texts(base: &LanguageModel, prompt: &Prompt, members: Vec<MemberSpec>) -> Result<Vec<String>, EvalError> {
    let request = Generate {
        prompt: asked(base, prompt),
        written: 0,
        members,
        max_tokens: LENGTH,
        stop: StoryFormat::stop(base.tokenizer()),
        stop_texts: Vec::new(),
        guidance: StoryFormat::guidance(base.tokenizer(), (&prompt.genres, prompt.style, &prompt.text), &[], &Settings::default()),
    };
    let written = base.generate(&request, &AtomicBool::new(false), &mut |_| {})?;
    Ok(written.into_iter().map(|one| one.text.trim().to_owned()).collect())
}

/// Writes the pool anew into `folder`: `pool.jsonl.gz` and `pool.sha256`.
///
/// # Errors
/// What the base or the disk reports.
pub fn write(base: &LanguageModel, folder: &Path) -> Result<PathBuf, EvalError> {
    let mut json = String::new();
    for Entry { prompt, texts } in written_by(base)?.entries {
        let line = Line { prompt: prompt.text, texts };
        json.push_str(&serde_json::to_string(&line).map_err(|error| EvalError::Pool(error.to_string()))?);
        json.push('\n');
    }
    let packed = GzEncoder::new(Vec::new(), Compression::best());
    let packed = pack(packed, json.as_bytes()).map_err(EvalError::file(folder))?;
    let path = folder.join("pool.jsonl.gz");
    std::fs::write(&path, packed).map_err(EvalError::file(&path))?;
    let hash = folder.join("pool.sha256");
    std::fs::write(&hash, format!("{}\n", sha256(json.as_bytes()))).map_err(EvalError::file(&hash))?;
    Ok(path)
}

fn pack(mut encoder: GzEncoder<Vec<u8>>, bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    encoder.write_all(bytes)?;
    encoder.finish()
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
