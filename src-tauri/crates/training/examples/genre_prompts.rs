//! Trains the soft prompts of the eight genres for the built-in base, and measures what moving a slider does.
//!
//!     cargo run --release -p inkling-training --example genre_prompts -- train BASE STORIES OUT [key=value …]
//!     cargo run --release -p inkling-training --example genre_prompts -- measure BASE STORIES PROMPTS
//!
//! BASE is the base's folder, STORIES holds `*/part-*.jsonl` with `prompt`, `genres`, `style` and `story`, OUT and PROMPTS hold a
//! folder for each genre in PEFT's layout. Prompts whose CRC-32 divides by 25 are held out, as they were when the base was
//! trained. Keys of `train`: tokens, steps, batch, lr, seed, tagged (share of examples whose prompt names the genre too), written
//! (prompts for which the base writes texts of the genre itself, the clearest of which are learned from beside the stories), keep
//! (share of either that is kept).
//!
//! `measure` judges texts by a naive Bayes classifier on bags of words, made here from the stories that are not held out; it
//! shares nothing with the product's own genre score.

use domain::{FinishReason, Genre, GenreMix, Settings};
use model::{Adapters, DenseWeights, Generate, LanguageModel, LoadOptions, MemberSpec, Sampler, SoftPrompt, StoryFormat, Tokenizer};
use serde::Deserialize;
use std::collections::{BTreeMap, HashMap};
use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use taste::{QualityInput, quality};
use training::{Control, Dataset, Example, Observer, Outcome, PromptStart, RunConfig, SoftPromptConfig, TrainableLlama, soft_prompt};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut next = |what: &str| arguments.next().ok_or(format!("{what} is missing"));
    let (mode, base, stories, prompts) = (next("train or measure")?, next("BASE")?, next("STORIES")?, next("a folder for the prompts")?);
    let options: HashMap<String, f64> =
        arguments.filter_map(|one| one.split_once('=').and_then(|(key, value)| Some((key.to_owned(), value.parse().ok()?)))).collect();
    let stories = read_stories(Path::new(&stories))?;
    match mode.as_str() {
        "train" => train(Path::new(&base), &stories, Path::new(&prompts), &options),
        "measure" => measure(Path::new(&base), &stories, Path::new(&prompts), &options),
        other => Err(format!("{other} is neither train nor measure").into()),
    }
}

#[derive(Deserialize)]
struct Line {
    prompt: String,
    #[serde(default)]
    genres: BTreeMap<String, f64>,
    #[serde(default)]
    style: String,
    story: String,
}

struct Story {
    prompt: String,
    genres: GenreMix,
    style: Option<domain::Style>,
    text: String,
    held_out: bool,
}

impl Story {
    fn weight(&self, genre: Genre) -> f64 {
        self.genres.0.get(&genre).copied().unwrap_or(0.0)
    }
}

fn read_stories(folder: &Path) -> Result<Vec<Story>, Box<dyn Error>> {
    let mut files: Vec<PathBuf> = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(std::fs::read_dir(path)?.filter_map(|file| Some(file.ok()?.path())));
        }
    }
    files.retain(|file| file.extension().is_some_and(|extension| extension == "jsonl"));
    files.sort();
    let mut stories = Vec::new();
    for file in files {
        for line in std::fs::read_to_string(file)?.lines().filter(|line| !line.trim().is_empty()) {
            let line: Line = serde_json::from_str(line)?;
            let genres = line.genres.iter().filter_map(|(name, weight)| Some((name.parse().ok()?, *weight))).collect();
            stories.push(Story {
                held_out: crc32(line.prompt.to_lowercase().as_bytes()).is_multiple_of(25),
                prompt: line.prompt,
                genres: GenreMix(genres),
                style: line.style.parse().ok(),
                text: line.story,
            });
        }
    }
    Ok(stories)
}

/// CRC-32 as zlib computes it (polynomial 0xEDB88320, reflected).
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 })
    })
}

/// SplitMix64 (Steele, Lea & Flood 2014), 0–1.
fn draw(state: &mut u64) -> f64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1u64 << 53) as f64
}

fn train(base_dir: &Path, stories: &[Story], out: &Path, options: &HashMap<String, f64>) -> Result<(), Box<dyn Error>> {
    let number = |key: &str, default: f64| options.get(key).copied().unwrap_or(default);
    let base = TrainableLlama::new(DenseWeights::load(base_dir)?)?;
    let tokenizer = Tokenizer::load(base_dir)?;
    let end = tokenizer.special(StoryFormat::END).ok_or("the base has no end token")?;
    let tagged = number("tagged", 0.0);
    let (prompts, keep) = (number("written", 0.0) as usize, number("keep", 1.0));
    let writer = LanguageModel::load(base_dir, &LoadOptions::new(2))?;
    for genre in Genre::ALL.iter().copied() {
        let written = texts_of(&writer, stories, genre, prompts)?;
        let mut state = 17;
        let mut example = |story: &Story| {
            let genres = if draw(&mut state) < tagged { story.genres.clone() } else { GenreMix::default() };
            let prompt = tokenizer.encode(&StoryFormat::prompt_text(&genres, story.style, &story.prompt));
            let mut answer = tokenizer.encode(&StoryFormat::plain(&story.text));
            answer.push(end);
            Example { prompt, answer, weight: 1.0 }
        };
        let own = |held_out: bool| stories.iter().filter(move |story| story.held_out == held_out && story.weight(genre) >= 0.6);
        let mut learned: Vec<&Story> = clearest(own(false).collect(), genre, keep);
        learned.extend(clearest(written.iter().collect(), genre, keep));
        let data =
            Dataset { train: learned.into_iter().map(&mut example).collect(), heldout: own(true).take(16).map(&mut example).collect() };
        let config = SoftPromptConfig {
            virtual_tokens: number("tokens", 8.0) as usize,
            start: PromptStart::Tokens(tokenizer.encode(words_of(genre))),
            run: RunConfig {
                steps: number("steps", 20.0) as u32,
                batch_size: number("batch", 4.0) as usize,
                learning_rate: number("lr", 0.02),
                heldout_every: 1000,
                patience: None,
                checkpoint_steps: 0,
                seed: number("seed", 1.0) as u64,
                ..RunConfig::default()
            },
            ..SoftPromptConfig::default()
        };
        let run = tempfile::tempdir()?;
        let began = std::time::Instant::now();
        let outcome = soft_prompt(&base, &data, &config, run.path(), false, &Control::default(), &mut Silent)?;
        let Outcome::Finished(trained) = outcome else { return Err("stopped".into()) };
        println!(
            "{:12} {} stories, {} held out; held-out loss {:.4} -> {:.4}; {:.0} s",
            genre.name(),
            data.train.len(),
            data.heldout.len(),
            trained.heldout_before.unwrap_or(f64::NAN),
            trained.heldout_after.unwrap_or(f64::NAN),
            began.elapsed().as_secs_f64()
        );
        trained.adapter.save_half(&out.join(genre.name()), base.config(), "built-in")?;
    }
    Ok(())
}

/// Texts of one genre that the base writes for prompts of all genres: what a slider has to do. Only good ones.
fn texts_of(base: &LanguageModel, stories: &[Story], genre: Genre, prompts: usize) -> Result<Vec<Story>, Box<dyn Error>> {
    let known: Vec<&Story> = stories.iter().filter(|story| !story.held_out).collect();
    let asked = known.iter().step_by((known.len() / prompts.max(1)).max(1)).take(prompts);
    let mix = GenreMix([(genre, 1.0)].into());
    let unguided = Settings { guidance: 1.0, genre_guidance: 0.0, ..Settings::default() };
    let mut texts = Vec::new();
    for (at, story) in asked.enumerate() {
        for text in write(base, &story.prompt, &mix, &Adapters::default(), 500_000 + 10 * at as u64, &unguided)? {
            if text.finish == FinishReason::End && score(&story.prompt, &mix, &text) >= taste::GOOD_ENOUGH {
                let (prompt, genres) = (story.prompt.clone(), mix.clone());
                texts.push(Story { prompt, genres, style: None, text: text.text.trim().to_owned(), held_out: false });
            }
        }
    }
    Ok(texts)
}

/// The share of texts that the product's own genre score is surest of. The measure below has another one.
fn clearest(mut texts: Vec<&Story>, genre: Genre, keep: f64) -> Vec<&Story> {
    let sureness = |story: &Story| taste::genre_probabilities(&story.text).get(&genre).copied().unwrap_or(0.0);
    texts.sort_by(|a, b| sureness(b).total_cmp(&sureness(a)));
    texts.truncate((keep * texts.len() as f64).ceil() as usize);
    texts
}

/// Where a genre's prompt starts: words that its stories are made of (arXiv 2104.08691, §3.2, starts from class labels).
fn words_of(genre: Genre) -> &'static str {
    match genre {
        Genre::Fantasy => " magic wizard dragon spell castle",
        Genre::DarkFantasy => " curse bones dead crow shadow king",
        Genre::SciFi => " ship robot planet station space",
        Genre::Mystery => " clue detective missing secret letter",
        Genre::Horror => " scream dark cellar whisper afraid",
        Genre::Romance => " love kiss heart dance smile",
        Genre::Adventure => " river map mountain jungle rope",
        Genre::Thriller => " gun phone agent police bomb",
    }
}

struct Silent;

impl Observer for Silent {
    fn phase(&mut self, _: domain::Phase) {}
    fn metric(&mut self, _: domain::Metric) {}
    fn checkpoint(&mut self, _: u32, _: &Path) {}
}

/// Multinomial naive Bayes with add-one smoothing over the words of the stories that are not held out.
struct Classifier {
    words: HashMap<String, [f64; 8]>,
    unknown: [f64; 8],
}

impl Classifier {
    fn new(stories: &[Story]) -> Self {
        let mut counts: HashMap<String, [f64; 8]> = HashMap::new();
        let mut totals = [0.0; 8];
        for story in stories.iter().filter(|story| !story.held_out) {
            for word in words(&story.text) {
                let row = counts.entry(word).or_default();
                for (at, genre) in Genre::ALL.iter().enumerate() {
                    row[at] += story.weight(*genre);
                    totals[at] += story.weight(*genre);
                }
            }
        }
        let vocabulary = counts.len() as f64;
        let log = |count: f64, at: usize| ((count + 1.0) / (totals[at] + vocabulary)).ln();
        let words = counts.into_iter().map(|(word, row)| (word, std::array::from_fn(|at| log(row[at], at)))).collect();
        Self { words, unknown: std::array::from_fn(|at| log(0.0, at)) }
    }

    /// Probability of each genre. The log-odds are divided by the square root of the length: naive Bayes takes words for
    /// independent and would be sure of everything.
    fn probabilities(&self, text: &str) -> [f64; 8] {
        let words: Vec<String> = words(text).collect();
        let mut sums = [0.0; 8];
        for word in &words {
            let row = self.words.get(word).unwrap_or(&self.unknown);
            sums.iter_mut().zip(row).for_each(|(sum, log)| *sum += log);
        }
        let scale = (words.len() as f64).sqrt().max(1.0);
        let most = sums.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let weights = sums.map(|sum| ((sum - most) / scale).exp());
        let all: f64 = weights.iter().sum();
        weights.map(|weight| weight / all)
    }
}

fn words(text: &str) -> impl Iterator<Item = String> {
    text.split(|c: char| !c.is_alphabetic()).filter(|word| word.len() > 1).map(str::to_lowercase)
}

/// Positions of the moved slider; another genre stays at 50.
const STEPS: [f64; 6] = [0.0, 20.0, 40.0, 60.0, 80.0, 100.0];
/// Prompts and seeds of each position: 16 texts.
const PROMPTS: usize = 4;
const SEEDS: usize = 4;

fn measure(base_dir: &Path, stories: &[Story], prompts_dir: &Path, options: &HashMap<String, f64>) -> Result<(), Box<dyn Error>> {
    let base = LanguageModel::load(base_dir, &LoadOptions::new(options.get("threads").map_or(2, |threads| *threads as usize)))?;
    let classifier = Classifier::new(stories);
    let right = |story: &&Story| {
        let found = classifier.probabilities(&story.text);
        let best = (0..8).max_by(|a, b| found[*a].total_cmp(&found[*b])).unwrap_or(0);
        story.genres.top() == Some(Genre::ALL[best])
    };
    let held: Vec<&Story> = stories.iter().filter(|story| story.held_out && !story.genres.0.is_empty()).collect();
    let share = held.iter().filter(|story| right(story)).count() as f64 / held.len().max(1) as f64;
    println!("classifier: {:.3} of {} held-out stories in their first genre", share, held.len());
    let mut soft = Vec::new();
    for genre in Genre::ALL {
        soft.push((*genre, SoftPrompt::load(&prompts_dir.join(genre.name()))?));
    }
    let blend = |mix: &GenreMix| {
        let parts: Vec<_> = soft.iter().map(|(genre, prompt)| (prompt, mix.0.get(genre).copied().unwrap_or(0.0))).collect();
        SoftPrompt::blend(&parts).map(Arc::new)
    };
    perplexity(&base, &held, &blend)?;
    let usual = Settings::default();
    let given = |key: &str, default| options.get(key).copied().unwrap_or(default);
    let usual =
        Settings { guidance: given("guidance", usual.guidance), genre_guidance: given("genre_guidance", usual.genre_guidance), ..usual };
    // Prompts that name no genre of their own: the mixed and plain ones differ too much in length to be chosen by hand.
    let asked: Vec<&Story> = held.iter().copied().step_by((held.len() / PROMPTS).max(1)).take(PROMPTS).collect();
    for (name, with) in [("genre words alone", false), ("words and soft prompts", true)] {
        let mut per_step = Vec::new();
        let mut per_text = Vec::new();
        let (mut qualities, mut own) = (Vec::new(), 0.0);
        for (at, genre) in Genre::ALL.iter().enumerate() {
            let partner = Genre::ALL[(at + 3) % Genre::ALL.len()];
            let (mut sliders, mut found, mut means) = (Vec::new(), Vec::new(), Vec::new());
            for (step, slider) in STEPS.iter().enumerate() {
                let mix = GenreMix([(*genre, *slider), (partner, 50.0)].into());
                let adapters = Adapters { soft_prompt: with.then(|| blend(&mix)).flatten(), ..Adapters::default() };
                let mut sum = 0.0;
                for (number, story) in asked.iter().enumerate() {
                    for text in write(&base, &story.prompt, &mix, &adapters, (at * 1000 + step * 100 + number * 10) as u64, &usual)? {
                        let probability = classifier.probabilities(&text.text)[at];
                        sum += probability;
                        sliders.push(*slider);
                        found.push(probability);
                        qualities.push(score(&story.prompt, &mix, &text));
                    }
                }
                means.push(sum / (PROMPTS * SEEDS) as f64);
            }
            own += means.last().copied().unwrap_or_default() - means[0];
            per_step.push(spearman(&STEPS, &means));
            per_text.push(spearman(&sliders, &found));
            println!("  {:12} means {}", genre.name(), means.iter().map(|mean| format!("{mean:.3}")).collect::<Vec<_>>().join(" "));
        }
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        let dropped = qualities.iter().filter(|quality| **quality < taste::GOOD_ENOUGH).count() as f64 / qualities.len() as f64;
        println!(
            "{name}: Spearman of the steps' means {:.3} (least {:.3}), of single texts {:.3}; probability rises by {:.3}; quality {:.2}, {:.1}% under {}",
            mean(&per_step),
            per_step.iter().copied().fold(f64::INFINITY, f64::min),
            mean(&per_text),
            own / Genre::ALL.len() as f64,
            mean(&qualities),
            dropped * 100.0,
            taste::GOOD_ENOUGH
        );
    }
    Ok(())
}

fn write(
    base: &LanguageModel,
    prompt: &str,
    mix: &GenreMix,
    adapters: &Adapters,
    seed: u64,
    usual: &Settings,
) -> Result<Vec<model::Completion>, Box<dyn Error>> {
    let sampler = |number: usize| Sampler::of(usual, (seed + number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let request = Generate {
        prompt: base.tokenizer().encode(&StoryFormat::prompt_text(mix, None, prompt)),
        written: 0,
        members: (0..SEEDS).map(|number| MemberSpec::with(sampler(number), adapters.clone())).collect(),
        max_tokens: 120,
        stop: StoryFormat::stop(base.tokenizer()),
        stop_texts: Vec::new(),
        guidance: StoryFormat::guidance(base.tokenizer(), (mix, None, prompt), &[], usual),
    };
    Ok(base.generate(&request, &AtomicBool::new(false), &mut |_| {})?)
}

fn score(prompt: &str, mix: &GenreMix, text: &model::Completion) -> f64 {
    let mean = text.logprobs.iter().map(|one| f64::from(*one)).sum::<f64>() / text.logprobs.len().max(1) as f64;
    let finish: FinishReason = text.finish;
    let genres = mix;
    quality(&QualityInput { prompt, text: &text.text, finish, mean_logprob: Some(mean), genres, style: None, others: &[] }).score
}

/// Perplexity of held-out stories, told their genres, without and with the blended prompt.
fn perplexity(base: &LanguageModel, held: &[&Story], blend: &dyn Fn(&GenreMix) -> Option<Arc<SoftPrompt>>) -> Result<(), Box<dyn Error>> {
    let (mut plain, mut with, mut tokens) = (0.0, 0.0, 0.0);
    for story in held.iter().step_by((held.len() / 120).max(1)) {
        let prefix = base.tokenizer().encode(&StoryFormat::prompt_text(&story.genres, story.style, &story.prompt));
        let mut text = base.tokenizer().encode(&StoryFormat::plain(&story.text));
        text.truncate(300);
        let sum = |adapters: &Adapters| -> Result<f64, Box<dyn Error>> {
            Ok(base.score_with(adapters, &prefix, &text)?.iter().map(|one| f64::from(*one)).sum())
        };
        plain += sum(&Adapters::default())?;
        with += sum(&Adapters { soft_prompt: blend(&story.genres), ..Adapters::default() })?;
        tokens += text.len() as f64;
    }
    let of = |sum: f64| (-sum / tokens).exp();
    println!("perplexity of held-out stories: {:.3} without, {:.3} with soft prompts", of(plain), of(with));
    Ok(())
}

/// Rank correlation with average ranks for ties.
fn spearman(a: &[f64], b: &[f64]) -> f64 {
    let (a, b) = (ranks(a), ranks(b));
    let mean = (a.len() as f64 + 1.0) / 2.0;
    let product = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| (x - mean) * (y - mean)).sum::<f64>();
    product(&a, &b) / (product(&a, &a) * product(&b, &b)).sqrt()
}

fn ranks(values: &[f64]) -> Vec<f64> {
    let rank = |value: &f64| {
        let below = values.iter().filter(|other| *other < value).count() as f64;
        let same = values.iter().filter(|other| *other == value).count() as f64;
        below + (same + 1.0) / 2.0
    };
    values.iter().map(rank).collect()
}
