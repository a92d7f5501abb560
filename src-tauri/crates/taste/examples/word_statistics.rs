//! Makes the measured files of `assets/words` from the stories that the built-in model learns from.
//!
//! `cargo run --release -p inkling-taste --example word_statistics -- STORIES_FOLDER`
//!
//! Writes `style.json` (mean and standard deviation of each style feature), `rarity.json` (how rare a stem is) and
//! `genres.json` (log-odds of stems under each genre), and the stories that the tests read (`tests/taste/fixtures/stories.jsonl`).
//! One prompt in ten is held out of the genre words; the fixture is taken from those, and the accuracy on them is printed.
//! Needs no network; the same folder gives the same bytes.

use domain::Genre;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Stems kept in `genres.json`, the most telling; they keep the file under 150 KB.
const GENRE_STEMS: usize = 4000;
const SCALE: f64 = 30.0;
/// Divides naive Bayes' log-odds, which take words for independent.
const NAIVE: f64 = 3.0;
const EPOCHS: u32 = 8;
const PENALTY: f64 = 0.1;
const FIXTURE: usize = 400;

struct Story {
    prompt: String,
    text: String,
    genres: Vec<f64>,
    stems: BTreeSet<String>,
    line: Value,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::args().nth(1).ok_or("give the folder of stories")?;
    let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let words = crate_folder.join("../../../assets/words");
    let stories = read_stories(Path::new(&folder))?;
    let source = format!("{} stories, examples/word_statistics.rs", stories.len());
    println!("{source}");
    write(&words.join("style.json"), &style_json(&stories, &source))?;
    write(&words.join("rarity.json"), &rarity_json(&stories, &source))?;
    let (held, learned): (Vec<Story>, Vec<Story>) = stories.into_iter().partition(|story| is_held_out(&story.prompt));
    let model = GenreModel::new(&learned);
    model.report(&held);
    write(&words.join("genres.json"), &model.json(&source))?;
    // Evenly over the held-out stories, which stand in order of their folders.
    let step = held.len() as f64 / FIXTURE.min(held.len()) as f64;
    let lines: Vec<String> = (0..FIXTURE.min(held.len())).map(|at| held[(at as f64 * step) as usize].line.to_string()).collect();
    write(&crate_folder.join("tests/taste/fixtures/stories.jsonl"), &format!("{}\n", lines.join("\n")))?;
    Ok(())
}

fn write(path: &Path, text: &str) -> std::io::Result<()> {
    println!("{}: {} bytes", path.display(), text.len());
    std::fs::write(path, text)
}

fn read_stories(folder: &Path) -> Result<Vec<Story>, Box<dyn std::error::Error>> {
    let mut files: Vec<PathBuf> = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            for file in std::fs::read_dir(path)? {
                files.push(file?.path());
            }
        }
    }
    files.retain(|file| file.extension().is_some_and(|ending| ending == "jsonl"));
    files.sort();
    let mut stories = Vec::new();
    for file in files {
        for line in std::fs::read_to_string(&file)?.lines().filter(|line| !line.trim().is_empty()) {
            let line: Value = serde_json::from_str(line)?;
            let text = line["story"].as_str().unwrap_or_default().to_owned();
            stories.push(Story {
                prompt: line["prompt"].as_str().unwrap_or_default().to_owned(),
                genres: Genre::ALL.iter().map(|genre| line["genres"][genre.name()].as_f64().unwrap_or(0.0)).collect(),
                stems: taste::content_stems(&text).into_iter().collect(),
                text,
                line,
            });
        }
    }
    Ok(stories)
}

/// Stable as stories are added, and the same for all stories of a prompt (FNV-1a).
fn is_held_out(prompt: &str) -> bool {
    let hash =
        prompt.to_lowercase().bytes().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    (hash >> 20).is_multiple_of(10)
}

fn style_json(stories: &[Story], source: &str) -> String {
    let raw: Vec<_> = stories.iter().map(|story| taste::raw_style(&story.text)).collect();
    let n = raw.len() as f64;
    let mut lines = Vec::new();
    for (at, feature) in taste::STYLE_FEATURES.iter().enumerate() {
        let mean = raw.iter().map(|one| one[at]).sum::<f64>() / n;
        let sd = (raw.iter().map(|one| (one[at] - mean).powi(2)).sum::<f64>() / (n - 1.0)).sqrt();
        println!("{:16} mean {mean:8.4} sd {sd:8.4}", feature.name);
        lines.push(format!("    {}: [{mean:.5}, {sd:.5}]", json!(feature.name)));
    }
    format!("{{\n  \"source\": {},\n  \"features\": {{\n{}\n  }}\n}}\n", json!(source), lines.join(",\n"))
}

/// log(share of stories with the stem) over log(one in a hundred), 0–1; the rest count as 1 and are left out.
fn rarity_json(stories: &[Story], source: &str) -> String {
    let mut texts: BTreeMap<&str, usize> = BTreeMap::new();
    for stem in stories.iter().flat_map(|story| &story.stems) {
        *texts.entry(stem).or_default() += 1;
    }
    let share = |count: usize| count as f64 / stories.len() as f64;
    let common = texts.iter().filter(|(_, count)| share(**count) > 0.01);
    let lines: Vec<String> = common.map(|(stem, count)| format!("{}:{:.2}", json!(stem), share(*count).ln() / 0.01f64.ln())).collect();
    format!("{{\n\"source\": {},\n\"rarity\": {{\n{}\n}}\n}}\n", json!(source), lines.join(",\n"))
}

/// Softmax regression on the presence of stems, started at naive Bayes; soft labels: a mixed story counts for its genres
/// by their weights. Naive Bayes alone reached 0.52 on the held-out stories.
struct GenreModel {
    prior: Vec<f64>,
    words: BTreeMap<String, Vec<f64>>,
}

impl GenreModel {
    fn new(stories: &[Story]) -> Self {
        let mut model = Self::naive_bayes(stories);
        model.refine(stories);
        model
    }

    fn naive_bayes(stories: &[Story]) -> Self {
        const SMOOTHING: f64 = 3.0;
        let mut stories_of = vec![0.0; Genre::ALL.len()];
        let mut counts: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
        for story in stories {
            stories_of.iter_mut().zip(&story.genres).for_each(|(sum, weight)| *sum += weight);
            for stem in &story.stems {
                let of = counts.entry(stem).or_insert_with(|| vec![0.0; Genre::ALL.len()]);
                of.iter_mut().zip(&story.genres).for_each(|(sum, weight)| *sum += weight);
            }
        }
        let all: f64 = stories_of.iter().sum();
        let mut scored: Vec<(f64, String, Vec<f64>)> = Vec::new();
        for (stem, of) in counts {
            let total: f64 = of.iter().sum();
            if total < 3.0 {
                continue;
            }
            // Smoothed towards the stem's rate over all genres, so that a rare stem says little.
            let rate = total / all;
            let logs: Vec<f64> =
                of.iter().zip(&stories_of).map(|(count, stories)| ((count + SMOOTHING) / (stories * rate + SMOOTHING)).ln()).collect();
            let mean = logs.iter().sum::<f64>() / logs.len() as f64;
            let spread = logs.iter().map(|log| (log - mean).powi(2)).sum::<f64>().sqrt();
            scored.push((spread * total.sqrt(), stem.to_owned(), logs.iter().map(|log| (log - mean) / NAIVE).collect()));
        }
        scored.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
        scored.truncate(GENRE_STEMS);
        let prior = stories_of.iter().map(|count| (count / all * Genre::ALL.len() as f64).ln()).collect();
        Self { prior, words: scored.into_iter().map(|(_, stem, odds)| (stem, odds)).collect() }
    }

    /// Stochastic gradient descent on cross-entropy, held to the naive Bayes weights by a quadratic penalty.
    fn refine(&mut self, stories: &[Story]) {
        let start = self.words.clone();
        for epoch in 0..EPOCHS {
            let rate = 0.01 / (1.0 + f64::from(epoch));
            // A fixed stride that shares no factor with the count visits every story once, far from its folder.
            for at in 0..stories.len() {
                let story = &stories[at * 1009 % stories.len()];
                let faults: Vec<f64> = self.probabilities(&story.stems).iter().zip(&story.genres).map(|(p, wanted)| p - wanted).collect();
                self.prior.iter_mut().zip(&faults).for_each(|(prior, fault)| *prior -= 0.02 * rate * fault);
                for stem in &story.stems {
                    let Some(odds) = self.words.get_mut(stem) else { continue };
                    for ((odds, start), fault) in odds.iter_mut().zip(&start[stem]).zip(&faults) {
                        *odds -= rate * (fault + PENALTY * (*odds - start));
                    }
                }
            }
        }
    }

    fn probabilities(&self, stems: &BTreeSet<String>) -> Vec<f64> {
        let mut sums = self.prior.clone();
        for odds in stems.iter().filter_map(|stem| self.words.get(stem)) {
            sums.iter_mut().zip(odds).for_each(|(sum, odds)| *sum += odds);
        }
        let highest = sums.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let weights: Vec<f64> = sums.iter().map(|sum| (sum - highest).exp()).collect();
        let all: f64 = weights.iter().sum();
        weights.into_iter().map(|weight| weight / all).collect()
    }

    fn mean_log_likelihood<'a>(&self, stories: impl Iterator<Item = &'a Story>) -> f64 {
        let (mut sum, mut n) = (0.0, 0.0);
        for story in stories {
            let probabilities = self.probabilities(&story.stems);
            sum += story.genres.iter().zip(probabilities).map(|(weight, p)| weight * p.max(1e-12).ln()).sum::<f64>();
            n += 1.0;
        }
        sum / n
    }

    fn report(&self, held: &[Story]) {
        let top = |weights: &[f64]| (0..weights.len()).max_by(|a, b| weights[*a].total_cmp(&weights[*b])).unwrap_or(0);
        let (mut right, mut all) = (0u32, 0u32);
        let mut by_genre = vec![(0u32, 0u32); Genre::ALL.len()];
        for story in held.iter().filter(|story| story.genres.iter().any(|weight| *weight > 0.999)) {
            let wanted = top(&story.genres);
            let hit = top(&self.probabilities(&story.stems)) == wanted;
            by_genre[wanted].0 += u32::from(hit);
            by_genre[wanted].1 += 1;
            right += u32::from(hit);
            all += 1;
        }
        println!("{} stems", self.words.len());
        println!("held-out stories of one genre: {right} of {all} right, {:.3}", f64::from(right) / f64::from(all));
        for (genre, (right, all)) in Genre::ALL.iter().zip(by_genre) {
            println!("  {:12} {right} of {all}", genre.name());
        }
        println!("mean log-likelihood {:.3} (even: {:.3})", self.mean_log_likelihood(held.iter()), (1.0 / 8.0f64).ln());
    }

    fn json(&self, source: &str) -> String {
        let genres: Vec<&str> = Genre::ALL.iter().map(|genre| genre.name()).collect();
        let prior: Vec<f64> = self.prior.iter().map(|prior| (prior * 1e4).round() / 1e4).collect();
        let line = |(stem, odds): (&String, &Vec<f64>)| {
            let odds: Vec<i16> = odds.iter().map(|odds| (odds * SCALE).round() as i16).collect();
            format!("{}:{}", json!(stem), json!(odds))
        };
        let lines: Vec<String> = self.words.iter().map(line).collect();
        format!(
            "{{\n\"source\": {},\n\"scale\": {SCALE},\n\"genres\": {},\n\"prior\": {},\n\"words\": {{\n{}\n}}\n}}\n",
            json!(source),
            json!(genres),
            json!(prior),
            lines.join(",\n")
        )
    }
}
