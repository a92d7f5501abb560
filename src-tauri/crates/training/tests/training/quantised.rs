//! QLoRA: the frozen base in bf16, int8 or int4.

use crate::fixture::{Recorder, dataset, tiny_base, tiny_weights};
use kernels::train::QuantisedMatrix;
use model::{DenseWeights, LoraShape, Projection};
use training::{
    Control, LoraConfig, LoraLayout, Outcome, PackedBatch, Precision, Quantisation, RunConfig, TrainError, TrainableLlama, Workspace, lora,
};

const FORMATS: [Quantisation; 3] = [Quantisation::Bf16, Quantisation::Int8, Quantisation::Int4];

/// The tiny base with every projection as it is after quantisation, in f32: what bitsandbytes and PEFT compute with.
fn dequantised(quantisation: Quantisation) -> DenseWeights {
    let mut weights = tiny_weights(true);
    let config = weights.config.clone();
    let through = |matrix: &mut Vec<f32>, columns: usize| {
        QuantisedMatrix::new(&matrix.clone(), columns, quantisation).dequantise(matrix);
    };
    for layer in &mut weights.layers {
        for matrix in [&mut layer.q, &mut layer.k, &mut layer.v, &mut layer.gate, &mut layer.up] {
            through(matrix, config.hidden);
        }
        through(&mut layer.o, config.query_width());
        through(&mut layer.down, config.intermediate);
    }
    weights
}

#[test]
fn a_quantised_base_has_the_loss_and_gradient_of_its_weights_as_they_are_used() {
    for quantisation in FORMATS {
        let mut quantised = TrainableLlama::quantised(tiny_weights(true), quantisation).unwrap();
        let dense = TrainableLlama::new(dequantised(quantisation)).unwrap();
        for dora in [false, true] {
            let shape = LoraShape { rank: 3, alpha: 6.0, rank_stabilised: false, dora, targets: Projection::ALL.to_vec() };
            let layout = LoraLayout::new(&shape, dense.config()).unwrap();
            let mut weights = dense.initial_lora(&layout, 5);
            weights.iter_mut().for_each(|value| *value += 0.01);
            let examples = dataset().train;
            let batch = PackedBatch::new(&examples, 0);
            let run = |base: &TrainableLlama| {
                let (mut workspace, mut gradient) = (Workspace::default(), vec![0.0; weights.len()]);
                let (normalizer, control) = (batch.total_weight(), Control::default());
                let loss = base
                    .lora_loss_and_gradient(&layout, &weights, None, &batch, normalizer, false, &mut workspace, &control, &mut gradient)
                    .unwrap();
                (loss, gradient)
            };
            let (loss, gradient) = run(&dense);
            let (rounded_loss, rounded) = run(&quantised);
            quantised = quantised.with_precision(Precision::F32);
            assert!(run(&quantised) == (loss, gradient.clone()), "{quantisation:?}, DoRA {dora}: the same numbers, so the same bits");
            // In bf16 a factor is off by 2⁻⁹ at most; what training follows is the direction.
            assert!((rounded_loss / loss - 1.0).abs() < 0.01, "{quantisation:?}: {rounded_loss} for {loss}");
            let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
            let cosine = dot(&gradient, &rounded) / (dot(&gradient, &gradient) * dot(&rounded, &rounded)).sqrt();
            assert!(cosine > 0.999, "{quantisation:?}, DoRA {dora}: the gradient in bf16 points elsewhere, cosine {cosine}");
            quantised = quantised.with_precision(Precision::Bf16);
        }
    }
}

#[test]
fn int8_stays_closer_to_the_base_than_int4_and_both_are_smaller() {
    let values: Vec<f32> = crate::fixture::noise(3, 64 * 48);
    let error = |quantisation| {
        let matrix = QuantisedMatrix::new(&values, 48, quantisation);
        let mut back = vec![0.0; values.len()];
        matrix.dequantise(&mut back);
        let worst = values.iter().zip(&back).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
        (worst, matrix.bytes())
    };
    let ((int8, bytes8), (int4, bytes4)) = (error(Quantisation::Int8), error(Quantisation::Int4));
    // Half a step of a block that reaches ±1, and an f16 scale: 1/254 and 1/16; Q4_0 cuts the far end of the other sign by a step.
    assert!(int8 < 0.0042, "{int8}");
    assert!(int4 < 0.13 && int4 > int8, "{int4}");
    assert!(bytes4 < bytes8 && bytes8 < 4 * values.len() / 2, "{bytes4}, {bytes8}");
}

#[test]
fn an_adapter_is_trained_on_a_quantised_base_and_only_resumed_on_the_same_one() {
    let config = LoraConfig {
        shape: LoraShape { rank: 4, alpha: 8.0, rank_stabilised: true, dora: false, targets: vec![Projection::Q, Projection::V] },
        run: RunConfig { steps: 30, learning_rate: 0.02, heldout_every: 30, patience: None, threads: 1, ..RunConfig::default() },
        ..LoraConfig::default()
    };
    for quantisation in FORMATS {
        let base = TrainableLlama::quantised(tiny_weights(true), quantisation).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let outcome = lora(&base, &dataset(), &config, dir.path(), false, &Control::default(), &mut Recorder::default()).unwrap();
        let Outcome::Finished(trained) = outcome else { panic!("{outcome:?}") };
        assert!(trained.final_loss < trained.history[0].loss - 0.05, "{} -> {}", trained.history[0].loss, trained.final_loss);
        trained.adapter.check(base.config()).unwrap();
        let other = lora(&tiny_base(true), &dataset(), &config, dir.path(), true, &Control::default(), &mut Recorder::default());
        assert!(matches!(other, Err(TrainError::DifferentRun { what: "base", .. })), "the f32 base is another one");
    }
}
