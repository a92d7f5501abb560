//! What a dense column of the regression measures.

use super::Priors;
use crate::features::{self, DETAILS, STYLE, STYLE_FEATURES};
use crate::reading::Reading;
use crate::words::{Said, Words};
use crate::{kin, single};

/// A dense term of the regression.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Term {
    Bias,
    Feature(usize),
    /// A liking for the middle, or for extremes.
    Square(usize),
    /// A liking for two together.
    Product(usize, usize),
    /// A liking for texts near one of [`PLACES`].
    Near(usize, usize),
    /// A group of kindred words, of words that keep company, or a theme.
    Kin(usize),
    /// One word.
    Single(usize),
}

/// Where the middle of a liking may lie, in standard deviations, and the mean distance from there over ordinary stories
/// (of a standard normal variable: 2φ(p) + p (2Φ(p) − 1)).
pub(super) const PLACES: [(f64, f64); 5] = [(-1.2, 1.3125), (-0.6, 0.9374), (0.0, 0.7979), (0.6, 0.9374), (1.2, 1.3125)];
/// About the deviation of that distance.
const SPREAD: f64 = 0.6;

/// What is measured of a text, from which every term is worked out.
pub(super) struct Measures {
    pub style: [f64; STYLE],
    pub kin: Vec<f32>,
    pub single: Vec<f32>,
}

impl Measures {
    pub fn new(reading: &Reading, words: &Words, said: &[Said]) -> Self {
        let style = features::standardised(features::raw(reading, words, said));
        Self { style, kin: kin::kin(words, said), single: single::single(words, said) }
    }
}

impl Term {
    /// The terms that are there before any is chosen.
    pub fn usual(priors: &Priors) -> Vec<Self> {
        let mut terms = vec![Self::Bias];
        terms.extend((0..STYLE - DETAILS).map(Self::Feature));
        if priors.detail > 0.0 {
            terms.extend((STYLE - DETAILS..STYLE).map(Self::Feature));
        }
        if priors.curve > 0.0 {
            terms.extend((0..STYLE - DETAILS).map(Self::Square));
        }
        terms
    }

    /// Its standard deviation a priori, before it is chosen.
    pub fn scale(self, priors: &Priors) -> f64 {
        match self {
            Self::Bias => priors.bias,
            Self::Feature(at) if at < STYLE - DETAILS => priors.style,
            Self::Feature(_) => priors.detail,
            Self::Square(_) => priors.curve,
            Self::Product(..) | Self::Near(..) | Self::Kin(_) | Self::Single(_) => 0.0,
        }
    }

    /// Its key in `preference_model.json`: "bias", a style feature, "x²", "x × y", "x near 0.6", "words a b c", "says a".
    pub fn name(self) -> String {
        let feature = |at: usize| STYLE_FEATURES[at].name;
        match self {
            Self::Bias => "bias".to_owned(),
            Self::Feature(at) => feature(at).to_owned(),
            Self::Square(at) => format!("{}²", feature(at)),
            Self::Product(a, b) => format!("{} × {}", feature(a), feature(b)),
            Self::Near(at, place) => format!("{} near {}", feature(at), PLACES[place].0),
            Self::Kin(group) => kin::key(group),
            Self::Single(word) => single::key(word),
        }
    }

    /// The term of this name; `None` when a file of another version knows one that this version cannot measure.
    pub fn named(name: &str) -> Option<Self> {
        let feature = |name: &str| STYLE_FEATURES.iter().position(|feature| feature.name == name);
        if name == "bias" {
            return Some(Self::Bias);
        }
        if let Some(base) = name.strip_suffix('²') {
            return feature(base).map(Self::Square);
        }
        if let Some((a, b)) = name.split_once(" × ") {
            return Some(Self::Product(feature(a)?, feature(b)?));
        }
        if let Some((base, place)) = name.split_once(" near ") {
            let place: f64 = place.parse().ok()?;
            let place = PLACES.iter().position(|(known, _)| *known == place)?;
            return Some(Self::Near(feature(base)?, place));
        }
        feature(name).map(Self::Feature).or_else(|| single::find(name).map(Self::Single)).or_else(|| kin::find(name).map(Self::Kin))
    }

    /// About zero on average and one deviation wide over ordinary stories, never far out: one outlier must not outshout the rest.
    pub fn value(self, measures: &Measures) -> f64 {
        let style = &measures.style;
        match self {
            Self::Bias => 1.0,
            Self::Feature(at) => style[at],
            Self::Square(at) => ((style[at] * style[at] - 1.0) / std::f64::consts::SQRT_2).min(3.0),
            Self::Product(a, b) => (style[a] * style[b]).clamp(-3.0, 3.0),
            Self::Near(at, place) => (PLACES[place].1 - (style[at] - PLACES[place].0).abs()) / SPREAD,
            Self::Kin(group) => f64::from(measures.kin[group]),
            Self::Single(word) => f64::from(measures.single[word]),
        }
    }
}
