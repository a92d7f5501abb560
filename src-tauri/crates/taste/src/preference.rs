//! The preference model: the probability that the person likes a text, and how sure that is.

mod card;
mod design;
mod evidence;
mod luck;
mod solve;
mod term;
mod validate;

use crate::kin;
use crate::reading::Reading;
use crate::words::Words;
use design::Design;
use domain::TasteTraining;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::f64::consts::PI;
use term::{Measures, Term};

/// Everything a person has said about texts, oldest first.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TasteData {
    pub thumbs: Vec<Thumb>,
    pub comparisons: Vec<Comparison>,
}

/// A verdict on one text; one per candidate, the newest.
#[derive(Debug, Clone, PartialEq)]
pub struct Thumb {
    /// Which generation the text came from; texts of one generation are compared with each other and validated together.
    pub generation: String,
    pub text: String,
    pub liked: bool,
}

/// One text preferred to another: an edit to its original, or the answer to a question of exploration.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    pub generation: String,
    pub better: String,
    pub worse: String,
}

/// Standard deviations of the Gaussian priors, in log-odds for a text that stands one deviation out; 0 leaves a group out.
///
/// All groups are tight: what a person likes is found by [`TasteModel::fit`], which gives single terms a scale of their own
/// as far as the verdicts speak for them.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Priors {
    pub bias: f64,
    /// The named style features.
    pub style: f64,
    /// The finer style features; models older than these have none.
    #[serde(default)]
    pub detail: f64,
    /// Squares of the style features, in models of older programs.
    pub curve: f64,
    /// Words, each text's vector having length 1.
    pub word: f64,
    /// Groups of kindred words, in models of older programs.
    #[serde(default)]
    pub kin: f64,
    /// Weight of a pairwise row against a thumb.
    pub pair_weight: f64,
}

impl Default for Priors {
    fn default() -> Self {
        Self { bias: 1.0, style: 0.05, detail: 0.05, curve: 0.0, word: 0.3, kin: 0.0, pair_weight: 0.5 }
    }
}

/// A weight with its posterior standard deviation, both in log-odds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Weight {
    pub name: String,
    pub weight: f64,
    pub sd: f64,
}

/// What the model was fitted to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    pub thumbs: u32,
    pub liked: u32,
    pub disliked: u32,
    /// Edits and answered comparisons.
    pub comparisons: u32,
    pub vocabulary: u32,
}

/// Bayesian logistic regression over style features and words.
///
/// Labels are thumbs, plus pairs inside one generation and edits as Bradley–Terry rows (logistic regression on feature
/// differences; Bradley & Terry, Biometrika 1952). The posterior is Laplace's approximation at the maximum (MacKay,
/// "The evidence framework applied to classification networks", 1992). It serialises to a readable JSON file whose
/// figures are rounded to six decimals, so that a model read back predicts exactly the same.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TasteModel {
    /// Layout of this file.
    pub format: u32,
    /// Counts the fits of one person's model; set by who stores it.
    pub version: u32,
    pub counts: Counts,
    /// Area under the ROC curve on held-out thumbs (cross-validated, whole generations held out); absent with too few.
    pub auc: Option<f64>,
    /// The least that `auc` can be said to be; see `confident`.
    pub auc_low: Option<f64>,
    /// Log of how much likelier the newest thumbs are under a taste like this than under none.
    pub evidence: f64,
    /// How often the same verdicts in a random order look as much like a taste; an upper bound where that is often.
    #[serde(default = "not_known")]
    pub chance: f64,
    /// The first thumb of the present taste, counted from 0; those before it speak of another and count for little.
    #[serde(default)]
    pub since: u32,
    /// Whether there are enough thumbs, `auc` beats chance and so much of a taste is no luck; only then may it vote.
    /// Random thumbs pass in less than one look of a hundred.
    pub confident: bool,
    pub priors: Priors,
    /// The bias and the style terms, in the order of `covariance`.
    pub style: Vec<Weight>,
    /// Stem → [weight, sd].
    pub words: BTreeMap<String, [f64; 2]>,
    /// Posterior covariance of the style terms: the lower triangle, row by row.
    pub covariance: Vec<f64>,
}

/// What the model expects of one text.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Prediction {
    /// That the person likes it, 0–1, averaged over what the model is unsure of.
    pub probability: f64,
    /// Mean of the log-odds.
    pub logit: f64,
    /// Standard deviation of the log-odds.
    pub sd: f64,
}

/// Layout of `preference_model.json`: 2 knew details, groups of kindred words and a change of taste; 3 knows single words, words
/// that keep company and likings for a middle.
const FORMAT: u32 = 3;
/// Fewest thumbs, and fewest of either kind, from which a taste can be believed.
pub const FEWEST_THUMBS: usize = 8;
pub const FEWEST_OF_EACH: usize = 2;
/// The newest thumbs that are learned from; more would tell nothing that these do not.
const MOST_LEARNED: usize = 2000;

impl TasteModel {
    /// Fits the model to all that was said; deterministic, and defined for no data at all.
    ///
    /// Of `options`, `max_vocab` bounds the words and `epochs` the Newton steps (four for each; it converges in about
    /// six). `lr` is accepted for old commands' sake: Newton's method needs no step size.
    pub fn fit(data: &TasteData, options: &TasteTraining) -> Self {
        Self::fitted(data, options, &Priors::default(), true)
    }

    /// [`TasteModel::fit`] with priors that are given and stay.
    pub fn fit_with(data: &TasteData, options: &TasteTraining, priors: &Priors) -> Self {
        Self::fitted(data, options, priors, false)
    }

    fn fitted(all: &TasteData, options: &TasteTraining, priors: &Priors, choose: bool) -> Self {
        let skipped = all.thumbs.len().saturating_sub(MOST_LEARNED);
        let newest;
        let data = if skipped == 0 {
            all
        } else {
            newest = TasteData { thumbs: all.thumbs[skipped..].to_vec(), comparisons: all.comparisons.clone() };
            &newest
        };
        let mut design = Design::new(data, options.max_vocab as usize, priors);
        let steps = options.epochs.clamp(1, 25) as usize * 4;
        let since = if choose { evidence::change(data, &design, priors) } else { 0 };
        let verdicts = evidence::Verdicts::new(data, &design, priors, since);
        let weighed = evidence::weigh(&verdicts, priors, choose);
        let liked = all.thumbs.iter().filter(|thumb| thumb.liked).count();
        let disliked = all.thumbs.len() - liked;
        let enough = all.thumbs.len() >= FEWEST_THUMBS && liked.min(disliked) >= FEWEST_OF_EACH;
        let validated = if enough { validate::cross_validate(data, &design, &verdicts, priors, since, steps) } else { None };
        design.settle(priors, &weighed.chosen, since);
        let design = &design;
        let fit = solve::fit(design, |_| true, steps, None);
        let (sd, covariance) = fit.dense_posterior();
        let style = design.terms.iter().zip(&fit.theta).zip(&sd).map(|((name, weight), sd)| Weight {
            name: name.name(),
            weight: rounded(*weight),
            sd: rounded(*sd),
        });
        let style = style.collect();
        let weights = fit.theta[design.dense..].iter().zip(fit.word_sd());
        let words = design.vocabulary.iter().zip(weights).map(|(word, (weight, sd))| (word.clone(), [rounded(*weight), rounded(sd)]));
        Self {
            format: FORMAT,
            version: 1,
            counts: Counts {
                thumbs: all.thumbs.len() as u32,
                liked: liked as u32,
                disliked: disliked as u32,
                comparisons: data.comparisons.len() as u32,
                vocabulary: design.vocabulary.len() as u32,
            },
            auc: validated.map(|found| rounded(found.auc)),
            auc_low: validated.map(|found| rounded(found.low)),
            evidence: rounded(weighed.evidence),
            chance: rounded(weighed.chance),
            since: if since == 0 { 0 } else { (skipped + since) as u32 },
            confident: validated.is_some_and(|found| found.beyond_chance) && luck::is_none(weighed.chance),
            priors: *priors,
            style,
            words: words.collect(),
            covariance,
        }
    }

    /// Whether this version of the program fitted it. Files of older ones can be read, but measured some traits otherwise:
    /// fit anew where the thumbs are at hand.
    pub fn is_current(&self) -> bool {
        self.format == FORMAT
    }

    /// The probability that the person likes `text`, averaged over the posterior by the probit correction
    /// σ(μ / √(1 + π s² / 8)) (MacKay 1992), so that an unsure model stays near one half.
    pub fn predict(&self, text: &str) -> Prediction {
        self.prediction(&self.terms_of(text))
    }

    /// The indices of the two texts whose comparison would teach the model most: the pair whose winner it is least
    /// sure of, for lack of knowledge and not because it finds them alike. `None` for fewer than two different texts.
    ///
    /// Scores each pair by s² p (1 − p), the variance of the difference in log-odds times the variance of its outcome,
    /// to first order the information gained (Houlsby et al., arXiv 1112.5745).
    pub fn most_informative_pair(&self, texts: &[&str]) -> Option<(usize, usize)> {
        let terms: Vec<Terms> = texts.iter().map(|text| self.terms_of(text)).collect();
        best_pair(texts.len(), |a, b| self.prediction(&terms[a].minus(&terms[b])))
    }

    /// Style terms in the order of `self.style`, and the words, of a text.
    fn terms_of(&self, text: &str) -> Terms {
        let (reading, mut known) = (Reading::new(text), Words::default());
        let said = known.read(&reading);
        let measures = Measures::new(&reading, &known, &said);
        // A file of another version may know other terms; those that this one cannot measure say nothing.
        let dense = self.style.iter().map(|term| Term::named(&term.name).map_or(0.0, |term| term.value(&measures))).collect();
        let mut words: BTreeMap<String, f64> =
            known.vector(&said).into_iter().map(|(stem, value)| (known.stems[stem as usize].clone(), value)).collect();
        if self.priors.kin > 0.0 {
            words.extend(kin::held(&measures.kin).map(|(group, value)| (kin::key(group), value)));
        }
        Terms { dense, words }
    }

    fn prediction(&self, terms: &Terms) -> Prediction {
        let mut logit = 0.0;
        let mut variance = 0.0;
        for (at, (value, term)) in terms.dense.iter().zip(&self.style).enumerate() {
            logit += value * term.weight;
            let row = self.covariance.get(at * (at + 1) / 2..(at + 1) * (at + 2) / 2).unwrap_or(&[]);
            for (other, covariance) in row.iter().enumerate() {
                let twice = if other == at { 1.0 } else { 2.0 };
                variance += twice * covariance * value * terms.dense[other];
            }
        }
        for (word, value) in &terms.words {
            // Of a word that it never met the model knows only its prior.
            let [weight, sd] = self.words.get(word).copied().unwrap_or([0.0, self.priors.word]);
            logit += value * weight;
            variance += value * value * sd * sd;
        }
        Prediction::new(logit, variance.max(0.0).sqrt())
    }
}

/// Files of older programs do not say it.
fn not_known() -> f64 {
    1.0
}

impl Prediction {
    /// A prediction from the mean and the standard deviation of its log-odds.
    pub fn new(logit: f64, sd: f64) -> Self {
        Self { probability: sigmoid(logit / (1.0 + PI * sd * sd / 8.0).sqrt()), logit, sd }
    }
}

/// [`TasteModel::most_informative_pair`] from predictions alone, which takes the texts' errors for independent: it can
/// offer two near-twins where the method would not.
pub fn most_informative_pair(predictions: &[Prediction]) -> Option<(usize, usize)> {
    best_pair(predictions.len(), |a, b| {
        let (a, b) = (predictions[a], predictions[b]);
        Prediction::new(a.logit - b.logit, a.sd.hypot(b.sd))
    })
}

fn best_pair(n: usize, difference: impl Fn(usize, usize) -> Prediction) -> Option<(usize, usize)> {
    let mut best = None;
    let mut most = 1e-12;
    for a in 0..n {
        for b in a + 1..n {
            let difference = difference(a, b);
            let gain = difference.sd * difference.sd * difference.probability * (1.0 - difference.probability);
            if gain > most {
                (best, most) = (Some((a, b)), gain);
            }
        }
    }
    best
}

struct Terms {
    dense: Vec<f64>,
    words: BTreeMap<String, f64>,
}

impl Terms {
    fn minus(&self, other: &Self) -> Self {
        let dense = self.dense.iter().zip(&other.dense).map(|(a, b)| a - b).collect();
        let mut words = self.words.clone();
        for (word, value) in &other.words {
            *words.entry(word.clone()).or_default() -= value;
        }
        Self { dense, words }
    }
}

pub(crate) fn sigmoid(logit: f64) -> f64 {
    1.0 / (1.0 + (-logit).exp())
}

/// Six decimals: enough for any use, readable, and short enough that every JSON reader gets the same number back.
fn rounded(value: f64) -> f64 {
    (value * 1e6).round() / 1e6
}
