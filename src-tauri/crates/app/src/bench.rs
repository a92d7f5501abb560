//! How fast bases run on this machine.

use crate::memory;
use domain::{ApiError, ErrorCode};
use model::bench::{BlockFormat, Shape, Speed, SpeedTest, measure, measure_shape};
use model::{LoadOptions, Precision};
use serde::Serialize;
use std::path::PathBuf;

/// What to measure.
#[derive(Debug, Clone)]
pub struct BenchRequest {
    pub subject: BenchSubject,
    pub threads: usize,
    pub sequences: usize,
    pub prompt: usize,
    pub generate: usize,
    pub rounds: usize,
}

#[derive(Debug, Clone)]
pub enum BenchSubject {
    /// A folder or a GGUF file; weights that are not in a format that runs as it is are rounded to this one: int8, int4 or f32.
    File { path: PathBuf, format: String },
    /// Random weights in a real model's shape, in a format of GGUF files.
    Shape { shape: String, format: String },
}

/// Medians of the rounds.
#[derive(Debug, Clone, Serialize)]
pub struct BenchReport {
    pub model: String,
    pub format: String,
    pub threads: usize,
    pub sequences: usize,
    pub prompt: usize,
    pub generate: usize,
    pub prefill_tokens_per_s: f64,
    pub decode_tokens_per_s: f64,
    pub load_s: f64,
    pub isa: &'static str,
    pub peak_memory_mb: f64,
}

/// Measures how fast a prompt is read and candidates are written. Needs no data folder.
///
/// # Errors
/// `InvalidInput` for an unknown shape or format and for sizes that do not fit; else what loading the base gives.
pub fn bench(request: &BenchRequest) -> Result<BenchReport, ApiError> {
    let BenchRequest { threads, sequences, prompt, generate, rounds, .. } = *request;
    let mut options = LoadOptions::new(threads);
    let test = SpeedTest { sequences, prompt, generate, rounds };
    let (model, format, speed) = match &request.subject {
        BenchSubject::File { path, format } => {
            options.precision = match format.to_lowercase().as_str() {
                "int8" => Precision::Int8,
                "int4" => Precision::Int4,
                "f32" => Precision::F32,
                _ => return Err(unknown("format", format, &["int8", "int4", "f32"])),
            };
            let speed = measure(path, &options, &test).map_err(ApiError::from)?;
            (path.display().to_string(), format.to_lowercase(), speed)
        }
        BenchSubject::Shape { shape, format } => {
            let found = Shape::named(shape).ok_or_else(|| unknown("shape", shape, &Shape::ALL.map(Shape::name)))?;
            let names = BlockFormat::ALL.map(BlockFormat::name);
            let blocks = BlockFormat::ALL.into_iter().find(|known| known.name().eq_ignore_ascii_case(format));
            let blocks = blocks.ok_or_else(|| unknown("format", format, &names))?;
            let speed = measure_shape(found, blocks, &options, &test).map_err(ApiError::from)?;
            (found.name().to_owned(), blocks.name().to_owned(), speed)
        }
    };
    let Speed { prefill_tokens_per_s, decode_tokens_per_s, load_s } = speed;
    let (isa, peak_memory_mb) = (options.isa.name(), memory::peak_process_mb());
    Ok(BenchReport {
        model,
        format,
        threads,
        sequences,
        prompt,
        generate,
        prefill_tokens_per_s,
        decode_tokens_per_s,
        load_s,
        isa,
        peak_memory_mb,
    })
}

pub(crate) fn unknown(what: &str, found: &str, known: &[&str]) -> ApiError {
    let message = format!("There is no {what} called {found}.");
    ApiError::new(ErrorCode::InvalidInput, message).hint(format!("Choose one of: {}.", known.join(", ")))
}
