//! Choosing the next token from logits.

use domain::Settings;
use kernels::elementwise::{largest, sum_exp};
use kernels::isa::Isa;

/// How tokens are drawn. The order is that of transformers: repetition penalty, temperature, top-k, top-p, min-p.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampler {
    /// 0 takes the most likely token always.
    pub temperature: f32,
    /// Only the k most likely tokens; 0 keeps all.
    pub top_k: usize,
    /// The smallest set of tokens whose probabilities reach this sum; 1 keeps all.
    pub top_p: f32,
    /// Only tokens at least this share as likely as the most likely one; 0 keeps all.
    pub min_p: f32,
    /// Divides the positive logits of tokens that have occurred, multiplies negative ones (CTRL, Keskar et al., 2019); 1 is off.
    pub repetition_penalty: f32,
    pub seed: u64,
}

impl Default for Sampler {
    fn default() -> Self {
        Self { temperature: 0.8, top_k: 0, top_p: 0.95, min_p: 0.0, repetition_penalty: 1.0, seed: 0 }
    }
}

impl Sampler {
    /// As the settings say.
    pub fn of(settings: &Settings, seed: u64) -> Self {
        Self {
            temperature: settings.temperature as f32,
            top_k: settings.top_k as usize,
            top_p: settings.top_p as f32,
            min_p: settings.min_p as f32,
            repetition_penalty: settings.repetition_penalty as f32,
            seed,
        }
    }

    /// The most likely token always.
    pub fn greedy() -> Self {
        Self { temperature: 0.0, top_p: 1.0, ..Self::default() }
    }

    pub(crate) fn is_valid(&self) -> bool {
        let unit = |value: f32| (0.0..=1.0).contains(&value);
        let temperature = self.temperature.is_finite() && self.temperature >= 0.0;
        temperature && unit(self.top_p) && unit(self.min_p) && self.repetition_penalty.is_finite() && self.repetition_penalty > 0.0
    }
}

/// A drawn token and its log-probability under the model alone: temperature 1, no penalty, nothing left out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Drawn {
    pub token: u32,
    pub logprob: f32,
}

/// A sampler at work on one candidate: its own generator, so that other candidates do not matter.
pub struct Draw {
    sampler: Sampler,
    random: SplitMix,
    /// Tokens that have occurred, sorted; kept only when repetition is penalised.
    seen: Vec<u32>,
    kept: Vec<(f32, u32)>,
    penalised: Vec<f32>,
    guided: Vec<f32>,
}

impl Draw {
    pub fn new(sampler: &Sampler, prompt: &[u32]) -> Self {
        let mut seen = if sampler.repetition_penalty == 1.0 { Vec::new() } else { prompt.to_vec() };
        seen.sort_unstable();
        seen.dedup();
        let random = SplitMix(sampler.seed);
        Self { sampler: sampler.clone(), random, seen, kept: Vec::new(), penalised: Vec::new(), guided: Vec::new() }
    }

    /// Draws the next token from `[vocab]` logits.
    pub fn next(&mut self, isa: Isa, logits: &[f32]) -> Drawn {
        let most = largest(isa, logits);
        let token = self.choose_new(isa, logits, most);
        Drawn { token, logprob: logits[token as usize] - log_sum_exp(isa, logits, most) }
    }

    /// The same, guided by other logits with weights, of tokens that are `plausible` (see [`crate::Guidance`]); the log-probability is
    /// that of `logits` all the same.
    pub fn next_guided<'l>(&mut self, isa: Isa, logits: &[f32], others: impl Iterator<Item = (&'l [f32], f32)>, plausible: f32) -> Drawn {
        let mut others = others.peekable();
        if others.peek().is_none() {
            return self.next(isa, logits);
        }
        let most = largest(isa, logits);
        let normaliser = log_sum_exp(isa, logits, most);
        let mut guided = std::mem::take(&mut self.guided);
        guided.clear();
        guided.extend_from_slice(logits);
        for (other, weight) in others {
            // On the scale of the logits, so that the repetition penalty finds them as it would find these.
            let shift = normaliser - log_sum_exp(isa, other, largest(isa, other));
            guided.iter_mut().zip(logits.iter().zip(other)).for_each(|(sum, (logit, other))| *sum += weight * (other + shift - logit));
        }
        if plausible > 0.0 {
            let least = most + plausible.ln();
            guided.iter_mut().zip(logits).filter(|(_, logit)| **logit < least).for_each(|(sum, _)| *sum = f32::NEG_INFINITY);
        }
        let token = self.choose_new(isa, &guided, largest(isa, &guided));
        self.guided = guided;
        Drawn { token, logprob: logits[token as usize] - normaliser }
    }

    /// Chooses with the repetition penalty; `most` is the largest of the logits.
    fn choose_new(&mut self, isa: Isa, logits: &[f32], most: f32) -> u32 {
        if self.seen.is_empty() && self.sampler.repetition_penalty == 1.0 {
            return self.choose(isa, logits, most);
        }
        let mut penalised = std::mem::take(&mut self.penalised);
        self.penalise(logits, &mut penalised);
        let token = self.choose(isa, &penalised, largest(isa, &penalised));
        self.penalised = penalised;
        if let Err(at) = self.seen.binary_search(&token) {
            self.seen.insert(at, token);
        }
        token
    }

    fn penalise(&self, logits: &[f32], penalised: &mut Vec<f32>) {
        penalised.clear();
        penalised.extend_from_slice(logits);
        for token in &self.seen {
            if let Some(logit) = penalised.get_mut(*token as usize) {
                let penalty = self.sampler.repetition_penalty;
                *logit = if *logit > 0.0 { *logit / penalty } else { *logit * penalty };
            }
        }
    }

    fn choose(&mut self, isa: Isa, logits: &[f32], most: f32) -> u32 {
        let Sampler { temperature, top_k, top_p, min_p, .. } = self.sampler;
        // Below a hundredth every token but the first has no weight left in f32, and the factor would grow without bound.
        if temperature < 0.01 {
            return logits.iter().position(|logit| *logit >= most).unwrap_or(0) as u32;
        }
        let factor = 1.0 / temperature;
        let draw = self.random.unit();
        if top_k == 0 && top_p >= 1.0 && min_p <= 0.0 {
            let total = sum_exp(isa, logits, most, factor);
            let weights = logits.iter().enumerate().map(|(token, logit)| (((logit - most) * factor).exp(), token as u32));
            return pick(weights, draw * total);
        }
        let total = if top_k == 0 { Some(sum_exp(isa, logits, most, factor)) } else { None };
        // The likely tokens are few: look at those first, further only when they do not suffice, and sort once.
        for reach in [4.0, 8.0, 16.0, f32::INFINITY] {
            self.keep_above(logits, most, factor, reach);
            if self.suffices(total, reach) {
                break;
            }
        }
        // Heaviest first; equal weights by token.
        self.kept.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        self.cut(total);
        let sum = self.kept.iter().map(|(weight, _)| weight).sum::<f32>();
        pick(self.kept.iter().copied(), draw * sum)
    }

    /// Collects the tokens within `reach` of the most likely one.
    fn keep_above(&mut self, logits: &[f32], most: f32, factor: f32, reach: f32) {
        let bound = most - reach / factor;
        self.kept.clear();
        let near = logits.iter().enumerate().filter(|(_, logit)| **logit >= bound);
        self.kept.extend(near.map(|(token, logit)| (((logit - most) * factor).exp(), token as u32)));
    }

    /// Whether the collected tokens surely contain all that the cuts will leave.
    fn suffices(&self, total: Option<f32>, reach: f32) -> bool {
        let Sampler { top_k, top_p, min_p, .. } = self.sampler;
        let by_count = top_k > 0 && self.kept.len() >= top_k;
        let by_share = min_p > 0.0 && -min_p.ln() < reach;
        let by_sum = top_p < 1.0 && total.is_some_and(|total| self.kept.iter().map(|kept| kept.0).sum::<f32>() >= top_p * total);
        by_count || by_share || by_sum
    }

    fn cut(&mut self, total: Option<f32>) {
        let Sampler { top_k, top_p, min_p, .. } = self.sampler;
        if top_k > 0 {
            self.kept.truncate(top_k);
        }
        if top_p < 1.0 {
            let total = total.unwrap_or_else(|| self.kept.iter().map(|kept| kept.0).sum());
            let mut sum = 0.0;
            let enough = self.kept.iter().position(|kept| {
                sum += kept.0;
                sum >= top_p * total
            });
            self.kept.truncate(enough.map_or(self.kept.len(), |last| last + 1));
        }
        if min_p > 0.0 {
            // The heaviest weight is exp(0) = 1.
            self.kept.retain(|kept| kept.0 >= min_p);
        }
    }
}

fn log_sum_exp(isa: Isa, logits: &[f32], most: f32) -> f32 {
    most + sum_exp(isa, logits, most, 1.0).ln()
}

/// The first token at which the running sum of weights passes `goal`.
fn pick(weights: impl Iterator<Item = (f32, u32)>, goal: f32) -> u32 {
    let mut sum = 0.0;
    let mut last = 0;
    for (weight, token) in weights {
        sum += weight;
        if weight > 0.0 {
            last = token;
        }
        if sum > goal {
            return token;
        }
    }
    // Rounding can leave the sum a hair below the goal.
    last
}

/// SplitMix64 (Steele, Lea and Flood, 2014): any seed gives a good stream.
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// In [0, 1), 24 bits.
    fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 24) as f32
    }
}
