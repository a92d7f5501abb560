//! Trains a soft prompt, a LoRA or a DoRA on stories and prints what it cost and what it changed.
//!
//!     cargo run --release -p inkling-training --example soft_prompt -- BASE STORIES_DIR GENRE [key=value …]
//!
//! BASE is a folder with config.json, model.safetensors and tokenizer.json; STORIES_DIR/GENRE holds `part-*.jsonl` with
//! `prompt`, `genres`, `style` and `story`. Keys: method (prompt | lora | dora), rank, alpha, save (a folder for the adapter),
//! steps, batch, lr, warmup, tokens, examples, heldout, seed, threads, rows, decay, every, start (vocabulary | text), recompute,
//! tags (0 leaves genre and style out of the prompts, so that there is something to learn that the base is not told), lower
//! (1 writes stories in lower case, a trait that the base does not have).

use model::{DenseWeights, LoraShape, Tokenizer};
use serde::Deserialize;
use std::collections::{BTreeMap, HashMap};
use std::error::Error;
use std::fs;
use std::path::Path;
use std::time::Instant;
use training::{
    Control, Dataset, Example, LoraConfig, Observer, Outcome, PromptStart, RunConfig, SoftPromptConfig, TrainableLlama, estimate,
    estimate_lora, lora, measure_lora_speed, measure_speed, soft_prompt,
};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut next = |what: &str| arguments.next().ok_or(format!("{what} is missing"));
    let (base_dir, stories, genre) = (next("BASE")?, next("STORIES_DIR")?, next("GENRE")?);
    let options: HashMap<String, String> =
        arguments.filter_map(|a| a.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned()))).collect();
    let number = |key: &str, default: f64| number(&options, key, default);

    let base_dir = Path::new(&base_dir);
    let began = Instant::now();
    let base = TrainableLlama::new(DenseWeights::load(base_dir)?)?;
    println!("base: {:.1} M parameters, loaded in {:.2} s", base.config().parameters() as f64 / 1e6, began.elapsed().as_secs_f64());
    let tokenizer = Tokenizer::load(base_dir)?;
    let (examples, heldout) = (number("examples", 30.0)? as usize, number("heldout", 60.0)? as usize);
    let mut all = read_stories(&Path::new(&stories).join(&genre), &tokenizer, number("tags", 1.0)? != 0.0, number("lower", 0.0)? != 0.0)?;
    // Taken evenly from all parts, held-out ones between those to train on.
    let stride = all.len().checked_div(examples + heldout).unwrap_or(1).max(1);
    all = all.into_iter().step_by(stride).take(examples + heldout).collect();
    let every = (examples + heldout) / examples.max(1);
    let (train, heldout): (Vec<_>, Vec<_>) = all.into_iter().enumerate().partition(|(index, _)| index % every.max(2) == 0);
    let strip = |part: Vec<(usize, Example)>| part.into_iter().map(|(_, example)| example).collect::<Vec<_>>();
    let data = Dataset { train: strip(train), heldout: strip(heldout) };
    let tokens: usize = data.train.iter().map(Example::tokens).sum();
    println!("{genre}: {} to train on ({} tokens each), {} held out", data.train.len(), tokens / data.train.len(), data.heldout.len());

    match options.get("method").map(String::as_str) {
        Some(method @ ("lora" | "dora")) => train_lora(&base, &data, &options, method == "dora"),
        _ => train_prompt(&base, &data, &options, &tokenizer),
    }
}

fn number(options: &HashMap<String, String>, key: &str, default: f64) -> Result<f64, std::num::ParseFloatError> {
    options.get(key).map_or(Ok(default), |value| value.parse::<f64>())
}

fn train_prompt(
    base: &TrainableLlama,
    data: &Dataset,
    options: &HashMap<String, String>,
    tokenizer: &Tokenizer,
) -> Result<(), Box<dyn Error>> {
    let number = |key: &str, default: f64| number(options, key, default);
    let default = SoftPromptConfig::default();
    let start = match options.get("start").map(String::as_str) {
        Some("text") => {
            PromptStart::Tokens(tokenizer.encode("Write a story that this reader will like, in the style that they like best."))
        }
        _ => PromptStart::Vocabulary,
    };
    let config = SoftPromptConfig {
        virtual_tokens: number("tokens", default.virtual_tokens as f64)? as usize,
        start,
        run: run_config(options, default.run)?,
        ..default
    };
    let began = Instant::now();
    let speed = measure_speed(base, config.run.threads)?;
    let expected = estimate(&config, data, base.config(), speed);
    println!(
        "speed test: {speed:.0} rows/s in {:.2} s; estimate {:.1} s, {:.0} MB",
        began.elapsed().as_secs_f64(),
        expected.seconds,
        expected.peak_memory_bytes as f64 / 1e6
    );

    println!("peak before training: {:.0} MB", peak_memory_mb());
    let run_dir = tempfile::tempdir()?;
    let began = Instant::now();
    let outcome = soft_prompt(base, data, &config, run_dir.path(), false, &Control::default(), &mut Printer)?;
    let seconds = began.elapsed().as_secs_f64();
    let Outcome::Finished(trained) = outcome else { return Err("stopped".into()) };
    println!(
        "{} steps in {seconds:.1} s, {:.0} rows/s; held-out loss {:.4} -> {:.4}; peak {:.0} MB",
        trained.steps,
        trained.tokens_per_second,
        trained.heldout_before.unwrap_or(f64::NAN),
        trained.heldout_after.unwrap_or(f64::NAN),
        peak_memory_mb()
    );
    Ok(())
}

fn train_lora(base: &TrainableLlama, data: &Dataset, options: &HashMap<String, String>, dora: bool) -> Result<(), Box<dyn Error>> {
    let number = |key: &str, default: f64| number(options, key, default);
    let default = LoraConfig::default();
    let rank = number("rank", default.shape.rank as f64)? as usize;
    let alpha = number("alpha", 2.0 * rank as f64)? as f32;
    let config = LoraConfig { shape: LoraShape { rank, alpha, dora, ..default.shape }, run: run_config(options, default.run)?, ..default };
    let speed = measure_lora_speed(base, &config.shape, config.run.threads)?;
    let expected = estimate_lora(&config, data, base.config(), speed);
    let megabytes = expected.peak_memory_bytes as f64 / 1e6;
    println!("speed test: {speed:.0} rows/s; estimate {:.1} s, {megabytes:.0} MB", expected.seconds);
    println!("peak before training: {:.0} MB", peak_memory_mb());
    let run_dir = tempfile::tempdir()?;
    let began = Instant::now();
    let outcome = lora(base, data, &config, run_dir.path(), false, &Control::default(), &mut Printer)?;
    let seconds = began.elapsed().as_secs_f64();
    let Outcome::Finished(trained) = outcome else { return Err("stopped".into()) };
    println!(
        "{} steps in {seconds:.1} s, {:.0} rows/s; held-out loss {:.4} -> {:.4}; peak {:.0} MB; adapter {:.2} MB",
        trained.steps,
        trained.tokens_per_second,
        trained.heldout_before.unwrap_or(f64::NAN),
        trained.heldout_after.unwrap_or(f64::NAN),
        peak_memory_mb(),
        trained.adapter.bytes() as f64 / 1e6
    );
    if let Some(folder) = options.get("save") {
        trained.adapter.save(Path::new(folder), base.config(), "built-in")?;
    }
    Ok(())
}

fn run_config(options: &HashMap<String, String>, default: RunConfig) -> Result<RunConfig, std::num::ParseFloatError> {
    let number = |key: &str, default: f64| number(options, key, default);
    Ok(RunConfig {
        steps: number("steps", 200.0)? as u32,
        batch_size: number("batch", 4.0)? as usize,
        learning_rate: number("lr", default.learning_rate)?,
        warmup_steps: number("warmup", f64::from(default.warmup_steps))? as u32,
        weight_decay: number("decay", default.weight_decay)?,
        rows_at_once: number("rows", default.rows_at_once as f64)? as usize,
        heldout_every: number("every", f64::from(default.heldout_every))? as u32,
        patience: None,
        seed: number("seed", 0.0)? as u64,
        threads: number("threads", 0.0)? as usize,
        recompute: number("recompute", 0.0)? != 0.0,
        ..default
    })
}

#[derive(Deserialize)]
struct Story {
    prompt: String,
    #[serde(default)]
    genres: BTreeMap<String, f64>,
    #[serde(default)]
    style: String,
    story: String,
}

/// Stories in the format of the built-in base: `<|genre|>fantasy 7<|style|>twist<|prompt|>…<|story|>…<|end|>`.
fn read_stories(dir: &Path, tokenizer: &Tokenizer, tags: bool, lower: bool) -> Result<Vec<Example>, Box<dyn Error>> {
    let mut files: Vec<_> = fs::read_dir(dir)?.collect::<Result<Vec<_>, _>>()?.into_iter().map(|entry| entry.path()).collect();
    files.sort();
    let end = tokenizer.special("<|end|>").ok_or("the base has no <|end|>")?;
    let mut examples = Vec::new();
    for file in files.iter().filter(|file| file.extension().is_some_and(|e| e == "jsonl")) {
        for line in fs::read_to_string(file)?.lines() {
            let mut story: Story = serde_json::from_str(line)?;
            if !tags {
                story.genres.clear();
                story.style.clear();
            }
            let mut tenths: Vec<(&String, i64)> = story.genres.iter().map(|(g, w)| (g, (10.0 * w).round() as i64)).collect();
            tenths.sort_by_key(|(_, weight)| -weight);
            let genres = tenths.iter().filter(|(_, w)| *w > 0).map(|(g, w)| format!("{g} {w}")).collect::<Vec<_>>().join(", ");
            let genres = if genres.is_empty() { "any".to_owned() } else { genres };
            let prompt = format!("<|genre|>{genres}<|style|>{}<|prompt|>{}<|story|>", story.style, story.prompt);
            if lower {
                story.story = story.story.to_lowercase();
            }
            let mut answer = tokenizer.encode(&story.story);
            answer.push(end);
            examples.push(Example { prompt: tokenizer.encode(&prompt), answer, weight: 1.0 });
        }
    }
    Ok(examples)
}

struct Printer;

impl Observer for Printer {
    fn phase(&mut self, phase: domain::Phase) {
        println!("{phase:?}");
    }

    fn metric(&mut self, metric: domain::Metric) {
        if let Some(heldout) = metric.heldout_loss {
            println!(
                "step {:4}  loss {:.4}  held-out {heldout:.4}  lr {:.4}  {:.0} s left",
                metric.step, metric.loss, metric.lr, metric.eta_s
            );
        }
    }

    fn checkpoint(&mut self, _step: u32, _path: &Path) {}
}

/// High-water mark of resident memory, from /proc.
fn peak_memory_mb() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix("kB")?.trim().parse::<f64>().ok());
    peak.unwrap_or(f64::NAN) / 1024.0
}
