//! Style features: what taste can name about a text.

use crate::diversity;
use crate::lexicon::{self, ACTION, DARK, DESCRIPTIVE, FIRST_PERSON, PAST, PRESENT, SENSE, STOP, WARM, WordMap};
use crate::reading::Reading;
use crate::words::{Said, Small, Words};
use serde::Deserialize;
use std::sync::LazyLock;

/// A style feature and the words for it.
pub struct StyleFeature {
    /// The key in `preference_model.json`.
    pub name: &'static str,
    /// What a person likes who likes more of it, and what they dislike who wants less.
    pub more: &'static str,
    /// What a person likes who wants less of it; `None` when less of it has no name of its own.
    pub less: Option<&'static str>,
}

const fn feature(name: &'static str, more: &'static str, less: Option<&'static str>) -> StyleFeature {
    StyleFeature { name, more, less }
}

/// The features, in the order of [`style`]: those that most people would name, then [`DETAILS`] finer ones that taste
/// believes more slowly.
pub const STYLE_FEATURES: [StyleFeature; 25] = [
    feature("dialogue", "dialogue", None),
    feature("sentence_length", "long sentences", Some("short sentences")),
    feature("first_person", "first person", Some("third person")),
    feature("present_tense", "the present tense", Some("the past tense")),
    feature("action", "action and pace", Some("a quiet pace")),
    feature("warm_mood", "warm moods", None),
    feature("dark_mood", "dark moods", None),
    feature("ending_mood", "happy endings", Some("sad endings")),
    feature("spoken_ending", "endings on a spoken line", None),
    feature("description", "rich description", Some("plain telling")),
    feature("repetition", "echoing words", Some("varied words")),
    feature("length", "long texts", Some("short texts")),
    feature("questions", "questions", None),
    feature("exclamations", "exclamations", None),
    feature("word_length", "long words", Some("simple words")),
    feature("paragraphs", "many paragraphs", Some("few paragraphs")),
    feature("sentence_variety", "sentences of changing length", Some("even sentences")),
    feature("commas", "winding sentences", Some("straight sentences")),
    feature("she", "stories about women and girls", Some("stories about men and boys")),
    feature("names", "people called by name", Some("people without names")),
    feature("spoken_opening", "openings on a spoken line", None),
    feature("turns", "turns and surprises", Some("an even course")),
    feature("denials", "what is not", None),
    feature("rare_words", "uncommon words", Some("common words")),
    feature("variety", "many different words", Some("few words said again")),
];

/// How many of the features, the last ones, are details.
pub(crate) const DETAILS: usize = 10;

/// Number of style features.
pub const STYLE: usize = STYLE_FEATURES.len();

/// The style features of a text in standard deviations from the mean of ordinary stories, each within ±3.
///
/// Means and deviations are those of `assets/words/style.json`, measured by `examples/word_statistics.rs`.
pub fn style(text: &str) -> [f64; STYLE] {
    standardised(raw_style(text))
}

/// The style features in their own units: shares, means of logarithms, square roots of counts a hundred words.
pub fn raw_style(text: &str) -> [f64; STYLE] {
    let (reading, mut words) = (Reading::new(text), Words::default());
    let said = words.read(&reading);
    raw(&reading, &words, &said)
}

pub(crate) fn standardised(raw: [f64; STYLE]) -> [f64; STYLE] {
    let population = &*POPULATION;
    std::array::from_fn(|i| {
        let (mean, sd) = population[i];
        ((raw[i] - mean) / sd).clamp(-3.0, 3.0)
    })
}

/// Mean and standard deviation of each feature over the stories that the built-in model learned from.
static POPULATION: LazyLock<[(f64, f64); STYLE]> = LazyLock::new(|| {
    #[derive(Deserialize)]
    struct File {
        features: WordMap<String, [f64; 2]>,
    }
    let file: File =
        serde_json::from_str(include_str!("../../../../assets/words/style.json")).unwrap_or(File { features: WordMap::default() });
    std::array::from_fn(|i| match file.features.get(STYLE_FEATURES[i].name) {
        Some([mean, sd]) if *sd > 0.0 => (*mean, *sd),
        _ => (0.0, 1.0),
    })
});

pub(crate) fn raw(reading: &Reading, words: &Words, said: &[Said]) -> [f64; STYLE] {
    let n = said.len();
    let mut counts = Counts::default();
    let mut letters = 0;
    let (mut content, mut echoes, mut rarity, mut apart) = (0, 0, 0.0, 0);
    for (said, word) in said.iter().zip(&reading.words) {
        let known = words.known(*said);
        counts.add(known.lists, word.spoken);
        counts.add_small(known.small);
        letters += known.letters;
        apart += said.ago.map_or(WINDOW, |ago| (ago as usize).min(WINDOW));
        if known.lists & STOP == 0 {
            content += 1;
            rarity += known.rarity;
            echoes += usize::from(said.ago.is_some_and(|ago| ago <= ECHO));
        }
    }
    let per_hundred = |count: usize| if n == 0 { 0.0 } else { (100.0 * count as f64 / n as f64).sqrt() };
    let share = |part: usize, whole: usize| if whole == 0 { 0.0 } else { part as f64 / whole as f64 };
    let share_of = |sum: f64, whole: usize| if whole == 0 { 0.0 } else { sum / whole as f64 };
    let sentences = reading.sentences.len();
    let marks = |mark: char| reading.sentences.iter().filter(|sentence| sentence.mark == mark).count();
    let narration = n - counts.spoken;
    [
        // The root: between none and a little lies more than between much and very much.
        share(counts.spoken, n).sqrt(),
        (1.0 + share(n, sentences)).ln(),
        // Four in a hundred narrated words are plainly first person; more says nothing new.
        (share(counts.first_person, narration) / 0.04).min(1.0),
        (counts.present as f64 + 0.2) / ((counts.present + counts.past) as f64 + 1.0),
        per_hundred(counts.action),
        per_hundred(counts.warm),
        per_hundred(counts.dark),
        ending_mood(reading, words, said),
        f64::from(reading.last == Some('"')),
        per_hundred(counts.descriptive),
        share(echoes, content) + diversity::repeated(&said.iter().map(|said| words.known(*said).hash).collect::<Vec<u64>>()),
        (1.0 + n as f64).ln(),
        share(marks('?'), sentences).sqrt(),
        share(marks('!'), sentences).sqrt(),
        share(letters, n),
        (1.0 + reading.paragraphs as f64).ln(),
        sentence_variety(reading),
        (share(reading.commas, sentences)).sqrt(),
        (counts.she as f64 - counts.he as f64) / ((counts.she + counts.he) as f64 + 1.0),
        per_hundred(reading.names),
        f64::from(reading.words.first().is_some_and(|word| word.spoken)),
        per_hundred(counts.turns),
        per_hundred(counts.denials),
        share_of(rarity, content),
        share(apart, n * WINDOW),
    ]
}

/// A content word that was said so many words ago is an echo.
const ECHO: u32 = 50;

/// Words of a window. A word stands for the first time in so many of the windows around it as there are words since it was said,
/// so the mean of those is the share of different words in all windows of this length (but for the windows at both ends of a
/// text), however long the text is (Covington & McFall, "The moving-average type–token ratio", 2010).
const WINDOW: usize = 50;

/// Standard deviation of the logarithms of sentence lengths.
fn sentence_variety(reading: &Reading) -> f64 {
    let starts = reading.sentences.iter().map(|sentence| sentence.first);
    let ends = reading.sentences.iter().skip(1).map(|sentence| sentence.first).chain([reading.words.len()]);
    let lengths: Vec<f64> = starts.zip(ends).map(|(start, end)| (1.0 + (end - start) as f64).ln()).collect();
    if lengths.len() < 2 {
        return 0.0;
    }
    let n = lengths.len() as f64;
    let mean = lengths.iter().sum::<f64>() / n;
    (lengths.iter().map(|length| (length - mean).powi(2)).sum::<f64>() / n).sqrt()
}

#[derive(Default)]
struct Counts {
    spoken: usize,
    first_person: usize,
    past: usize,
    present: usize,
    action: usize,
    warm: usize,
    dark: usize,
    descriptive: usize,
    she: usize,
    he: usize,
    turns: usize,
    denials: usize,
}

impl Counts {
    fn add_small(&mut self, small: Small) {
        match small {
            Small::She => self.she += 1,
            Small::He => self.he += 1,
            Small::Turn => self.turns += 1,
            Small::Denial => self.denials += 1,
            Small::None => {}
        }
    }

    fn add(&mut self, lists: lexicon::Lists, spoken: bool) {
        let has = |list| usize::from(lists & list != 0);
        self.spoken += usize::from(spoken);
        self.action += has(ACTION);
        self.warm += has(WARM);
        self.dark += has(DARK);
        self.descriptive += has(DESCRIPTIVE | SENSE);
        // Who tells and when is what the narration says; people in it may say "I am" in any story.
        if !spoken {
            self.first_person += has(FIRST_PERSON);
            self.past += has(PAST);
            self.present += has(PRESENT);
        }
    }
}

/// Warm against dark words in the last two sentences, or the last twenty words if those are more; −1…1.
fn ending_mood(reading: &Reading, words: &Words, said: &[Said]) -> f64 {
    let n = said.len();
    let two_sentences = reading.sentences.iter().rev().nth(1).map_or(0, |sentence| sentence.first);
    let start = two_sentences.min(n.saturating_sub(20));
    let (mut warm, mut dark) = (0.0, 0.0);
    for said in &said[start..] {
        let lists = words.known(*said).lists;
        warm += f64::from(lists & WARM != 0);
        dark += f64::from(lists & DARK != 0);
    }
    (warm - dark) / (warm + dark + 1.0)
}
