//! The promotion check: is what was trained better than what is used now? On prompts that it has not seen.

use crate::base::LoadedBase;
use crate::dataset::{FrozenDataset, JudgedText, trains_on};
use crate::recipe::TrainedAdapter;
use crate::{App, Home, disarray};
use domain::{ApiError, Objective, Settings, Verdict};
use model::{Adapters, MemberSpec, Sampler};
use std::sync::Arc;
use taste::TasteModel;
use training::Control;

/// Pairs compared. With 60, a win rate of 63% has an interval that lies above one half.
const PAIRS: usize = 60;

/// Texts of each model for one prompt.
const TEXTS_A_PROMPT: usize = 2;

/// Longest text that is compared, in tokens.
const LENGTH: usize = 160;

/// Stories and prompts that nobody trains on, for measuring: from the project's own stories, held out by prompt.
const PROBES: &str = include_str!("../../../../assets/probes/stories.jsonl");

/// The seed of the comparison; fixed, so that the same adapter always gets the same verdict.
const SEED: u32 = 20_231;

/// Compares the trained adapter with what writes now (the active adapter, else the plain base).
///
/// Returns `None` when the job was paused or cancelled meanwhile.
pub(crate) fn against_current(
    app: &App,
    home: &Home,
    base: &LoadedBase,
    dataset: &FrozenDataset,
    objective: Objective,
    trained: &TrainedAdapter,
    control: &Control,
) -> Result<Option<Verdict>, ApiError> {
    let active = home.store.active_adapters(&dataset.base)?;
    let mut current = Adapters::default();
    for adapter in &active {
        app.adapter_weights(home, adapter)?.join(&mut current, adapter.strength);
    }
    // The new adapter takes the place of one of its kind; another kind that is active stays beside it.
    let mut candidate = current.clone();
    trained.weights.join(&mut candidate, 1.0);
    let opponent = match active.as_slice() {
        [] => "the plain base".to_owned(),
        active => active.iter().map(|adapter| adapter.name.as_str()).collect::<Vec<_>>().join(" + "),
    };
    let probes = probes(dataset)?;
    let judge = Judge { taste: app.confident_taste() };
    let mut wins = 0.0;
    let mut pairs = 0;
    let (mut new_texts, mut old_texts) = (Vec::new(), Vec::new());
    for probe in probes.iter().cycle().take(PAIRS / TEXTS_A_PROMPT) {
        // What a person's text interrupts is written again, with the same seeds.
        let (new, old) = loop {
            if control.breathe().is_err() {
                return Ok(None);
            }
            let wanted_elsewhere = || control.stop().is_some() || control.gate().is_busy();
            if let Some(written) = write_pairs(base, probe, pairs, &candidate, &current, &wanted_elsewhere)? {
                break written;
            }
        };
        for (new, old) in new.into_iter().zip(old) {
            wins += judge.prefers(probe, &new, &old);
            pairs += 1;
            new_texts.push(new);
            old_texts.push(old);
        }
    }
    let mut log_ratio = (0.0, 0.0);
    for probe in &probes {
        if control.breathe().is_err() {
            return Ok(None);
        }
        let (sum, tokens) = log_probability_gap(base, probe, &candidate, &current)?;
        log_ratio = (log_ratio.0 + sum, log_ratio.1 + tokens);
    }
    let disarray = disarray::look(base, &disarray::taught(dataset, objective), control)?;
    if control.stop().is_some() {
        return Ok(None);
    }
    let (win_rate, low, high) = taste::wilson(wins, pairs as f64);
    let fluency_ratio = (log_ratio.0 / f64::max(log_ratio.1, 1.0)).exp();
    let distinct = |texts: &[String]| taste::distinct_2(&texts.iter().map(String::as_str).collect::<Vec<_>>());
    let diversity_ratio = distinct(&new_texts) / distinct(&old_texts).max(1e-9);
    let mut verdict = Verdict {
        win_rate,
        low,
        high,
        pairs: pairs as u32,
        fluency_ratio,
        diversity_ratio,
        repetition: mean_repetition(&new_texts),
        repetition_before: mean_repetition(&old_texts),
        heldout_loss_before: trained.heldout_before,
        heldout_loss_after: trained.heldout_after,
        disarray,
        promoted: false,
        reason: String::new(),
        blind: None,
    };
    (verdict.promoted, verdict.reason) = decide(&verdict, judge.taste.is_some(), &opponent);
    Ok(Some(verdict))
}

fn mean_repetition(texts: &[String]) -> f64 {
    texts.iter().map(|text| taste::repetition(text)).sum::<f64>() / texts.len().max(1) as f64
}

/// Prefers by the person's taste where one is found, else by the quality rules.
struct Judge {
    taste: Option<Arc<TasteModel>>,
}

impl Judge {
    /// 1 when the new text is preferred, 0 when the old one is, a half for a tie.
    fn prefers(&self, probe: &JudgedText, new: &str, old: &str) -> f64 {
        let score = |text: &str| match &self.taste {
            Some(taste) => taste.predict(text).probability,
            None => {
                let input = taste::QualityInput {
                    prompt: &probe.prompt,
                    text,
                    finish: domain::FinishReason::End,
                    mean_logprob: None,
                    genres: &probe.genres,
                    style: probe.style,
                    others: &[],
                };
                taste::quality(&input).score
            }
        };
        let (new, old) = (score(new), score(old));
        if (new - old).abs() < 1e-9 { 0.5 } else { f64::from(u8::from(new > old)) }
    }
}

/// Held-out texts of the person first, then the built-in ones whose prompts were not trained on.
pub(crate) fn probes(dataset: &FrozenDataset) -> Result<Vec<JudgedText>, ApiError> {
    // Disliked texts are no measure of fluency.
    let mut probes: Vec<JudgedText> = dataset.heldout.iter().filter(|text| text.liked).cloned().collect();
    probes.extend(built_in_probes()?.into_iter().filter(|probe| !trains_on(dataset, &probe.prompt)));
    Ok(probes)
}

/// The project's own probe stories.
pub(crate) fn built_in_probes() -> Result<Vec<JudgedText>, ApiError> {
    let lines = PROBES.lines().filter(|line| !line.trim().is_empty());
    lines.map(|line| serde_json::from_str(line).map_err(ApiError::internal)).collect()
}

/// Texts of both sides for one prompt, with the same seeds, in one batch; `None` when it had to stop half-way.
pub(crate) fn write_pairs(
    base: &LoadedBase,
    probe: &JudgedText,
    first_seed: usize,
    new: &Adapters,
    old: &Adapters,
    must_stop: &dyn Fn() -> bool,
) -> Result<Option<(Vec<String>, Vec<String>)>, ApiError> {
    let usual = Settings::default();
    let sampler = |index: usize| Sampler::of(&usual, crate::write::candidate_seed(SEED, first_seed + index));
    let member = |side: &Adapters, index: usize| MemberSpec::with(sampler(index), side.clone());
    let members = (0..TEXTS_A_PROMPT).map(|index| member(new, index)).chain((0..TEXTS_A_PROMPT).map(|index| member(old, index)));
    let asked = (&probe.genres, probe.style, probe.prompt.as_str());
    let Some(mut texts) = base.write_as_usual(asked, members.collect(), LENGTH, must_stop)? else { return Ok(None) };
    let old = texts.split_off(TEXTS_A_PROMPT);
    Ok(Some((texts, old)))
}

/// Sum over tokens of (log-probability with the old side − with the new side), and the number of tokens.
fn log_probability_gap(base: &LoadedBase, probe: &JudgedText, new: &Adapters, old: &Adapters) -> Result<(f64, f64), ApiError> {
    let prefix = base.asked(&probe.genres, probe.style, &probe.prompt)?;
    let room = base.context().saturating_sub(prefix.len() + 256);
    let mut story = base.text(&probe.text);
    story.truncate(room);
    let sum = |side: &Adapters| -> Result<f64, ApiError> {
        Ok(base.score_with(side, &prefix, &story)?.iter().map(|value| f64::from(*value)).sum())
    };
    Ok((sum(old)? - sum(new)?, story.len() as f64))
}

/// Promoted or not, and why, in plain words.
fn decide(verdict: &Verdict, by_taste: bool, opponent: &str) -> (bool, String) {
    let percent = |share: f64| format!("{:.0}%", share * 100.0);
    // The best state is kept: when that is the start, the training found nothing that holds on unseen texts.
    let nothing_lasting =
        matches!((verdict.heldout_loss_before, verdict.heldout_loss_after), (Some(before), Some(after)) if after >= before);
    let against = format!(
        "{}It wins {} of {} pairs against {opponent} (95% interval {} to {})",
        if nothing_lasting { "On the texts kept back it is no better than before; more thumbs would help. " } else { "" },
        percent(verdict.win_rate),
        verdict.pairs,
        percent(verdict.low),
        percent(verdict.high)
    );
    if verdict.less_natural() {
        let worse = percent(verdict.fluency_ratio - 1.0);
        return (false, format!("{against}, but its language became less natural (perplexity +{worse}). It stays on trial."));
    }
    if verdict.less_varied() {
        return (
            false,
            format!("{against}, but its texts became less varied ({} of before). It stays on trial.", percent(verdict.diversity_ratio)),
        );
    }
    if verdict.repeats_itself() {
        let (new, old) = (percent(verdict.repetition), percent(verdict.repetition_before));
        return (
            false,
            format!("{against}, but its texts repeat themselves ({new} of all word sequences, {old} before). It stays on trial."),
        );
    }
    if let Some(disarray) = verdict.disarray.as_ref().filter(|disarray| disarray.outweighs()) {
        let reason = format!(
            "{against}, but {} of {} texts it learned from{} mean no more to the base than their words in any order would. \
             It stays on trial. If they are as you want them (another language can look like this), keep it.",
            disarray.texts,
            disarray.looked_at,
            disarray::examples(disarray),
        );
        return (false, reason);
    }
    if !by_taste {
        let reason =
            format!("{against}, by the quality rules only: there is no taste to judge with yet. Keep it if you like what it writes.");
        return (false, reason);
    }
    if verdict.low <= 0.5 {
        return (false, format!("{against}, by your taste. That could be chance, so it stays on trial."));
    }
    (true, format!("{against}, by your taste, and its language stayed natural and varied. It is better."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_wins_is_promoted_unless_its_language_suffered() {
        let good = Verdict {
            win_rate: 0.7,
            low: 0.57,
            high: 0.8,
            pairs: 60,
            fluency_ratio: 1.01,
            diversity_ratio: 0.99,
            repetition: 0.011,
            repetition_before: 0.002,
            heldout_loss_before: Some(2.0),
            heldout_loss_after: Some(1.9),
            disarray: None,
            promoted: false,
            reason: String::new(),
            blind: None,
        };
        let told = |verdict: &Verdict, by_taste| decide(verdict, by_taste, "the plain base");
        assert!(told(&good, true).0, "a text in a hundred that repeats itself is luck");
        assert!(!told(&good, false).0, "the quality rules alone promote nothing");
        let refused = |verdict: Verdict, why: &str| {
            let (promoted, reason) = told(&verdict, true);
            assert!(!promoted && reason.contains(why), "{why}: {reason}");
        };
        refused(Verdict { low: 0.5, ..good.clone() }, "chance");
        refused(Verdict { fluency_ratio: 1.06, ..good.clone() }, "less natural");
        refused(Verdict { diversity_ratio: 0.89, ..good.clone() }, "less varied");
        refused(Verdict { repetition: 0.03, ..good.clone() }, "repeat themselves");
    }
}
