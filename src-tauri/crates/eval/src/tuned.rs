//! E3–E5: real adapters trained on simulated thumbs, one sample each, judged by the oracle.

use crate::estimate::Estimate;
use crate::oracle::{Seen, User};
use crate::pool::{LENGTH, SINGLE, sampler};
use crate::text_figures::{compression_ratio, distinct_2, repeated_4_grams, self_bleu};
use crate::thumbs::Judge;
use crate::{EvalError, Pool, Prompt, Random};
use model::{Adapters, DenseWeights, Generate, Guidance, LanguageModel, LoadOptions, MemberSpec, StoryFormat, WeightedLora};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;
use taste::TasteData;
use training::{
    Control, Dataset, Example, Judgement, Judgements, LoraConfig, Observer, Outcome, SoftPromptConfig, TrainableLlama, lora,
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

    /// The share of SFT's rate that it learns at unless another one is asked for.
    pub fn usual_rate(self) -> f64 {
        let liked_only = matches!(self, Self::LoraSft | Self::DoraSft | Self::SoftPromptSft);
        if liked_only { 1.0 } else { JUDGED_RATE }
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

/// Thumbs that are learned from, and samples of each side for every held-out prompt.
const THUMBS: usize = 100;
const SAMPLES: usize = 2;

/// DPO and KTO learn at this share of the rate for liked texts unless another one is asked for.
const JUDGED_RATE: f64 = 0.3;

/// Taste must find the better text this much likelier to be liked, in log-odds, and makes at most so many pairs, as in the app.
const CLEARLY_BETTER: f64 = 1.1;
const MOST_TASTE_PAIRS: usize = 50;

/// One learning prompt of so many only tells training when to stop.
const MEASURED_EVERY: usize = 5;

/// Language of real stories, for perplexity.
const PROBES: &str = include_str!("../../../../assets/probes/stories.jsonl");

/// How long and how fast it is trained.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    pub steps: u32,
    /// Share of SFT's rate.
    pub rate: f64,
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
    /// Updates asked for, and the share of the usual rate; older rows do not say.
    #[serde(default)]
    pub asked: Option<u32>,
    #[serde(default)]
    pub rate: Option<f64>,
    /// E4: perplexity and repeated 4-grams with the adapter over without.
    pub perplexity: f64,
    pub repetition: f64,
    /// E5: distinct-2 and compression ratio with over without, and the difference in self-BLEU.
    pub distinct: f64,
    pub self_bleu: f64,
    pub compression: f64,
}

impl TunedResult {
    /// Whether it is that of this base, user, method and pace.
    pub fn is(&self, bases: &Bases, user: &User, method: Method, pace: Pace) -> bool {
        let (steps, rate) = (self.asked.unwrap_or(self.steps), self.rate.unwrap_or(method.usual_rate()));
        let same_pace = steps == pace.steps && (rate - pace.rate).abs() < 1e-9;
        self.user == user.name && self.method == method && same_pace && self.base == bases.millions()
    }
}

/// The base in both forms.
pub struct Bases {
    dense: TrainableLlama,
    writer: LanguageModel,
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

/// What training is given: texts of learning prompts only.
pub struct Lessons {
    pub examples: Dataset,
    pub singles: Judgements,
    pub pairs: Judgements,
    /// Prompts of all of them.
    pub prompts: Vec<String>,
}

/// Turns thumbs into what SFT, KTO and DPO learn from.
pub fn lessons(pool: &Pool, data: &TasteData, writer: &LanguageModel) -> Lessons {
    let tokenizer = writer.tokenizer();
    let example = |prompt: &Prompt, text: &str| {
        let mut answer = tokenizer.encode(&StoryFormat::plain(text));
        // A text that was cut off at the length limit must not teach to stop there.
        if text.ends_with(['.', '!', '?', '"', '”'])
            && let Some(end) = tokenizer.special(StoryFormat::END)
        {
            answer.push(end);
        }
        let prompt = tokenizer.encode(&StoryFormat::prompt_text(&prompt.genres, prompt.style, &prompt.text));
        Example { prompt, answer, weight: 1.0 }
    };
    let mut lessons =
        Lessons { examples: Dataset::default(), singles: Judgements::default(), pairs: Judgements::default(), prompts: Vec::new() };
    for (at, thumb) in data.thumbs.iter().enumerate() {
        let number = entry_of(&thumb.generation);
        let prompt = &pool.entries[number].prompt;
        lessons.prompts.push(prompt.text.clone());
        let measured = is_measured(number);
        let text = example(prompt, &thumb.text);
        if thumb.liked {
            let rivals = data.thumbs.iter().filter(|other| !other.liked && other.generation == thumb.generation);
            for rival in rivals {
                let pair = Judgement::Pair { chosen: text.clone(), rejected: example(prompt, &rival.text) };
                if measured { lessons.pairs.heldout.push(pair) } else { lessons.pairs.train.push(pair) }
            }
            if measured { lessons.examples.heldout.push(text.clone()) } else { lessons.examples.train.push(text.clone()) }
        }
        let single = Judgement::Single { text, liked: data.thumbs[at].liked };
        if measured { lessons.singles.heldout.push(single) } else { lessons.singles.train.push(single) }
    }
    add_taste(&mut lessons, pool, data, example);
    lessons
}

fn is_measured(entry: usize) -> bool {
    entry.is_multiple_of(MEASURED_EVERY)
}

/// What taste makes of the texts that nobody judged, as the app does it: once it has shown on real thumbs that it predicts
/// them, the best and the worst of each unjudged generation are a pair too, those furthest apart first, never more than the
/// person's own.
fn add_taste(lessons: &mut Lessons, pool: &Pool, data: &TasteData, example: impl Fn(&Prompt, &str) -> Example) {
    let taste = crate::thumbs::fit(data);
    if !taste.confident {
        return;
    }
    let judged: HashSet<usize> = data.thumbs.iter().map(|thumb| entry_of(&thumb.generation)).collect();
    let mut chosen = Vec::new();
    for entry in pool.learning().into_iter().filter(|entry| !judged.contains(entry)) {
        let texts = &pool.entries[entry].texts[..SINGLE];
        let mut scored: Vec<(f64, &String)> = texts.iter().map(|text| (taste.predict(text).logit, text)).collect();
        scored.sort_by(|a, b| b.0.total_cmp(&a.0));
        if let (Some((best, better)), Some((worst, worse))) = (scored.first(), scored.last())
            && best - worst >= CLEARLY_BETTER
        {
            chosen.push((best - worst, entry, *better, *worse));
        }
    }
    chosen.sort_by(|a, b| b.0.total_cmp(&a.0));
    chosen.truncate(MOST_TASTE_PAIRS.min(lessons.pairs.train.len() + lessons.pairs.heldout.len()));
    for (_, entry, better, worse) in chosen {
        let prompt = &pool.entries[entry].prompt;
        lessons.prompts.push(prompt.text.clone());
        let pair = Judgement::Pair { chosen: example(prompt, better), rejected: example(prompt, worse) };
        if is_measured(entry) { lessons.pairs.heldout.push(pair) } else { lessons.pairs.train.push(pair) }
    }
}

/// The prompt of a generation's name.
fn entry_of(generation: &str) -> usize {
    generation.split('-').next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// Trains one user's adapter and measures it.
///
/// # Errors
/// What training, the base or the disk reports.
pub fn run(bases: &Bases, pool: &Pool, user: &User, method: Method, pace: Pace) -> Result<TunedResult, EvalError> {
    let judge = Judge::new(user, pool);
    let lessons = lessons(pool, &judge.thumbs(THUMBS, usize::MAX, pace.seed), &bases.writer);
    let began = Instant::now();
    let (adapters, steps) = train(bases, &lessons, method, pace)?;
    let seconds = began.elapsed().as_secs_f64();
    let plain = Adapters::default();
    let (mut new_texts, mut old_texts, mut wins) = (Vec::new(), Vec::new(), 0.0);
    for entry in &judge.held_out {
        let prompt = &pool.entries[*entry].prompt;
        let (new, old) = (samples(bases, prompt, &adapters, 2 * *entry as u64)?, samples(bases, prompt, &plain, 2 * *entry as u64 + 1)?);
        for (new, old) in new.iter().zip(&old) {
            let (new, old) = ((user.trait_of)(&Seen::new(new)), (user.trait_of)(&Seen::new(old)));
            wins += if new == old { 0.5 } else { f64::from(u8::from(new > old)) };
        }
        new_texts.extend(new);
        old_texts.extend(old);
    }
    let ratio = |figure: fn(&[String]) -> f64| figure(&new_texts) / figure(&old_texts).max(1e-9);
    Ok(TunedResult {
        user: user.name.to_owned(),
        base: bases.millions(),
        method,
        wins: Estimate::rate(wins, new_texts.len() as f64),
        seconds,
        steps,
        asked: Some(pace.steps),
        rate: Some(pace.rate),
        perplexity: perplexity_ratio(bases, &adapters)?,
        repetition: ratio(repeated_4_grams),
        distinct: ratio(distinct_2),
        self_bleu: self_bleu(&new_texts) - self_bleu(&old_texts),
        compression: ratio(compression_ratio),
    })
}

fn train(bases: &Bases, lessons: &Lessons, method: Method, pace: Pace) -> Result<(Adapters, u32), EvalError> {
    let Pace { steps, rate, seed } = pace;
    let folder = tempfile::tempdir().map_err(EvalError::file(&std::env::temp_dir()))?;
    let (control, mut quiet) = (Control::default(), Quiet);
    let mut adapters = Adapters::default();
    let judgements = method.judgements(lessons);
    if method.is_soft_prompt() {
        let mut config = SoftPromptConfig::default();
        (config.run.steps, config.run.seed, config.run.learning_rate) = (steps, seed, config.run.learning_rate * rate);
        let outcome = match judgements {
            None => soft_prompt(&bases.dense, &lessons.examples, &config, folder.path(), false, &control, &mut quiet)?,
            Some(judged) => soft_prompt_from_judgements(&bases.dense, judged, &config, folder.path(), false, &control, &mut quiet)?,
        };
        let trained = finished(outcome)?;
        adapters.soft_prompt = Some(Arc::new(trained.adapter));
        return Ok((adapters, trained.steps));
    }
    let mut config = LoraConfig::default();
    (config.run.steps, config.run.seed, config.run.learning_rate) = (steps, seed, config.run.learning_rate * rate);
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

fn samples(bases: &Bases, prompt: &Prompt, adapters: &Adapters, seed: u64) -> Result<Vec<String>, EvalError> {
    let mut random = Random::for_purpose("samples", seed);
    let tokenizer = bases.writer.tokenizer();
    let request = Generate {
        prompt: tokenizer.encode(&StoryFormat::prompt_text(&prompt.genres, prompt.style, &prompt.text)),
        written: 0,
        members: (0..SAMPLES).map(|_| MemberSpec::with(sampler(random.draw()), adapters.clone())).collect(),
        max_tokens: LENGTH,
        stop: StoryFormat::stop(tokenizer),
        stop_texts: Vec::new(),
        guidance: Guidance::default(),
    };
    let written = bases.writer.generate(&request, &AtomicBool::new(false), &mut |_| {})?;
    Ok(written.into_iter().map(|one| one.text.trim().to_owned()).collect())
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
