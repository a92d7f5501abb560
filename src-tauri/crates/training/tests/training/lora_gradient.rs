//! LoRA and DoRA through the whole stack: against PyTorch + transformers + PEFT, and against differences.

use crate::fixture::{dataset, example, noise, tiny_base, tiny_config};
use model::{LoraShape, Projection};
use serde::Deserialize;
use training::{AdamW, Control, Example, LoraLayout, PackedBatch, TrainableLlama, Workspace};

/// tests/reference/lora.json, made by the script beside it (versions are in both).
#[derive(Deserialize)]
struct Reference {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    dora: bool,
    rslora: bool,
    losses: Vec<f64>,
    gradient: Vec<f32>,
    after: Vec<f32>,
}

fn layout(dora: bool, rank_stabilised: bool, targets: &[Projection]) -> LoraLayout {
    let shape = LoraShape { rank: 3, alpha: 6.0, rank_stabilised, dora, targets: targets.to_vec() };
    LoraLayout::new(&shape, &tiny_config(true)).unwrap()
}

/// As in the reference script: one seed for each tensor, in order.
fn weights(layout: &LoraLayout) -> Vec<f32> {
    let mut weights = vec![0.0; layout.parameters()];
    for ((name, place), seed) in layout.tensors().into_iter().zip(3000..) {
        let centre = if name.ends_with("magnitude_vector") { 1.0 } else { 0.0 };
        let values: Vec<f32> = noise(seed, place.len()).into_iter().map(|value| centre + value / 4.0).collect();
        weights[place].copy_from_slice(&values);
    }
    weights
}

/// The tensors in the reference's order.
fn in_order(layout: &LoraLayout, flat: &[f32]) -> Vec<f32> {
    layout.tensors().into_iter().flat_map(|(_, place)| flat[place].to_vec()).collect()
}

#[test]
fn loss_gradient_and_twenty_updates_agree_with_pefts_lora_and_dora() {
    let reference: Reference = serde_json::from_str(include_str!("../reference/lora.json")).unwrap();
    assert_eq!(reference.cases.len(), 2);
    let base = tiny_base(true);
    for case in reference.cases {
        let layout = layout(case.dora, case.rslora, &Projection::ALL);
        let examples: Vec<Example> =
            [(4, 7), (1, 3), (6, 12), (2, 1)].into_iter().zip(1000..).map(|((p, a), seed)| example(seed, p, a, 1.0)).collect();
        let mut weights = weights(&layout);
        let mut optimizer = AdamW::new(weights.len(), 0.01);
        for (step, expected) in case.losses.iter().enumerate() {
            let (loss, gradient) = loss_and_gradient(&base, &layout, &weights, &examples, step % 2 == 1);
            assert!((loss / expected - 1.0).abs() < 2e-5, "DoRA {}, step {step}: loss {loss}, PEFT {expected}", case.dora);
            if step == 0 {
                let error = relative_error(&in_order(&layout, &gradient), &case.gradient);
                println!("DoRA {}: relative error of the gradient {error:.1e}", case.dora);
                assert!(error < 1e-5, "DoRA {}: the gradient differs from PEFT's by {error}", case.dora);
            }
            optimizer.update(&mut weights, &gradient, 0.01);
        }
        let error = relative_error(&in_order(&layout, &weights), &case.after);
        println!("DoRA {}: relative error of the weights after 20 updates {error:.1e}", case.dora);
        assert!(error < 1e-4, "DoRA {}: the weights after 20 updates differ from PEFT's by {error}", case.dora);
    }
}

#[test]
fn the_gradient_of_a_lora_matches_differences_of_the_whole_model() {
    // f32 losses carry about 1e-7; with a step of 5e-3 that is 4e-5 in the quotient, and curvature adds as much.
    const STEP: f32 = 5e-3;
    let base = tiny_base(true);
    let examples = &dataset().train[..5];
    let targets = [Projection::K, Projection::O, Projection::Up, Projection::Down];
    for layout in [layout(false, false, &Projection::ALL), layout(false, true, &targets)] {
        let weights = weights(&layout);
        let (_, gradient) = loss_and_gradient(&base, &layout, &weights, examples, false);
        for i in (0..weights.len()).step_by(7) {
            let moved = |step: f32| {
                let mut moved = weights.clone();
                moved[i] += step;
                loss(&base, &layout, &moved, examples)
            };
            let expected = (moved(STEP) - moved(-STEP)) / f64::from(2.0 * STEP);
            assert!((f64::from(gradient[i]) - expected).abs() < 5e-4, "element {i}: {} against {expected}", gradient[i]);
        }
    }
}

#[test]
fn the_gradient_of_doras_magnitudes_matches_differences_of_the_whole_model() {
    const STEP: f32 = 5e-3;
    let (base, layout) = (tiny_base(true), layout(true, false, &Projection::ALL));
    let examples = &dataset().train[..5];
    let weights = weights(&layout);
    let (_, gradient) = loss_and_gradient(&base, &layout, &weights, examples, false);
    let magnitudes = layout.tensors().into_iter().filter(|(name, _)| name.ends_with("magnitude_vector")).flat_map(|(_, place)| place);
    // A and B have no such test: the norm counts as a constant there (§4.3 of the paper), which differences would not know.
    // PEFT's dump above covers them.
    for i in magnitudes.step_by(3) {
        let moved = |step: f32| {
            let mut moved = weights.clone();
            moved[i] += step;
            loss(&base, &layout, &moved, examples)
        };
        let expected = (moved(STEP) - moved(-STEP)) / f64::from(2.0 * STEP);
        assert!((f64::from(gradient[i]) - expected).abs() < 5e-4, "element {i}: {} against {expected}", gradient[i]);
    }
}

#[test]
fn computing_layers_again_or_on_two_threads_gives_the_same_bits_for_lora() {
    let base = tiny_base(true);
    for dora in [false, true] {
        let layout = layout(dora, false, &Projection::ALL);
        let weights = weights(&layout);
        let kept = loss_and_gradient(&base, &layout, &weights, &dataset().train, false);
        assert!(kept == loss_and_gradient(&base, &layout, &weights, &dataset().train, true), "DoRA {dora}");
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        assert!(kept == pool.install(|| loss_and_gradient(&base, &layout, &weights, &dataset().train, false)), "DoRA {dora}");
    }
}

#[test]
fn a_new_adapter_changes_nothing_and_every_tensor_receives_a_gradient() {
    let base = tiny_base(true);
    let examples = dataset().train;
    let batch = PackedBatch::new(&examples, 0);
    let (mut workspace, control) = (Workspace::default(), Control::default());
    let bare = base.loss(&[], &batch, batch.total_weight(), &mut workspace, &control).unwrap();
    for dora in [false, true] {
        let layout = layout(dora, false, &Projection::ALL);
        let mut weights = base.initial_lora(&layout, 1);
        let began = loss(&base, &layout, &weights, &examples);
        assert!((began - bare).abs() < 1e-6, "DoRA {dora}: {began} against {bare}");
        // B is zero at first, and so is the gradient of A; one update later nothing is.
        let (_, gradient) = loss_and_gradient(&base, &layout, &weights, &examples, false);
        AdamW::new(weights.len(), 0.0).update(&mut weights, &gradient, 0.01);
        let (_, gradient) = loss_and_gradient(&base, &layout, &weights, &examples, false);
        for (name, place) in layout.tensors() {
            assert!(gradient[place].iter().all(|value| *value != 0.0), "DoRA {dora}: {name}");
        }
    }
}

#[test]
fn an_adapter_survives_the_way_into_one_vector_and_back() {
    for dora in [false, true] {
        let layout = layout(dora, false, &[Projection::Q, Projection::V, Projection::Gate]);
        let adapter = layout.adapter(&weights(&layout));
        adapter.check(&tiny_config(true)).unwrap();
        assert_eq!(layout.flatten(&adapter), weights(&layout));
        assert_eq!(layout.parameters(), adapter.shape.parameters(&tiny_config(true)));
    }
}

fn loss(base: &TrainableLlama, layout: &LoraLayout, weights: &[f32], examples: &[Example]) -> f64 {
    let batch = PackedBatch::new(examples, 0);
    base.lora_loss(layout, weights, &batch, batch.total_weight(), &mut Workspace::default(), &Control::default()).unwrap()
}

fn loss_and_gradient(
    base: &TrainableLlama,
    layout: &LoraLayout,
    weights: &[f32],
    examples: &[Example],
    recompute: bool,
) -> (f64, Vec<f32>) {
    let batch = PackedBatch::new(examples, 0);
    let (mut workspace, mut gradient) = (Workspace::default(), vec![0.0; weights.len()]);
    let control = Control::default();
    let normalizer = batch.total_weight();
    let loss = base.lora_loss_and_gradient(layout, weights, None, &batch, normalizer, recompute, &mut workspace, &control, &mut gradient);
    (loss.unwrap(), gradient)
}

/// Length of the difference over length.
fn relative_error(got: &[f32], expected: &[f32]) -> f64 {
    let length = |values: &mut dyn Iterator<Item = f32>| values.map(|v| f64::from(v) * f64::from(v)).sum::<f64>().sqrt();
    assert_eq!(got.len(), expected.len());
    length(&mut got.iter().zip(expected).map(|(g, e)| g - e)) / length(&mut expected.iter().copied())
}
