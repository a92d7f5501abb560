//! Training a LoRA or DoRA from start to end: it learns, it stops, it resumes to the bit.

use crate::fixture::{Recorder, dataset, example, tiny_base, tiny_config, tiny_weights};
use model::{Lora, LoraShape, Projection};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use training::{
    Control, Dataset, LoraConfig, LoraStart, Observer, Outcome, RunConfig, SoftPromptConfig, TrainError, TrainableLlama, Trained,
    estimate_lora, lora, measure_lora_speed, soft_prompt,
};

fn quick(dora: bool) -> LoraConfig {
    LoraConfig {
        shape: LoraShape { rank: 2, alpha: 4.0, rank_stabilised: false, dora, targets: Projection::ALL.to_vec() },
        run: RunConfig {
            steps: 12,
            batch_size: 4,
            learning_rate: 0.02,
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

fn train(base: &TrainableLlama, data: &Dataset, config: &LoraConfig, dir: &Path, observer: &mut dyn Observer) -> Trained<Lora> {
    match lora(base, data, config, dir, true, &Control::default(), observer).unwrap() {
        Outcome::Finished(trained) => trained,
        other => panic!("{other:?}"),
    }
}

fn uninterrupted(base: &TrainableLlama, config: &LoraConfig) -> Trained<Lora> {
    let dir = tempfile::tempdir().unwrap();
    train(base, &dataset(), config, dir.path(), &mut Recorder::default())
}

fn assert_same(got: &Trained<Lora>, expected: &Trained<Lora>) {
    assert_eq!(got.history, expected.history, "the same loss at every step");
    assert!(got.adapter == expected.adapter, "the same adapter, bit for bit");
    assert_eq!((got.heldout_before, got.heldout_after), (expected.heldout_before, expected.heldout_after));
}

#[test]
fn eight_examples_are_learned_by_heart() {
    // A random base can say little through its frozen head, so this one speaks ten times louder.
    let mut weights = tiny_weights(false);
    weights.head.iter_mut().flatten().for_each(|value| *value *= 10.0);
    let base = TrainableLlama::new(weights).unwrap();
    let train_on = (0..8).map(|seed| example(500 + seed, 3, 5, 1.0)).collect();
    let data = Dataset { train: train_on, heldout: Vec::new() };
    for dora in [false, true] {
        let config = LoraConfig {
            shape: LoraShape { rank: 8, alpha: 16.0, ..quick(dora).shape },
            run: RunConfig { steps: 300, batch_size: 8, clip_norm: 10.0, rows_at_once: 1024, checkpoint_steps: 0, ..quick(dora).run },
            ..quick(dora)
        };
        let dir = tempfile::tempdir().unwrap();
        let trained = train(&base, &data, &config, dir.path(), &mut Recorder::default());
        let first = trained.history[0].loss;
        println!("DoRA {dora}: loss {first:.3} -> {:.4}", trained.final_loss);
        assert!(trained.final_loss < 0.05, "DoRA {dora}: {first} -> {}", trained.final_loss);
    }
}

#[test]
fn a_killed_adapter_training_resumes_with_the_same_losses_and_bits() {
    let base = tiny_base(true);
    for dora in [false, true] {
        let expected = uninterrupted(&base, &quick(dora));
        for killed_at in [3, 6, 9, 12] {
            let dir = tempfile::tempdir().unwrap();
            // A panic in the observer stands for `kill -9`: nothing after it runs, nothing more is written.
            let kill = catch_unwind(AssertUnwindSafe(|| {
                let mut recorder = Recorder::at_checkpoint(move |step| assert!(step != killed_at, "killed"));
                lora(&base, &dataset(), &quick(dora), dir.path(), false, &Control::default(), &mut recorder)
            }));
            assert!(kill.is_err());
            assert_same(&train(&base, &dataset(), &quick(dora), dir.path(), &mut Recorder::default()), &expected);
        }
    }
}

#[test]
fn a_paused_adapter_training_goes_on_with_other_threads_to_the_same_bits() {
    let base = tiny_base(true);
    for dora in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let control = Control::default();
        let pause = control.clone();
        let mut recorder = Recorder::at_checkpoint(move |step| {
            if step == 6 {
                pause.pause();
            }
        });
        let outcome = lora(&base, &dataset(), &quick(dora), dir.path(), false, &control, &mut recorder).unwrap();
        assert_eq!(outcome, Outcome::Paused { step: 6 });
        let config = LoraConfig { run: RunConfig { threads: 2, recompute: true, checkpoint_steps: 5, ..quick(dora).run }, ..quick(dora) };
        assert_same(&train(&base, &dataset(), &config, dir.path(), &mut Recorder::default()), &uninterrupted(&base, &quick(dora)));
    }
}

#[test]
fn an_adapter_training_can_start_from_a_trained_adapter() {
    let base = tiny_base(true);
    let first = uninterrupted(&base, &quick(true));
    let config = LoraConfig { start: LoraStart::Trained(first.adapter.clone()), ..quick(true) };
    let second = uninterrupted(&base, &config);
    let (before, after) = (second.heldout_before.unwrap(), first.heldout_after.unwrap());
    assert!((before - after).abs() < 1e-6, "it begins where the first one ended: {before}, {after}");
    let other = LoraConfig { start: LoraStart::Trained(first.adapter), ..quick(false) };
    assert!(matches!(other.check(&tiny_config(true)), Err(TrainError::Config { field: "start", .. })), "a DoRA is no start for a LoRA");
}

#[test]
fn checkpoints_of_prompt_tuning_and_of_another_rank_are_refused() {
    let base = tiny_base(true);
    let dir = tempfile::tempdir().unwrap();
    let prompt = SoftPromptConfig {
        virtual_tokens: 3,
        run: RunConfig { steps: 2, threads: 1, ..SoftPromptConfig::default().run },
        ..SoftPromptConfig::default()
    };
    soft_prompt(&base, &dataset(), &prompt, dir.path(), false, &Control::default(), &mut Recorder::default()).unwrap();
    let resume = |config: &LoraConfig| lora(&base, &dataset(), config, dir.path(), true, &Control::default(), &mut Recorder::default());
    assert!(matches!(resume(&quick(false)), Err(TrainError::DifferentRun { .. })));
    lora(&base, &dataset(), &quick(false), dir.path(), false, &Control::default(), &mut Recorder::default()).unwrap();
    let wider = LoraConfig { shape: LoraShape { rank: 3, ..quick(false).shape }, ..quick(false) };
    assert!(matches!(resume(&wider), Err(TrainError::DifferentRun { .. })));
    assert!(matches!(resume(&quick(true)), Err(TrainError::DifferentRun { .. })));
}

#[test]
fn a_rate_that_explodes_ends_in_an_error_that_names_the_last_good_checkpoint() {
    let base = tiny_base(true);
    let dir = tempfile::tempdir().unwrap();
    let config =
        LoraConfig { run: RunConfig { learning_rate: 1e38, warmup_steps: 0, checkpoint_steps: 1, ..quick(false).run }, ..quick(false) };
    let error = lora(&base, &dataset(), &config, dir.path(), false, &Control::default(), &mut Recorder::default()).unwrap_err();
    assert!(matches!(error, TrainError::NotFinite { .. }), "{error}");
}

#[test]
fn a_base_that_lets_no_gradient_through_is_named() {
    let mut weights = tiny_weights(true);
    weights.layers[1].down.fill(0.0);
    let base = TrainableLlama::new(weights).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let error = lora(&base, &dataset(), &quick(false), dir.path(), false, &Control::default(), &mut Recorder::default()).unwrap_err();
    let TrainError::NoGradient { tensor } = error else { panic!("{error}") };
    assert_eq!(tensor, "layers.1.gate_proj.lora_B");
}

#[test]
fn ranks_rates_and_targets_that_cannot_be_are_refused() {
    let field = |config: LoraConfig| match config.check(&tiny_config(true)) {
        Err(TrainError::Config { field, .. }) => field,
        other => panic!("{other:?}"),
    };
    let shape = |shape: LoraShape| LoraConfig { shape, ..quick(false) };
    assert_eq!(field(shape(LoraShape { rank: 0, ..quick(false).shape })), "shape");
    assert_eq!(field(shape(LoraShape { alpha: -1.0, ..quick(false).shape })), "shape");
    assert_eq!(field(shape(LoraShape { targets: Vec::new(), ..quick(false).shape })), "shape");
    assert_eq!(field(shape(LoraShape { targets: vec![Projection::V, Projection::Q], ..quick(false).shape })), "shape");
    assert_eq!(field(LoraConfig { run: RunConfig { learning_rate: -0.1, ..quick(false).run }, ..quick(false) }), "learning_rate");
    assert_eq!(field(LoraConfig { run: RunConfig { learning_rate: f64::NAN, ..quick(false).run }, ..quick(false) }), "learning_rate");
    assert_eq!(field(LoraConfig { run: RunConfig { steps: 0, ..quick(false).run }, ..quick(false) }), "steps");
    assert_eq!(field(LoraConfig { run: RunConfig { batch_size: 0, ..quick(false).run }, ..quick(false) }), "batch_size");
}

#[test]
fn the_estimate_of_an_adapter_grows_with_what_it_depends_on() {
    let base = tiny_base(true);
    let speed = measure_lora_speed(&base, &quick(false).shape, 1).unwrap();
    assert!(speed > 0.0 && speed.is_finite());
    let estimate = |config: &LoraConfig| estimate_lora(config, &dataset(), base.config(), 1000.0);
    let plain = estimate(&quick(false));
    assert!(
        estimate(&LoraConfig { run: RunConfig { steps: 24, ..quick(false).run }, ..quick(false) }).seconds > 1.5 * plain.seconds,
        "twice the updates"
    );
    let memory = |config| estimate(&config).peak_memory_bytes;
    assert!(memory(quick(true)) > plain.peak_memory_bytes, "DoRA keeps more");
    assert!(
        memory(LoraConfig { run: RunConfig { recompute: true, ..quick(false).run }, ..quick(false) }) < plain.peak_memory_bytes,
        "recomputing keeps less"
    );
    let wide = LoraShape { rank: 8, ..quick(false).shape };
    assert!(memory(LoraConfig { shape: wide, ..quick(false) }) > plain.peak_memory_bytes, "a higher rank needs more");
}

#[test]
fn an_adapter_of_the_last_layers_leaves_the_others_alone_and_travels_as_peft_writes_it() {
    let base = tiny_base(true);
    for dora in [false, true] {
        let config = LoraConfig { layers: Some(1), ..quick(dora) };
        let data = Dataset { heldout: Vec::new(), ..dataset() };
        let learn = || train(&base, &data, &config, tempfile::tempdir().unwrap().path(), &mut Recorder::default());
        let trained = learn();
        assert!(trained.final_loss < trained.history[0].loss - 0.1, "it learns: {:?}", trained.history);
        assert_eq!(trained.adapter.layers.iter().map(Vec::len).collect::<Vec<_>>(), [0, 7]);
        assert_same(&learn(), &trained);
        let dir = tempfile::tempdir().unwrap();
        trained.adapter.save(dir.path(), base.config(), "tiny").unwrap();
        let written: serde_json::Value = serde_json::from_slice(&std::fs::read(dir.path().join("adapter_config.json")).unwrap()).unwrap();
        assert_eq!(written["layers_to_transform"], serde_json::json!([1]));
        let read = Lora::load(dir.path(), base.config()).unwrap();
        assert!(read == trained.adapter);
        // It goes on from there, and only from there.
        let start = LoraStart::Trained(read);
        assert!(LoraConfig { start: start.clone(), ..config.clone() }.check(base.config()).is_ok());
        let all = LoraConfig { start, ..quick(dora) };
        assert!(matches!(all.check(base.config()), Err(TrainError::Config { field: "start", .. })));
        assert_ne!(config.identity(), quick(dora).identity(), "a checkpoint of one does not continue the other");
    }
    let all = LoraConfig { layers: Some(2), ..quick(false) };
    assert!(uninterrupted(&base, &all).adapter == uninterrupted(&base, &quick(false)).adapter, "all layers are all");
    for wrong in [0, 3] {
        let error = LoraConfig { layers: Some(wrong), ..quick(false) }.check(base.config());
        assert!(matches!(error, Err(TrainError::Config { field: "layers", .. })), "{wrong}: {error:?}");
    }
}
