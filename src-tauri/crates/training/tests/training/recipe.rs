//! Prompt tuning from start to end on a tiny base.

use crate::fixture::{Recorder, dataset, example, quick_config, tiny_base, tiny_weights};
use domain::Phase;
use model::SoftPrompt;
use training::{
    Control, Dataset, Example, Outcome, PromptStart, RunConfig, SoftPromptConfig, Split, TrainError, TrainableLlama, Trained, estimate,
    measure_speed, soft_prompt,
};

#[test]
fn four_examples_can_be_learned_nearly_by_heart() {
    // A random base can say little through its frozen head, so this one speaks ten times louder.
    let mut weights = tiny_weights(false);
    weights.head.iter_mut().flatten().for_each(|value| *value *= 10.0);
    let train = (0..4).map(|i| Example { prompt: vec![i], answer: vec![5, 9, 2, 9, 5, 1], weight: 1.0 }).collect();
    let data = Dataset { train, heldout: Vec::new() };
    let config = SoftPromptConfig {
        virtual_tokens: 8,
        run: RunConfig { steps: 300, learning_rate: 0.1, clip_norm: 10.0, checkpoint_steps: 0, ..quick_config().run },
        ..quick_config()
    };
    let trained = train_quietly(&TrainableLlama::new(weights).unwrap(), &data, &config).unwrap();
    let first = trained.history[0].loss;
    assert!(trained.final_loss < 0.3 * first, "from {first} to {}", trained.final_loss);
    assert_eq!((trained.steps, trained.history.len()), (300, 300));
}

#[test]
fn what_is_reported_is_complete_and_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let mut recorder = Recorder::default();
    let outcome =
        soft_prompt(&tiny_base(true), &dataset(), &quick_config(), dir.path(), false, &Control::default(), &mut recorder).unwrap();
    let Outcome::Finished(trained) = outcome else { panic!("{outcome:?}") };
    assert_eq!(recorder.phases, [Phase::Prepare, Phase::Train]);
    assert_eq!(recorder.checkpoints.iter().map(|(step, _)| *step).collect::<Vec<_>>(), [3, 6, 9, 12]);
    let heldout: Vec<u32> = recorder.metrics.iter().filter(|m| m.heldout_loss.is_some()).map(|m| m.step).collect();
    assert_eq!(heldout, [0, 4, 8, 12], "before the first, every four, after the last");
    let last = recorder.metrics.last().unwrap();
    assert_eq!((last.step, last.total_steps, last.eta_s), (12, 12, 0.0));
    assert_eq!(last.loss, trained.final_loss);
    assert!(last.tokens_per_second > 0.0 && recorder.metrics.windows(2).all(|pair| pair[0].step < pair[1].step));
    let best = recorder.metrics.iter().filter_map(|m| m.heldout_loss).fold(f64::MAX, f64::min);
    assert_eq!(trained.heldout_after, Some(best), "the best prompt is the result");
    assert!(trained.heldout_before.is_some_and(|before| before.is_finite()));
}

#[test]
fn the_same_seed_gives_the_same_bits_and_another_does_not() {
    let run = |seed| {
        train_quietly(&tiny_base(true), &dataset(), &SoftPromptConfig { run: RunConfig { seed, ..quick_config().run }, ..quick_config() })
            .unwrap()
    };
    let (first, second, other) = (run(7), run(7), run(8));
    assert!(bits(&first) == bits(&second) && first.history == second.history);
    assert!(bits(&first) != bits(&other));
}

#[test]
fn the_best_prompt_wins_over_the_last_and_training_ends_early() {
    // A rate this high only makes held-out loss worse after the start.
    let config = SoftPromptConfig {
        run: RunConfig { learning_rate: 3.0, heldout_every: 1, patience: Some(3), steps: 200, ..quick_config().run },
        ..quick_config()
    };
    let trained = train_quietly(&tiny_base(true), &dataset(), &config).unwrap();
    assert!(trained.steps < 200, "three measurements without a gain end it, not {} steps", trained.steps);
    let last = trained.history.last().unwrap().heldout_loss.unwrap();
    assert!(trained.heldout_after.unwrap() < last, "best {:?}, last {last}", trained.heldout_after);
}

#[test]
fn a_prompt_can_start_from_tokens_and_from_one_trained_before() {
    let base = tiny_base(true);
    // A rate too small to move f32 weights shows where training started.
    let still = SoftPromptConfig { run: RunConfig { learning_rate: 1e-30, steps: 1, ..quick_config().run }, ..quick_config() };
    let tokens = SoftPromptConfig { start: PromptStart::Tokens(vec![4, 9]), ..still.clone() };
    let started = train_quietly(&base, &dataset(), &tokens).unwrap().adapter;
    assert_eq!(started.vectors, [base.embedding_of(4), base.embedding_of(9), base.embedding_of(4)].concat(), "cycled");
    let trained = train_quietly(&base, &dataset(), &quick_config()).unwrap();
    let again = SoftPromptConfig { start: PromptStart::Trained(trained.adapter.clone()), ..still };
    let continued = train_quietly(&base, &dataset(), &again).unwrap();
    assert_eq!(continued.adapter, trained.adapter);
    assert_eq!(continued.heldout_before, trained.heldout_after, "what was used before is the trained prompt");
}

#[test]
fn a_loss_that_is_not_a_number_stops_with_the_last_good_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let base = tiny_base(true);
    // Steps so long that after two of them the sum of squares overflows f32.
    let config = SoftPromptConfig {
        run: RunConfig { learning_rate: 2.2e18, warmup_steps: 0, checkpoint_steps: 1, ..quick_config().run },
        ..quick_config()
    };
    let error = soft_prompt(
        &base,
        &Dataset { heldout: Vec::new(), ..dataset() },
        &config,
        dir.path(),
        false,
        &Control::default(),
        &mut Recorder::default(),
    );
    let Err(TrainError::NotFinite { step, checkpoint, .. }) = error else { panic!("{error:?}") };
    assert_eq!((step, checkpoint), (2, Some(dir.path().join("checkpoint-1"))));

    let mut broken = tiny_weights(true);
    broken.layers[1].down[5] = f32::NAN;
    let error = train_quietly(&TrainableLlama::new(broken).unwrap(), &dataset(), &quick_config());
    assert!(matches!(error, Err(TrainError::NotFinite { step: 0, .. })), "{error:?}");
}

#[test]
fn a_base_that_lets_no_gradient_through_is_named() {
    let mut cut = tiny_weights(true);
    // Without values, nothing of the soft prompt reaches the rows that predict.
    cut.layers.iter_mut().for_each(|layer| layer.v.fill(0.0));
    let error = train_quietly(&TrainableLlama::new(cut).unwrap(), &dataset(), &quick_config());
    assert!(matches!(&error, Err(TrainError::NoGradient { tensor }) if tensor == "prompt_embeddings"), "{error:?}");
}

#[test]
fn unusable_input_is_refused_before_anything_is_written() {
    let base = tiny_base(true);
    let dir = tempfile::tempdir().unwrap();
    let attempt = |data: &Dataset, config: &SoftPromptConfig| {
        let result = soft_prompt(&base, data, config, &dir.path().join("run"), false, &Control::default(), &mut Recorder::default());
        assert!(!dir.path().join("run").exists());
        result.expect_err("unusable")
    };
    let with = |example: Example| Dataset { heldout: vec![example], ..dataset() };
    assert!(matches!(attempt(&Dataset::default(), &quick_config()), TrainError::NoExamples));
    for bad in [
        example(1, 3, 0, 1.0),
        example(1, 40, 40, 1.0),
        example(1, 3, 3, f32::NAN),
        example(1, 3, 3, 0.0),
        Example { prompt: vec![31], answer: vec![1], weight: 1.0 },
    ] {
        let error = attempt(&with(bad), &quick_config());
        assert!(matches!(error, TrainError::Example { split: Split::Heldout, index: 0, .. }), "{error}");
    }
    for bad in [
        SoftPromptConfig { virtual_tokens: 0, ..quick_config() },
        SoftPromptConfig { virtual_tokens: 64, ..quick_config() },
        SoftPromptConfig { run: RunConfig { steps: 0, ..quick_config().run }, ..quick_config() },
        SoftPromptConfig { run: RunConfig { batch_size: 0, ..quick_config().run }, ..quick_config() },
        SoftPromptConfig { run: RunConfig { learning_rate: f64::NAN, ..quick_config().run }, ..quick_config() },
        SoftPromptConfig { run: RunConfig { clip_norm: 0.0, ..quick_config().run }, ..quick_config() },
        SoftPromptConfig { start: PromptStart::Tokens(vec![31]), ..quick_config() },
    ] {
        assert!(matches!(attempt(&dataset(), &bad), TrainError::Config { .. }), "{bad:?}");
    }
}

#[test]
fn a_base_of_another_shape_is_refused_by_tensor() {
    let mut weights = tiny_weights(true);
    weights.layers[1].k.pop();
    let error = TrainableLlama::new(weights).expect_err("too short");
    assert!(matches!(&error, TrainError::Base { tensor, .. } if tensor == "layers.1.k"), "{error}");
}

#[test]
fn the_estimate_grows_with_the_work_and_falls_with_recomputation() {
    let base = tiny_base(true);
    let speed = measure_speed(&base, 1).unwrap();
    assert!(speed > 100.0, "{speed} rows a second");
    let at = |config: &SoftPromptConfig| estimate(config, &dataset(), base.config(), speed);
    let (short, long) = (
        at(&quick_config()),
        at(&SoftPromptConfig { run: RunConfig { steps: 120, heldout_every: 40, ..quick_config().run }, ..quick_config() }),
    );
    assert!(long.seconds > 5.0 * short.seconds && long.peak_memory_bytes == short.peak_memory_bytes);
    let recomputed = at(&SoftPromptConfig { run: RunConfig { recompute: true, ..quick_config().run }, ..quick_config() });
    assert!(recomputed.peak_memory_bytes < short.peak_memory_bytes && recomputed.seconds > short.seconds);
}

fn train_quietly(base: &TrainableLlama, data: &Dataset, config: &SoftPromptConfig) -> Result<Trained<SoftPrompt>, TrainError> {
    let dir = tempfile::tempdir().unwrap();
    match soft_prompt(base, data, config, dir.path(), false, &Control::default(), &mut Recorder::default())? {
        Outcome::Finished(trained) => Ok(trained),
        other => panic!("nobody stopped it: {other:?}"),
    }
}

fn bits(trained: &Trained<SoftPrompt>) -> Vec<u32> {
    trained.adapter.vectors.iter().map(|v| v.to_bits()).collect()
}

#[test]
fn a_prompt_can_start_as_the_mean_embeddings_of_class_labels() {
    let base = tiny_base(true);
    let start = PromptStart::Labels(vec![vec![3, 4], vec![9]]);
    let run = RunConfig { steps: 1, warmup_steps: 1, learning_rate: 1e-30, ..quick_config().run };
    let config = SoftPromptConfig { start, run, ..quick_config() };
    let prompt = train_quietly(&base, &dataset(), &config).unwrap().adapter;
    let (three, four, nine) = (base.embedding_of(3), base.embedding_of(4), base.embedding_of(9));
    let mean: Vec<f32> = three.iter().zip(four).map(|(a, b)| (a + b) / 2.0).collect();
    assert_eq!(prompt.vectors, [&mean[..], nine, &mean].concat(), "three vectors of two labels, in turn");
    for labels in [vec![], vec![vec![]], vec![vec![31]]] {
        let bad = SoftPromptConfig { start: PromptStart::Labels(labels), ..quick_config() };
        assert!(matches!(train_quietly(&base, &dataset(), &bad), Err(TrainError::Config { field: "start", .. })));
    }
}
