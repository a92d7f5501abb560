//! The built-in sentence embedder: texts to vectors whose cosine says how near their meanings are.

use crate::bert::{Bert, Workspace};
use crate::linear::Machine;
use crate::{LoadOptions, ModelError, Tokenizer, files};
use kernels::pool::Pool;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// A text's direction, of length 1; see [`cosine`].
pub type Embedding = [f32; 384];

/// Rows computed at once: enough to use the weights well, few enough to stay in the cache.
const ROWS_AT_ONCE: usize = 512;

/// all-MiniLM-L6-v2 in int8: the mean of a BERT encoder's output over a text's word pieces, brought to length 1
/// (Reimers and Gurevych, 2019).
///
/// A text's embedding depends on the text alone: not on the texts beside it, the number of threads or the instructions.
pub struct Embedder {
    bert: Bert,
    tokenizer: Tokenizer,
    /// The pieces before and behind every text.
    start: u32,
    end: u32,
    machine: Machine,
    work: Mutex<Workspace>,
}

impl Embedder {
    /// Word pieces of a text that are read, the two that frame it counted in; what follows is left out.
    pub const MOST_PIECES: usize = 256;

    /// Loads `config.json`, `model.safetensors` and `tokenizer.json` of `dir`, after `model.json` where there is one.
    ///
    /// # Errors
    /// `Missing`, `Damaged`, `Unsupported` or `Io`, each with the file it is about.
    pub fn load(dir: &Path, threads: usize) -> Result<Self, ModelError> {
        Self::load_with(dir, &LoadOptions::new(threads))
    }

    /// [`Embedder::load`] with a choice of precision and instructions.
    ///
    /// # Errors
    /// As [`Embedder::load`].
    pub fn load_with(dir: &Path, options: &LoadOptions) -> Result<Self, ModelError> {
        files::verify_manifest(dir)?;
        let machine = Machine { isa: options.isa, pool: Pool::new(options.threads), precision: options.precision };
        let bert = Bert::load(dir, &machine)?;
        let width = size_of::<Embedding>() / 4;
        if bert.config.hidden != width || bert.config.positions < Self::MOST_PIECES {
            let reason = format!(
                "vectors of {} over {} positions are not {width} over {}",
                bert.config.hidden,
                bert.config.positions,
                Self::MOST_PIECES
            );
            return Err(ModelError::unsupported(&dir.join("config.json"), reason));
        }
        let tokenizer = Tokenizer::load(dir)?;
        let path = dir.join("tokenizer.json");
        if tokenizer.vocab() > bert.config.vocab {
            let reason = format!("it has {} tokens, but the encoder has {}", tokenizer.vocab(), bert.config.vocab);
            return Err(ModelError::damaged(&path, reason));
        }
        let frame = |token: &str| tokenizer.special(token).ok_or_else(|| ModelError::damaged(&path, format!("it has no {token}")));
        let (start, end) = (frame("[CLS]")?, frame("[SEP]")?);
        if (start.max(end) as usize) >= bert.config.vocab {
            return Err(ModelError::damaged(&path, "its ids go beyond the encoder's"));
        }
        Ok(Self { bert, tokenizer, start, end, machine, work: Mutex::new(Workspace::default()) })
    }

    /// One embedding for each text, in their order. An empty text has one too.
    pub fn embed(&self, texts: &[&str]) -> Vec<Embedding> {
        let sequences: Vec<Vec<u32>> = texts.iter().map(|text| self.pieces(text)).collect();
        // A panic leaves nothing in the work space that the next call does not overwrite.
        let mut work = self.work.lock().unwrap_or_else(PoisonError::into_inner);
        let mut embeddings = Vec::with_capacity(texts.len());
        let mut rest = &sequences[..];
        while !rest.is_empty() {
            let mut rows = 0;
            let fitting = rest.iter().take_while(|one| {
                rows += one.len();
                rows <= ROWS_AT_ONCE
            });
            let (batch, behind) = rest.split_at(fitting.count().max(1));
            self.bert.forward(&self.machine, &mut work, batch);
            let mut output = &work.x[..];
            for sequence in batch {
                let (mine, others) = output.split_at(sequence.len() * self.bert.config.hidden);
                embeddings.push(mean(mine));
                output = others;
            }
            rest = behind;
        }
        embeddings
    }

    /// Numbers in the whole encoder.
    pub fn parameters(&self) -> usize {
        self.bert.config.parameters()
    }

    /// Bytes of weights, without the tokenizer.
    pub fn memory_bytes(&self) -> usize {
        self.bert.bytes()
    }

    fn pieces(&self, text: &str) -> Vec<u32> {
        let mut pieces = vec![self.start];
        let known = |id: &u32| (*id as usize) < self.bert.config.vocab;
        pieces.extend(self.tokenizer.encode(text).into_iter().filter(known).take(Self::MOST_PIECES - 2));
        pieces.push(self.end);
        pieces
    }
}

/// The cosine of two vectors of one length, -1 to 1; of two embeddings, how near their texts are in meaning.
pub fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

/// The mean of rows, brought to length 1.
fn mean(rows: &[f32]) -> Embedding {
    let mut sum = [0.0f32; 384];
    for row in rows.chunks_exact(sum.len()) {
        sum.iter_mut().zip(row).for_each(|(sum, part)| *sum += part);
    }
    // The length takes the number of rows away with it.
    let length = sum.iter().map(|value| f64::from(*value) * f64::from(*value)).sum::<f64>().sqrt().max(1e-12);
    sum.map(|value| (f64::from(value) / length) as f32)
}
