//! Successive halving over a made-up landscape of losses, and over real trainings of a tiny base.

use crate::fixture::{Recorder, dataset, quick_config, tiny_base};
use model::{LoraShape, Projection};
use std::time::Duration;
use training::{
    Control, Example, Found, Halving, Judgement, Judgements, LoraConfig, Measured, NextTrial, Outcome, Preference, RunConfig, SingleLoss,
    SoftPromptConfig, TrainError, draw_configurations, lora_from_judgements, soft_prompt,
};

const NEVER: Duration = Duration::MAX;

/// Trial 7 is the best one, and the more so the longer it trains; the default lies in the middle.
fn loss(trial: usize, steps: u32) -> f64 {
    3.0 + (trial as f64 - 7.0).abs() / 10.0 - f64::from(steps).ln() / 10.0
}

fn measured(trial: usize, rung: usize, heldout_loss: Option<f64>) -> Measured {
    Measured { trial, rung, heldout_loss, seconds: 1.0 }
}

/// Runs a search from what is known already; the clock moves on by a second with every trial.
fn run(halving: &Halving, known: &mut Vec<Measured>, budget: Duration, loss: &dyn Fn(usize, u32) -> Option<f64>) -> Found {
    loop {
        let spent = Duration::from_secs_f64(known.iter().map(|one| one.seconds).sum());
        match halving.next(known, spent, budget) {
            NextTrial::Train { trial, rung } => known.push(measured(trial, rung, loss(trial, halving.rungs[rung]))),
            NextTrial::Over(found) => return found,
        }
    }
}

fn nine() -> Halving {
    Halving { trials: 9, rungs: vec![13, 40, 120], least_gain: Halving::least_gain(None) }
}

#[test]
fn the_best_configuration_climbs_to_the_top_and_wins() {
    let mut trials = Vec::new();
    let found = run(&nine(), &mut trials, NEVER, &|trial, steps| Some(loss(trial, steps)));
    assert_eq!((found.winner, found.rung, found.out_of_time), (7, 2, false));
    assert_eq!(found.default_loss, Some(loss(0, 120)), "compared after as many updates");
    let at = |rung: usize| trials.iter().filter(|one| one.rung == rung).map(|one| one.trial).collect::<Vec<_>>();
    assert_eq!(at(0).len(), 9);
    assert_eq!(at(1), [0, 7, 6, 8], "the default, then a third of the others, the best first");
    assert_eq!(at(2), [0, 7]);
    assert_eq!(trials.iter().map(|one| u64::from(nine().rungs[one.rung])).sum::<u64>(), nine().updates(), "as planned");
}

#[test]
fn a_search_that_was_cut_off_anywhere_goes_on_to_the_same_winner_with_the_same_trials() {
    let mut whole = Vec::new();
    let found = run(&nine(), &mut whole, NEVER, &|trial, steps| Some(loss(trial, steps)));
    for cut in 0..whole.len() {
        let mut rest = whole[..cut].to_vec();
        // A store may give them back in another order.
        rest.reverse();
        let again = run(&nine(), &mut rest, NEVER, &|trial, steps| Some(loss(trial, steps)));
        assert_eq!(again, found, "cut after {cut} trials");
        assert_eq!(rest.len(), whole.len(), "no trial is made twice");
    }
}

#[test]
fn the_default_is_kept_when_nothing_beats_it_by_more_than_chance() {
    let worse = run(&nine(), &mut Vec::new(), NEVER, &|trial, _| Some(if trial == 0 { 2.0 } else { 2.1 }));
    assert_eq!((worse.winner, worse.default_loss), (0, Some(2.0)));
    assert!(worse.best.is_some_and(|(_, loss)| loss == 2.1), "the best of the others is told all the same");
    let hardly = run(&nine(), &mut Vec::new(), NEVER, &|trial, _| Some(if trial == 3 { 1.995 } else { 2.0 }));
    assert_eq!(hardly.winner, 0, "a gain of a quarter of a percent is none");
    let clearly = run(&nine(), &mut Vec::new(), NEVER, &|trial, _| Some(if trial == 3 { 1.98 } else { 2.0 }));
    assert_eq!(clearly.winner, 3);
}

#[test]
fn trials_that_fail_are_dropped_and_a_default_that_fails_is_beaten() {
    let mut trials = Vec::new();
    let found = run(&nine(), &mut trials, NEVER, &|trial, steps| (trial != 7).then(|| loss(trial, steps)));
    assert_eq!(found.winner, 6, "the next best one");
    assert_eq!(trials.iter().filter(|one| one.trial == 7).count(), 1, "it does not climb");
    let found = run(&nine(), &mut Vec::new(), NEVER, &|trial, steps| (trial != 0).then(|| loss(trial, steps)));
    assert_eq!((found.winner, found.default_loss), (7, None));
    let found = run(&nine(), &mut Vec::new(), NEVER, &|trial, steps| (trial == 0).then(|| loss(trial, steps)));
    assert_eq!((found.winner, found.best), (0, None), "when all others fail there is only the default");
}

#[test]
fn the_budget_ends_a_search_with_what_it_knows() {
    for seconds in 0..16u64 {
        let mut trials = Vec::new();
        let found = run(&nine(), &mut trials, Duration::from_secs(seconds), &|trial, steps| Some(loss(trial, steps)));
        assert_eq!(trials.len(), (seconds as usize).min(15), "no trial begins after the end");
        assert_eq!(found.out_of_time, seconds < 15);
        match seconds {
            0 | 1 => assert_eq!((found.winner, found.best), (0, None)),
            // So far each trial is better than the one before.
            2..=7 => assert_eq!(found.winner, seconds as usize - 1),
            8.. => assert_eq!(found.winner, 7, "after {seconds} trials"),
        }
        // Cut inside a rung, the comparison is made where the default was measured, too.
        assert!(found.best.is_none() || found.default_loss.is_some());
    }
}

#[test]
fn the_plan_fills_the_budget_and_never_exceeds_it() {
    let (steps, whole) = (120, Duration::from_secs(60));
    let mut before = 0;
    for minutes in [5, 10, 20, 40, 80] {
        let budget = Duration::from_secs(minutes * 60);
        let halving = Halving::plan(steps, whole, budget);
        let seconds = halving.updates() as f64 * whole.as_secs_f64() / f64::from(steps);
        assert!(seconds <= budget.as_secs_f64(), "{minutes} minutes: {halving:?} takes {seconds} s");
        assert!(halving.trials >= before, "more time, no fewer trials");
        assert!(halving.rungs.is_sorted_by(|a, b| a < b) && halving.rungs.iter().all(|rung| *rung <= steps));
        before = halving.trials;
    }
    assert!(before >= 27, "an hour tries many");
    assert_eq!(Halving::plan(5, whole, Duration::ZERO).rungs, [5], "no rung is longer than the training");
}

#[test]
fn configurations_are_drawn_evenly_and_the_same_at_the_same_seed() {
    let choices = [3, 5, 2];
    let drawn = draw_configurations(&choices, 30, 7);
    assert_eq!(drawn, draw_configurations(&choices, 30, 7));
    assert_ne!(drawn, draw_configurations(&choices, 30, 8));
    for (axis, count) in choices.into_iter().enumerate() {
        for choice in 0..count {
            let times = drawn.iter().filter(|one| one[axis] == choice).count();
            assert_eq!(times, 30 / count, "choice {choice} of axis {axis}");
        }
    }
}

#[test]
fn a_search_over_real_trainings_is_the_same_after_a_kill_in_the_middle_of_a_trial() {
    const RATES: [f64; 4] = [1e-5, 0.05, 0.02, 1e9];
    let base = tiny_base(true);
    let halving = Halving { trials: 4, rungs: vec![6, 18], least_gain: Halving::least_gain(None) };
    let trial = |dir: &std::path::Path, trial: usize, rung: usize, control: &Control, recorder: &mut Recorder| {
        let run = RunConfig { steps: halving.rungs[rung], learning_rate: RATES[trial], checkpoint_steps: 3, ..quick_config().run };
        let config = SoftPromptConfig { run, ..quick_config() };
        let folder = dir.join(format!("{trial}-{rung}"));
        soft_prompt(&base, &dataset(), &config, &folder, true, control, recorder)
    };
    let search = |dir: &std::path::Path, known: &mut Vec<Measured>, stop_in: Option<usize>| loop {
        match halving.next(known, Duration::ZERO, NEVER) {
            NextTrial::Over(found) => return Some(found),
            NextTrial::Train { trial: number, rung } => {
                let control = Control::default();
                let mut recorder = match stop_in {
                    Some(stop) if stop == known.len() => Recorder::cancel_at(&control, 3),
                    _ => Recorder::default(),
                };
                let heldout_loss = match trial(dir, number, rung, &control, &mut recorder) {
                    Ok(Outcome::Finished(trained)) => trained.heldout_after,
                    Ok(_) => return None,
                    Err(TrainError::NotFinite { .. }) => None,
                    Err(error) => panic!("{error}"),
                };
                known.push(measured(number, rung, heldout_loss));
            }
        }
    };
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let (mut unbroken, mut broken) = (Vec::new(), Vec::new());
    let found = search(dirs[0].path(), &mut unbroken, None).unwrap();
    assert_eq!(search(dirs[1].path(), &mut broken, Some(1)), None, "stopped inside its second trial");
    assert_eq!(search(dirs[1].path(), &mut broken, None), Some(found));
    assert_eq!(broken, unbroken, "loss for loss");
    assert!(found.winner == 1 || found.winner == 2, "a rate that learns beats one that does not: {found:?}");
}

/// Liked texts go up the vocabulary, the others down; prompts differ.
fn judged(seed: u64, liked: bool) -> Judgement {
    let start = 3 + (seed % 5) as u32;
    let answer = (0..8).map(|step| if liked { start + step } else { 28 - start - step }).collect();
    let prompt = vec![(seed % 29) as u32, 1];
    Judgement::Single { text: Example { prompt, answer, weight: 1.0 }, liked }
}

/// What a search over these rates finds; the first is the default.
fn search_over(rates: &[f64], singles: SingleLoss) -> (Found, Vec<f64>) {
    let base = tiny_base(true);
    // One text of each kind is kept back, as of a person with ten thumbs.
    let data =
        Judgements { train: (0..8).map(|seed| judged(seed, seed % 2 == 0)).collect(), heldout: vec![judged(11, true), judged(12, false)] };
    let halving = Halving { trials: rates.len(), rungs: vec![12], least_gain: Halving::least_gain(Some(data.heldout.len())) };
    let mut known = Vec::new();
    loop {
        let (trial, rung) = match halving.next(&known, Duration::ZERO, NEVER) {
            NextTrial::Over(found) => return (found, known.iter().filter_map(|one: &Measured| one.heldout_loss).collect()),
            NextTrial::Train { trial, rung } => (trial, rung),
        };
        let config = LoraConfig {
            shape: LoraShape { rank: 3, alpha: 6.0, rank_stabilised: false, dora: false, targets: Projection::ALL.to_vec() },
            preference: Preference { beta: 0.1, singles, ..Preference::default() },
            run: RunConfig { steps: halving.rungs[rung], learning_rate: rates[trial], ..quick_config().run },
            ..LoraConfig::default()
        };
        let dir = tempfile::tempdir().unwrap();
        let outcome = lora_from_judgements(&base, &data, &config, dir.path(), false, &Control::default(), &mut Recorder::default());
        let Outcome::Finished(trained) = outcome.unwrap() else { panic!("it was not stopped") };
        known.push(measured(trial, rung, trained.heldout_after));
    }
}

#[test]
fn a_search_over_thumbs_sees_which_trial_tells_liked_texts_from_others() {
    for singles in [SingleLoss::Unpaired, SingleLoss::Kto] {
        let (found, losses) = search_over(&[1e-5, 1e-4, 0.02, 0.002], singles);
        assert_eq!(found.winner, 2, "{singles:?}: {losses:?}");
        assert!(losses[2] < losses[3] && losses[3] < losses[1], "{singles:?}: the more it learned, the lower: {losses:?}");
        let (found, losses) = search_over(&[0.02, 1e-5, 1e-4, 0.002], singles);
        assert_eq!(found.winner, 0, "{singles:?}: nothing beats the default here: {losses:?}");
        let (found, losses) = search_over(&[1e-5, 1e-6, 2e-5, 4e-5], singles);
        assert_eq!(found.winner, 0, "{singles:?}: what is hardly better is chance: {losses:?}");
    }
}

#[test]
fn few_judgements_must_show_a_larger_gain_than_many_and_than_texts() {
    let gains = [Halving::least_gain(Some(2)), Halving::least_gain(Some(20)), Halving::least_gain(Some(1000)), Halving::least_gain(None)];
    assert!(gains[0] > 0.03 && gains[0] > gains[1] && gains[1] > gains[2] && gains[2] == gains[3], "{gains:?}");
}
