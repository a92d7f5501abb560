//! The text format of the built-in story model.

use crate::{Guidance, Tokenizer};
use domain::{Genre, GenreMix, Settings, Style};

/// Least share of the likeliest token's probability. Measured on the built-in base: 0 puts 1.5% of words together that no book
/// knows, 0.01 puts 1.2%, 0.1 puts 0.5%, but then texts repeat themselves (0.8% of their 4-grams) and keep less to their genres.
const PLAUSIBLE: f32 = 0.01;

/// Genres that guide a story at most: each costs a row a token.
const GUIDING_GENRES: usize = 3;

/// The format `<|genre|>fantasy 7, mystery 3<|style|>twist<|prompt|>…<|story|>…<|end|>` that the story model was trained on.
///
/// Genre weights are tenths; `any` stands for no genre. The prompt may be empty: the model then writes freely.
pub struct StoryFormat;

impl StoryFormat {
    /// Ends a story.
    pub const END: &str = "<|end|>";
    const SPECIAL: [&str; 6] = ["<|pad|>", Self::END, "<|genre|>", "<|style|>", "<|prompt|>", "<|story|>"];

    /// The text before the story. Only the proportions of the genre weights count.
    ///
    /// Special tokens in the person's prompt are taken out, so that a prompt cannot pose as the format.
    pub fn prompt_text(genres: &GenreMix, style: Option<Style>, prompt: &str) -> String {
        let style = style.map(Style::name).unwrap_or_default();
        format!("<|genre|>{}<|style|>{style}<|prompt|>{}<|story|>", genre_text(genres), Self::plain(prompt))
    }

    /// What guides a story by the settings: away from a story of no genre about nothing, and along its main genres, each by its share
    /// of the sliders. Genre words alone say a mix once, in a language that the base half understands; the sliders shall be felt.
    /// `written` is the text that goes on, if any.
    pub fn guidance(
        tokenizer: &Tokenizer,
        (genres, style, prompt): (&GenreMix, Option<Style>, &str),
        written: &[u32],
        settings: &Settings,
    ) -> Guidance {
        let after = |genres: &GenreMix, style, prompt| {
            let before = tokenizer.encode(&Self::prompt_text(genres, style, prompt));
            [before.as_slice(), written].concat()
        };
        let unasked = GenreMix::default();
        let mut guidance = Guidance::away_from(after(&unasked, None, ""), settings.guidance as f32).among_plausible(PLAUSIBLE);
        let mut shares = shares(genres);
        shares.truncate(GUIDING_GENRES);
        for (genre, share) in shares {
            let pull = (settings.genre_guidance * share) as f32;
            guidance =
                guidance.and(after(&GenreMix([(genre, 1.0)].into()), style, prompt), pull).and(after(&unasked, style, prompt), -pull);
        }
        guidance
    }

    /// A text without the format's special tokens and outer white space.
    pub fn plain(text: &str) -> String {
        let mut plain = text.trim().to_owned();
        // Taking one out can join the halves of another, hence until none is left.
        while let Some(token) = Self::SPECIAL.iter().find(|token| plain.contains(**token)) {
            plain = plain.replace(token, "");
        }
        plain
    }

    /// The tokens that end a story.
    pub fn stop(tokenizer: &Tokenizer) -> Vec<u32> {
        [Self::END, "<|pad|>", "<|genre|>"].iter().filter_map(|token| tokenizer.special(token)).collect()
    }
}

/// Each genre's part of a mix, heaviest first.
fn shares(genres: &GenreMix) -> Vec<(Genre, f64)> {
    let mut weights: Vec<_> = genres.0.iter().filter(|(_, weight)| weight.is_finite() && **weight > 0.0).collect();
    let sum: f64 = weights.iter().map(|(_, weight)| **weight).sum();
    weights.sort_by(|a, b| b.1.total_cmp(a.1));
    weights.into_iter().map(|(genre, weight)| (*genre, *weight / sum)).collect()
}

/// `{fantasy: 0.7, mystery: 0.3}` as `fantasy 7, mystery 3`, heaviest first; an empty mix as `any`.
fn genre_text(genres: &GenreMix) -> String {
    // Ties to even, as Python rounds: the training documents were written by Python.
    let mut tenths: Vec<_> = shares(genres).into_iter().map(|(genre, share)| (genre.name(), (10.0 * share).round_ties_even())).collect();
    tenths.retain(|(_, tenth)| *tenth > 0.0);
    tenths.sort_by(|a, b| b.1.total_cmp(&a.1));
    match tenths.is_empty() {
        true => "any".to_owned(),
        false => tenths.iter().map(|(name, tenth)| format!("{name} {tenth}")).collect::<Vec<_>>().join(", "),
    }
}
