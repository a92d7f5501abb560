//! Dropout before A: what it computes, that it repeats, and that it changes nothing when measured.

use crate::fixture::{Recorder, dataset, tiny_base, tiny_config};
use kernels::train::{DropoutMask, Store};
use model::{LoraShape, Projection};
use std::panic::{AssertUnwindSafe, catch_unwind};
use training::{
    Control, Dropout, LoraConfig, LoraLayout, Outcome, PackedBatch, RunConfig, TrainError, TrainableLlama, Trained, Workspace, lora,
};

fn shape(dora: bool) -> LoraShape {
    LoraShape { rank: 3, alpha: 6.0, rank_stabilised: false, dora, targets: Projection::ALL.to_vec() }
}

fn loss_and_gradient(base: &TrainableLlama, layout: &LoraLayout, weights: &[f32], key: u64, recompute: bool) -> (f64, Vec<f32>) {
    let examples = &dataset().train[..5];
    let batch = PackedBatch::new(examples, 0);
    let (mut workspace, mut gradient) = (Workspace::default(), vec![0.0; weights.len()]);
    let (control, dropout) = (Control::default(), Some(Dropout { share: 0.3, key }));
    let loss = base
        .lora_loss_and_gradient(layout, weights, dropout, &batch, batch.total_weight(), recompute, &mut workspace, &control, &mut gradient)
        .unwrap();
    (loss, gradient)
}

#[test]
fn a_mask_leaves_out_its_share_and_scales_up_the_rest() {
    let (rows, columns) = (200, 96);
    let x = vec![1.0; rows * columns];
    let mut out = vec![f32::NAN; x.len()];
    let mask = DropoutMask { share: 0.25, key: 9 };
    mask.apply(&x, columns, &mut out, Store::Replace);
    assert!(out.iter().all(|v| *v == 0.0 || (*v - 4.0 / 3.0).abs() < 1e-6), "nothing in between");
    let left_out = out.iter().filter(|v| **v == 0.0).count() as f64 / out.len() as f64;
    // Four standard errors of 19,200 draws.
    assert!((left_out - 0.25).abs() < 4.0 * (0.25f64 * 0.75 / 19_200.0).sqrt(), "{left_out}");
    let mut sum = out.clone();
    mask.apply(&x, columns, &mut sum, Store::Add);
    assert!(sum.iter().zip(&out).all(|(sum, once)| *sum == 2.0 * once), "the same mask again");
    let mut other = out.clone();
    DropoutMask { key: 10, ..mask }.apply(&x, columns, &mut other, Store::Replace);
    assert!(other != out, "another key, another mask");
}

#[test]
fn with_a_fixed_mask_the_gradient_matches_differences_of_the_whole_model() {
    // f32 losses carry about 1e-7; with a step of 5e-3 that is 4e-5 in the quotient, and curvature adds as much.
    const STEP: f32 = 5e-3;
    let base = tiny_base(true);
    let layout = LoraLayout::new(&shape(false), &tiny_config(true)).unwrap();
    let weights: Vec<f32> = crate::fixture::quarter_noise(77, layout.parameters());
    let (loss, gradient) = loss_and_gradient(&base, &layout, &weights, 4, false);
    assert!(loss != loss_and_gradient(&base, &layout, &weights, 5, false).0, "another mask, another loss");
    for i in (0..weights.len()).step_by(11) {
        let moved = |step: f32| {
            let mut moved = weights.clone();
            moved[i] += step;
            loss_and_gradient(&base, &layout, &moved, 4, false).0
        };
        let expected = (moved(STEP) - moved(-STEP)) / f64::from(2.0 * STEP);
        assert!((f64::from(gradient[i]) - expected).abs() < 5e-4, "element {i}: {} against {expected}", gradient[i]);
    }
}

#[test]
fn computing_layers_again_draws_the_same_mask() {
    let base = tiny_base(true);
    for dora in [false, true] {
        let layout = LoraLayout::new(&shape(dora), &tiny_config(true)).unwrap();
        let weights: Vec<f32> = crate::fixture::quarter_noise(77, layout.parameters()).into_iter().map(|v| v + 0.5).collect();
        let kept = loss_and_gradient(&base, &layout, &weights, 4, false);
        assert!(kept == loss_and_gradient(&base, &layout, &weights, 4, true), "DoRA {dora}");
    }
}

#[test]
fn a_killed_training_with_dropout_resumes_to_the_same_bits() {
    let base = tiny_base(true);
    let run = RunConfig {
        steps: 12,
        learning_rate: 0.02,
        rows_at_once: 30,
        heldout_every: 4,
        patience: None,
        checkpoint_steps: 3,
        checkpoints_kept: 100,
        seed: 7,
        threads: 1,
        ..RunConfig::default()
    };
    let config = LoraConfig { shape: shape(false), dropout: 0.2, run, ..LoraConfig::default() };
    let train = |config: &LoraConfig, dir: &std::path::Path, recorder: &mut Recorder| -> Trained<model::Lora> {
        match lora(&base, &dataset(), config, dir, true, &Control::default(), recorder).unwrap() {
            Outcome::Finished(trained) => trained,
            other => panic!("{other:?}"),
        }
    };
    let whole = tempfile::tempdir().unwrap();
    let expected = train(&config, whole.path(), &mut Recorder::default());
    let dry = tempfile::tempdir().unwrap();
    let without = train(&LoraConfig { dropout: 0.0, ..config.clone() }, dry.path(), &mut Recorder::default());
    assert!(without.history != expected.history, "dropout does something");
    for killed_at in [3, 9] {
        let dir = tempfile::tempdir().unwrap();
        let kill = catch_unwind(AssertUnwindSafe(|| {
            train(&config, dir.path(), &mut Recorder::at_checkpoint(move |step| assert!(step != killed_at, "killed")))
        }));
        assert!(kill.is_err());
        let got = train(&config, dir.path(), &mut Recorder::default());
        assert_eq!(got.history, expected.history, "the same loss at every step");
        assert!(got.adapter == expected.adapter, "the same adapter, bit for bit");
    }
    let other = LoraConfig { dropout: 0.3, ..config.clone() };
    let refused = lora(&base, &dataset(), &other, whole.path(), true, &Control::default(), &mut Recorder::default());
    assert!(matches!(refused, Err(TrainError::DifferentRun { what: "configuration", .. })));
    for share in [-0.1, 1.0, f32::NAN] {
        let bad = LoraConfig { dropout: share, ..config.clone() };
        assert!(matches!(bad.check(&tiny_config(true)), Err(TrainError::Config { field: "dropout", .. })), "{share}");
    }
}
