//! E3–E5: real adapters trained on simulated thumbs, one sample each, judged by the oracle.

use crate::estimate::Estimate;
use crate::lessons::Lessons;
use crate::oracle::{Seen, User};
use crate::pool::{self, sampler};
use crate::text_figures::{compression_ratio, distinct_2, repeated_4_grams, self_bleu};
use crate::thumbs::Judge;
use crate::{EvalError, Prompt, Random};
use model::{Adapters, DenseWeights, LanguageModel, LoadOptions, MemberSpec, StoryFormat, WeightedLora};
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;
use training::{
    Control, Judgements, LoraConfig, Observer, Outcome, Preference, RunConfig, SoftPromptConfig, TrainableLlama, lora,
    lora_from_judgements, soft_prompt, soft_prompt_from_judgements,
};

/// A way to tune.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Method {
    LoraKto,
    LoraDpo,
    LoraSft,
    SoftPromptSft,
    SoftPromptKto,
    SoftPromptDpo,
    DoraKto,
    DoraDpo,
    DoraSft,
}

impl Method {
    /// The app's own choice first.
    pub const ALL: [Self; 9] = [
        Self::LoraKto,
        Self::LoraDpo,
        Self::LoraSft,
        Self::SoftPromptSft,
        Self::SoftPromptKto,
        Self::SoftPromptDpo,
        Self::DoraKto,
        Self::DoraDpo,
        Self::DoraSft,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::SoftPromptSft => "soft prompt, SFT",
            Self::SoftPromptKto => "soft prompt, KTO",
            Self::SoftPromptDpo => "soft prompt, DPO",
            Self::LoraSft => "LoRA, SFT",
            Self::LoraDpo => "LoRA, DPO",
            Self::LoraKto => "LoRA, KTO",
            Self::DoraSft => "DoRA, SFT",
            Self::DoraDpo => "DoRA, DPO",
            Self::DoraKto => "DoRA, KTO",
        }
    }

    /// Its name on the command line.
    pub fn key(self) -> &'static str {
        match self {
            Self::SoftPromptSft => "soft-sft",
            Self::SoftPromptKto => "soft-kto",
            Self::SoftPromptDpo => "soft-dpo",
            Self::LoraSft => "lora-sft",
            Self::LoraDpo => "lora-dpo",
            Self::LoraKto => "lora-kto",
            Self::DoraSft => "dora-sft",
            Self::DoraDpo => "dora-dpo",
            Self::DoraKto => "dora-kto",
        }
    }

    fn is_dora(self) -> bool {
        matches!(self, Self::DoraSft | Self::DoraDpo | Self::DoraKto)
    }

    fn is_soft_prompt(self) -> bool {
        matches!(self, Self::SoftPromptSft | Self::SoftPromptKto | Self::SoftPromptDpo)
    }

    /// The share of the settings' rate that it learns at unless another one is asked for.
    pub fn usual_rate(self) -> f64 {
        match self {
            Self::SoftPromptSft | Self::SoftPromptDpo | Self::SoftPromptKto => 1.0,
            Self::LoraSft | Self::DoraSft => LIKED_RATE,
            Self::LoraDpo | Self::LoraKto | Self::DoraDpo | Self::DoraKto => JUDGED_RATE,
        }
    }

    /// What it learns from besides liked texts.
    fn judgements(self, lessons: &Lessons) -> Option<&Judgements> {
        match self {
            Self::LoraKto | Self::DoraKto | Self::SoftPromptKto => Some(&lessons.singles),
            Self::LoraDpo | Self::DoraDpo | Self::SoftPromptDpo => Some(&lessons.pairs),
            Self::LoraSft | Self::DoraSft | Self::SoftPromptSft => None,
        }
    }
}

/// Thumbs that are learned from.
pub const THUMBS: usize = 100;

/// What is learned at these shares of the settings' rate unless another one is asked for, as in the app.
const LIKED_RATE: f64 = 0.1;
const JUDGED_RATE: f64 = 0.3;

/// Language of real stories, for perplexity.
const PROBES: &str = include_str!("../../../../assets/probes/stories.jsonl");

/// How it is trained.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Setting {
    pub steps: u32,
    /// Share of SFT's rate.
    pub rate: f64,
    pub batch: usize,
    pub beta: f64,
    pub smoothing: f64,
    pub anchor: f64,
    /// Generations written anew, of each of which taste takes the best and the worst.
    pub written: usize,
    pub seed: u64,
}

/// What one adapter reached.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TunedResult {
    pub user: String,
    /// Parameters of the base, in millions: two bases' figures are not compared.
    pub base: f64,
    pub method: Method,
    /// E3: one sample with the adapter against one of the plain base.
    pub wins: Estimate,
    pub seconds: f64,
    /// Updates that were made; fewer than asked for where the texts kept back got worse.
    pub steps: u32,
    pub setting: Setting,
    /// What was learned from: examples or judgements, those of taste among them.
    pub learned_from: usize,
    pub by_taste: usize,
    /// E4: perplexity and repeated 4-grams with the adapter over without.
    pub perplexity: f64,
    pub repetition: f64,
    /// What the plain base makes of the texts: their perplexity with the adapter over that of texts without.
    pub written_perplexity: f64,
    /// E5: distinct-2 and compression ratio with over without, and the difference in self-BLEU.
    pub distinct: f64,
    pub self_bleu: f64,
    pub compression: f64,
}

impl TunedResult {
    /// Whether it is that of this base, user, method and setting.
    pub fn is(&self, bases: &Bases, user: &User, method: Method, setting: Setting) -> bool {
        self.user == user.name && self.method == method && self.setting == setting && self.base == bases.millions()
    }
}

/// The base in both forms.
pub struct Bases {
    dense: TrainableLlama,
    pub writer: LanguageModel,
}

impl Bases {
    /// # Errors
    /// What reading the base reports.
    pub fn load(folder: &Path) -> Result<Self, EvalError> {
        Ok(Self { dense: TrainableLlama::new(DenseWeights::load(folder)?)?, writer: LanguageModel::load(folder, &LoadOptions::new(2))? })
    }

    /// Parameters in millions, to a tenth.
    fn millions(&self) -> f64 {
        (self.dense.config().parameters() as f64 / 1e5).round() / 10.0
    }
}

/// Trains one user's adapter and measures it with `samples` texts a held-out prompt on each side.
///
/// # Errors
/// What training, the base or the disk reports.
pub fn run(
    bases: &Bases,
    judge: &Judge<'_>,
    lessons: &Lessons,
    method: Method,
    setting: Setting,
    samples: usize,
) -> Result<TunedResult, EvalError> {
    let (user, pool) = (&judge.user, judge.pool);
    let began = Instant::now();
    let (adapters, steps) = train(bases, lessons, method, setting)?;
    let seconds = began.elapsed().as_secs_f64();
    let plain = Adapters::default();
    let (mut new_texts, mut old_texts, mut by_prompt) = (Vec::new(), Vec::new(), Vec::new());
    let (mut of_new_texts, mut of_old_texts) = (Likelihood::default(), Likelihood::default());
    for entry in &judge.held_out {
        let prompt = &pool.entries[*entry].prompt;
        let written = |adapters, side| sampled(bases, prompt, adapters, 2 * *entry as u64 + side, samples);
        let (new, old) = (written(&adapters, 0)?, written(&plain, 1)?);
        let traits = |texts: &[String]| texts.iter().map(|text| (user.trait_of)(&Seen::new(text))).collect::<Vec<f64>>();
        let (of_new, of_old) = (traits(&new), traits(&old));
        let wins: f64 = of_new.iter().flat_map(|new| of_old.iter().map(move |old| won(*new, *old))).sum();
        by_prompt.push(wins / (of_new.len() * of_old.len()) as f64);
        of_new_texts.add(bases, prompt, &new)?;
        of_old_texts.add(bases, prompt, &old)?;
        new_texts.extend(new);
        old_texts.extend(old);
    }
    let ratio = |figure: fn(&[String]) -> f64| figure(&new_texts) / figure(&old_texts).max(1e-9);
    let learned_from = method.judgements(lessons).map_or(lessons.examples.train.len(), |judged| judged.train.len());
    Ok(TunedResult {
        user: user.name.to_owned(),
        base: bases.millions(),
        method,
        wins: Estimate::bootstrap(&by_prompt),
        seconds,
        steps,
        setting,
        learned_from,
        by_taste: lessons.by_taste,
        perplexity: perplexity_ratio(bases, &adapters)?,
        repetition: ratio(repeated_4_grams),
        written_perplexity: of_new_texts.perplexity() / of_old_texts.perplexity(),
        distinct: ratio(distinct_2),
        self_bleu: self_bleu(&new_texts) - self_bleu(&old_texts),
        compression: ratio(compression_ratio),
    })
}

/// 1 when the new text pleases more, 0 when the old one does, a half for a tie.
fn won(new: f64, old: f64) -> f64 {
    if new == old { 0.5 } else { f64::from(u8::from(new > old)) }
}

fn train(bases: &Bases, lessons: &Lessons, method: Method, setting: Setting) -> Result<(Adapters, u32), EvalError> {
    let folder = tempfile::tempdir().map_err(EvalError::file(&std::env::temp_dir()))?;
    let (control, mut quiet) = (Control::default(), Quiet);
    let mut adapters = Adapters::default();
    let judgements = method.judgements(lessons);
    let preference = Preference { beta: setting.beta, smoothing: setting.smoothing, anchor: setting.anchor, ..Preference::default() };
    let run = |usual: RunConfig| RunConfig {
        steps: setting.steps,
        batch_size: setting.batch,
        seed: setting.seed,
        learning_rate: usual.learning_rate * setting.rate,
        ..usual
    };
    if method.is_soft_prompt() {
        let usual = SoftPromptConfig::default();
        let config = SoftPromptConfig { preference, run: run(usual.run.clone()), ..usual };
        let outcome = match judgements {
            None => soft_prompt(&bases.dense, &lessons.examples, &config, folder.path(), false, &control, &mut quiet)?,
            Some(judged) => soft_prompt_from_judgements(&bases.dense, judged, &config, folder.path(), false, &control, &mut quiet)?,
        };
        let trained = finished(outcome)?;
        adapters.soft_prompt = Some(Arc::new(trained.adapter));
        return Ok((adapters, trained.steps));
    }
    let usual = LoraConfig::default();
    let mut config = LoraConfig { preference, run: run(usual.run.clone()), ..usual };
    config.shape.dora = method.is_dora();
    let outcome = match judgements {
        None => lora(&bases.dense, &lessons.examples, &config, folder.path(), false, &control, &mut quiet)?,
        Some(judged) => lora_from_judgements(&bases.dense, judged, &config, folder.path(), false, &control, &mut quiet)?,
    };
    let trained = finished(outcome)?;
    adapters.lora = Some(WeightedLora { lora: Arc::new(trained.adapter), strength: 1.0 });
    Ok((adapters, trained.steps))
}

fn finished<T>(outcome: Outcome<T>) -> Result<T, EvalError> {
    match outcome {
        Outcome::Finished(trained) => Ok(trained),
        _ => Err(EvalError::Usage("the training was stopped".to_owned())),
    }
}

/// Nobody watches.
struct Quiet;

impl Observer for Quiet {
    fn phase(&mut self, _: domain::Phase) {}
    fn metric(&mut self, _: domain::Metric) {}
    fn checkpoint(&mut self, _: u32, _: &Path) {}
}

fn sampled(bases: &Bases, prompt: &Prompt, adapters: &Adapters, seed: u64, samples: usize) -> Result<Vec<String>, EvalError> {
    let mut random = Random::for_purpose("samples", seed);
    let members = (0..samples).map(|_| MemberSpec::with(sampler(random.draw()), adapters.clone()));
    pool::texts(&bases.writer, prompt, members.collect())
}

/// How likely texts are to the plain base.
#[derive(Default)]
struct Likelihood {
    log_probability: f64,
    tokens: usize,
}

impl Likelihood {
    fn add(&mut self, bases: &Bases, prompt: &Prompt, texts: &[String]) -> Result<(), EvalError> {
        let asked = pool::asked(&bases.writer, prompt);
        for text in texts {
            let logprobs = bases.writer.score(None, &asked, &bases.writer.tokenizer().encode(text))?;
            self.log_probability += logprobs.iter().map(|value| f64::from(*value)).sum::<f64>();
            self.tokens += logprobs.len();
        }
        Ok(())
    }

    fn perplexity(&self) -> f64 {
        (-self.log_probability / self.tokens.max(1) as f64).exp()
    }
}

/// Perplexity of the probe stories with the adapter over without.
fn perplexity_ratio(bases: &Bases, adapters: &Adapters) -> Result<f64, EvalError> {
    #[derive(Deserialize)]
    struct Probe {
        prompt: String,
        genres: domain::GenreMix,
        style: Option<domain::Style>,
        text: String,
    }
    let tokenizer = bases.writer.tokenizer();
    let (mut gap, mut tokens) = (0.0, 0);
    for line in PROBES.lines() {
        let probe: Probe = serde_json::from_str(line).map_err(|error| EvalError::Pool(format!("probe stories: {error}")))?;
        let prefix = tokenizer.encode(&StoryFormat::prompt_text(&probe.genres, probe.style, &probe.prompt));
        let story = tokenizer.encode(&StoryFormat::plain(&probe.text));
        let sum = |adapters: &Adapters| -> Result<f64, EvalError> {
            Ok(bases.writer.score_with(adapters, &prefix, &story)?.iter().map(|value| f64::from(*value)).sum())
        };
        gap += sum(&Adapters::default())? - sum(adapters)?;
        tokens += story.len();
    }
    Ok((gap / tokens.max(1) as f64).exp())
}
