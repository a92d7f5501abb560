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
use super::{Priors, TasteData, luck, sigmoid};
use crate::features::STYLE;
use crate::{kin, single};
use std::ops::Range;

/// More thumbs and comparisons than these tell the terms no better, and the time grows with their cube.
const MOST: usize = 100;
const MOST_COMPARISONS: usize = 40;
/// Thumbs from which those are taken: when folds are held out, as many are left.
const MOST_MEASURED: usize = 200;

/// Times that terms are looked for, each on top of what was found before.
const ROUNDS: usize = 2;

/// Variances that a term may have, all as likely.
const VARIANCES: [f64; 4] = [0.05, 0.2, 0.8, 2.0];

/// How likely it is a priori that a person has a strong taste for one of these, all of a kind together.
const STRONG_FEATURE: f64 = 1.5;
const STRONG_NEAR: f64 = 0.8;
const STRONG_PRODUCT: f64 = 0.3;
/// Coarse groups, fine ones, those that keep company and themes.
const STRONG_KIN: [f64; 4] = [0.3, 0.7, 0.7, 1.0];
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
    /// Log of how much likelier the newest verdicts are under this than under no taste at all (a Bayes factor).
    pub evidence: f64,
    /// The chance that verdicts without any taste look as much like one.
    pub chance: f64,
}

pub(super) fn weigh(verdicts: &Verdicts, priors: &Priors, choose: bool) -> Weighed {
    let all = verdicts.part(&|_| true);
    let (chosen, evidence) = if choose {
        verdicts.chosen(&all, priors)
    } else {
        (Vec::new(), verdicts.posterior(&all, &verdicts.base_of(&all), None).evidence - verdicts.nothing(&all, priors))
    };
    Weighed { chosen, evidence, chance: verdicts.chance() }
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
pub(super) fn change(data: &TasteData, design: &Design, priors: &Priors) -> usize {
    let end = data.thumbs.len();
    let Some(most) = CHANGES.into_iter().filter(|after| end >= after + 12).max() else { return 0 };
    let first = end.saturating_sub(MOST.max(most));
    let [style, detail, word] = ANY_TASTE;
    let rows: Vec<Verdict> = (first..end).map(|item| Verdict::thumb(data, item)).collect();
    let covariance = covariance(design, &rows, &Priors { style, detail, word, ..*priors });
    let liked: Vec<f64> = rows.iter().map(|row| row.liked).collect();
    let evidence = |from: usize, to: usize| {
        let part = from - first..to - first;
        let between = part.clone().flat_map(|row| &covariance[row * rows.len()..][part.clone()]).copied();
        posterior(&between.collect::<Vec<f64>>(), &liked[part], None).evidence
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

/// The newest verdicts since a taste is the present one, and what is measured of them.
pub(super) struct Verdicts {
    rows: Vec<Verdict>,
    terms: Vec<(Term, f64)>,
    /// What each term measures of each verdict, `[rows, terms]`.
    values: Vec<f32>,
    /// Covariance of the log-odds a priori, `[rows, rows]`, before any term is chosen.
    base: Vec<f64>,
}

impl Verdicts {
    pub fn new(data: &TasteData, design: &Design, priors: &Priors, since: usize) -> Self {
        let thumbs = data.thumbs.len();
        let first = since.max(thumbs.saturating_sub(MOST_MEASURED));
        let mut rows: Vec<Verdict> = (first..thumbs).map(|item| Verdict::thumb(data, item)).collect();
        let comparisons = (0..data.comparisons.len()).rev().take(MOST_COMPARISONS).map(|at| thumbs + 2 * at);
        rows.extend(comparisons.map(|item| Verdict { item, other: Some(item + 1), liked: 1.0 }));
        let terms = candidates();
        let value = |row: &Verdict, term: Term| row.value(&design.items, term) as f32;
        let values = rows.iter().flat_map(|row| terms.iter().map(move |(term, _)| value(row, *term))).collect();
        let base = covariance(design, &rows, priors);
        Self { rows, terms, values, base }
    }

    /// The terms that the verdicts on the items in `used` speak for.
    pub fn chosen_by(&self, priors: &Priors, used: &dyn Fn(usize) -> bool) -> Vec<(Term, f64)> {
        self.chosen(&self.part(used), priors).0
    }

    /// The newest rows whose items are `used`, in order.
    fn part(&self, used: &dyn Fn(usize) -> bool) -> Vec<usize> {
        let thumbs = self.rows.iter().take_while(|row| row.other.is_none()).count();
        let mut part: Vec<usize> = (0..thumbs).rev().filter(|row| used(self.rows[*row].item)).take(MOST).collect();
        part.reverse();
        part.extend((thumbs..self.rows.len()).filter(|row| used(self.rows[*row].item)));
        part
    }

    fn values_of(&self, row: usize) -> &[f32] {
        &self.values[row * self.terms.len()..(row + 1) * self.terms.len()]
    }

    fn base_of(&self, part: &[usize]) -> Vec<f64> {
        part.iter().flat_map(|a| part.iter().map(move |b| self.base[a * self.rows.len() + b])).collect()
    }

    fn posterior(&self, part: &[usize], covariance: &[f64], start: Option<Vec<f64>>) -> Posterior {
        posterior(covariance, &part.iter().map(|row| self.rows[*row].liked).collect::<Vec<f64>>(), start)
    }

    /// The evidence for no taste at all: some people like more texts than others, and that is all. One number stands for it, so
    /// its covariance, the same between all thumbs, need not be written down.
    fn nothing(&self, part: &[usize], priors: &Priors) -> f64 {
        let variance = priors.bias * priors.bias;
        let of_thumbs = || part.iter().map(|row| &self.rows[*row]).filter(|row| row.other.is_none());
        let thumbs = of_thumbs().count() as f64;
        let liked = of_thumbs().map(|row| row.liked).sum::<f64>();
        let mut bias = 0.0;
        for _ in 0..10 {
            let p = sigmoid(bias);
            bias += (variance * (liked - thumbs * p) - bias) / (1.0 + variance * thumbs * p * (1.0 - p));
        }
        let p = sigmoid(bias);
        let log = |z: f64| sigmoid(z).max(1e-300).ln();
        let likelihood = liked * log(bias) + (thumbs - liked) * log(-bias) + (part.len() as f64 - thumbs) * log(0.0);
        likelihood - 0.5 * bias * bias / variance.max(1e-12) - 0.5 * (variance * thumbs * p * (1.0 - p)).ln_1p()
    }

    /// The chance that all of them are luck.
    fn chance(&self) -> f64 {
        let columns: Vec<f32> =
            (0..self.terms.len()).flat_map(|term| (0..self.rows.len()).map(move |row| self.values_of(row)[term])).collect();
        let said: Vec<luck::Said> = self.rows.iter().map(|row| row.other.is_none().then_some(row.liked > 0.5)).collect();
        luck::chance(&self.terms, &columns, &said)
    }

    /// The terms that are believed by some rows, each with its standard deviation a priori, and the evidence for all of it.
    fn chosen(&self, part: &[usize], priors: &Priors) -> (Vec<(Term, f64)>, f64) {
        let n = part.len();
        if n == 0 {
            return (Vec::new(), 0.0);
        }
        let mut covariance = self.base_of(part);
        let mut posterior = self.posterior(part, &covariance, None);
        let mut evidence = posterior.evidence - self.nothing(part, priors);
        let mut variances = vec![0.0; self.terms.len()];
        for round in 0..ROUNDS {
            if round > 0 {
                posterior = self.posterior(part, &covariance, Some(posterior.logits));
            }
            let Shares { evidence: more, variances: found } = Shares::new(self, part, &posterior);
            evidence += more;
            if round + 1 < ROUNDS {
                self.add(part, &found, &mut covariance);
            }
            variances.iter_mut().zip(&found).for_each(|(sum, found)| *sum += found);
        }
        let mut order: Vec<usize> = (0..variances.len()).filter(|at| variances[*at] > LEAST_VARIANCE).collect();
        order.sort_by(|a, b| variances[*b].total_cmp(&variances[*a]).then(a.cmp(b)));
        order.truncate(KEPT);
        let scale = |at: usize| (variances[at] + self.terms[at].0.scale(priors).powi(2)).sqrt();
        (order.into_iter().map(|at| (self.terms[at].0, scale(at))).collect(), evidence)
    }

    /// Adds what terms of these variances have in common to the covariance of some rows.
    fn add(&self, part: &[usize], variances: &[f64], covariance: &mut [f64]) {
        let believed: Vec<(usize, f64)> =
            variances.iter().enumerate().filter(|(_, variance)| **variance > LEAST_VARIANCE).map(|(at, v)| (at, v.sqrt())).collect();
        let scaled: Vec<f64> =
            part.iter().flat_map(|row| believed.iter().map(|(term, sd)| f64::from(self.values_of(*row)[*term]) * sd)).collect();
        let n = part.len();
        let row = |at: usize| &scaled[at * believed.len()..(at + 1) * believed.len()];
        for a in 0..n {
            for b in 0..=a {
                let more = dot(row(a), row(b));
                covariance[a * n + b] += more;
                if a != b {
                    covariance[b * n + a] += more;
                }
            }
        }
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
    fn new(verdicts: &Verdicts, part: &[usize], posterior: &Posterior) -> Self {
        let terms = &verdicts.terms;
        let mut qualities = vec![0.0f32; terms.len()];
        for (row, residual) in part.iter().zip(&posterior.residual) {
            let residual = *residual as f32;
            qualities.iter_mut().zip(verdicts.values_of(*row)).for_each(|(sum, x)| *sum += residual * x);
        }
        let sparsities = posterior.sparsities(verdicts, part, &qualities);
        // Log of prior odds times Bayes factor, a term at a variance.
        let gain = |((quality, sparsity), (_, likely)): ((&f32, &f64), &(Term, f64))| {
            let squared = f64::from(*quality).powi(2);
            VARIANCES.map(|variance| {
                let spread = 1.0 + variance * sparsity;
                0.5 * (variance * squared / spread - spread.ln()) + likely - (VARIANCES.len() as f64).ln()
            })
        };
        let gains: Vec<_> = qualities.iter().zip(&sparsities).zip(terms).map(gain).collect();
        // Nothing more to find is one of the possibilities, with odds of one.
        let most = gains.iter().flatten().copied().fold(0.0, f64::max);
        let odds: Vec<_> = gains.iter().map(|gains| gains.map(|gain| (gain - most).exp())).collect();
        let all = (-most).exp() + odds.iter().flatten().sum::<f64>();
        let prior = 1.0 + terms.iter().map(|(_, likely)| likely.exp()).sum::<f64>();
        let expected = |odds: &[f64; VARIANCES.len()]| odds.iter().zip(VARIANCES).map(|(odds, variance)| odds / all * variance).sum();
        Self { variances: odds.iter().map(expected).collect(), evidence: most + all.ln() - prior.ln() }
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

/// From the log-odds `start`, or from even chances; where it starts decides only how soon it is there.
fn posterior(covariance: &[f64], liked: &[f64], start: Option<Vec<f64>>) -> Posterior {
    let n = liked.len();
    let product = |x: &[f64]| -> Vec<f64> { (0..n).map(|row| dot(&covariance[row * n..(row + 1) * n], x)).collect() };
    let mut logits = start.unwrap_or_else(|| vec![0.0; n]);
    let mut found =
        Posterior { evidence: f64::NEG_INFINITY, logits: Vec::new(), root: Vec::new(), factor: Vec::new(), residual: Vec::new() };
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
        let target: Vec<f64> = (0..n).map(|i| root[i] * root[i] * logits[i] + liked[i] - p[i]).collect();
        let mut inner: Vec<f64> = product(&target).iter().zip(&root).map(|(x, root)| x * root).collect();
        solve_cholesky(&factor, n, &mut inner);
        let residual: Vec<f64> = (0..n).map(|i| target[i] - root[i] * inner[i]).collect();
        logits = product(&residual);
        let log = |(z, liked): (&f64, &f64)| if *liked > 0.5 { sigmoid(*z) } else { sigmoid(-z) }.max(1e-300).ln();
        let likelihood: f64 = logits.iter().zip(liked).map(log).sum();
        let volume: f64 = (0..n).map(|i| factor[i * n + i].ln()).sum();
        let evidence = likelihood - 0.5 * dot(&residual, &logits) - volume;
        let settled = (evidence - found.evidence).abs() < 0.01;
        found = Posterior { evidence, logits: logits.clone(), root, factor, residual };
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
    logits: Vec<f64>,
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
    /// The sparsity of each term; of those that explain little, a bound from above.
    fn sparsities(&self, verdicts: &Verdicts, part: &[usize], qualities: &[f32]) -> Vec<f64> {
        let mut sums = vec![0.0f32; qualities.len()];
        for (row, root) in part.iter().zip(&self.root) {
            let weight = (root * root) as f32;
            sums.iter_mut().zip(verdicts.values_of(*row)).for_each(|(sum, x)| *sum += weight * x * x);
        }
        let told: Vec<f32> = qualities.iter().zip(&sums).map(|(quality, sum)| quality * quality / (sum + 0.5)).collect();
        let mut order: Vec<usize> = (0..sums.len()).collect();
        if order.len() > SHORTLIST {
            order.select_nth_unstable_by(SHORTLIST, |a, b| told[*b].total_cmp(&told[*a]).then(a.cmp(b)));
            order.truncate(SHORTLIST);
        }
        let short: Vec<f64> =
            order.iter().flat_map(|term| part.iter().map(move |row| f64::from(verdicts.values_of(*row)[*term]))).collect();
        let mut sums: Vec<f64> = sums.into_iter().map(f64::from).collect();
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
