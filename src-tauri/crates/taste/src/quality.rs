//! The quality score: the known heuristic and our named deductions.

use crate::lexicon::{DESCRIPTIVE, DETERMINER, NOT_AFTER_DETERMINER, SENSE, lists};
use crate::reading::{Reading, invisible};
use crate::{diversity, genre, relevance};
use domain::{FinishReason, GenreMix, QualityPart, Style};
use std::collections::HashSet;

/// What the quality of a candidate depends on.
pub struct QualityInput<'a> {
    pub prompt: &'a str,
    pub text: &'a str,
    pub finish: FinishReason,
    /// Mean log-probability a token under the plain base in nats, where known.
    pub mean_logprob: Option<f64>,
    pub genres: &'a GenreMix,
    pub style: Option<Style>,
    /// Texts that this one must not repeat: the other candidates, the examples there are already.
    pub others: &'a [&'a str],
}

/// A score from 0 to 10 and why.
#[derive(Debug, Clone, PartialEq)]
pub struct Quality {
    pub score: f64,
    /// The base and every rule that fired; the score is their sum, held within 0–10.
    pub parts: Vec<QualityPart>,
}

/// The quality from which a text is kept as an example.
pub const GOOD_ENOUGH: f64 = 7.0;

/// Scores a text by the rules of LEARNING.md ("Quality, 0–10"): base 7.0 and four bonuses, kept from an earlier
/// program, then what that lacked: deductions, each named. One serious fault takes more than all bonuses (2.3) give,
/// so it alone puts a text below [`GOOD_ENOUGH`].
pub fn quality(input: &QualityInput) -> Quality {
    let reading = Reading::new(input.text);
    let mut parts = vec![part("base", 7.0)];
    if reading.words.is_empty() {
        parts.push(part("no words", -7.0));
        return Quality { score: 0.0, parts };
    }
    let bonuses = [
        ("good length", if (200..=800).contains(&reading.characters) { 1.0 } else { 0.0 }),
        ("three or more sentences", if reading.sentences.len() >= 3 { 0.5 } else { 0.0 }),
        ("description", if count(&reading, DESCRIPTIVE | SENSE) >= 2 { 0.5 } else { 0.0 }),
        ("dialogue", if reading.has_quotes && reading.words.iter().any(|word| word.spoken) { 0.3 } else { 0.0 }),
    ];
    let deductions = [
        ("very short", too_short(&reading)),
        ("repetition", repeated(&reading)),
        ("cut-off ending", cut_off(&reading, input.finish)),
        ("broken characters", broken_characters(input.text)),
        ("broken words", broken_words(&reading)),
        ("broken grammar", broken_grammar(&reading)),
        ("copies the prompt", copied(input.prompt, &reading)),
        ("off the prompt", off_prompt(input.prompt, &reading)),
        ("off the genre", off_genre(input.genres, &reading)),
        ("hardly any dialogue", if input.style == Some(Style::Dialogue) && !reading.has_quotes { 0.5 } else { 0.0 }),
        ("near-duplicate", near_duplicate(&reading, input.others)),
        ("unlikely under the base", unlikely(input.mean_logprob)),
    ];
    let fired = bonuses.into_iter().chain(deductions.map(|(rule, points)| (rule, -points))).filter(|(_, points)| *points != 0.0);
    parts.extend(fired.map(|(rule, points)| part(rule, points)));
    let score = parts.iter().map(|part| part.points).sum::<f64>().clamp(0.0, 10.0);
    Quality { score: round(score), parts }
}

fn part(rule: &str, points: f64) -> QualityPart {
    QualityPart { rule: rule.to_owned(), points: round(points) }
}

/// To hundredths, as shown; what is shown must add up to the score.
fn round(points: f64) -> f64 {
    (points * 100.0).round() / 100.0
}

fn count(reading: &Reading, list: crate::lexicon::Lists) -> usize {
    reading.iter().filter(|word| lists(word) & list != 0).count()
}

/// Rises from 0 at `from` to `most` at `to`.
fn ramp(value: f64, from: f64, to: f64, most: f64) -> f64 {
    if value.is_nan() { 0.0 } else { ((value - from) / (to - from)).clamp(0.0, 1.0) * most }
}

fn too_short(reading: &Reading) -> f64 {
    ramp(-(reading.words.len() as f64), -30.0, -10.0, 3.0)
}

/// Of 400 stories 99 in a hundred repeat at most 2.1% of their 4-grams (a refrain); a loop repeats most.
fn repeated(reading: &Reading) -> f64 {
    ramp(diversity::repeated_4_grams(reading), 0.04, 0.2, 5.0)
}

fn cut_off(reading: &Reading, finish: FinishReason) -> f64 {
    match (reading.ends_properly(), finish) {
        (true, FinishReason::End) => 0.0,
        // Stopped by the limit at the end of a sentence: it reads well but may lack its end.
        (true, _) => 0.5,
        (false, _) => 2.6,
    }
}

/// Replacement and control characters, markup of models, and letters of scripts that do not mix in one story.
fn broken_characters(text: &str) -> f64 {
    let mut letters = [0usize; 2];
    let mut broken = 0usize;
    for c in text.chars() {
        match c {
            '\n' | '\t' | '\r' => {}
            '\u{fffd}' => broken += 2,
            _ if c.is_control() => broken += 1,
            '\u{e000}'..='\u{f8ff}' => broken += 1,
            _ if invisible(c) => broken += 1,
            _ if c.is_ascii_alphabetic() || matches!(c, '\u{c0}'..='\u{24f}') => letters[0] += 1,
            _ if c.is_alphabetic() => letters[1] += 1,
            _ => {}
        }
    }
    broken += 2 * ["<|", "|>", "</", "Ã", "â€", "```", "&nbsp;"].iter().map(|mark| text.matches(mark).count()).sum::<usize>();
    // Several letters of another script amid Latin prose are the base's byte noise, not a name in its own letters.
    if letters[0] > 10 * letters[1] && letters[1] > 2 {
        broken += letters[1] / 2;
    }
    ramp(broken as f64, 0.0, 4.0, 4.0)
}

/// Words that no English word looks like: no vowel, digits within letters, the same letter thrice, too many consonants.
fn broken_words(reading: &Reading) -> f64 {
    let odd = reading.iter().filter(|word| looks_broken(word)).count() as f64;
    ramp(odd / reading.words.len() as f64, 0.015, 0.08, 4.0)
}

fn looks_broken(word: &str) -> bool {
    let bytes = word.as_bytes();
    if !word.is_ascii() || bytes.len() < 2 || bytes.iter().all(u8::is_ascii_digit) {
        return false;
    }
    let vowel = |byte: &u8| matches!(byte, b'a' | b'e' | b'i' | b'o' | b'u' | b'y');
    let run = bytes.iter().fold((0, 0), |(run, most), byte| {
        let run = if vowel(byte) || !byte.is_ascii_alphabetic() { 0 } else { run + 1 };
        (run, most.max(run))
    });
    let no_vowel =
        !bytes.iter().any(vowel) && bytes.len() > 2 && !matches!(word, "mrs" | "hmm" | "shh" | "psst" | "brr" | "tsk" | "pfft" | "hmph");
    let mixed = bytes.iter().any(u8::is_ascii_digit) && bytes.iter().filter(|byte| byte.is_ascii_alphabetic()).count() > 2;
    let thrice = bytes.windows(4).any(|four| four.iter().all(|byte| *byte == four[0]));
    no_vowel || mixed || thrice || run.1 >= 5 || bytes.len() > 20
}

/// Pairs that grammar forbids ("the of", "a was") and the same little word twice; shuffled words are full of them.
fn broken_grammar(reading: &Reading) -> f64 {
    let mut faults = 0usize;
    let mut last: Option<(&str, crate::lexicon::Lists)> = None;
    let mut sentence_starts = reading.sentences.iter().map(|sentence| sentence.first).peekable();
    for at in 0..reading.words.len() {
        let word = reading.word(at);
        let lists = lists(word);
        if sentence_starts.next_if_eq(&at).is_some() || (at > 0 && reading.words[at].spoken != reading.words[at - 1].spoken) {
            last = None;
        }
        if let Some((before, before_lists)) = last {
            let forbidden = before_lists & DETERMINER != 0 && lists & NOT_AFTER_DETERMINER != 0 && !(before == "her" || before == "his");
            let doubled =
                before == word && matches!(word, "the" | "a" | "an" | "of" | "and" | "to" | "was" | "is" | "in" | "with" | "he" | "she");
            faults += usize::from(forbidden || doubled);
        }
        last = Some((word, lists));
    }
    ramp(faults as f64 / reading.words.len() as f64, 0.012, 0.04, 4.0)
}

/// Share of the text that is the prompt over again, by runs of five words; a story may open with it once.
fn copied(prompt: &str, reading: &Reading) -> f64 {
    const RUN: usize = 5;
    let prompt = Reading::new(prompt);
    let asked: Vec<&str> = prompt.iter().collect();
    let words: Vec<&str> = reading.iter().collect();
    let run = RUN.min(asked.len());
    if run < 3 || words.len() < run {
        return 0.0;
    }
    let runs: HashSet<&[&str]> = asked.windows(run).collect();
    let mut covered = vec![false; words.len()];
    for (at, window) in words.windows(run).enumerate() {
        if runs.contains(window) {
            covered[at..at + run].fill(true);
        }
    }
    let copied = covered.iter().filter(|covered| **covered).count();
    let allowed = (asked.len() as f64 / words.len() as f64).min(0.15);
    ramp(copied as f64 / words.len() as f64, allowed, allowed + 0.15, 4.0)
}

/// Fires only when nothing of a prompt with content came back; a synonym or two must not cost a good story its place.
fn off_prompt(prompt: &str, reading: &Reading) -> f64 {
    match relevance::found_and_wanted(&Reading::new(prompt), reading) {
        (found, wanted) if wanted > 0.5 => ramp(-(found / wanted), -0.12, 0.0, 2.6),
        _ => 0.0,
    }
}

fn off_genre(genres: &GenreMix, reading: &Reading) -> f64 {
    ramp(-genre::fit(genres, reading), -0.05, 0.0, 0.8)
}

/// Share of word triples that stand in one of the others too.
fn near_duplicate(reading: &Reading, others: &[&str]) -> f64 {
    let words: Vec<&str> = reading.iter().collect();
    if words.len() < 3 {
        return 0.0;
    }
    let own: HashSet<&[&str]> = words.windows(3).collect();
    let shared = others.iter().map(|other| {
        let other = Reading::new(other);
        let words: Vec<&str> = other.iter().collect();
        let theirs: HashSet<&[&str]> = words.windows(3).collect();
        own.intersection(&theirs).count() as f64 / own.len() as f64
    });
    ramp(shared.fold(0.0, f64::max), 0.3, 0.7, 4.0)
}

/// Ordinary text has −2.7…−1.5 nats a token under the built-in base; under −3.5 even odd but good stories are rare.
fn unlikely(mean_logprob: Option<f64>) -> f64 {
    mean_logprob.map_or(0.0, |mean| ramp(-mean, 3.4, 4.6, 4.0))
}
