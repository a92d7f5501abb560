//! Learning from judgements: DPO for pairs, KTO for single texts.

use crate::fixture::{Recorder, dataset, example, noise, tiny_base, tiny_config, tokens};
use model::{Lora, LoraShape, Projection};
use serde::Deserialize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use training::{
    Control, Decay, Example, Judgement, Judgements, LoraConfig, LoraLayout, LoraStart, Observer, Outcome, PackedBatch, PairLoss,
    Preference, RunConfig, SingleLoss, SoftPromptConfig, TrainError, TrainableLlama, Trained, Workspace, estimate_judgements,
    lora_from_judgements, soft_prompt_from_judgements,
};

/// tests/reference/judged.json, made by the script beside it (versions are in both).
#[derive(Deserialize)]
struct Reference {
    cases: Vec<Judged>,
}

#[derive(Deserialize)]
struct Judged {
    kind: String,
    dora: bool,
    losses: Vec<f64>,
}

fn shape(dora: bool) -> LoraShape {
    LoraShape { rank: 3, alpha: 6.0, rank_stabilised: false, dora, targets: Projection::ALL.to_vec() }
}

fn quick(dora: bool) -> LoraConfig {
    LoraConfig {
        shape: shape(dora),
        preference: Preference { beta: 0.5, ..Preference::default() },
        run: RunConfig {
            steps: 12,
            batch_size: 3,
            learning_rate: 0.01,
            warmup_steps: 2,
            rows_at_once: 30,
            heldout_every: 4,
            patience: None,
            checkpoint_steps: 3,
            checkpoints_kept: 100,
            seed: 7,
            threads: 1,
            ..LoraConfig::default().run
        },
        ..LoraConfig::default()
    }
}

fn pair(seed: u64) -> Judgement {
    let chosen = example(seed, 3, 4 + seed as usize % 3, 1.0);
    let rejected = Example { answer: tokens(seed + 500, 5), ..chosen.clone() };
    Judgement::Pair { chosen, rejected }
}

fn mixed() -> Judgements {
    let single = |seed: u64| Judgement::Single { text: example(seed, 2, 5, 1.0 + (seed % 2) as f32), liked: seed.is_multiple_of(2) };
    Judgements { train: (20..24).map(pair).chain((30..34).map(single)).collect(), heldout: vec![pair(40), single(41), single(42)] }
}

fn train(base: &TrainableLlama, data: &Judgements, config: &LoraConfig, dir: &Path, observer: &mut dyn Observer) -> Trained<Lora> {
    match lora_from_judgements(base, data, config, dir, true, &Control::default(), observer).unwrap() {
        Outcome::Finished(trained) => trained,
        other => panic!("{other:?}"),
    }
}

#[test]
fn twenty_losses_of_every_objective_agree_with_trl() {
    let reference: Reference = serde_json::from_str(include_str!("../reference/judged.json")).unwrap();
    assert_eq!(reference.cases.len(), 10);
    let mut different = Vec::new();
    let base = tiny_base(true);
    for case in reference.cases {
        let layout = LoraLayout::new(&shape(case.dora), &tiny_config(true)).unwrap();
        // B is zero and magnitudes are lengths of rows; A as in the script.
        let mut weights = base.initial_lora(&layout, 0);
        let a = layout.tensors().into_iter().filter(|(name, _)| name.ends_with("lora_A"));
        for ((_, place), seed) in a.zip(3000..) {
            let values: Vec<f32> = noise(seed, place.len()).into_iter().map(|value| value / 4.0).collect();
            weights[place].copy_from_slice(&values);
        }
        let text = |i: u64, seed: u64, length: u64| {
            // TRL ends every answer with the end of text, here token 1.
            let answer = tokens(seed + i, length as usize).into_iter().chain([1]).collect();
            Example { prompt: tokens(1000 + i, 3), answer, weight: 1.0 }
        };
        let (pairs, singles) = match case.kind.as_str() {
            "reference_free" => (PairLoss::ReferenceFreeDpo, SingleLoss::Unpaired),
            "orpo" => (PairLoss::Orpo, SingleLoss::Unpaired),
            "kto" => (PairLoss::Dpo, SingleLoss::Kto),
            _ => (PairLoss::Dpo, SingleLoss::Unpaired),
        };
        let judgement = |i: u64| match case.kind.as_str() {
            "kto" | "unpaired" => Judgement::Single { text: text(i, 2000, 4 + i), liked: i.is_multiple_of(2) },
            _ => Judgement::Pair { chosen: text(i, 2000, 4 + i), rejected: text(i, 3000, 6 - i) },
        };
        let count = if case.kind == "kto" { 2 } else { 4 };
        let data = Judgements { train: (0..count).map(judgement).collect(), heldout: Vec::new() };
        // As the script trains: one batch of everything, a rate that does not change, nothing clipped.
        let run = RunConfig {
            steps: 20,
            batch_size: 4,
            warmup_steps: 0,
            decay: Decay::Constant,
            weight_decay: 0.01,
            clip_norm: 1e9,
            rows_at_once: 1024,
            ..quick(case.dora).run
        };
        let preference = Preference { beta: 0.5, pairs, singles, ..Preference::default() };
        let config = LoraConfig { start: LoraStart::Trained(layout.adapter(&weights)), run, preference, ..quick(case.dora) };
        let dir = tempfile::tempdir().unwrap();
        let trained = train(&base, &data, &config, dir.path(), &mut Recorder::default());
        let worst =
            trained.history.iter().zip(&case.losses).map(|(point, expected)| (point.loss / expected - 1.0).abs()).fold(0.0, f64::max);
        println!("{} DoRA {}: the losses differ by up to {worst:.1e}", case.kind, case.dora);
        assert_eq!(trained.history.len(), case.losses.len());
        if worst >= 1e-4 {
            different.push(format!("{} DoRA {}: {worst:.1e}", case.kind, case.dora));
        }
    }
    assert!(different.is_empty(), "{different:?}");
}

#[test]
fn an_adapter_that_changes_nothing_yet_costs_what_the_formulas_say() {
    let base = tiny_base(true);
    for (judgement, expected) in [
        (pair(1), std::f64::consts::LN_2),
        (Judgement::Single { text: example(3, 2, 5, 1.0), liked: true }, 0.5),
        (Judgement::Single { text: example(3, 2, 5, 1.0), liked: false }, 0.5),
    ] {
        let data = Judgements { train: vec![judgement.clone()], heldout: vec![judgement] };
        let dir = tempfile::tempdir().unwrap();
        let trained = train(
            &base,
            &data,
            &LoraConfig { run: RunConfig { steps: 1, ..quick(false).run }, ..quick(false) },
            dir.path(),
            &mut Recorder::default(),
        );
        assert!((trained.history[0].loss - expected).abs() < 1e-5, "{} for {expected}", trained.history[0].loss);
        assert!((trained.heldout_before.unwrap() - std::f64::consts::LN_2).abs() < 1e-5, "a coin would do as well");
    }
}

#[test]
fn what_was_preferred_becomes_likelier_than_what_was_not() {
    let base = tiny_base(false);
    let pairs: Vec<Judgement> = (20..28).map(pair).collect();
    let singles = pairs.iter().flat_map(|judgement| match judgement {
        Judgement::Pair { chosen, rejected } => {
            vec![Judgement::Single { text: chosen.clone(), liked: true }, Judgement::Single { text: rejected.clone(), liked: false }]
        }
        Judgement::Single { .. } => Vec::new(),
    });
    for (name, train_on) in [("DPO", pairs.clone()), ("KTO", singles.collect())] {
        let data = Judgements { train: train_on, heldout: Vec::new() };
        let config = LoraConfig {
            run: RunConfig { steps: 150, batch_size: 8, learning_rate: 0.02, clip_norm: 10.0, rows_at_once: 500, ..quick(false).run },
            ..quick(false)
        };
        let dir = tempfile::tempdir().unwrap();
        let trained = train(
            &base,
            &data,
            &LoraConfig { run: RunConfig { checkpoint_steps: 0, ..config.run }, ..config },
            dir.path(),
            &mut Recorder::default(),
        );
        let layout = LoraLayout::new(&trained.adapter.shape, base.config()).unwrap();
        let weights = layout.flatten(&trained.adapter);
        let texts: Vec<Example> = (20..28)
            .flat_map(|seed| match pair(seed) {
                Judgement::Pair { chosen, rejected } => vec![chosen, rejected],
                Judgement::Single { text, .. } => vec![text],
            })
            .collect();
        let batch = PackedBatch::new(&texts, 0);
        let ask = |adapter| base.log_probabilities(adapter, &batch, &mut Workspace::default(), &Control::default()).unwrap();
        let (before, after) = (ask(None), ask(Some((&layout, &weights[..]))));
        let moved: Vec<f64> = before.iter().zip(&after).map(|(before, after)| after - before).collect();
        let margins: Vec<f64> = moved.chunks(2).map(|pair| pair[0] - pair[1]).collect();
        println!("{name}: loss {:.3} -> {:.4}, margins {margins:.1?}", trained.history[0].loss, trained.final_loss);
        assert!(margins.iter().all(|margin| *margin > 2.0), "{name}: {margins:?}");
    }
}

#[test]
fn a_killed_training_from_judgements_resumes_to_the_same_bits() {
    let base = tiny_base(true);
    for dora in [false, true] {
        let whole = tempfile::tempdir().unwrap();
        let expected = train(&base, &mixed(), &quick(dora), whole.path(), &mut Recorder::default());
        for killed_at in [3, 9] {
            let dir = tempfile::tempdir().unwrap();
            let kill = catch_unwind(AssertUnwindSafe(|| {
                let mut recorder = Recorder::at_checkpoint(move |step| assert!(step != killed_at, "killed"));
                lora_from_judgements(&base, &mixed(), &quick(dora), dir.path(), false, &Control::default(), &mut recorder)
            }));
            assert!(kill.is_err());
            let config = LoraConfig { run: RunConfig { threads: 2, ..quick(dora).run }, ..quick(dora) };
            let got = train(&base, &mixed(), &config, dir.path(), &mut Recorder::default());
            assert_eq!(got.history, expected.history, "the same loss at every step");
            assert!(got.adapter == expected.adapter, "the same adapter, bit for bit");
            assert_eq!(got.heldout_after, expected.heldout_after);
        }
    }
}

#[test]
fn judgements_that_cannot_be_used_are_refused_and_others_are_not_resumed() {
    let base = tiny_base(true);
    let dir = tempfile::tempdir().unwrap();
    let run = |data: &Judgements, config: &LoraConfig| {
        lora_from_judgements(&base, data, config, dir.path(), true, &Control::default(), &mut Recorder::default())
    };
    assert!(matches!(run(&Judgements::default(), &quick(false)), Err(TrainError::NoExamples)));
    let mut empty = mixed();
    empty.train.push(Judgement::Single { text: Example { answer: Vec::new(), ..dataset().train[0].clone() }, liked: true });
    assert!(matches!(run(&empty, &quick(false)), Err(TrainError::Example { index: 8, .. })));
    assert!(matches!(
        run(&mixed(), &LoraConfig { preference: Preference { beta: 0.0, ..Preference::default() }, ..quick(false) }),
        Err(TrainError::Config { field: "beta", .. })
    ));
    run(&mixed(), &LoraConfig { run: RunConfig { steps: 1, ..quick(false).run }, ..quick(false) }).unwrap();
    let mut turned = mixed();
    if let Judgement::Single { liked, .. } = &mut turned.train[5] {
        *liked = !*liked;
    }
    let other = run(&turned, &LoraConfig { run: RunConfig { steps: 1, ..quick(false).run }, ..quick(false) });
    assert!(matches!(other, Err(TrainError::DifferentRun { what: "dataset", .. })), "one thumb turned");
}

#[test]
fn the_estimate_counts_both_texts_of_a_pair() {
    let base = tiny_base(true);
    let single = |judgement: &Judgement| match judgement {
        Judgement::Pair { chosen: text, .. } | Judgement::Single { text, .. } => Judgement::Single { text: text.clone(), liked: true },
    };
    let pairs = Judgements { train: (20..28).map(pair).collect(), heldout: Vec::new() };
    let singles = Judgements { train: pairs.train.iter().map(single).collect(), heldout: Vec::new() };
    let estimate = |data: &Judgements| estimate_judgements(&quick(false), data, base.config(), 1000.0);
    let (both, one) = (estimate(&pairs), estimate(&singles));
    assert!(both.seconds > 1.6 * one.seconds && both.seconds < 2.6 * one.seconds, "{both:?} against {one:?}");
    assert!(both.peak_memory_bytes >= one.peak_memory_bytes);
}

#[test]
fn orpo_refuses_a_text_that_is_alone_and_every_pair_loss_teaches_a_soft_prompt_too() {
    let base = tiny_base(false);
    let preference = Preference { beta: 0.5, pairs: PairLoss::Orpo, ..Preference::default() };
    let dir = tempfile::tempdir().unwrap();
    let config = LoraConfig { preference, ..quick(false) };
    let alone = lora_from_judgements(&base, &mixed(), &config, dir.path(), false, &Control::default(), &mut Recorder::default());
    assert!(matches!(alone, Err(TrainError::Example { index: 4, .. })), "{alone:?}");
    let pairs = Judgements { train: (20..24).map(pair).collect(), heldout: vec![pair(40)] };
    for pair_loss in [PairLoss::Dpo, PairLoss::ReferenceFreeDpo, PairLoss::Orpo] {
        let config = SoftPromptConfig {
            virtual_tokens: 4,
            preference: Preference { beta: 0.5, pairs: pair_loss, ..Preference::default() },
            run: RunConfig { steps: 60, batch_size: 4, learning_rate: 0.05, ..quick(false).run },
            ..SoftPromptConfig::default()
        };
        let dir = tempfile::tempdir().unwrap();
        let control = Control::default();
        let outcome = soft_prompt_from_judgements(&base, &pairs, &config, dir.path(), false, &control, &mut Recorder::default()).unwrap();
        let Outcome::Finished(trained) = outcome else { panic!("{outcome:?}") };
        let first = trained.history[0].loss;
        assert!(trained.final_loss < 0.97 * first, "{pair_loss:?}: {first} -> {}", trained.final_loss);
    }
}

#[test]
fn a_killed_dpo_orpo_or_kto_training_of_several_epochs_resumes_to_the_same_bits() {
    let base = tiny_base(true);
    let pairs = Judgements { train: (20..26).map(pair).collect(), heldout: vec![pair(40)] };
    let single = |seed: u64| Judgement::Single { text: example(seed, 2, 5, 1.0), liked: seed.is_multiple_of(2) };
    let singles = Judgements { train: (30..36).map(single).collect(), heldout: vec![single(41), single(42)] };
    let preferences = [
        (Preference { beta: 0.5, ..Preference::default() }, &pairs),
        (Preference { beta: 0.5, pairs: PairLoss::Orpo, ..Preference::default() }, &pairs),
        (Preference { beta: 0.5, singles: SingleLoss::Kto, ..Preference::default() }, &singles),
    ];
    for (preference, data) in preferences {
        // Six epochs.
        let config = LoraConfig { preference, dropout: 0.1, run: RunConfig { checkpoint_steps: 1, ..quick(false).run }, ..quick(false) };
        let whole = tempfile::tempdir().unwrap();
        let expected = train(&base, data, &config, whole.path(), &mut Recorder::default());
        // In the first epoch, at the end of it and later: what the bare base thinks of a text is found again by another batch.
        for killed_at in [1, 2, 7] {
            let dir = tempfile::tempdir().unwrap();
            let kill = catch_unwind(AssertUnwindSafe(|| {
                train(&base, data, &config, dir.path(), &mut Recorder::at_checkpoint(move |step| assert!(step != killed_at, "killed")))
            }));
            assert!(kill.is_err());
            let got = train(&base, data, &config, dir.path(), &mut Recorder::default());
            assert_eq!(got.history, expected.history, "{preference:?}: the same loss at every step");
            assert!(got.adapter == expected.adapter, "{preference:?}: the same adapter, bit for bit");
        }
    }
}
