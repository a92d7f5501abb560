//! Rates, areas under curves, and how sure they are.

/// A rate with its 95% interval: `(rate, low, high)`, each 0–1; `(0, 0, 1)` without trials.
///
/// Source: E. B. Wilson, "Probable inference, the law of succession, and statistical inference", 1927. Unlike the
/// normal interval it stays inside 0–1 and is honest for few trials. `wins` may be fractional: half for a tie.
pub fn wilson(wins: f64, n: f64) -> (f64, f64, f64) {
    const Z: f64 = 1.959_963_985;
    if !(n > 0.0 && n.is_finite() && wins.is_finite()) {
        return (0.0, 0.0, 1.0);
    }
    let rate = (wins / n).clamp(0.0, 1.0);
    let scale = 1.0 + Z * Z / n;
    let centre = (rate + Z * Z / (2.0 * n)) / scale;
    let half = Z * (rate * (1.0 - rate) / n + Z * Z / (4.0 * n * n)).sqrt() / scale;
    (rate, (centre - half).clamp(0.0, rate), (centre + half).clamp(rate, 1.0))
}

/// Area under the ROC curve: the chance that a liked text scores above a disliked one, ties counting half.
/// `None` unless both verdicts are there.
pub fn auc(scores: &[f64], liked: &[bool]) -> Option<f64> {
    let mut order: Vec<usize> = (0..scores.len().min(liked.len())).collect();
    order.sort_by(|a, b| scores[*a].total_cmp(&scores[*b]));
    let positives = order.iter().filter(|i| liked[**i]).count() as f64;
    let negatives = order.len() as f64 - positives;
    if positives == 0.0 || negatives == 0.0 {
        return None;
    }
    let mut rank_sum = 0.0;
    let mut start = 0;
    while start < order.len() {
        let mut end = start + 1;
        while end < order.len() && scores[order[end]] == scores[order[start]] {
            end += 1;
        }
        let mean_rank = (start + end + 1) as f64 / 2.0;
        rank_sum += mean_rank * order[start..end].iter().filter(|i| liked[**i]).count() as f64;
        start = end;
    }
    Some((rank_sum - positives * (positives + 1.0) / 2.0) / (positives * negatives))
}

/// Standard error of an AUC under *no* skill, from the rank-sum distribution (Mann & Whitney 1947):
/// √((p + n + 1) / (12 p n)). It is what an estimate must beat to be more than luck.
pub(crate) fn auc_error_of_chance(positives: usize, negatives: usize) -> f64 {
    let (p, n) = (positives as f64, negatives as f64);
    if p == 0.0 || n == 0.0 { f64::INFINITY } else { ((p + n + 1.0) / (12.0 * p * n)).sqrt() }
}
