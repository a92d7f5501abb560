//! What a training would cost, before it starts.

use crate::batch::{BatchOrder, rows_of};
use crate::priority::background_pool;
use crate::{
    Control, Dataset, Example, Judgement, Judgements, LoraConfig, LoraLayout, PackedBatch, Preference, Quantisation, RunConfig, SingleLoss,
    SoftPromptConfig, Stop, TrainError, TrainableLlama, Workspace,
};
use kernels::train::{LOSS_ROWS, LOSS_TOKENS, QuantisedMatrix};
use model::{LlamaConfig, LoraShape, Projection};
use std::time::{Duration, Instant};

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    pub seconds: f64,
    /// Whether training may end sooner, because held-out loss stops falling.
    pub at_most: bool,
    /// Of the whole training, the base included: in f32, unless [`Estimate::holding`] says otherwise.
    pub peak_memory_bytes: u64,
}

impl Estimate {
    /// The same training on a base that is held in fewer bits, `dora` when a DoRA is trained.
    pub fn holding(self, base: &LlamaConfig, quantisation: Option<Quantisation>, dora: bool) -> Self {
        let Some(quantisation) = quantisation else { return self };
        let matrices = matrices(base);
        let dense = |(rows, columns): (usize, usize)| 4 * rows * columns;
        let saved = |(rows, columns)| dense((rows, columns)) - QuantisedMatrix::bytes_of(rows, columns, quantisation);
        let saved = base.layers * matrices.map(saved).into_iter().sum::<usize>();
        // Products take the weights as they are held; only the lengths of DoRA's rows are taken from a matrix in f32.
        let panel = if dora { matrices.map(dense).into_iter().max().unwrap_or(0) } else { 0 };
        let training = self.peak_memory_bytes as usize - saved + panel;
        // Read layer by layer: one layer is there in f32, the widest of its matrices twice, being put together from parts.
        let one = matrices.map(dense).into_iter().sum::<usize>() + dense(matrices[2]);
        let reading = 4 * base.parameters() - saved + one + FIXED_BYTES;
        Self { peak_memory_bytes: training.max(reading) as u64, ..self }
    }
}

/// Rows and columns of a layer's matrices, in the order of their use.
fn matrices(base: &LlamaConfig) -> [(usize, usize); 4] {
    let LlamaConfig { hidden, intermediate, .. } = *base;
    let queries = base.query_width();
    [(queries + 2 * base.kv_width(), hidden), (hidden, queries), (2 * intermediate, hidden), (hidden, intermediate)]
}

/// A pass without gradient takes about this share of one with (2 of 4 products with frozen weights).
pub(crate) const FORWARD_SHARE: f64 = 0.45;
/// Program, thread stacks, packing buffers of the matrix products.
pub(crate) const FIXED_BYTES: usize = 24 << 20;

/// Time and memory of [`crate::soft_prompt`]. `tokens_per_second` is measured by [`measure_speed`].
pub fn estimate(config: &SoftPromptConfig, dataset: &Dataset, base: &LlamaConfig, tokens_per_second: f64) -> Estimate {
    let plan = Plan { virtual_tokens: config.virtual_tokens, run: &config.run };
    // Weights, gradient, moments, the best, and a copy of them while a checkpoint is written.
    plan.estimate(dataset, base, tokens_per_second, 8 * config.virtual_tokens * base.hidden, 0, 0)
}

/// Time and memory of [`crate::lora()`]. `tokens_per_second` is measured by [`measure_lora_speed`].
pub fn estimate_lora(config: &LoraConfig, dataset: &Dataset, base: &LlamaConfig, tokens_per_second: f64) -> Estimate {
    let plan = Plan { virtual_tokens: 0, run: &config.run };
    let shape = &config.shape;
    let dora = |columns: usize| if shape.dora { columns } else { 0 };
    let kept = base.query_width() + shape.targets.len() * shape.rank + dora(2 * base.hidden);
    let temporary = base.intermediate + base.hidden + dora(base.hidden + 2 * base.intermediate);
    // Weights, gradient, moments and the best, their copies while a checkpoint is written (values, bytes, the file), and with
    // DoRA a product of the widest projection with A while norms are taken, and the lengths of all rows in f64.
    let rows = |projection: Projection| projection.size(base).0;
    let widest = Projection::ALL.map(rows).into_iter().max().unwrap_or(0) * shape.rank;
    let lengths = 2 * base.layers * Projection::ALL.map(rows).iter().sum::<usize>();
    let state = 17 * shape.parameters(base) + dora(widest + lengths);
    plan.estimate(dataset, base, tokens_per_second, state, kept, temporary)
}

/// Time and memory of [`crate::lora_from_judgements`], the look at the bare base beforehand included.
pub fn estimate_judgements(config: &LoraConfig, data: &Judgements, base: &LlamaConfig, tokens_per_second: f64) -> Estimate {
    of_judgements(&config.run, &config.preference, data, tokens_per_second, |run, dataset| {
        estimate_lora(&LoraConfig { run, ..config.clone() }, dataset, base, tokens_per_second)
    })
}

/// Time and memory of [`crate::soft_prompt_from_judgements`], likewise.
pub fn estimate_prompt_judgements(config: &SoftPromptConfig, data: &Judgements, base: &LlamaConfig, tokens_per_second: f64) -> Estimate {
    of_judgements(&config.run, &config.preference, data, tokens_per_second, |run, dataset| {
        estimate(&SoftPromptConfig { run, ..config.clone() }, dataset, base, tokens_per_second)
    })
}

fn of_judgements(
    run: &RunConfig,
    preference: &Preference,
    data: &Judgements,
    tokens_per_second: f64,
    estimate: impl FnOnce(RunConfig, &Dataset) -> Estimate,
) -> Estimate {
    let texts = |judgements: &[Judgement]| judgements.iter().flat_map(Judgement::texts).cloned().collect::<Vec<Example>>();
    let dataset = Dataset { train: texts(&data.train), heldout: texts(&data.heldout) };
    let texts_each = dataset.train.len().div_ceil(data.train.len().max(1)).max(1);
    let batch_size = run.batch_size * texts_each;
    let estimate = estimate(RunConfig { batch_size, ..run.clone() }, &dataset);
    let rows = |texts: &[Example]| texts.iter().map(|text| rows_of(text, 0)).sum::<usize>() as f64;
    // Every text that a batch draws or that is held out goes once through the bare base, and with KTO a mismatched one too, which
    // goes through the adapted base each time.
    let batch = batch_size.min(dataset.train.len()) as f64 / dataset.train.len().max(1) as f64;
    let epochs = f64::from(run.steps) * batch;
    let mut passes = rows(&dataset.train) * epochs.min(1.0) + rows(&dataset.heldout);
    if preference.singles == SingleLoss::Kto && data.train.iter().any(|judgement| matches!(judgement, Judgement::Single { .. })) {
        passes += rows(&dataset.train) * (epochs + epochs.min(1.0));
    }
    Estimate { seconds: estimate.seconds + passes * FORWARD_SHARE / tokens_per_second.max(1.0), ..estimate }
}

/// Rows through the base a second, forward and backward, on `threads` threads (0: one per core); takes under a second
/// (for a base so large that one pass takes longer, one pass).
///
/// # Errors
/// `Threads` if they cannot be started.
pub fn measure_speed(base: &TrainableLlama, threads: usize) -> Result<f64, TrainError> {
    let prompt = base.embedding_of(0).to_vec();
    let mut gradient = vec![0.0; prompt.len()];
    measure(base, threads, 1, &mut |batch, workspace, control| {
        base.loss_and_gradient(&prompt, batch, batch.total_weight(), false, workspace, control, &mut gradient)
    })
}

/// [`measure_speed`] with an adapter of this shape.
///
/// # Errors
/// As [`measure_speed`], and `Config` if no adapter can have this shape.
pub fn measure_lora_speed(base: &TrainableLlama, shape: &LoraShape, threads: usize) -> Result<f64, TrainError> {
    let layout = LoraLayout::new(shape, base.config())?;
    let weights = base.initial_lora(&layout, 0);
    let mut gradient = vec![0.0; weights.len()];
    measure(base, threads, 0, &mut |batch, workspace, control| {
        base.lora_loss_and_gradient(&layout, &weights, None, batch, batch.total_weight(), false, workspace, control, &mut gradient)
    })
}

type Pass<'a> = dyn FnMut(&PackedBatch, &mut Workspace, &Control) -> Result<f64, Stop> + Send + 'a;

fn measure(base: &TrainableLlama, threads: usize, virtual_tokens: usize, pass: &mut Pass) -> Result<f64, TrainError> {
    const BUDGET: Duration = Duration::from_millis(500);
    let pool = background_pool(threads)?;
    let (mut workspace, control) = (Workspace::default(), Control::default());
    let mut pass = |length: usize| {
        let token = |place: usize| (place % base.config().vocab) as u32;
        let example = Example { prompt: vec![0], answer: (0..length).map(token).collect(), weight: 1.0 };
        let batch = PackedBatch::new([&example; 4], virtual_tokens);
        let began = Instant::now();
        // Nobody else holds this control, so it cannot ask for a stop.
        let _ = pool.install(|| pass(&batch, &mut workspace, &control));
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

/// What the cost of a training depends on, whatever it trains.
struct Plan<'a> {
    virtual_tokens: usize,
    run: &'a RunConfig,
}

impl Plan<'_> {
    /// `state` in numbers; `kept` and `temporary` are columns beyond those of a frozen stack.
    fn estimate(
        &self,
        dataset: &Dataset,
        base: &LlamaConfig,
        tokens_per_second: f64,
        state: usize,
        kept: usize,
        temporary: usize,
    ) -> Estimate {
        let rows = |examples: &[Example]| examples.iter().map(|example| rows_of(example, self.virtual_tokens)).sum::<usize>();
        let batch = self.run.batch_size.min(dataset.train.len());
        let rows_a_step = rows(&dataset.train) as f64 / dataset.train.len().max(1) as f64 * batch as f64;
        // Every so many steps, before the first, after the last, and once without the adapter.
        let measurements = f64::from(self.run.steps / self.run.heldout_every.max(1)) + 3.0;
        let recomputed = if self.run.recompute { 1.0 + FORWARD_SHARE } else { 1.0 };
        let work = f64::from(self.run.steps) * rows_a_step * recomputed + measurements * rows(&dataset.heldout) as f64 * FORWARD_SHARE;
        let peak = self.peak_memory(dataset, base, state, kept, temporary);
        let at_most = self.run.patience.is_some() && !dataset.heldout.is_empty();
        Estimate { seconds: work / tokens_per_second.max(1.0), at_most, peak_memory_bytes: peak as u64 }
    }

    fn peak_memory(&self, dataset: &Dataset, base: &LlamaConfig, state: usize, kept: usize, temporary: usize) -> usize {
        let rows = self.largest_pass(dataset);
        let (hidden, inner, queries) = (base.hidden, base.intermediate, base.query_width());
        let fused = queries + 2 * base.kv_width();
        let kept_once = fused + hidden + 2 * inner + kept;
        let layers = base.layers * (hidden + if self.run.recompute { 0 } else { kept_once });
        // One layer's inner buffers, its temporaries, the heads of attention apart, and what enters and leaves.
        let temporary = kept_once + (4 * hidden + queries + inner) + 3 * queries + temporary;
        let activations = rows * (layers + temporary);
        let loss = LOSS_ROWS * (LOSS_TOKENS.min(base.vocab) + 2 * hidden);
        // The left side of the widest product is packed by whichever thread comes first, and kept by each.
        let packed = 2 * rows * (2 * inner).max(fused);
        4 * (base.parameters() + activations + loss + packed + state) + FIXED_BYTES
    }

    /// The most rows that go through the base at once.
    fn largest_pass(&self, dataset: &Dataset) -> usize {
        let mut train: Vec<usize> = dataset.train.iter().map(|example| rows_of(example, self.virtual_tokens)).collect();
        train.sort_unstable_by(|a, b| b.cmp(a));
        let batch = BatchOrder::new(self.run.seed, train.len(), self.run.batch_size).batch_size();
        let heldout = dataset.heldout.iter().map(|example| rows_of(example, self.virtual_tokens));
        let whole = train.iter().take(batch).sum::<usize>().max(heldout.clone().sum());
        let longest = train.first().copied().unwrap_or(0).max(heldout.max().unwrap_or(0));
        whole.min(self.run.rows_at_once.max(longest))
    }
}
