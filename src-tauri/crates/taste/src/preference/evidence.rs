//! What may be believed: which terms, how strongly, and since when, weighed by what they make of the verdicts.
//!
//! A person's taste is taken to be one or two things out of some thousand that could be it. Each is weighed by how much
//! likelier it makes the verdicts (its Bayes factor) and how likely it is a priori, and all that are likely are believed
//! together, each as far as its share goes: with few thumbs the shares are spread over many, with more they gather on one
//! (Bayesian model averaging; Hoeting et al., Statistical Science 1999). Picking the likeliest one instead reached a mean
//! AUC of 0.73 where this reaches 0.81, on the same verdicts.
//!
//! The marginal likelihood is Laplace's approximation for a Gaussian-process classifier whose kernel is the prior covariance
//! of the log-odds, which is the same model seen from the texts instead of the weights (Rasmussen & Williams, "Gaussian
//! Processes for Machine Learning", 2006, algorithms 3.1 and 5.1); one more term changes it in closed form (Tipping & Faul,
//! "Fast marginal likelihood maximisation for sparse Bayesian models", 2003).

use super::design::{Design, Item};
use super::solve::{cholesky, dot, solve_cholesky};
use super::term::{PLACES, Term};
use super::{Priors, TasteData, sigmoid};
use crate::features::STYLE;
use crate::{kin, single};
use std::ops::Range;

/// More thumbs and comparisons than these tell the terms no better, and the time grows with their cube.
const MOST: usize = 100;
const MOST_COMPARISONS: usize = 40;

/// Times that terms are looked for, each on top of what was found before.
const ROUNDS: usize = 2;

/// Variances that a term may have, all as likely.
const VARIANCES: [f64; 4] = [0.05, 0.2, 0.8, 2.0];

/// How likely it is a priori that a person has a strong taste for one of these, all of a kind together.
const STRONG_FEATURE: f64 = 1.5;
const STRONG_NEAR: f64 = 0.8;
const STRONG_PRODUCT: f64 = 0.3;
/// Coarse groups, fine ones and those that keep company.
const STRONG_KIN: [f64; 3] = [0.3, 0.7, 0.7];
/// Small words and others.
const STRONG_SINGLE: [f64; 2] = [1.0, 0.7];

/// Terms that are believed at most; the others' shares are too small to matter.
const KEPT: usize = 48;
const LEAST_VARIANCE: f64 = 1e-5;

/// Thumbs after which a change of taste is looked for, counted from the newest, and among how many.
const CHANGES: [usize; 6] = [12, 16, 20, 30, 40, 60];
const MOST_BEFORE_A_CHANGE: usize = 60;
/// A change must make the thumbs this much likelier (a Bayes factor of 150): people rarely change.
const CHANGE_MARGIN: f64 = 5.0;
/// Standard deviations of style, details and words under which a change is looked for: any taste at all.
const ANY_TASTE: [f64; 3] = [0.6, 0.3, 1.0];

/// What the verdicts speak for.
pub(super) struct Weighed {
    /// Terms with a scale of their own.
    pub chosen: Vec<(Term, f64)>,
    /// The first thumb of the present taste; those before it speak of another.
    pub since: usize,
    /// Log of how much likelier the newest verdicts are under this than under no taste at all (a Bayes factor).
    pub evidence: f64,
}

pub(super) fn weigh(data: &TasteData, design: &Design, priors: &Priors, choose: bool) -> Weighed {
    let since = if choose { change(data, design, priors) } else { 0 };
    let judged = Judged::new(data, design, priors, since, &|_| true);
    if !choose {
        return Weighed { chosen: Vec::new(), since, evidence: judged.posterior(&judged.base).evidence - judged.nothing(priors) };
    }
    let (chosen, evidence) = judged.chosen(priors);
    Weighed { chosen, since, evidence }
}

/// The terms that the verdicts on the items in `used` speak for.
pub(super) fn chosen(data: &TasteData, design: &Design, priors: &Priors, since: usize, used: &dyn Fn(usize) -> bool) -> Vec<(Term, f64)> {
    Judged::new(data, design, priors, since, used).chosen(priors).0
}

/// Every term that a person's taste could be, with the logarithm of how likely it is a priori.
fn candidates() -> Vec<(Term, f64)> {
    let mut all = Vec::new();
    let mut add = |terms: Vec<Term>, strong: f64| {
        let each = (strong / terms.len().max(1) as f64).ln();
        all.extend(terms.into_iter().map(|term| (term, each)));
    };
    let pairs = |a: usize| (a + 1..STYLE).map(move |b| Term::Product(a, b));
    let each = |range: Range<usize>, term: fn(usize) -> Term| -> Vec<Term> { range.map(term).collect() };
    add(each(0..STYLE, Term::Feature), STRONG_FEATURE);
    add((0..STYLE).flat_map(|at| (0..PLACES.len()).map(move |place| Term::Near(at, place))).collect(), STRONG_NEAR);
    add((0..STYLE).flat_map(pairs).collect(), STRONG_PRODUCT);
    kin::kinds().into_iter().zip(STRONG_KIN).for_each(|(range, strong)| add(each(range, Term::Kin), strong));
    single::kinds().into_iter().zip(STRONG_SINGLE).for_each(|(range, strong)| add(each(range, Term::Single), strong));
    all
}

/// The first thumb after the newest change of taste, or 0: the place where two tastes, one before it and one after,
/// make the thumbs so much likelier than one that it is no luck.
fn change(data: &TasteData, design: &Design, priors: &Priors) -> usize {
    let end = data.thumbs.len();
    let Some(most) = CHANGES.into_iter().filter(|after| end >= after + 12).max() else { return 0 };
    let first = end.saturating_sub(MOST.max(most));
    let [style, detail, word] = ANY_TASTE;
    let rows: Vec<Verdict> = (first..end).map(|item| Verdict::thumb(data, item)).collect();
    let covariance = covariance(design, &rows, &Priors { style, detail, word, ..*priors });
    let evidence = |from: usize, to: usize| {
        let part = from - first..to - first;
        let between = part.clone().flat_map(|row| &covariance[row * rows.len()..][part.clone()]).copied();
        posterior(&between.collect::<Vec<f64>>(), &rows[part.clone()]).evidence
    };
    let mut best = (CHANGE_MARGIN, 0);
    for after in CHANGES.into_iter().filter(|after| end >= after + 12) {
        let (from, at) = ((end - after).saturating_sub(MOST_BEFORE_A_CHANGE.min(MOST - after)), end - after);
        let gain = evidence(from, at) + evidence(at, end) - evidence(from, end);
        if gain > best.0 {
            best = (gain, at);
        }
    }
    best.1
}

/// A thumb (one item) or a comparison (two: `item` over `other`).
struct Verdict {
    item: usize,
    other: Option<usize>,
    liked: f64,
}

impl Verdict {
    fn thumb(data: &TasteData, item: usize) -> Self {
        Self { item, other: None, liked: f64::from(data.thumbs[item].liked) }
    }

    /// What a term measures of it.
    fn value(&self, items: &[Item], term: Term) -> f64 {
        let of = |item: usize| term.value(&items[item].measures);
        of(self.item) - self.other.map_or(0.0, of)
    }
}

/// The newest verdicts and what stands between them.
struct Judged<'d> {
    items: &'d [Item],
    rows: Vec<Verdict>,
    /// Covariance of the log-odds a priori, `[rows, rows]`, before any term is chosen.
    base: Vec<f64>,
}

impl<'d> Judged<'d> {
    fn new(data: &TasteData, design: &'d Design, priors: &Priors, since: usize, used: &dyn Fn(usize) -> bool) -> Self {
        let thumbs = data.thumbs.len();
        let comparisons = (0..data.comparisons.len()).rev().map(|at| thumbs + 2 * at);
        let compared = |item: usize| Verdict { item, other: Some(item + 1), liked: 1.0 };
        let mut rows: Vec<Verdict> =
            (since..thumbs).rev().filter(|item| used(*item)).take(MOST).map(|item| Verdict::thumb(data, item)).collect();
        rows.reverse();
        rows.extend(comparisons.filter(|item| used(*item)).take(MOST_COMPARISONS).map(compared));
        let base = covariance(design, &rows, priors);
        Self { items: &design.items, rows, base }
    }

    fn posterior(&self, covariance: &[f64]) -> Posterior {
        posterior(covariance, &self.rows)
    }

    /// The evidence for no taste at all: some people like more texts than others, and that is all.
    fn nothing(&self, priors: &Priors) -> f64 {
        let bias = |row: &Verdict| if row.other.is_none() { priors.bias } else { 0.0 };
        let covariance: Vec<f64> = self.rows.iter().flat_map(|a| self.rows.iter().map(move |b| bias(a) * bias(b))).collect();
        self.posterior(&covariance).evidence
    }

    /// The terms that are believed, each with its standard deviation a priori, and the evidence for all of it.
    fn chosen(&self, priors: &Priors) -> (Vec<(Term, f64)>, f64) {
        let n = self.rows.len();
        if n == 0 {
            return (Vec::new(), 0.0);
        }
        let candidates = candidates();
        let columns: Vec<f64> =
            candidates.iter().flat_map(|(term, _)| self.rows.iter().map(move |row| row.value(self.items, *term))).collect();
        let mut covariance = self.base.clone();
        let mut posterior = self.posterior(&covariance);
        let mut evidence = posterior.evidence - self.nothing(priors);
        let mut variances = vec![0.0; candidates.len()];
        for round in 0..ROUNDS {
            if round > 0 {
                posterior = self.posterior(&covariance);
            }
            let Shares { evidence: more, variances: found } = Shares::new(&candidates, &columns, &posterior);
            evidence += more;
            for (column, variance) in columns.chunks_exact(n).zip(&found).filter(|(_, variance)| **variance > LEAST_VARIANCE) {
                for (row, x) in covariance.chunks_exact_mut(n).zip(column) {
                    let scaled = variance * x;
                    row.iter_mut().zip(column).for_each(|(sum, y)| *sum += scaled * y);
                }
            }
            variances.iter_mut().zip(&found).for_each(|(sum, found)| *sum += found);
        }
        let mut order: Vec<usize> = (0..candidates.len()).filter(|at| variances[*at] > LEAST_VARIANCE).collect();
        order.sort_by(|a, b| variances[*b].total_cmp(&variances[*a]).then(a.cmp(b)));
        order.truncate(KEPT);
        let scale = |at: usize| (variances[at] + candidates[at].0.scale(priors).powi(2)).sqrt();
        (order.into_iter().map(|at| (candidates[at].0, scale(at))).collect(), evidence)
    }
}

/// How far each of some terms is believed on top of what is believed already.
struct Shares {
    /// Of each term, expected.
    variances: Vec<f64>,
    /// Log of how much likelier the verdicts are if one of the terms may count, or none.
    evidence: f64,
}

impl Shares {
    /// `columns` is what each term measures of each verdict, `[terms, rows]`.
    fn new(terms: &[(Term, f64)], columns: &[f64], posterior: &Posterior) -> Self {
        let rows = posterior.root.len().max(1);
        let qualities: Vec<f64> = columns.chunks_exact(rows).map(|column| dot(column, &posterior.residual)).collect();
        let sparsity = posterior.sparsities(columns, &qualities);
        // Log of prior odds times Bayes factor, a term at a variance.
        let gain = |((quality, sparsity), (_, likely)): ((&f64, &f64), &(Term, f64))| {
            VARIANCES.map(|variance| {
                let spread = 1.0 + variance * sparsity;
                0.5 * (variance * quality * quality / spread - spread.ln()) + likely - (VARIANCES.len() as f64).ln()
            })
        };
        let gains: Vec<_> = qualities.iter().zip(&sparsity).zip(terms).map(gain).collect();
        // Nothing more to find is one of the possibilities, with odds of one.
        let most = gains.iter().flatten().copied().fold(0.0, f64::max);
        let all = (-most).exp() + gains.iter().flatten().map(|gain| (gain - most).exp()).sum::<f64>();
        let prior = 1.0 + terms.iter().map(|(_, likely)| likely.exp()).sum::<f64>();
        let expected =
            |gains: &[f64; VARIANCES.len()]| gains.iter().zip(VARIANCES).map(|(gain, variance)| (gain - most).exp() / all * variance).sum();
        Self { variances: gains.iter().map(expected).collect(), evidence: most + all.ln() - prior.ln() }
    }
}

/// Of the log-odds a priori, `[rows, rows]`.
fn covariance(design: &Design, rows: &[Verdict], priors: &Priors) -> Vec<f64> {
    let scales: Vec<f64> = design.terms.iter().map(|term| term.scale(priors)).collect();
    let mut dense = Vec::with_capacity(rows.len() * scales.len());
    let mut words = Vec::with_capacity(rows.len());
    for row in rows {
        let (item, other) = (&design.items[row.item], row.other.map(|other| &design.items[other]));
        let value = |at: usize| item.dense[at] - other.map_or(0.0, |other| other.dense[at]);
        dense.extend((0..scales.len()).map(|at| scales[at] * value(at)));
        let mut held: Vec<(u32, f64)> = item.words.clone();
        held.extend(other.into_iter().flat_map(|other| other.words.iter().map(|(column, value)| (*column, -value))));
        words.push(held);
    }
    let mut covariance = Vec::with_capacity(rows.len() * rows.len());
    let mut spread = vec![0.0; design.vocabulary.len()];
    for (a, held) in dense.chunks_exact(scales.len().max(1)).zip(&words) {
        held.iter().for_each(|(column, value)| spread[*column as usize] += value * priors.word * priors.word);
        covariance.extend(
            dense
                .chunks_exact(scales.len().max(1))
                .zip(&words)
                .map(|(b, other)| dot(a, b) + other.iter().map(|(column, value)| spread[*column as usize] * value).sum::<f64>()),
        );
        held.iter().for_each(|(column, _)| spread[*column as usize] = 0.0);
    }
    covariance
}

fn posterior(covariance: &[f64], rows: &[Verdict]) -> Posterior {
    let n = rows.len();
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
        let target: Vec<f64> = (0..n).map(|i| root[i] * root[i] * logits[i] + rows[i].liked - p[i]).collect();
        let mut inner: Vec<f64> = product(&target).iter().zip(&root).map(|(x, root)| x * root).collect();
        solve_cholesky(&factor, n, &mut inner);
        let residual: Vec<f64> = (0..n).map(|i| target[i] - root[i] * inner[i]).collect();
        logits = product(&residual);
        let log = |(z, row): (&f64, &Verdict)| if row.liked > 0.5 { sigmoid(*z) } else { sigmoid(-z) }.max(1e-300).ln();
        let likelihood: f64 = logits.iter().zip(rows).map(log).sum();
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

/// Columns that are solved for together.
const LANES: usize = 8;

/// Terms whose sparsity is worked out exactly, those that explain the most.
const SHORTLIST: usize = 256;

impl Posterior {
    /// The sparsity of each column `[columns, rows]`; of those that explain little, a bound from above.
    fn sparsities(&self, columns: &[f64], qualities: &[f64]) -> Vec<f64> {
        let n = self.root.len().max(1);
        let weights: Vec<f64> = self.root.iter().map(|root| root * root).collect();
        let bound = |column: &[f64]| column.iter().zip(&weights).map(|(x, weight)| weight * x * x).sum::<f64>();
        let mut sums: Vec<f64> = columns.chunks_exact(n).map(bound).collect();
        let mut order: Vec<usize> = (0..sums.len()).collect();
        let told = |at: usize| qualities[at] * qualities[at] / (sums[at] + 0.5);
        order.sort_by(|a, b| told(*b).total_cmp(&told(*a)).then(a.cmp(b)));
        order.truncate(SHORTLIST);
        let short: Vec<f64> = order.iter().flat_map(|at| &columns[at * n..(at + 1) * n]).copied().collect();
        for (at, exact) in order.into_iter().zip(self.sparsity(&short)) {
            sums[at] = exact;
        }
        sums
    }

    /// xᵀ (K + W⁻¹)⁻¹ x of each column `[columns, rows]`: how much of it is seen already.
    fn sparsity(&self, columns: &[f64]) -> Vec<f64> {
        let n = self.root.len();
        let mut sums = Vec::with_capacity(columns.len() / n.max(1) + LANES);
        let mut solved = vec![[0.0; LANES]; n];
        for lanes in columns.chunks(n * LANES) {
            let column = |lane: usize, row: usize| lanes.get(lane * n + row).copied().unwrap_or(0.0);
            let mut sum = [0.0; LANES];
            for row in 0..n {
                let mut rest: [f64; LANES] = std::array::from_fn(|lane| column(lane, row) * self.root[row]);
                for (before, factor) in solved[..row].iter().zip(&self.factor[row * n..]) {
                    for lane in 0..LANES {
                        rest[lane] -= factor * before[lane];
                    }
                }
                let pivot = 1.0 / self.factor[row * n + row];
                for lane in 0..LANES {
                    rest[lane] *= pivot;
                    sum[lane] += rest[lane] * rest[lane];
                }
                solved[row] = rest;
            }
            sums.extend(&sum[..lanes.len() / n]);
        }
        sums
    }
}
