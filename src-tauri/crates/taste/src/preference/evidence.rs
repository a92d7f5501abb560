//! How far each group of features may be believed: priors chosen by what they make of the thumbs.

use super::design::{Design, Item};
use super::solve::{cholesky, dot, solve_cholesky};
use super::{Priors, TasteData, sigmoid};
use crate::features::STYLE;

/// More thumbs than this tell the scales no better, and the time grows with their cube.
const MOST: usize = 80;

/// Scales of the style features, their curves and the words that are tried.
const STYLES: [f64; 2] = [0.4, 0.9];
const CURVES: [f64; 2] = [0.08, 0.3];
const WORDS: [f64; 3] = [0.4, 1.6, 4.5];

/// Priors, and the log of how much likelier the thumbs are under them than under no taste at all (a Bayes factor).
pub(super) struct Weighed {
    pub priors: Priors,
    pub evidence: f64,
}

/// The least by which other scales must be likelier than those to start from; less is luck.
const MARGIN: f64 = 1.0;

/// `start` with the scales under which the newest thumbs are likeliest: a group that explains nothing stays tight, one
/// that explains much widens as thumbs show it.
///
/// Maximises Laplace's approximation of the marginal likelihood of a Gaussian-process classifier whose kernel is the
/// prior covariance of the log-odds, which is the same model seen from the texts instead of the weights (Rasmussen &
/// Williams, "Gaussian Processes for Machine Learning", 2006, algorithms 3.1 and 5.1).
pub(super) fn weigh(data: &TasteData, design: &Design, start: &Priors, choose: bool) -> Weighed {
    let first = data.thumbs.len().saturating_sub(MOST);
    let items = &design.items[first..data.thumbs.len()];
    let liked: Vec<f64> = data.thumbs[first..].iter().map(|thumb| f64::from(thumb.liked)).collect();
    let n = items.len();
    let kernels = [kernel(items, |item| &item.dense[1..=STYLE]), kernel(items, |item| &item.dense[1 + STYLE..])];
    let words = word_kernel(items, design.vocabulary.len());
    let mut logits = vec![0.0; n];
    let mut evidence = |priors: &Priors| {
        let [style, curve, word] = [priors.style, priors.curve, priors.word].map(|sd| sd * sd);
        let mix = |at: usize| priors.bias * priors.bias + style * kernels[0][at] + curve * kernels[1][at] + word * words[at];
        log_evidence(&(0..n * n).map(mix).collect::<Vec<f64>>(), &liked, &mut logits)
    };
    let nothing = evidence(&Priors { style: 0.0, curve: 0.0, word: 0.0, ..*start });
    let mut best = Weighed { priors: *start, evidence: evidence(start) - nothing };
    if choose {
        let first = best.evidence;
        for (style, curve, word) in STYLES.iter().flat_map(|s| CURVES.iter().flat_map(move |c| WORDS.iter().map(move |w| (*s, *c, *w)))) {
            let priors = Priors { style, curve, word, ..*start };
            let evidence = evidence(&priors) - nothing;
            if evidence > best.evidence.max(first + MARGIN) {
                best = Weighed { priors, evidence };
            }
        }
    }
    best
}

fn kernel<'i>(items: &'i [Item], part: impl Fn(&'i Item) -> &'i [f64]) -> Vec<f64> {
    let rows: Vec<&[f64]> = items.iter().map(part).collect();
    rows.iter().flat_map(|a| rows.iter().map(move |b| dot(a, b))).collect()
}

fn word_kernel(items: &[Item], vocabulary: usize) -> Vec<f64> {
    let mut kernel = Vec::with_capacity(items.len() * items.len());
    let mut dense = vec![0.0; vocabulary];
    for item in items {
        for (column, value) in &item.words {
            dense[*column as usize] = *value;
        }
        kernel.extend(items.iter().map(|other| other.words.iter().map(|(column, value)| dense[*column as usize] * value).sum::<f64>()));
        for (column, _) in &item.words {
            dense[*column as usize] = 0.0;
        }
    }
    kernel
}

/// Log marginal likelihood of the verdicts; `logits` is where Newton's method starts and where it ended.
fn log_evidence(covariance: &[f64], liked: &[f64], logits: &mut Vec<f64>) -> f64 {
    let n = liked.len();
    let product = |x: &[f64]| -> Vec<f64> { (0..n).map(|row| dot(&covariance[row * n..(row + 1) * n], x)).collect() };
    let mut evidence = f64::NEG_INFINITY;
    for _ in 0..8 {
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
        let a: Vec<f64> = (0..n).map(|i| target[i] - root[i] * inner[i]).collect();
        *logits = product(&a);
        let likelihood: f64 =
            logits.iter().zip(liked).map(|(z, liked)| if *liked > 0.5 { sigmoid(*z) } else { sigmoid(-z) }.max(1e-300).ln()).sum();
        let volume: f64 = (0..n).map(|i| factor[i * n + i].ln()).sum();
        let next = likelihood - 0.5 * dot(&a, logits) - volume;
        let settled = (next - evidence).abs() < 0.01;
        evidence = next;
        if settled {
            break;
        }
    }
    evidence
}
