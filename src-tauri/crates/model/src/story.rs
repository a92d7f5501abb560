//! The text format of the built-in story model.

use crate::Tokenizer;
use domain::{GenreMix, Style};

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

/// `{fantasy: 0.7, mystery: 0.3}` as `fantasy 7, mystery 3`, heaviest first; an empty mix as `any`.
fn genre_text(genres: &GenreMix) -> String {
    let weights: Vec<_> = genres.0.iter().filter(|(_, weight)| weight.is_finite() && **weight > 0.0).collect();
    let sum: f64 = weights.iter().map(|(_, weight)| **weight).sum();
    // Ties to even, as Python rounds: the training documents were written by Python.
    let mut tenths: Vec<_> = weights.iter().map(|(genre, weight)| (genre.name(), (10.0 * **weight / sum).round_ties_even())).collect();
    tenths.retain(|(_, tenth)| *tenth > 0.0);
    tenths.sort_by(|a, b| b.1.total_cmp(&a.1));
    match tenths.is_empty() {
        true => "any".to_owned(),
        false => tenths.iter().map(|(name, tenth)| format!("{name} {tenth}")).collect::<Vec<_>>().join(", "),
    }
}
