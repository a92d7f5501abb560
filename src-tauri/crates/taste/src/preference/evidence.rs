//! How far each part of the model may be believed: priors, terms and the time since when, chosen by what they make of the thumbs.
//!
//! Everything is weighed by Laplace's approximation of the marginal likelihood of a Gaussian-process classifier whose
//! kernel is the prior covariance of the log-odds, which is the same model seen from the texts instead of the weights
//! (Rasmussen & Williams, "Gaussian Processes for Machine Learning", 2006, algorithms 3.1 and 5.1).

use super::design::{Design, Item};
use super::solve::{cholesky, dot, solve_cholesky};
use super::term::Term;
use super::{Priors, TasteData, sigmoid};
use crate::features::STYLE;
use crate::kin;
use std::ops::Range;

/// More thumbs than this tell the scales no better, and the time grows with their cube.
const MOST: usize = 100;

/// Scales that are tried, group by group.
const STYLES: [f64; 2] = [0.3, 0.9];
const DETAILS: [f64; 2] = [0.1, 0.4];
const KINS: [f64; 3] = [0.03, 0.2, 0.35];
const WORDS: [f64; 3] = [0.4, 1.6, 4.5];

/// The least by which other scales must be likelier than those to start from; less is luck.
const MARGIN: f64 = 1.0;

/// How likely a priori it is that a person has a strong taste for one of these, all of a kind together.
const STRONG_FEATURE: f64 = 2.0;
const STRONG_KIN: f64 = 1.0;
const STRONG_SQUARE: f64 = 0.8;
const STRONG_PRODUCT: f64 = 0.3;

/// Most terms that are chosen, and how wide each may become.
const MOST_CHOSEN: usize = 5;
const WIDEST: f64 = 2.0;

/// Thumbs after which a change of taste is looked for, counted from the newest, and among how many.
const CHANGES: [usize; 8] = [12, 16, 20, 25, 30, 40, 50, 65];
const MOST_BEFORE_A_CHANGE: usize = 60;
/// A change must make the thumbs this much likelier (a Bayes factor of a thousand): people rarely change.
const CHANGE_MARGIN: f64 = 7.0;

/// What the thumbs speak for.
pub(super) struct Weighed {
    pub priors: Priors,
    /// Terms with a scale of their own.
    pub chosen: Vec<(Term, f64)>,
    /// The first thumb of the present taste; those before it speak of another.
    pub since: usize,
    /// Log of how much likelier the thumbs are under this than under no taste at all (a Bayes factor), choosing paid for.
    pub evidence: f64,
}

/// Scales and terms under which the newest thumbs are likeliest: a group that explains nothing stays tight, one that
/// explains much widens as thumbs show it, and a single trait that explains much is believed more than its group.
pub(super) fn weigh(data: &TasteData, design: &Design, start: &Priors, choose: bool) -> Weighed {
    let thumbs = data.thumbs.len();
    let since = if choose { change(data, design, start) } else { 0 };
    let first = since.max(thumbs.saturating_sub(MOST));
    let judged = Judged::new(data, design, first, thumbs);
    let nothing =
        judged.posterior(&judged.covariance(&Priors { style: 0.0, detail: 0.0, curve: 0.0, word: 0.0, kin: 0.0, ..*start })).evidence;
    let mut priors = *start;
    let mut best = judged.posterior(&judged.covariance(start));
    let mut chosen: Vec<(Term, f64)> = Vec::new();
    let mut paid = 0.0;
    if choose {
        let bar = best.evidence + MARGIN;
        let tries = STYLES.map(|style| Priors { style, ..*start }).into_iter();
        for one in tries.chain(std::iter::once(*start)).flat_map(|one| WORDS.map(|word| Priors { word, ..one })) {
            consider(&judged, one, bar, &mut priors, &mut best);
        }
        for kin in KINS {
            consider(&judged, Priors { kin, ..priors }, bar, &mut priors, &mut best);
        }
        for detail in DETAILS {
            consider(&judged, Priors { detail, ..priors }, bar, &mut priors, &mut best);
        }
        paid = widen(&judged, &priors, &mut best, &mut chosen);
    }
    Weighed { priors, chosen, since, evidence: best.evidence - nothing - paid }
}

fn consider(judged: &Judged, priors: Priors, bar: f64, kept: &mut Priors, best: &mut Posterior) {
    let posterior = judged.posterior(&judged.covariance(&priors));
    if posterior.evidence > best.evidence.max(bar) {
        (*kept, *best) = (priors, posterior);
    }
}

/// Gives single terms a wide scale of their own as long as the thumbs pay for it; returns the price.
///
/// Which one, and how wide, follows from its quality and sparsity factors in closed form (Tipping & Faul, "Fast marginal
/// likelihood maximisation for sparse Bayesian models", 2003).
fn widen(judged: &Judged, priors: &Priors, best: &mut Posterior, chosen: &mut Vec<(Term, f64)>) -> f64 {
    let mut covariance = judged.covariance(priors);
    let mut paid = 0.0;
    while chosen.len() < MOST_CHOSEN {
        let mut winner: Option<(f64, f64, Term, f64)> = None;
        let mut look = |term: Term, price: f64| {
            if chosen.iter().any(|(known, _)| *known == term) {
                return;
            }
            let column = judged.column(term);
            let (quality, sparsity) = best.factors(&column);
            let variance = ((quality * quality - sparsity) / (sparsity * sparsity)).min(WIDEST * WIDEST);
            if sparsity > 0.0 && variance > 0.0 {
                let spread = 1.0 + variance * sparsity;
                let gain = 0.5 * (variance * quality * quality / spread - spread.ln()) - price;
                if gain > winner.map_or(0.0, |(gain, ..)| gain) {
                    winner = Some((gain, price, term, variance));
                }
            }
        };
        let each = |share: f64, of: usize| (of as f64 / share).ln();
        (0..STYLE).for_each(|at| look(Term::Feature(at), each(STRONG_FEATURE, STYLE)));
        (0..STYLE).for_each(|at| look(Term::Square(at), each(STRONG_SQUARE, STYLE)));
        (0..kin::count()).for_each(|group| look(Term::Kin(group), each(STRONG_KIN, kin::count())));
        for a in 0..STYLE {
            (a + 1..STYLE).for_each(|b| look(Term::Product(a, b), each(STRONG_PRODUCT, STYLE * (STYLE - 1) / 2)));
        }
        let Some((_, price, term, variance)) = winner else { break };
        let column = judged.column(term);
        let mut next = covariance.clone();
        for (row, x) in next.chunks_exact_mut(column.len()).zip(&column) {
            row.iter_mut().zip(&column).for_each(|(sum, y)| *sum += variance * x * y);
        }
        let posterior = judged.posterior(&next);
        if posterior.evidence - price <= best.evidence {
            break;
        }
        (covariance, *best) = (next, posterior);
        paid += price;
        chosen.push((term, (variance + term.scale(priors).powi(2)).sqrt()));
    }
    paid
}

/// The first thumb after the newest change of taste, or 0: the place where two tastes, one before it and one after,
/// make the thumbs so much likelier than one that it is no luck.
fn change(data: &TasteData, design: &Design, start: &Priors) -> usize {
    let end = data.thumbs.len();
    let evidence = |from: usize, to: usize| {
        let judged = Judged::new(data, design, from, to);
        judged.posterior(&judged.covariance(start)).evidence
    };
    let mut best = (CHANGE_MARGIN, 0);
    for after in CHANGES.into_iter().filter(|after| end >= after + 12) {
        let (first, at) = ((end - after).saturating_sub(MOST_BEFORE_A_CHANGE), end - after);
        let gain = evidence(first, at) + evidence(at, end) - evidence(first, end);
        if gain > best.0 {
            best = (gain, at);
        }
    }
    best.1
}

/// Thumbs and what stands between their texts.
struct Judged<'d> {
    items: &'d [Item],
    liked: Vec<f64>,
    style: Vec<f64>,
    detail: Vec<f64>,
    curve: Vec<f64>,
    words: Vec<f64>,
    kin: Vec<f64>,
}

impl<'d> Judged<'d> {
    fn new(data: &TasteData, design: &'d Design, first: usize, end: usize) -> Self {
        let items = &design.items[first..end];
        let liked = data.thumbs[first..end].iter().map(|thumb| f64::from(thumb.liked)).collect();
        let group = |wanted: fn(Term) -> bool| {
            let columns: Vec<usize> = (0..design.terms.len()).filter(|at| wanted(design.terms[*at])).collect();
            let rows: Vec<Vec<f64>> = items.iter().map(|item| columns.iter().map(|column| item.dense[*column]).collect()).collect();
            rows.iter().flat_map(|a| rows.iter().map(|b| dot(a, b))).collect()
        };
        Self {
            items,
            liked,
            style: group(|term| matches!(term, Term::Feature(at) if at < STYLE - crate::features::DETAILS)),
            detail: group(|term| matches!(term, Term::Feature(at) if at >= STYLE - crate::features::DETAILS)),
            curve: group(|term| matches!(term, Term::Square(_))),
            words: word_kernel(items, 0..design.stems as u32),
            kin: word_kernel(items, design.stems as u32..design.vocabulary.len() as u32),
        }
    }

    /// Of the log-odds, `[n, n]`.
    fn covariance(&self, priors: &Priors) -> Vec<f64> {
        let square = |sd: f64| sd * sd;
        let [bias, style, detail] = [priors.bias, priors.style, priors.detail].map(square);
        let [curve, word, kin] = [priors.curve, priors.word, priors.kin].map(square);
        let mix = |at: usize| {
            let words = word * self.words[at] + kin * self.kin[at];
            bias + style * self.style[at] + detail * self.detail[at] + curve * self.curve[at] + words
        };
        (0..self.words.len()).map(mix).collect()
    }

    fn column(&self, term: Term) -> Vec<f64> {
        self.items.iter().map(|item| term.value(&item.measures)).collect()
    }

    fn posterior(&self, covariance: &[f64]) -> Posterior {
        let n = self.liked.len();
        let product = |x: &[f64]| -> Vec<f64> { (0..n).map(|row| dot(&covariance[row * n..(row + 1) * n], x)).collect() };
        let mut logits = vec![0.0; n];
        let mut found = Posterior { evidence: f64::NEG_INFINITY, root: Vec::new(), factor: Vec::new(), residual: Vec::new() };
        for _ in 0..10 {
            let p: Vec<f64> = logits.iter().map(|logit| sigmoid(*logit)).collect();
            let root: Vec<f64> = p.iter().map(|p| (p * (1.0 - p)).max(1e-9).sqrt()).collect();
            let mut matrix = vec![0.0; n * n];
            for row in 0..n {
                for column in 0..=row {
                    matrix[row * n + column] = root[row] * root[column] * covariance[row * n + column];
                }
                matrix[row * n + row] += 1.0;
            }
            let factor = cholesky(&matrix, n);
            let target: Vec<f64> = (0..n).map(|i| root[i] * root[i] * logits[i] + self.liked[i] - p[i]).collect();
            let mut inner: Vec<f64> = product(&target).iter().zip(&root).map(|(x, root)| x * root).collect();
            solve_cholesky(&factor, n, &mut inner);
            let residual: Vec<f64> = (0..n).map(|i| target[i] - root[i] * inner[i]).collect();
            logits = product(&residual);
            let log = |(z, liked): (&f64, &f64)| if *liked > 0.5 { sigmoid(*z) } else { sigmoid(-z) }.max(1e-300).ln();
            let likelihood: f64 = logits.iter().zip(&self.liked).map(log).sum();
            let volume: f64 = (0..n).map(|i| factor[i * n + i].ln()).sum();
            let evidence = likelihood - 0.5 * dot(&residual, &logits) - volume;
            let settled = (evidence - found.evidence).abs() < 0.01;
            found = Posterior { evidence, root, factor, residual };
            if settled {
                break;
            }
        }
        found
    }
}

/// The mode of the log-odds and what is left to explain there.
struct Posterior {
    /// Log marginal likelihood of the verdicts.
    evidence: f64,
    /// Square root of the curvature of each verdict.
    root: Vec<f64>,
    /// Lower Cholesky factor of 1 + W½ K W½.
    factor: Vec<f64>,
    /// Verdict less its probability.
    residual: Vec<f64>,
}

impl Posterior {
    /// Quality and sparsity factors of one more column.
    fn factors(&self, column: &[f64]) -> (f64, f64) {
        let n = column.len();
        let mut scaled: Vec<f64> = column.iter().zip(&self.root).map(|(x, root)| x * root).collect();
        for i in 0..n {
            scaled[i] = (scaled[i] - dot(&self.factor[i * n..i * n + i], &scaled[..i])) / self.factor[i * n + i];
        }
        (dot(column, &self.residual), dot(&scaled, &scaled))
    }
}

fn word_kernel(items: &[Item], columns: Range<u32>) -> Vec<f64> {
    let mut kernel = Vec::with_capacity(items.len() * items.len());
    let mut dense = vec![0.0; columns.len()];
    let within: Vec<Vec<(usize, f64)>> = items
        .iter()
        .map(|item| item.words.iter().filter(|(at, _)| columns.contains(at)).map(|(at, x)| ((at - columns.start) as usize, *x)).collect())
        .collect();
    for item in &within {
        item.iter().for_each(|(column, value)| dense[*column] = *value);
        kernel.extend(within.iter().map(|other| other.iter().map(|(column, value)| dense[*column] * value).sum::<f64>()));
        item.iter().for_each(|(column, _)| dense[*column] = 0.0);
    }
    kernel
}
