//! The ensemble vote: ranks under each score, combined by a weighted Borda count.

use domain::{Scores, Settings};

/// How much each score counts; only their proportions matter. Negative or non-finite weights count as zero.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct VoteWeights {
    pub taste: f64,
    pub quality: f64,
    pub on_prompt: f64,
    pub fluency: f64,
    pub genre: f64,
}

impl From<&Settings> for VoteWeights {
    fn from(settings: &Settings) -> Self {
        Self {
            taste: settings.weight_taste,
            quality: settings.weight_quality,
            on_prompt: settings.weight_on_prompt,
            fluency: settings.weight_fluency,
            genre: settings.weight_genre,
        }
    }
}

impl Default for VoteWeights {
    fn default() -> Self {
        Self::from(&Settings::default())
    }
}

/// How good a text is by itself, 0–10: the weighted mean of its scores, where [`vote`] only ranks it among its rivals. Taste
/// counts where it is known; without a positive weight it is the quality.
pub fn standing(scores: &Scores, weights: &VoteWeights) -> f64 {
    let parts = [
        (weights.taste, scores.taste.map(|taste| 10.0 * taste)),
        (weights.quality, Some(scores.quality)),
        (weights.on_prompt, Some(10.0 * scores.on_prompt)),
        (weights.fluency, Some(10.0 * scores.fluency)),
        (weights.genre, Some(10.0 * scores.genre)),
    ];
    let counted = parts.iter().filter_map(|(weight, score)| Some((*weight, (*score)?)));
    let (sum, all) = counted
        .filter(|(weight, score)| *weight > 0.0 && weight.is_finite() && score.is_finite())
        .fold((0.0, 0.0), |(sum, all), (weight, score)| (sum + weight * score, all + weight));
    if all > 0.0 { sum / all } else { scores.quality }
}

/// Fills `total` (0–10) of every candidate and returns their indices, best first.
///
/// Each score is a voter that ranks the candidates and gives each one point for every candidate it beats and half a
/// point for every tie (J.-C. de Borda, "Mémoire sur les élections au scrutin", 1781, with average ranks for ties);
/// `total` is the weighted mean share of points times 10, so a candidate that is best in everything gets 10. Ranks, not
/// values, are combined, because the scores have different units. Taste votes only when every candidate has it. With
/// no voter of positive weight all get 5; a candidate without rivals gets 10. Equal totals keep the order of writing.
pub fn vote(candidates: &mut [Scores], weights: &VoteWeights) -> Vec<usize> {
    let rivals = candidates.len().saturating_sub(1);
    let voters: [(f64, fn(&Scores) -> Option<f64>); 5] = [
        (weights.taste, |scores| scores.taste),
        (weights.quality, |scores| Some(scores.quality)),
        (weights.on_prompt, |scores| Some(scores.on_prompt)),
        (weights.fluency, |scores| Some(scores.fluency)),
        (weights.genre, |scores| Some(scores.genre)),
    ];
    let mut points = vec![0.0; candidates.len()];
    let mut weight_sum = 0.0;
    for (weight, score) in voters {
        if !(weight > 0.0 && weight.is_finite()) {
            continue;
        }
        // A score that is not a number must lose to every other.
        let values: Option<Vec<f64>> =
            candidates.iter().map(|one| score(one).map(|value| if value.is_nan() { f64::NEG_INFINITY } else { value })).collect();
        let Some(values) = values else { continue };
        weight_sum += weight;
        for (point, value) in points.iter_mut().zip(&values) {
            let beaten = values.iter().filter(|other| *other < value).count() as f64;
            let tied = values.iter().filter(|other| *other == value).count() as f64 - 1.0;
            *point += weight * (beaten + 0.5 * tied);
        }
    }
    for (one, point) in candidates.iter_mut().zip(&points) {
        one.total = match (rivals, weight_sum > 0.0) {
            (0, _) => 10.0,
            (_, false) => 5.0,
            // Rounded, so that sums in another order cannot break a tie.
            _ => (10.0 * point / (weight_sum * rivals as f64) * 1e9).round() / 1e9,
        };
    }
    let mut order: Vec<usize> = (0..candidates.len()).collect();
    order.sort_by(|a, b| candidates[*b].total.total_cmp(&candidates[*a].total));
    order
}
