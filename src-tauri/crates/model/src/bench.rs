//! How fast a base reads and writes on this machine, without a tokenizer or a sampler: the same work that
//! `llama-batched-bench` does, so that the two can be compared.

use crate::decoder::{Decoder, Item, Row};
use crate::generate::Adapters;
use crate::linear::Machine;
use crate::session::{PrefixKey, Session, Wanted};
use crate::source::WeightSource;
use crate::{LlamaConfig, LoadOptions, ModelError};
pub use kernels::packed::BlockFormat;
use kernels::pool::Pool;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

/// What is measured.
#[derive(Debug, Clone, Copy)]
pub struct SpeedTest {
    /// Candidates that share the prompt.
    pub sequences: usize,
    /// Tokens of the prompt.
    pub prompt: usize,
    /// Tokens of each candidate.
    pub generate: usize,
    /// The median of so many rounds, after one to warm up.
    pub rounds: usize,
}

/// Medians.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Speed {
    pub prefill_tokens_per_s: f64,
    /// Over all candidates.
    pub decode_tokens_per_s: f64,
    pub load_s: f64,
}

/// A real model's shape, for random weights: speed does not depend on the values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// The built-in base.
    Story,
    SmolLm2_135M,
    TinyLlama1_1B,
}

impl Shape {
    pub const ALL: [Self; 3] = [Self::Story, Self::SmolLm2_135M, Self::TinyLlama1_1B];

    pub fn name(self) -> &'static str {
        match self {
            Self::Story => "story",
            Self::SmolLm2_135M => "smollm2-135m",
            Self::TinyLlama1_1B => "tinyllama-1.1b",
        }
    }

    /// The shape with this name, in any case.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.name().eq_ignore_ascii_case(name))
    }

    pub fn config(self) -> LlamaConfig {
        // hidden, intermediate, layers, heads, key heads, vocabulary, rope theta, tied.
        let (hidden, intermediate, layers, heads, kv_heads, vocab, rope_theta, tied) = match self {
            Self::Story => (256, 768, 6, 4, 2, 8192, 10_000.0, true),
            Self::SmolLm2_135M => (576, 1536, 30, 9, 3, 49_152, 100_000.0, true),
            Self::TinyLlama1_1B => (2048, 5632, 22, 32, 4, 32_000, 10_000.0, false),
        };
        let head_dim = hidden / heads;
        let (context, rms_eps) = (8192, 1e-5);
        let (bos, eos, pad, variant) = (None, None, None, Default::default());
        LlamaConfig {
            hidden,
            intermediate,
            layers,
            heads,
            kv_heads,
            head_dim,
            vocab,
            context,
            rope_theta,
            rms_eps,
            tied,
            bos,
            eos,
            pad,
            variant,
        }
    }
}

/// Measures a base: a folder or a GGUF file.
///
/// # Errors
/// As [`crate::LanguageModel::load`], but without a tokenizer; `ContextExceeded`, `InvalidRequest` for a test of nothing.
pub fn measure(path: &Path, options: &LoadOptions, test: &SpeedTest) -> Result<Speed, ModelError> {
    let start = Instant::now();
    let mut source = WeightSource::open(path)?;
    crate::language_model::check_shape(&source.config, source.path())?;
    let decoder = Decoder::read(&mut source, options.precision)?;
    run(&decoder, options, test, start.elapsed().as_secs_f64())
}

/// Measures random weights of a real model's shape in a quantised format.
///
/// # Errors
/// `ContextExceeded`; `InvalidRequest` for a test of nothing, and for a format whose blocks the shape's widths do not fill.
pub fn measure_shape(shape: Shape, format: BlockFormat, options: &LoadOptions, test: &SpeedTest) -> Result<Speed, ModelError> {
    let start = Instant::now();
    let unfit = |_| ModelError::InvalidRequest { reason: "the shape's widths are no multiples of the format's blocks" };
    let decoder = Decoder::random(shape.config(), format).map_err(unfit)?;
    run(&decoder, options, test, start.elapsed().as_secs_f64())
}

fn run(decoder: &Decoder, options: &LoadOptions, test: &SpeedTest, load_s: f64) -> Result<Speed, ModelError> {
    let SpeedTest { sequences, prompt, generate, rounds } = *test;
    if sequences == 0 || prompt == 0 || generate == 0 || rounds == 0 {
        return Err(ModelError::InvalidRequest { reason: "a speed test needs at least one of everything" });
    }
    let (needed, context) = (prompt.saturating_add(generate), decoder.config.context);
    if needed > context {
        return Err(ModelError::ContextExceeded { needed, context });
    }
    let machine = Machine { isa: options.isa, pool: Pool::new(options.threads), precision: options.precision };
    let mut session = Session::new();
    let (mut read, mut written) = (Vec::new(), Vec::new());
    for round in 0..=rounds {
        let token = |index: usize| ((index * 7919 + round * 104_729) % decoder.config.vocab) as u32;
        let tokens: Vec<u32> = (0..prompt).map(token).collect();
        let start = Instant::now();
        let wanted = Wanted { first: prompt - 1, take: &mut |_| {} };
        let (key, never) = (PrefixKey::new(&Adapters::default(), &decoder.config, prompt + generate), AtomicBool::new(false));
        let stretch = key.stretch();
        let Some(prefix) = session.prefill(decoder, &machine, key, &tokens, &[], &never, wanted) else { continue };
        let prefill = prompt as f64 / start.elapsed().as_secs_f64();
        session.reserve(decoder, sequences, generate);
        let all: Vec<usize> = (0..sequences).collect();
        let start = Instant::now();
        for step in 0..generate {
            let row = |own: usize| Row {
                item: Item::Token(token(step * sequences + own)),
                position: prompt + step,
                prefix,
                own: Some((own, prompt)),
                weighted: 0,
                log_weight: 0.0,
                adapter: None,
                stretch,
            };
            let rows: Vec<Row> = (0..sequences).map(row).collect();
            decoder.forward(&machine, &mut session.work, &mut session.prefix_slots, &mut session.own, &[], &rows);
            decoder.logits(&machine, &mut session.work, &all);
        }
        let decode = (sequences * generate) as f64 / start.elapsed().as_secs_f64();
        if round > 0 {
            read.push(prefill);
            written.push(decode);
        }
    }
    Ok(Speed { prefill_tokens_per_s: median(read), decode_tokens_per_s: median(written), load_s })
}

/// The middle one, the upper of two; 0 of none.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}
