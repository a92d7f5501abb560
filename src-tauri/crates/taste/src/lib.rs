//! Taste: what a person likes, how good a text is, and which candidate wins.
//!
//! Pure functions and one serialisable model; no IO, no clock, no randomness. The entry points are
//! [`TasteModel::fit`] and [`TasteModel::predict`] (the preference model), [`quality`], [`on_prompt`], [`fluency`] and
//! [`genre_fit`] (the other scores of a candidate) and [`vote`], which ranks candidates by all of them. LEARNING.md says
//! what each must reach; `tests/` measures it.

mod diversity;
mod features;
mod genre;
mod interval;
mod kin;
mod label;
mod lexicon;
mod preference;
mod quality;
mod reading;
mod relevance;
mod single;
mod vote;
mod words;

pub use diversity::{distinct_2, fluency, repetition};
pub use features::{STYLE, STYLE_FEATURES, StyleFeature, raw_style, style};
pub use genre::{content_stems, genre_fit, genre_probabilities};
pub use interval::{auc, wilson};
pub use label::verdict_in_words;
pub use preference::{
    Comparison, Counts, FEWEST_OF_EACH, FEWEST_THUMBS, Prediction, Priors, TasteData, TasteModel, Thumb, Weight, most_informative_pair,
};
pub use quality::{GOOD_ENOUGH, Quality, QualityInput, quality};
pub use relevance::on_prompt;
pub use vote::{VoteWeights, standing, vote};
