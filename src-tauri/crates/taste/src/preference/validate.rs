//! Does it predict thumbs that it has not seen?

use super::design::Design;
use super::evidence::Verdicts;
use super::{Priors, TasteData, solve};
use crate::interval;
use std::collections::HashMap;
use std::ops::Range;

/// The cross-validated area under the ROC curve and the least it can be said to be.
#[derive(Clone, Copy)]
pub(super) struct Validated {
    pub auc: f64,
    pub low: f64,
    /// Whether it is so far above one half that using it helps.
    pub beyond_chance: bool,
}

/// Standard errors of chance between the area and the least that it can be said to be.
const Z: f64 = 2.0;
/// Standard errors of chance by which the area must exceed one half; `luck` does the rest.
const BEYOND_CHANCE: f64 = 1.0;
/// Folds while thumbs are few, and when each fold has enough to learn from anyway.
const FOLDS: usize = 5;
const FEWER_FOLDS: usize = 3;
const MANY: usize = 200;
/// More thumbs than this tell the figure no better; the newest are used.
const MOST: usize = 400;

/// Cross-validation that holds out whole generations, so that no text is judged by a model that has seen its
/// siblings, and chooses the terms anew in each fold; repeated with other folds while thumbs are few. `None` when no fold can be made.
pub(super) fn cross_validate(
    data: &TasteData,
    design: &Design,
    verdicts: &Verdicts,
    priors: &Priors,
    since: usize,
    steps: usize,
) -> Option<Validated> {
    let first = data.thumbs.len().saturating_sub(MOST);
    let recent = first..data.thumbs.len();
    let liked: Vec<bool> = data.thumbs[recent.clone()].iter().map(|thumb| thumb.liked).collect();
    let positives = liked.iter().filter(|liked| **liked).count();
    let negatives = liked.len() - positives;
    let repeats = match liked.len() {
        0..40 => 3,
        40..80 => 2,
        _ => 1,
    };
    let mut sum = 0.0;
    for repeat in 0..repeats {
        let count = if liked.len() < MANY { FOLDS } else { FEWER_FOLDS };
        let folds = folds(data, design, first, count, repeat);
        let judged = &|fold: usize| judge_fold(design, verdicts, priors, since, &folds, fold, recent.clone(), steps);
        // The folds know nothing of each other; together they take no longer than one where cores are free.
        let found: Vec<Vec<(usize, f64)>> = std::thread::scope(|scope| {
            let others: Vec<_> = (1..count).map(|fold| scope.spawn(move || judged(fold))).collect();
            let mut found = vec![judged(0)];
            found.extend(others.into_iter().map(|fold| fold.join().unwrap_or_default()));
            found
        });
        let mut scores = vec![0.0; liked.len()];
        for (item, score) in found.into_iter().flatten() {
            scores[item - first] = score;
        }
        sum += interval::auc(&scores, &liked)?;
    }
    let auc = sum / repeats as f64;
    let error = interval::auc_error_of_chance(positives, negatives);
    Some(Validated { auc, low: auc - Z * error, beyond_chance: auc - BEYOND_CHANCE * error > 0.5 })
}

/// The scores of the thumbs `recent` in `fold` by a model that learned from the other folds.
#[allow(clippy::too_many_arguments)]
fn judge_fold(
    design: &Design,
    verdicts: &Verdicts,
    priors: &Priors,
    since: usize,
    folds: &[Option<usize>],
    fold: usize,
    recent: Range<usize>,
    steps: usize,
) -> Vec<(usize, f64)> {
    let held: Vec<usize> = recent.filter(|item| folds[*item] == Some(fold)).collect();
    if held.is_empty() {
        return Vec::new();
    }
    let used = |item: usize| folds[item].is_some_and(|of| of != fold);
    let chosen = verdicts.chosen_by(priors, &used);
    let part = design.only(priors, &chosen, since, used);
    let fit = solve::fit(&part, |_| true, steps, None);
    // Without the bias: it differs between folds by how many liked texts each holds out, and would count as skill, or
    // against it, when their scores are pooled.
    let score = |item: usize| {
        let measures = &design.items[item].measures;
        part.terms.iter().zip(&fit.theta).skip(1).map(|(term, weight)| term.value(measures) * weight).sum::<f64>()
    };
    held.into_iter().map(|item| (item, score(item))).collect()
}

/// The fold of every item (`None`: not used). Generations are dealt out in order of their share of liked texts, so
/// that every fold has about the same; within one share the order is drawn from `repeat`.
fn folds(data: &TasteData, design: &Design, first: usize, count: usize, repeat: u64) -> Vec<Option<usize>> {
    let mut members: Vec<(Vec<usize>, usize)> = Vec::new();
    let mut by_name: HashMap<&str, usize> = HashMap::new();
    let thumbs = data.thumbs.iter().enumerate().skip(first).map(|(item, thumb)| (item, thumb.generation.as_str(), thumb.liked));
    for (item, generation, liked) in thumbs {
        let at = *by_name.entry(generation).or_insert_with(|| {
            members.push(Default::default());
            members.len() - 1
        });
        members[at].0.push(item);
        members[at].1 += usize::from(liked);
    }
    // From one or two generations no whole one can be spared: hold out single texts.
    let alone = members.len() < count;
    if alone {
        members = data.thumbs.iter().enumerate().skip(first).map(|(item, thumb)| (vec![item], usize::from(thumb.liked))).collect();
    }
    let mut state = 0x9e37_79b9_7f4a_7c15u64.wrapping_mul(repeat + 1);
    let mut keyed: Vec<(usize, u64, usize)> = members
        .iter()
        .enumerate()
        .map(|(at, (items, liked))| {
            // SplitMix64 (Steele, Lea & Flood 2014).
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            (liked * 1000 / items.len(), mixed ^ (mixed >> 27), at)
        })
        .collect();
    keyed.sort_unstable();
    let mut fold_of = vec![None; design.items.len()];
    for (at, (_, _, generation)) in keyed.into_iter().enumerate() {
        for item in &members[generation].0 {
            fold_of[*item] = Some(at % count);
        }
    }
    for (at, comparison) in data.comparisons.iter().enumerate() {
        // A comparison goes with its generation; one of another generation is always learned from.
        let same = by_name.get(comparison.generation.as_str()).filter(|_| !alone);
        let fold = same.map_or(Some(count), |generation| members[*generation].0.first().and_then(|item| fold_of[*item]));
        let item = data.thumbs.len() + 2 * at;
        fold_of[item] = fold;
        fold_of[item + 1] = fold;
    }
    fold_of
}
