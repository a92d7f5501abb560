//! What prompt tuning of a T5 would cost, before it starts.

use crate::estimate::{FIXED_BYTES, FORWARD_SHARE};
use crate::priority::background_pool;
use crate::{Control, Dataset, Estimate, Example, SoftPromptConfig, TrainError, TrainableT5, Workspace};
use kernels::train::{LOSS_ROWS, LOSS_TOKENS, Quantisation, QuantisedMatrix};
use model::T5Config;
use std::time::{Duration, Instant};

/// Time and memory of [`crate::soft_prompt`] on a T5 that is held so; `None` is f32. `tokens_per_second` is measured by
/// [`measure_t5_speed`].
pub fn estimate_t5(
    config: &SoftPromptConfig,
    dataset: &Dataset,
    base: &T5Config,
    quantisation: Option<Quantisation>,
    tokens_per_second: f64,
) -> Estimate {
    let run = &config.run;
    let rows = |examples: &[Example]| examples.iter().map(|example| config.virtual_tokens + example.tokens()).sum::<usize>();
    let batch = run.batch_size.min(dataset.train.len());
    let rows_a_step = rows(&dataset.train) as f64 / dataset.train.len().max(1) as f64 * batch as f64;
    // Every so many steps, before the first, after the last, and once without the soft prompt.
    let measurements = f64::from(run.steps / run.heldout_every.max(1)) + 3.0;
    let work = f64::from(run.steps) * rows_a_step + measurements * rows(&dataset.heldout) as f64 * FORWARD_SHARE;
    let saved = quantisation.map_or(0, |quantisation| saved(base, quantisation));
    // It is read whole, in f32, before its projections are held otherwise.
    let peak = (peak_memory(config, dataset, base) - saved).max(4 * whole(base) + FIXED_BYTES);
    let at_most = run.patience.is_some() && !dataset.heldout.is_empty();
    Estimate { seconds: work / tokens_per_second.max(1.0), at_most, peak_memory_bytes: peak as u64 }
}

fn peak_memory(config: &SoftPromptConfig, dataset: &Dataset, base: &T5Config) -> usize {
    let (read, written) = largest_pass(config, dataset);
    let (hidden, width, inner) = (base.hidden, base.width(), base.intermediate);
    let up = if base.gated { 2 * inner } else { inner };
    // Of each layer: its input and what it is after attention, queries, keys and values, the feed-forward layer before its
    // activation; of a decoder's also the second attention with the keys and values of what was read.
    let kept = 2 * hidden + 3 * width + up;
    let encoder = read * base.encoder_layers * kept;
    let decoder = base.decoder_layers * (written * (kept + width + hidden) + read * 2 * width);
    let temporary = (read + written) * (6 * hidden + 5 * width + inner);
    let loss = LOSS_ROWS * (LOSS_TOKENS.min(base.vocab) + 2 * hidden);
    // Weights, gradient, moments, the best, and a copy of them while a checkpoint is written.
    let state = 8 * config.virtual_tokens * hidden;
    4 * (whole(base) + encoder + decoder + temporary + loss + state) + FIXED_BYTES
}

/// Numbers of the base.
fn whole(base: &T5Config) -> usize {
    // Only the first T5 scales its logits, and only its head is the embedding.
    base.parameters() + if base.scaled_logits { 0 } else { base.vocab * base.hidden }
}

/// Bytes that its projections take less than in f32.
fn saved(base: &T5Config, quantisation: Quantisation) -> usize {
    let (hidden, width, inner) = (base.hidden, base.width(), base.intermediate);
    let up = (if base.gated { 2 * inner } else { inner }, hidden);
    let own = [(3 * width, hidden), (hidden, width), up, (hidden, inner)];
    let cross = [(width, hidden), (2 * width, hidden), (hidden, width)];
    let saved = |(rows, columns): &(usize, usize)| 4 * rows * columns - QuantisedMatrix::bytes_of(*rows, *columns, quantisation);
    let sum = |matrices: &[(usize, usize)]| matrices.iter().map(saved).sum::<usize>();
    (base.encoder_layers + base.decoder_layers) * sum(&own) + base.decoder_layers * sum(&cross)
}

/// Rows of encoder and decoder that go through the base at once.
fn largest_pass(config: &SoftPromptConfig, dataset: &Dataset) -> (usize, usize) {
    let sides = |example: &Example| (config.virtual_tokens + example.prompt.len(), example.answer.len());
    let mut train: Vec<(usize, usize)> = dataset.train.iter().map(sides).collect();
    train.sort_unstable_by_key(|(read, written)| std::cmp::Reverse(read + written));
    train.truncate(config.run.batch_size);
    let heldout: Vec<(usize, usize)> = dataset.heldout.iter().map(sides).collect();
    let whole = |texts: &[(usize, usize)]| {
        let (mut read, mut written) = (0, 0);
        for (one_read, one_written) in texts {
            // At least one text goes, however long.
            if read + written > 0 && read + written + one_read + one_written > config.run.rows_at_once {
                break;
            }
            (read, written) = (read + one_read, written + one_written);
        }
        (read, written)
    };
    let (a, b) = (whole(&train), whole(&heldout));
    if a.0 + a.1 >= b.0 + b.1 { a } else { b }
}

/// Rows through encoder and decoder a second, forward and backward, on `threads` threads (0: one per core).
///
/// # Errors
/// `Threads` if they cannot be started.
pub fn measure_t5_speed(base: &TrainableT5, threads: usize) -> Result<f64, TrainError> {
    const BUDGET: Duration = Duration::from_millis(300);
    let pool = background_pool(threads)?;
    let (mut workspace, control) = (Workspace::default(), Control::default());
    let token = |place: usize| (place % base.config().vocab) as u32;
    let example = Example { prompt: (0..48).map(token).collect(), answer: (0..48).map(token).collect(), weight: 1.0 };
    let prompt = vec![0.0; base.config().hidden];
    let mut gradient = prompt.clone();
    let batch = base.batch([&example; 2], 1);
    let rows = 2 * (1 + example.tokens());
    let (mut best, began) = (0f64, Instant::now());
    // The first pass also fills the work space.
    for pass in 0.. {
        let started = Instant::now();
        // Nobody else holds this control, so it cannot ask for a stop.
        let _ = pool.install(|| {
            let slopes = &mut |found: &[f64]| vec![-1.0; found.len()];
            base.pass_and_back(&prompt, &batch, slopes, &mut workspace, &control, &mut gradient)
        });
        if pass > 0 || started.elapsed() > BUDGET {
            best = best.max(rows as f64 / started.elapsed().as_secs_f64().max(1e-9));
        }
        if best > 0.0 && began.elapsed() > BUDGET {
            break;
        }
    }
    Ok(best)
}
