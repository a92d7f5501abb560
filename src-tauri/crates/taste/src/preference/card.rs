//! What was learned, in plain words.

use super::term::{PLACES, Term};
use super::{FEWEST_OF_EACH, FEWEST_THUMBS, TasteModel, Weight};
use crate::features::{STYLE_FEATURES, StyleFeature};
use crate::{kin, single};
use domain::{TasteCard, TasteSummary};

/// A weight this many posterior deviations from zero is worth saying.
const SURE: f64 = 1.1;
/// Most that is said on either side.
const MOST_SAID: usize = 6;
/// Under this many it is not known which way it goes.
const UNSURE: f64 = 0.8;

impl TasteModel {
    /// What the person likes and dislikes, as far as it is known.
    pub fn card(&self) -> TasteCard {
        let mut likes = Vec::new();
        let mut dislikes = Vec::new();
        let mut unsure = Vec::new();
        if self.confident {
            let mut terms: Vec<(&Weight, Term)> = self.style.iter().filter_map(|term| Some((term, Term::named(&term.name)?))).collect();
            // That a middle is not liked says little; what is liked instead is said by other terms.
            terms.retain(|(weight, term)| *term != Term::Bias && (weight.weight > 0.0 || !matches!(term, Term::Near(..))));
            terms.sort_by(|a, b| certainty(b.0).total_cmp(&certainty(a.0)));
            for (weight, term) in terms.iter().filter(|(weight, _)| certainty(weight) >= SURE) {
                let (liked, said) = in_words(*term, weight.weight > 0.0);
                let side = if liked { &mut likes } else { &mut dislikes };
                if side.len() < MOST_SAID && !side.contains(&said) {
                    side.push(said);
                }
            }
            let terms: Vec<(&Weight, &StyleFeature)> =
                terms.into_iter().filter_map(|(weight, term)| Some((weight, plain_feature(term)?))).collect();
            self.add_words(&mut likes, &mut dislikes);
            // The least known first: what the next comparisons would tell.
            let mut open: Vec<_> = terms.iter().filter(|(weight, _)| certainty(weight) < UNSURE).collect();
            open.sort_by(|a, b| b.0.sd.total_cmp(&a.0.sd));
            unsure.extend(open.iter().take(3).map(|(_, feature)| feature.more.to_owned()));
        }
        let sentence = self.sentence(&likes, &dislikes, &unsure);
        TasteCard {
            summary: self.summary(false),
            likes,
            dislikes,
            unsure,
            sentence,
            liked_texts: self.counts.liked,
            disliked_texts: self.counts.disliked,
            version: self.version,
        }
    }

    /// The figures of the card; `trained` says whether the last verdict made this version.
    pub fn summary(&self, trained: bool) -> TasteSummary {
        TasteSummary { trained, thumbs: self.counts.thumbs, auc: self.auc, confident: self.confident, pinned: false }
    }

    /// Up to three words on either side whose weight is surely not zero.
    fn add_words(&self, likes: &mut Vec<String>, dislikes: &mut Vec<String>) {
        let mut words: Vec<(&String, f64, f64)> =
            self.words.iter().map(|(word, [weight, sd])| (word, *weight, weight.abs() / sd)).collect();
        words.retain(|(_, _, certainty)| *certainty >= 1.0);
        words.sort_by(|a, b| b.2.total_cmp(&a.2).then_with(|| a.0.cmp(b.0)));
        for (side, sign) in [(likes, 1.0), (dislikes, -1.0)] {
            for (word, ..) in words.iter().filter(|(_, weight, _)| weight * sign > 0.0).take(3) {
                // A group of kindred words may be a term of its own too.
                let said = kin::find(word).map_or_else(|| format!("\u{201c}{word}\u{201d}"), kin::label);
                if !side.contains(&said) {
                    side.push(said);
                }
            }
        }
    }

    fn sentence(&self, likes: &[String], dislikes: &[String], unsure: &[String]) -> String {
        let thumbs = self.counts.thumbs as usize;
        if !self.confident {
            let fewer = self.counts.liked.min(self.counts.disliked) as usize;
            let reason = if thumbs == 0 {
                format!("thumb at least {FEWEST_THUMBS} texts, some up and some down.")
            } else if thumbs < FEWEST_THUMBS {
                format!("{} so far; {} more will do for a first try.", counted(thumbs, "thumb"), FEWEST_THUMBS - thumbs)
            } else if fewer < FEWEST_OF_EACH {
                let missing = if self.counts.liked < self.counts.disliked { "up" } else { "down" };
                format!("nearly all of your {thumbs} thumbs say the same; a few {missing} would show the difference.")
            } else {
                format!("what your {thumbs} thumbs have in common could still be chance. A few more will tell.")
            };
            return format!("No taste found yet: {reason}");
        }
        let mut parts = Vec::new();
        if !likes.is_empty() {
            parts.push(format!("likes {}", listed(likes)));
        }
        if !dislikes.is_empty() {
            parts.push(format!("dislikes {}", listed(dislikes)));
        }
        if parts.is_empty() {
            parts.push("has a taste that no single trait explains".to_owned());
        }
        if !unsure.is_empty() {
            parts.push(format!("not sure yet about {}", listed(unsure)));
        }
        let mut sentence = format!("{}.", parts.join("; "));
        if let Some(first) = sentence.get_mut(..1) {
            first.make_ascii_uppercase();
        }
        sentence
    }
}

/// Whether a weight of this sign says what the person likes, and the words for it.
fn in_words(term: Term, more: bool) -> (bool, String) {
    let named = |at: usize| STYLE_FEATURES[at].more;
    match (term, more) {
        (Term::Feature(at), false) if STYLE_FEATURES[at].less.is_some() => (true, STYLE_FEATURES[at].less.unwrap_or_default().to_owned()),
        (Term::Feature(at), _) => (more, named(at).to_owned()),
        (Term::Square(at), true) => (true, format!("a lot or very little of {}", named(at))),
        (Term::Square(at), false) => (true, format!("neither much nor little of {}", named(at))),
        (Term::Product(a, b), true) => (true, format!("{} together with {}, or neither", named(a), named(b))),
        (Term::Product(a, b), false) => (true, format!("{} or {}, but not both", named(a), named(b))),
        (Term::Near(at, place), _) => (more, near(at, PLACES[place].0)),
        (Term::Kin(group), _) => (more, kin::label(group)),
        (Term::Single(word), _) => (more, single::label(word)),
        (Term::Bias, _) => (more, "everything".to_owned()),
    }
}

/// A liking for a middle: `some dialogue, not much`.
fn near(at: usize, place: f64) -> String {
    let feature = &STYLE_FEATURES[at];
    let more = feature.more;
    match (feature.less, place) {
        (Some(less), _) if place < -1.0 => less.to_owned(),
        (Some(less), _) if place < -0.3 => format!("rather {less}"),
        (Some(less), _) if place < 0.3 => format!("neither {more} nor {less}"),
        (Some(_), _) if place < 1.0 => format!("rather {more}"),
        (Some(_), _) => more.to_owned(),
        (None, _) if place < -1.0 => format!("little of {more}"),
        (None, _) if place < -0.3 => format!("some {more}, not much"),
        (None, _) if place < 0.3 => format!("a middling amount of {more}"),
        (None, _) if place < 1.0 => format!("a fair amount of {more}, not too much"),
        (None, _) => format!("much {more}"),
    }
}

/// The style feature that a term stands for, when it is one and not made of them.
fn plain_feature(term: Term) -> Option<&'static StyleFeature> {
    match term {
        Term::Feature(at) => STYLE_FEATURES.get(at),
        _ => None,
    }
}

fn certainty(term: &Weight) -> f64 {
    if term.sd > 0.0 { term.weight.abs() / term.sd } else { 0.0 }
}

fn counted(n: usize, noun: &str) -> String {
    if n == 1 { format!("1 {noun}") } else { format!("{n} {noun}s") }
}

fn listed(items: &[String]) -> String {
    match items {
        [] => String::new(),
        [one] => one.clone(),
        [rest @ .., last] => format!("{} and {last}", rest.join(", ")),
    }
}
