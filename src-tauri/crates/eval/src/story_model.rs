//! How well a story model writes, on prompts that it was not trained on: the measures of `inkling-eval model`.

use crate::estimate::Estimate;
use crate::oracle::Seen;
use crate::text_figures::repeated_4_grams;
use crate::{EvalError, Random};
use domain::{FinishReason, Genre, GenreMix, Settings, Style};
use model::{Generate, LanguageModel, LoadOptions, MemberSpec, Precision, Sampler, StoryFormat};
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::atomic::AtomicBool;

/// Stories that were kept from training, by prompt; `src-tauri/crates/model/story-model/heldout.py` writes them and the classifier.
const STORIES: &str = include_str!("../heldout/stories.jsonl");
const GENRE_WORDS: &str = include_str!("../heldout/genre_words.json");

/// Longest text in tokens: the longest held-out story has 287.
const LENGTH: usize = 320;

/// What a text with and without a style is compared by.
const STYLES: [(Style, Trait, Direction); 3] = [
    (Style::Dialogue, Trait::Spoken, Direction::Up),
    (Style::Fast, Trait::SentenceLength, Direction::Down),
    (Style::Atmospheric, Trait::Spoken, Direction::Down),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Trait {
    /// Share of characters between quotes.
    Spoken,
    /// Words of a sentence.
    SentenceLength,
}

impl Trait {
    fn of(self, text: &str) -> f64 {
        match self {
            Self::Spoken => Seen::new(text).spoken(),
            Self::SentenceLength => Seen::new(text).sentence_length(),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    Up,
    Down,
}

/// A story whose prompt was kept from training.
#[derive(Debug, Clone, Deserialize)]
pub struct HeldOut {
    pub prompt: String,
    pub genres: GenreMix,
    pub style: Option<Style>,
    /// The prompt's nouns and names, lower-case.
    pub nouns: Vec<String>,
    pub story: String,
}

impl HeldOut {
    /// # Errors
    /// `Pool` when a line is no held-out story.
    pub fn all() -> Result<Vec<Self>, EvalError> {
        let lines = STORIES.lines().map(serde_json::from_str).collect::<Result<_, _>>();
        lines.map_err(|error| EvalError::Pool(format!("held-out stories: {error}")))
    }

    fn header(&self, style: Option<Style>) -> String {
        StoryFormat::prompt_text(&self.genres, style, &self.prompt)
    }
}

/// Tells a text's genre by its words; has seen neither the model's texts nor the held-out stories.
#[derive(Debug, Deserialize)]
pub struct GenreClassifier {
    genres: Vec<Genre>,
    words: HashMap<String, Vec<i32>>,
}

impl GenreClassifier {
    /// # Errors
    /// `Pool` when its file is damaged.
    pub fn load() -> Result<Self, EvalError> {
        serde_json::from_str(GENRE_WORDS).map_err(|error| EvalError::Pool(format!("genre words: {error}")))
    }

    pub fn genre(&self, text: &str) -> Option<Genre> {
        let lower = text.to_lowercase();
        // As scikit-learn split the training texts: ASCII letters and apostrophes.
        let words: HashSet<&str> = lower.split(|c: char| !(c.is_ascii_lowercase() || c == '\'')).collect();
        let mut sums = vec![0; self.genres.len()];
        for weights in words.iter().filter_map(|word| self.words.get(*word)) {
            sums.iter_mut().zip(weights).for_each(|(sum, weight)| *sum += weight);
        }
        (0..sums.len()).max_by_key(|at| (sums[*at], std::cmp::Reverse(*at))).map(|at| self.genres[at])
    }
}

/// A word as it is compared: without its plural or possessive ending.
fn stem(word: &str) -> String {
    let word = word.strip_suffix("'s").unwrap_or(word);
    if let Some(start) = word.strip_suffix("ies").filter(|start| start.len() > 1) {
        return format!("{start}y");
    }
    let es = ["ches", "shes", "sses", "xes"].iter().any(|ending| word.ends_with(ending));
    let cut = if es { 2 } else { usize::from(word.ends_with('s') && !word.ends_with("ss") && word.len() > 3) };
    word[..word.len() - cut].to_owned()
}

/// Share of a prompt's nouns that stand in a text; `None` when the prompt has none.
pub fn nouns_used(nouns: &[String], text: &str) -> Option<f64> {
    let seen: HashSet<String> = Seen::new(text).words.iter().map(|word| stem(word)).collect();
    let used = nouns.iter().filter(|noun| seen.contains(&stem(noun))).count();
    (!nouns.is_empty()).then(|| used as f64 / nouns.len() as f64)
}

/// Whether a text that the model ended itself also ends like a story.
fn ends_like_a_story(text: &str) -> bool {
    text.trim_end_matches(['"', '\'', '*', ')', '”', '’', ' ', '\n']).ends_with(['.', '!', '?', '…'])
}

/// What a style changed: the mean trait of texts with and without it, for the same prompts.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct StyleMove {
    pub style: Style,
    pub compared_by: Trait,
    pub wanted: Direction,
    pub with: f64,
    pub without: f64,
}

impl StyleMove {
    pub fn is_right(&self) -> bool {
        match self.wanted {
            Direction::Up => self.with > self.without,
            Direction::Down => self.with < self.without,
        }
    }
}

/// What can be measured on texts alone, of a model or of the held-out stories themselves.
#[derive(Debug, Clone, Serialize)]
pub struct TextMeasures {
    pub texts: usize,
    pub ends_properly: Estimate,
    pub nouns_used: Estimate,
    pub repeated_4_grams: f64,
    pub genre_agreement: Estimate,
    pub words: f64,
    pub styles: Vec<StyleMove>,
}

/// Perplexity a token of the held-out stories, endings included, by how weights are packed.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Perplexity {
    pub f32: f64,
    pub int8: f64,
    pub int4: f64,
}

#[derive(Debug, Clone, Serialize)]
pub struct Measures {
    pub folder: String,
    pub written: TextMeasures,
    /// Nats a character of the held-out stories, given genres, style and prompt; f32 weights.
    pub loss_per_character: f64,
    pub perplexity: Perplexity,
    pub samples: Vec<Sample>,
}

#[derive(Debug, Clone, Serialize)]
pub struct Sample {
    pub prompt: String,
    pub genres: GenreMix,
    pub style: Option<Style>,
    pub ended: bool,
    pub text: String,
}

/// Measures the held-out stories themselves, as a yardstick.
///
/// # Errors
/// `Pool` when the held-out files are damaged.
pub fn of_stories() -> Result<TextMeasures, EvalError> {
    let stories = HeldOut::all()?;
    let with = |style: Option<Style>| stories.iter().filter(move |one| one.style == style).map(|one| one.story.as_str());
    let styles = STYLES.map(|(style, compared_by, wanted)| StyleMove {
        style,
        compared_by,
        wanted,
        with: mean(with(Some(style)).map(|text| compared_by.of(text))),
        without: mean(with(None).map(|text| compared_by.of(text))),
    });
    let texts: Vec<(usize, bool, String)> = stories.iter().enumerate().map(|(at, one)| (at, true, one.story.clone())).collect();
    text_measures(&stories, &texts, styles.to_vec())
}

/// Measures the model in a folder on `prompts` of the held-out prompts, `samples` texts each, sampled as the app does unless told
/// otherwise by these settings.
///
/// # Errors
/// What reading the model or writing with it reports.
pub fn of_model(folder: &Path, prompts: usize, samples: usize, settings: &Settings) -> Result<Measures, EvalError> {
    let stories = HeldOut::all()?;
    let load = |precision| LanguageModel::load(folder, &LoadOptions { precision, ..LoadOptions::new(2) });
    // Held-out stories are ordered by genre: every so many of them are of all genres.
    let prompts = prompts.clamp(1, stories.len());
    let chosen: Vec<usize> = (0..prompts).map(|at| at * stories.len() / prompts).collect();
    let model = load(Precision::Int8)?;
    let mut texts = Vec::new();
    let mut shown = Vec::new();
    for at in &chosen {
        let story = &stories[*at];
        for (ended, text) in write(&model, story, story.style, samples, *at, settings)? {
            let (prompt, genres) = (story.prompt.clone(), story.genres.clone());
            shown.push(Sample { prompt, genres, style: story.style, ended, text: text.clone() });
            texts.push((*at, ended, text));
        }
    }
    let one_each = |style: Option<Style>| -> Result<Vec<String>, EvalError> {
        let mut all = Vec::new();
        for at in &chosen {
            all.extend(write(&model, &stories[*at], style, 1, *at, settings)?.into_iter().map(|(_, text)| text));
        }
        Ok(all)
    };
    let plain = one_each(None)?;
    let mut styles = Vec::new();
    for (style, compared_by, wanted) in STYLES {
        let styled = one_each(Some(style))?;
        let of = |texts: &[String]| mean(texts.iter().map(|text| compared_by.of(text)));
        styles.push(StyleMove { style, compared_by, wanted, with: of(&styled), without: of(&plain) });
    }
    let (loss_per_character, f32) = held_out_loss(&load(Precision::F32)?, &stories)?;
    let perplexity =
        Perplexity { f32, int8: held_out_loss(&model, &stories)?.1, int4: held_out_loss(&load(Precision::Int4)?, &stories)?.1 };
    let written = text_measures(&stories, &texts, styles)?;
    Ok(Measures { folder: folder.display().to_string(), written, loss_per_character, perplexity, samples: shown })
}

/// Texts for a prompt, and whether the model ended each itself.
fn write(
    model: &LanguageModel,
    story: &HeldOut,
    style: Option<Style>,
    samples: usize,
    seed: usize,
    settings: &Settings,
) -> Result<Vec<(bool, String)>, EvalError> {
    let mut random = Random::for_purpose("story model", seed as u64);
    let request = Generate {
        prompt: model.tokenizer().encode(&story.header(style)),
        written: 0,
        members: (0..samples).map(|_| MemberSpec::plain(Sampler::of(settings, random.draw()))).collect(),
        max_tokens: LENGTH,
        stop: StoryFormat::stop(model.tokenizer()),
        stop_texts: Vec::new(),
        guidance: StoryFormat::guidance(model.tokenizer(), (&story.genres, style, &story.prompt), &[], settings),
    };
    let completions = model.generate(&request, &AtomicBool::new(false), &mut |_| {})?;
    Ok(completions.into_iter().map(|one| (one.finish == FinishReason::End, one.text.trim().to_owned())).collect())
}

/// Nats a character and perplexity a token of the held-out stories.
fn held_out_loss(model: &LanguageModel, stories: &[HeldOut]) -> Result<(f64, f64), EvalError> {
    let end = model.tokenizer().special(StoryFormat::END);
    let (mut nats, mut characters, mut tokens) = (0.0, 0, 0);
    for story in stories {
        let header = model.tokenizer().encode(&story.header(story.style));
        let mut text = model.tokenizer().encode(&StoryFormat::plain(&story.story));
        text.extend(end);
        nats -= model.score(None, &header, &text)?.iter().map(|value| f64::from(*value)).sum::<f64>();
        characters += story.story.chars().count();
        tokens += text.len();
    }
    Ok((nats / characters as f64, (nats / tokens as f64).exp()))
}

/// `texts`: the story each is for, whether it was ended, and the text.
fn text_measures(stories: &[HeldOut], texts: &[(usize, bool, String)], styles: Vec<StyleMove>) -> Result<TextMeasures, EvalError> {
    let classifier = GenreClassifier::load()?;
    let agrees = |at: usize, text: &str| f64::from(u8::from(classifier.genre(text) == stories[at].genres.top()));
    let proper: Vec<bool> = texts.iter().map(|(_, ended, text)| *ended && ends_like_a_story(text)).collect();
    let ended = proper.iter().filter(|one| **one).count();
    // Resampled by prompt: samples for one prompt are no independent ones.
    let by_prompt = |value: &dyn Fn(usize, &str) -> Option<f64>| -> Vec<f64> {
        let mut groups: Vec<(usize, Vec<f64>)> = Vec::new();
        for (at, _, text) in texts {
            let Some(value) = value(*at, text) else { continue };
            match groups.last_mut() {
                Some((last, values)) if last == at => values.push(value),
                _ => groups.push((*at, vec![value])),
            }
        }
        groups.into_iter().map(|(_, values)| mean(values.into_iter())).collect()
    };
    let all: Vec<String> = texts.iter().map(|(_, _, text)| text.clone()).collect();
    Ok(TextMeasures {
        texts: texts.len(),
        ends_properly: Estimate::rate(ended as f64, texts.len() as f64),
        nouns_used: Estimate::bootstrap(&by_prompt(&|at, text| nouns_used(&stories[at].nouns, text))),
        repeated_4_grams: repeated_4_grams(&all) - 0.001,
        genre_agreement: Estimate::bootstrap(&by_prompt(&|at, text| Some(agrees(at, text)))),
        words: mean(all.iter().map(|text| Seen::new(text).words.len() as f64)),
        styles,
    })
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (mut sum, mut count) = (0.0, 0);
    for value in values {
        sum += value;
        count += 1;
    }
    sum / f64::from(count.max(1))
}

/// A table: a column for the held-out stories and one for each model, with the targets.
pub fn table(stories: &TextMeasures, models: &[Measures]) -> String {
    let names: Vec<String> = models.iter().map(|one| one.folder.clone()).collect();
    let mut text =
        format!("| measure | target | held-out stories | {} |\n|---|---|---|{}\n", names.join(" | "), "---|".repeat(models.len()));
    let mut row = |what: &str, target: &str, reference: String, of: &dyn Fn(&Measures) -> String| {
        let cells: Vec<String> = models.iter().map(of).collect();
        text.push_str(&format!("| {what} | {target} | {reference} | {} |\n", cells.join(" | ")));
    };
    row("texts", "", stories.texts.to_string(), &|one| one.written.texts.to_string());
    row("ends properly", "≥ 0.95", stories.ends_properly.to_string(), &|one| one.written.ends_properly.to_string());
    row("prompt's nouns used", "≥ 0.70", stories.nouns_used.to_string(), &|one| one.written.nouns_used.to_string());
    let most = format!("≤ {:.4}", 1.3 * stories.repeated_4_grams);
    let repeated = |one: &TextMeasures| format!("{:.4}", one.repeated_4_grams);
    row("repeated 4-grams", &most, repeated(stories), &|one| repeated(&one.written));
    row("classifier agrees with the top genre", "≥ 0.70", stories.genre_agreement.to_string(), &|one| {
        one.written.genre_agreement.to_string()
    });
    row("words a text", "", format!("{:.0}", stories.words), &|one| format!("{:.0}", one.written.words));
    for (at, reference) in stories.styles.iter().enumerate() {
        let (what, target) = match (reference.compared_by, reference.wanted) {
            (Trait::Spoken, Direction::Up) => ("share spoken", "more"),
            (Trait::Spoken, Direction::Down) => ("share spoken", "less"),
            (Trait::SentenceLength, Direction::Up) => ("words a sentence", "more"),
            (Trait::SentenceLength, Direction::Down) => ("words a sentence", "fewer"),
        };
        let cell = |one: &StyleMove| {
            let verdict = if one.is_right() { "" } else { " **no**" };
            match one.compared_by {
                Trait::Spoken => format!("{:.3} against {:.3}{verdict}", one.with, one.without),
                Trait::SentenceLength => format!("{:.1} against {:.1}{verdict}", one.with, one.without),
            }
        };
        row(&format!("{what}, {} against no style", reference.style.name()), target, cell(reference), &|one| cell(&one.written.styles[at]));
    }
    row("held-out loss, nats a character", "", "–".to_owned(), &|one| format!("{:.4}", one.loss_per_character));
    row("perplexity a token, f32", "", "–".to_owned(), &|one| format!("{:.3}", one.perplexity.f32));
    let more = |packed: f64, one: &Measures| format!("{packed:.3} ({:+.2}%)", 100.0 * (packed / one.perplexity.f32 - 1.0));
    row("perplexity a token, int8", "≤ +0.5%", "–".to_owned(), &|one| more(one.perplexity.int8, one));
    row("perplexity a token, int4", "≤ +4%", "–".to_owned(), &|one| more(one.perplexity.int4, one));
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_prompts_noun_counts_in_any_number_and_as_an_owner_but_not_inside_another_word() {
        let nouns = ["foxes".to_owned(), "lady".to_owned(), "map".to_owned(), "glass".to_owned()];
        assert_eq!(nouns_used(&nouns, "The fox's den. Two ladies saw the maps. Glass broke."), Some(1.0));
        assert_eq!(nouns_used(&nouns, "He was outfoxed by a mapmaker. It was glassy."), Some(0.0));
        assert_eq!(nouns_used(&[], "A text."), None);
    }

    #[test]
    fn a_text_ends_properly_after_a_stop_that_may_stand_in_quotes() {
        assert!(["He went home.", "\"Never!\"", "\"Who knows?\" ", "He laughed. (So did she.)"].into_iter().all(ends_like_a_story));
        assert!(!["He went", "He went,", "\"Never", ""].into_iter().any(ends_like_a_story));
    }

    #[test]
    fn every_prompt_that_measures_is_one_that_training_leaves_out() {
        let stories = HeldOut::all().unwrap();
        assert_eq!(stories.len(), 244, "as `src-tauri/crates/model/story-model/heldout.py` said");
        for story in &stories {
            // The rule of `src-tauri/crates/model/story-model/prepare.py`, which its check.py asserts on the token rows themselves.
            let mut crc = flate2::Crc::new();
            crc.update(story.prompt.to_lowercase().as_bytes());
            assert_eq!(crc.sum() % 25, 0, "{}", story.prompt);
        }
    }

    #[test]
    fn the_classifier_agrees_with_held_out_stories_as_often_as_its_file_says() {
        #[derive(Deserialize)]
        struct Said {
            agreement_with_held_out_stories: f64,
        }
        let said: Said = serde_json::from_str(GENRE_WORDS).unwrap();
        let reached = of_stories().unwrap().genre_agreement.mean;
        // The file keeps hundredths of the weights, which moves a few close calls.
        assert!((reached - said.agreement_with_held_out_stories).abs() < 0.02, "{reached} is not {}", said.agreement_with_held_out_stories);
        assert!(reached > 0.4, "chance is one in eight");
    }

    #[test]
    fn the_held_out_stories_show_what_the_measures_look_for() {
        let stories = of_stories().unwrap();
        assert!(stories.ends_properly.mean > 0.98 && stories.nouns_used.mean > 0.7, "{stories:?}");
        assert!(stories.styles.iter().all(StyleMove::is_right), "{:?}", stories.styles);
    }
}
