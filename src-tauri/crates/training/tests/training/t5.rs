//! T5's prompt tuning: against PyTorch + transformers + PEFT, packed against single, and through the recipe.

use crate::fixture::Recorder;
use kernels::train::QuantisedMatrix;
use model::DenseT5;
use serde::Deserialize;
use std::path::Path;
use training::{
    Control, Dataset, Example, Outcome, Precision, PromptBase, PromptStart, Quantisation, RunConfig, SoftPromptConfig, TrainableT5,
    Workspace, soft_prompt,
};

/// tests/reference/t5.json, made by the script beside it (versions are in both).
#[derive(Deserialize)]
struct Reference {
    tokens: usize,
    examples: Vec<(Vec<u32>, Vec<u32>)>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    kind: String,
    parts: usize,
    loss: f64,
    prompt: Vec<f32>,
    gradient: Vec<f32>,
}

fn reference() -> (Reference, Vec<Example>) {
    let reference: Reference = serde_json::from_str(include_str!("../reference/t5.json")).unwrap();
    let example = |(prompt, answer): &(Vec<u32>, Vec<u32>)| Example { prompt: prompt.clone(), answer: answer.clone(), weight: 1.0 };
    let examples = reference.examples.iter().map(example).collect();
    (reference, examples)
}

fn weights(kind: &str) -> DenseT5 {
    DenseT5::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../model/tests/reference/t5").join(kind)).unwrap()
}

fn base(kind: &str) -> TrainableT5 {
    TrainableT5::new(weights(kind))
}

/// Mean loss of all answer tokens and its gradient.
fn loss_and_gradient(base: &TrainableT5, prompt: &[f32], examples: &[Example], tokens: usize) -> (f64, Vec<f32>) {
    let (batch, count) = (base.batch(examples, tokens), examples.iter().map(|one| one.answer.len()).sum::<usize>() as f64);
    let mut loss = 0.0;
    let mut slopes = |found: &[f64]| {
        loss = -found.iter().sum::<f64>() / count;
        vec![-1.0 / count; found.len()]
    };
    let mut gradient = vec![0.0; prompt.len()];
    base.pass_and_back(prompt, &batch, &mut slopes, &mut Workspace::default(), &Control::default(), &mut gradient).unwrap();
    (loss, gradient)
}

fn relative_error(found: &[f32], expected: &[f32]) -> f64 {
    let square = |value: f64| value * value;
    let difference: f64 = found.iter().zip(expected).map(|(a, b)| square(f64::from(*a) - f64::from(*b))).sum();
    (difference / expected.iter().map(|value| square(f64::from(*value))).sum::<f64>()).sqrt()
}

#[test]
fn losses_and_gradients_of_t5_agree_with_peft() {
    let (reference, examples) = reference();
    for case in &reference.cases {
        let base = base(&case.kind);
        // With two submodules PEFT has vectors for the decoder too, which it never passes on.
        let (wanted, idle) = case.gradient.split_at(reference.tokens * 48);
        assert!(idle.len() == (case.parts - 1) * wanted.len() && idle.iter().all(|value| *value == 0.0));
        let (loss, gradient) = loss_and_gradient(&base, &case.prompt[..wanted.len()], &examples, reference.tokens);
        let error = relative_error(&gradient, wanted);
        println!("{}, {} parts: loss off by {:.1e}, gradient by {error:.1e}", case.kind, case.parts, (loss / case.loss - 1.0).abs());
        assert!((loss / case.loss - 1.0).abs() < 1e-5, "{} {}: loss {loss}, PEFT {}", case.kind, case.parts, case.loss);
        assert!(error < 1e-4, "{} {}: the gradient differs by {error}", case.kind, case.parts);
        for (index, vector) in gradient.chunks_exact(48).enumerate() {
            assert!(vector.iter().any(|value| *value != 0.0), "vector {index} has a gradient");
        }
    }
}

/// Every projection as it is after quantisation, in f32.
fn dequantised(kind: &str, quantisation: Quantisation) -> DenseT5 {
    let mut weights = weights(kind);
    let (hidden, width, inner) = (weights.config.hidden, weights.config.width(), weights.config.intermediate);
    let through = |matrix: &mut Vec<f32>, columns: usize| {
        QuantisedMatrix::new(&matrix.clone(), columns, quantisation).dequantise(matrix);
    };
    for layer in weights.encoder.layers.iter_mut().chain(&mut weights.decoder.layers) {
        [&mut layer.qkv, &mut layer.up].into_iter().for_each(|matrix| through(matrix, hidden));
        through(&mut layer.output, width);
        through(&mut layer.down, inner);
        if let Some(cross) = &mut layer.cross {
            [&mut cross.query, &mut cross.keys_values].into_iter().for_each(|matrix| through(matrix, hidden));
            through(&mut cross.output, width);
        }
    }
    weights
}

#[test]
fn a_quantised_t5_has_the_loss_and_gradient_of_its_weights_as_they_are_used() {
    let (reference, examples) = reference();
    for case in reference.cases.iter().filter(|case| case.parts == 1) {
        for quantisation in [Quantisation::Bf16, Quantisation::Int8, Quantisation::Int4] {
            let name = format!("{} in {quantisation:?}", case.kind);
            let quantised = TrainableT5::held(weights(&case.kind), Some(quantisation));
            assert_ne!(quantised.identity(), base(&case.kind).identity(), "{name}: another base to a checkpoint");
            let run = |base: &TrainableT5| loss_and_gradient(base, &case.prompt, &examples, reference.tokens);
            let (loss, gradient) = run(&TrainableT5::new(dequantised(&case.kind, quantisation)));
            let (rounded_loss, rounded) = run(&quantised);
            assert!((rounded_loss / loss - 1.0).abs() < 0.01, "{name}: {rounded_loss} for {loss}");
            let error = relative_error(&rounded, &gradient);
            assert!(error < 0.05, "{name}: the gradient in bf16 is off by {error}");
            let (same_loss, same) = run(&quantised.with_precision(Precision::F32));
            assert!((same_loss, same) == (loss, gradient), "{name}: the same numbers, so the same bits");
        }
    }
}

#[test]
fn a_packed_t5_batch_is_its_texts_alone() {
    let (reference, examples) = reference();
    let case = &reference.cases[0];
    let base = base(&case.kind);
    let (_, together) = loss_and_gradient(&base, &case.prompt, &examples, reference.tokens);
    let all: usize = examples.iter().map(|one| one.answer.len()).sum();
    let mut summed = vec![0.0; together.len()];
    for example in &examples {
        let (_, alone) = loss_and_gradient(&base, &case.prompt, std::slice::from_ref(example), reference.tokens);
        let share = example.answer.len() as f32 / all as f32;
        summed.iter_mut().zip(alone).for_each(|(sum, part)| *sum += share * part);
    }
    let error = relative_error(&summed, &together);
    assert!(error < 1e-5, "no text sees its neighbours: {error}");
}

#[test]
fn the_recipe_teaches_a_t5_its_examples() {
    let (_, examples) = reference();
    let base = base("flan");
    let train: Vec<Example> = examples.into_iter().take(2).collect();
    let run = RunConfig { steps: 120, batch_size: 2, learning_rate: 0.3, clip_norm: 10.0, checkpoint_steps: 0, ..RunConfig::default() };
    let config = SoftPromptConfig { virtual_tokens: 6, start: PromptStart::Vocabulary, run, ..SoftPromptConfig::default() };
    let folder = tempfile::tempdir().unwrap();
    let data = Dataset { train, heldout: Vec::new() };
    let outcome = soft_prompt(&base, &data, &config, folder.path(), false, &Control::default(), &mut Recorder::default()).unwrap();
    let Outcome::Finished(trained) = outcome else { panic!("nobody stopped it") };
    let first = trained.history.first().unwrap().loss;
    println!("loss from {first:.3} to {:.3}", trained.final_loss);
    assert!(trained.final_loss < 0.9 * first, "{first} to {}", trained.final_loss);
    assert_eq!((trained.adapter.tokens, trained.adapter.hidden), (6, base.hidden()));
}
