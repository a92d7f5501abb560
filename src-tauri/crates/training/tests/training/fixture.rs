//! A tiny base with weights from a formula, examples for it, and an observer that remembers.

use domain::{Metric, Phase};
use model::{DenseLayer, DenseWeights, LlamaConfig, Variant};
use std::path::{Path, PathBuf};
use training::{Control, Dataset, Example, Observer, RunConfig, Skipped, SoftPromptConfig, TrainableLlama};

pub fn tiny_config(tied: bool) -> LlamaConfig {
    LlamaConfig {
        hidden: 16,
        intermediate: 24,
        layers: 2,
        heads: 4,
        kv_heads: 2,
        head_dim: 8,
        vocab: 31,
        context: 64,
        rope_theta: 10_000.0,
        rms_eps: 1e-5,
        tied,
        bos: None,
        eos: None,
        pad: None,
        variant: Variant::default(),
    }
}

/// The same weights as `fill` in tests/reference/prompt_tuning.py.
pub fn tiny_weights(tied: bool) -> DenseWeights {
    let config = tiny_config(tied);
    let (hidden, queries, kv, inner) = (config.hidden, config.query_width(), config.kv_width(), config.intermediate);
    let mut seed = 0;
    let mut matrix = |len: usize| {
        seed += 1;
        quarter_noise(seed, len)
    };
    let norm = |values: Vec<f32>| values.into_iter().map(|v| 1.0 + v).collect::<Vec<f32>>();
    let embedding = matrix(config.vocab * hidden);
    let layers = (0..config.layers)
        .map(|_| DenseLayer {
            attention_norm: norm(matrix(hidden)),
            q: matrix(queries * hidden),
            k: matrix(kv * hidden),
            v: matrix(kv * hidden),
            qkv_bias: Vec::new(),
            o: matrix(hidden * queries),
            mlp_norm: norm(matrix(hidden)),
            gate: matrix(inner * hidden),
            up: matrix(inner * hidden),
            down: matrix(hidden * inner),
        })
        .collect();
    let norm = norm(matrix(hidden));
    let head = (!tied).then(|| matrix(config.vocab * hidden));
    DenseWeights { config, embedding, layers, norm, head }
}

pub fn tiny_base(tied: bool) -> TrainableLlama {
    TrainableLlama::new(tiny_weights(tied)).unwrap()
}

/// Values in ±1 from a fixed linear congruential generator (Knuth, MMIX), as `noise` in the reference script.
pub fn noise(seed: u64, len: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (0..len)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        })
        .collect()
}

pub fn quarter_noise(seed: u64, len: usize) -> Vec<f32> {
    noise(seed, len).into_iter().map(|v| v / 4.0).collect()
}

pub fn tokens(seed: u64, len: usize) -> Vec<u32> {
    noise(seed, len).into_iter().map(|v| (((f64::from(v) + 1.0) / 2.0 * 31.0) as u32).min(30)).collect()
}

pub fn example(seed: u64, prompt: usize, answer: usize, weight: f32) -> Example {
    let mut prompt_tokens = tokens(seed, prompt + answer);
    let answer = prompt_tokens.split_off(prompt);
    Example { prompt: prompt_tokens, answer, weight }
}

/// Ten examples of uneven lengths and weights, three held out.
pub fn dataset() -> Dataset {
    let make = |i: u64| example(50 + i, 2 + i as usize % 4, 3 + (i as usize * 5) % 11, 1.0 + (i % 3) as f32 / 2.0);
    Dataset { train: (0..10).map(make).collect(), heldout: (10..13).map(make).collect() }
}

/// Short runs with every feature on; one thread, so that tests beside it do not slow it down.
pub fn quick_config() -> SoftPromptConfig {
    SoftPromptConfig {
        virtual_tokens: 3,
        run: RunConfig {
            steps: 12,
            batch_size: 4,
            learning_rate: 0.05,
            warmup_steps: 2,
            rows_at_once: 30,
            heldout_every: 4,
            patience: None,
            checkpoint_steps: 3,
            checkpoints_kept: 100,
            seed: 7,
            threads: 1,
            ..SoftPromptConfig::default().run
        },
        ..SoftPromptConfig::default()
    }
}

/// Remembers what it was told; can ask for a stop or panic (a stand-in for `kill -9`) at a step.
#[derive(Default)]
pub struct Recorder {
    pub phases: Vec<Phase>,
    pub metrics: Vec<Metric>,
    pub checkpoints: Vec<(u32, PathBuf)>,
    pub skipped: Vec<Skipped>,
    pub at_checkpoint: Option<Box<dyn FnMut(u32)>>,
}

impl Recorder {
    pub fn at_checkpoint(action: impl FnMut(u32) + 'static) -> Self {
        Self { at_checkpoint: Some(Box::new(action)), ..Self::default() }
    }

    pub fn cancel_at(control: &Control, step: u32) -> Self {
        let control = control.clone();
        Self::at_checkpoint(move |at| {
            if at == step {
                control.cancel();
            }
        })
    }
}

impl Observer for Recorder {
    fn phase(&mut self, phase: Phase) {
        self.phases.push(phase);
    }

    fn metric(&mut self, metric: Metric) {
        self.metrics.push(metric);
    }

    fn checkpoint(&mut self, step: u32, path: &Path) {
        self.checkpoints.push((step, path.to_owned()));
        if let Some(action) = &mut self.at_checkpoint {
            action(step);
        }
    }

    fn skipped(&mut self, skipped: &Skipped) {
        self.skipped.push(skipped.clone());
    }
}
