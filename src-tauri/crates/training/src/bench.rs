//! Times one step of a training: forward, backward, clip and AdamW, on weights and shapes as they are asked for.

use crate::objective::Task;
use crate::optimizer::clip;
use crate::priority::foreground_pool;
use crate::run::Desk;
use crate::tuned::{AdaptedLlama, PromptBase, Tuned};
use crate::workspace::clear;
use crate::{
    AdamW, Control, Dataset, Example, Judgement, Judgements, LoraLayout, Preference, Quantisation, SingleLoss, TrainError, TrainableLlama,
    TrainableT5, Workspace,
};
use model::{DenseLayer, DenseT5, DenseT5Cross, DenseT5Layer, DenseT5Stack, DenseWeights, LlamaConfig, LoraShape, T5Config};
use std::time::Instant;

/// What is trained.
#[derive(Debug, Clone, PartialEq)]
pub enum Benched {
    SoftPrompt { virtual_tokens: usize },
    Lora(LoraShape),
}

/// What it is trained on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BenchedLoss {
    Examples,
    /// Every text is chosen over another one of its length.
    Pairs,
    /// Every other text was liked.
    Singles,
}

#[derive(Debug, Clone, PartialEq)]
pub struct StepBench {
    pub benched: Benched,
    pub loss: BenchedLoss,
    /// Tokens of each text of the batch.
    pub lengths: Vec<usize>,
    pub steps: usize,
    /// Steps before those that count.
    pub warmup: usize,
    /// 0: one per core.
    pub threads: usize,
    pub rows_at_once: usize,
    pub recompute: bool,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepFigures {
    pub median_step_s: f64,
    pub min_step_s: f64,
    /// Of the last step.
    pub loss: f64,
}

/// What another program computed for the same weights, to compare with.
#[derive(Debug, Clone, PartialEq)]
pub struct StepReference {
    /// Texts, each token after the first predicted.
    pub texts: Vec<Vec<u32>>,
    pub loss: f64,
    /// Names as in [`LoraLayout::tensors`], values, gradient.
    pub tensors: Vec<(String, Vec<f32>, Vec<f32>)>,
}

/// How far two computations are apart.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepError {
    /// Relative.
    pub loss_error: f64,
    /// Length of the difference over length.
    pub gradient_error: f64,
}

/// Weights from a formula.
fn random_weights() -> impl FnMut(usize) -> Vec<f32> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    move |len| {
        let draw = |_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((state >> 40) as f32 / (1u64 << 23) as f32 - 1.0) * 0.05
        };
        (0..len).map(draw).collect()
    }
}

/// A T5 base of this shape with weights from a formula: for speed, weights do not matter.
pub fn random_t5(config: T5Config, quantisation: Option<Quantisation>) -> TrainableT5 {
    let mut matrix = random_weights();
    let T5Config { hidden, intermediate, vocab, buckets, heads, .. } = config;
    let width = config.width();
    let units = if config.gated { 2 * intermediate } else { intermediate };
    let mut stack = |layers: usize, decoder: bool| {
        let mut layer = |_| DenseT5Layer {
            attention_norm: vec![1.0; hidden],
            qkv: matrix(3 * width * hidden),
            output: matrix(hidden * width),
            cross: decoder.then(|| DenseT5Cross {
                norm: vec![1.0; hidden],
                query: matrix(width * hidden),
                keys_values: matrix(2 * width * hidden),
                output: matrix(hidden * width),
            }),
            mlp_norm: vec![1.0; hidden],
            up: matrix(units * hidden),
            down: matrix(hidden * intermediate),
        };
        let layers = (0..layers).map(&mut layer).collect();
        DenseT5Stack { layers, norm: vec![1.0; hidden], bias: matrix(buckets * heads) }
    };
    let (encoder, decoder) = (stack(config.encoder_layers, false), stack(config.decoder_layers, true));
    let (embedding, head) = (matrix(vocab * hidden), Some(matrix(vocab * hidden)));
    TrainableT5::held(DenseT5 { config, embedding, head, encoder, decoder }, quantisation)
}

/// A base of this shape with weights from a formula: for speed, weights do not matter.
///
/// # Errors
/// As [`TrainableLlama::new`].
pub fn random_base(config: LlamaConfig, quantisation: Option<Quantisation>) -> Result<TrainableLlama, TrainError> {
    let mut matrix = random_weights();
    let LlamaConfig { hidden, intermediate, vocab, .. } = config;
    let (queries, kv) = (config.query_width(), config.kv_width());
    let embedding = matrix(vocab * hidden);
    let layers = (0..config.layers)
        .map(|_| DenseLayer {
            attention_norm: vec![1.0; hidden],
            q: matrix(queries * hidden),
            k: matrix(kv * hidden),
            v: matrix(kv * hidden),
            qkv_bias: if config.variant.qkv_bias { matrix(queries + 2 * kv) } else { Vec::new() },
            o: matrix(hidden * queries),
            mlp_norm: vec![1.0; hidden],
            gate: matrix(intermediate * hidden),
            up: matrix(intermediate * hidden),
            down: matrix(hidden * intermediate),
        })
        .collect();
    let head = (!config.tied).then(|| matrix(vocab * hidden));
    let weights = DenseWeights { config, embedding, layers, norm: vec![1.0; hidden], head };
    match quantisation {
        Some(quantisation) => TrainableLlama::quantised(weights, quantisation),
        None => TrainableLlama::new(weights),
    }
}

/// Times steps on texts of these lengths.
///
/// # Errors
/// `Config` for a shape that cannot be, `Example` for a text that does not fit the base, `Threads`.
pub fn bench_step(base: &TrainableLlama, bench: &StepBench) -> Result<StepFigures, TrainError> {
    let layout;
    let (tuned, mut weights): (Box<dyn Tuned + '_>, Vec<f32>) = match &bench.benched {
        Benched::SoftPrompt { virtual_tokens } => {
            let token = |place: usize| (place % base.config().vocab) as u32;
            let prompt = (0..*virtual_tokens).flat_map(|place| base.embedding_of(token(place))).copied();
            (base.with_prompt(*virtual_tokens, bench.recompute), prompt.collect())
        }
        Benched::Lora(shape) => {
            layout = LoraLayout::new(shape, base.config())?;
            let mut weights = base.initial_lora(&layout, 0);
            // As after some training: with B at zero, A would have no gradient.
            for (_, place) in layout.tensors().into_iter().filter(|(name, _)| name.ends_with("lora_B")) {
                weights[place].iter_mut().enumerate().for_each(|(index, value)| *value = (index % 7) as f32 / 200.0 - 0.015);
            }
            (Box::new(AdaptedLlama { base, layout: &layout, dropout: 0.0, seed: 0, recompute: bench.recompute }), weights)
        }
    };
    let vocab = base.config().vocab;
    let text = |length: usize, shift: usize| {
        let token = |place: usize| ((place * 31 + shift * 17 + 5) % vocab) as u32;
        Example { prompt: vec![token(0)], answer: (1..length.max(2)).map(token).collect(), weight: 1.0 }
    };
    let texts = || bench.lengths.iter().enumerate().map(|(index, length)| text(*length, index));
    let (examples, judgements);
    let mut task = match bench.loss {
        BenchedLoss::Examples => {
            examples = Dataset { train: texts().collect(), heldout: Vec::new() };
            Task::of_examples(&examples)
        }
        BenchedLoss::Pairs => {
            let pair = |(index, chosen): (usize, Example)| Judgement::Pair { rejected: text(chosen.tokens(), index + 1000), chosen };
            judgements = Judgements { train: texts().enumerate().map(pair).collect(), heldout: Vec::new() };
            Task::of_judgements(&judgements, Preference::default())
        }
        BenchedLoss::Singles => {
            let single = |(index, text): (usize, Example)| Judgement::Single { text, liked: index % 2 == 0 };
            judgements = Judgements { train: texts().enumerate().map(single).collect(), heldout: Vec::new() };
            // As TRL computes it: compared with a pass of mismatched texts, whose reference is found in the first step.
            Task::of_judgements(&judgements, Preference { singles: SingleLoss::Kto, ..Preference::default() })
        }
    };
    task.check(&*tuned)?;
    time_steps(&*tuned, &mut weights, &mut task, bench)
}

/// Times steps of a soft prompt before the encoder of a T5, on texts of these lengths that each ask for an answer of `answer`
/// tokens; only the times, the threads and the rows of `bench` count.
///
/// # Errors
/// As [`bench_step`].
pub fn bench_t5_step(base: &TrainableT5, virtual_tokens: usize, answer: usize, bench: &StepBench) -> Result<StepFigures, TrainError> {
    let vocab = base.config().vocab;
    let token = |place: usize| (place * 31 + 7) as u32 % vocab as u32;
    let mut weights: Vec<f32> = (0..virtual_tokens).flat_map(|place| PromptBase::embedding_of(base, token(place))).copied().collect();
    let text = |(index, length): (usize, &usize)| Example {
        prompt: (0..*length).map(|place| token(place + index)).collect(),
        answer: (0..answer).map(|place| token(3 * place + index)).collect(),
        weight: 1.0,
    };
    let data = Dataset { train: bench.lengths.iter().enumerate().map(text).collect(), heldout: Vec::new() };
    let (tuned, mut task) = (base.with_prompt(virtual_tokens, bench.recompute), Task::of_examples(&data));
    task.check(&*tuned)?;
    time_steps(&*tuned, &mut weights, &mut task, bench)
}

fn time_steps(tuned: &dyn Tuned, weights: &mut [f32], task: &mut Task, bench: &StepBench) -> Result<StepFigures, TrainError> {
    let control = Control::default();
    let mut desk = Desk { workspace: Workspace::default(), control: &control, rows_at_once: bench.rows_at_once };
    let (mut optimizer, mut gradient) = (AdamW::new(weights.len(), 0.0), vec![0.0; weights.len()]);
    let batch: Vec<usize> = (0..task.len()).collect();
    let (mut times, mut loss) = (Vec::new(), f64::NAN);
    foreground_pool(bench.threads)?.install(|| {
        // Nobody else holds this control, so nothing can stop here.
        let _ = task.begin(tuned, &mut desk);
        for step in 0..bench.warmup + bench.steps.max(1) {
            let began = Instant::now();
            clear(&mut gradient);
            if let Ok((found, _)) = task.loss_and_gradient(tuned, weights, &batch, step as u64, &mut desk, &mut gradient) {
                loss = found;
            }
            clip(&mut gradient, 1.0);
            optimizer.update(weights, &gradient, 1e-4);
            times.push(began.elapsed().as_secs_f64());
        }
    });
    let mut times = times.split_off(bench.warmup);
    times.sort_unstable_by(f64::total_cmp);
    Ok(StepFigures { median_step_s: times[times.len() / 2], min_step_s: times[0], loss })
}

/// Loss and gradient of a LoRA or DoRA beside those of another program.
///
/// # Errors
/// `Config` for a shape that cannot be or where a tensor is missing, `Example` for a text that does not fit, `Threads`.
pub fn compare_step(
    base: &TrainableLlama,
    shape: &LoraShape,
    threads: usize,
    rows_at_once: usize,
    reference: &StepReference,
) -> Result<StepError, TrainError> {
    let layout = LoraLayout::new(shape, base.config())?;
    let (mut weights, mut wanted) = (vec![0.0; layout.parameters()], vec![0.0; layout.parameters()]);
    for (name, place) in layout.tensors() {
        let found = reference.tensors.iter().find(|(theirs, values, _)| *theirs == name && values.len() == place.len());
        let Some((_, values, gradient)) = found else {
            return Err(TrainError::Config { field: "reference", value: format!("without a fitting {name}"), allowed: "of this shape" });
        };
        weights[place.clone()].copy_from_slice(values);
        wanted[place].copy_from_slice(gradient);
    }
    let text = |tokens: &Vec<u32>| {
        let (first, rest) = tokens.split_at(1.min(tokens.len()));
        Example { prompt: first.to_vec(), answer: rest.to_vec(), weight: 1.0 }
    };
    let data = Dataset { train: reference.texts.iter().map(text).collect(), heldout: Vec::new() };
    let (mut task, control) = (Task::of_examples(&data), Control::default());
    let tuned = AdaptedLlama { base, layout: &layout, dropout: 0.0, seed: 0, recompute: false };
    task.check(&tuned)?;
    let mut desk = Desk { workspace: Workspace::default(), control: &control, rows_at_once };
    let (mut gradient, batch) = (vec![0.0; weights.len()], (0..task.len()).collect::<Vec<_>>());
    let found = foreground_pool(threads)?.install(|| task.loss_and_gradient(&tuned, &weights, &batch, 0, &mut desk, &mut gradient));
    let loss = found.map_or(f64::NAN, |(loss, _)| loss);
    let length = |values: &mut dyn Iterator<Item = f32>| values.map(|v| f64::from(v) * f64::from(v)).sum::<f64>().sqrt();
    let difference = length(&mut gradient.iter().zip(&wanted).map(|(ours, theirs)| ours - theirs));
    let gradient_error = difference / length(&mut wanted.iter().copied());
    Ok(StepError { loss_error: (loss / reference.loss - 1.0).abs(), gradient_error })
}
