//! What a training would cost, before it starts.

use crate::batch::{BatchOrder, rows_of};
use crate::priority::background_pool;
use crate::{Control, Dataset, Example, PackedBatch, SoftPromptConfig, TrainError, TrainableLlama, Workspace};
use model::LlamaConfig;
use std::time::{Duration, Instant};

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    pub seconds: f64,
    /// Of the whole training, the f32 base included.
    pub peak_memory_bytes: u64,
}

/// A pass without gradient takes about this share of one with (2 of 4 products with frozen weights).
const FORWARD_SHARE: f64 = 0.45;
/// Logits exist for so many rows at once (`kernels::train`).
const LOSS_ROWS: usize = 128;
/// Program, thread stacks, packing buffers of the matrix products.
const FIXED_BYTES: usize = 24 << 20;

/// Time and memory of [`crate::soft_prompt`]. `tokens_per_second` is measured by [`measure_speed`].
pub fn estimate(config: &SoftPromptConfig, dataset: &Dataset, base: &LlamaConfig, tokens_per_second: f64) -> Estimate {
    let rows = |examples: &[Example]| examples.iter().map(|example| rows_of(example, config.virtual_tokens)).sum::<usize>();
    let batch = config.batch_size.min(dataset.train.len());
    let rows_a_step = rows(&dataset.train) as f64 / dataset.train.len().max(1) as f64 * batch as f64;
    // Every so many steps, before the first, after the last, and once without the soft prompt.
    let measurements = f64::from(config.steps / config.heldout_every.max(1)) + 3.0;
    let recomputed = if config.recompute { 1.0 + FORWARD_SHARE } else { 1.0 };
    let work = f64::from(config.steps) * rows_a_step * recomputed + measurements * rows(&dataset.heldout) as f64 * FORWARD_SHARE;
    Estimate { seconds: work / tokens_per_second.max(1.0), peak_memory_bytes: peak_memory(config, dataset, base) as u64 }
}

/// Rows through the base a second, forward and backward, on `threads` threads (0: one per core); takes under a second
/// (for a base so large that one pass takes longer, one pass).
///
/// # Errors
/// `Threads` if they cannot be started.
pub fn measure_speed(base: &TrainableLlama, threads: usize) -> Result<f64, TrainError> {
    const BUDGET: Duration = Duration::from_millis(500);
    let pool = background_pool(threads)?;
    let prompt = base.embedding_of(0).to_vec();
    let mut gradient = vec![0.0; prompt.len()];
    let (mut workspace, control) = (Workspace::default(), Control::default());
    let mut pass = |length: usize| {
        let token = |place: usize| (place % base.config().vocab) as u32;
        let example = Example { prompt: vec![0], answer: (0..length).map(token).collect(), weight: 1.0 };
        let batch = PackedBatch::new([&example; 4], 1);
        let began = Instant::now();
        // Nobody else holds this control, so it cannot ask for a stop.
        let _ =
            pool.install(|| base.loss_and_gradient(&prompt, &batch, batch.total_weight(), false, &mut workspace, &control, &mut gradient));
        (batch.rows() as f64, began.elapsed())
    };
    let context = base.config().context.saturating_sub(2).max(1);
    let (small_rows, small_time) = pass(16.min(context));
    let enough = BUDGET.as_secs_f64() / 4.0 * small_rows / small_time.as_secs_f64().max(1e-6);
    let length = ((enough / 4.0) as usize).clamp(16, 160).min(context);
    pass(length);
    let (mut best, began) = (0f64, Instant::now());
    while best == 0.0 || began.elapsed() < BUDGET / 2 {
        let (rows, time) = pass(length);
        best = best.max(rows / time.as_secs_f64().max(1e-9));
    }
    Ok(best)
}

fn peak_memory(config: &SoftPromptConfig, dataset: &Dataset, base: &LlamaConfig) -> usize {
    let rows = largest_pass(config, dataset);
    let (hidden, inner, queries) = (base.hidden, base.intermediate, base.query_width());
    let fused = queries + 2 * base.kv_width();
    let kept = if config.recompute { 0 } else { fused + hidden + 2 * inner };
    let layers = base.layers * (hidden + kept);
    // One layer's inner buffers, its temporaries, the heads of attention apart, and what enters and leaves.
    let temporary = (fused + hidden + 2 * inner) + (4 * hidden + queries + inner) + 3 * queries;
    let activations = rows * (layers + temporary);
    let loss = LOSS_ROWS * (base.vocab + 2 * hidden);
    // Weights, gradient, moments, the best, and a copy of them while a checkpoint is written.
    let state = 8 * config.virtual_tokens * hidden;
    4 * (base.parameters() + activations + loss + state) + FIXED_BYTES
}

/// The most rows that go through the base at once.
fn largest_pass(config: &SoftPromptConfig, dataset: &Dataset) -> usize {
    let mut train: Vec<usize> = dataset.train.iter().map(|example| rows_of(example, config.virtual_tokens)).collect();
    train.sort_unstable_by(|a, b| b.cmp(a));
    let batch = BatchOrder::new(config.seed, train.len(), config.batch_size).batch_size();
    let heldout = dataset.heldout.iter().map(|example| rows_of(example, config.virtual_tokens));
    let whole = train.iter().take(batch).sum::<usize>().max(heldout.clone().sum());
    let longest = train.first().copied().unwrap_or(0).max(heldout.max().unwrap_or(0));
    whole.min(config.rows_at_once.max(longest))
}
