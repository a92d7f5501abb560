//! The whole stack: against PyTorch + transformers + PEFT, against differences, packed against single.

use crate::fixture::{dataset, example, quarter_noise, tiny_base};
use serde::Deserialize;
use training::{AdamW, Control, Example, PackedBatch, TrainableLlama, Workspace};

/// tests/reference/prompt_tuning.json, made by the script beside it (versions are in both).
#[derive(Deserialize)]
pub struct Reference {
    pub cases: Vec<Case>,
    pub adamw: Vec<Vec<f32>>,
}

#[derive(Deserialize)]
pub struct Case {
    tied: bool,
    losses: Vec<f64>,
    gradient: Vec<f32>,
    prompt_after: Vec<f32>,
}

pub fn reference() -> Reference {
    serde_json::from_str(include_str!("../reference/prompt_tuning.json")).unwrap()
}

#[test]
fn loss_gradient_and_twenty_updates_agree_with_peft_on_torch() {
    for case in reference().cases {
        let base = tiny_base(case.tied);
        let examples: Vec<Example> =
            [(4, 7), (1, 3), (6, 12), (2, 1)].into_iter().zip(1000..).map(|((p, a), seed)| example(seed, p, a, 1.0)).collect();
        let mut prompt = quarter_noise(2000, 3 * 16);
        let mut optimizer = AdamW::new(prompt.len(), 0.01);
        for (step, expected) in case.losses.iter().enumerate() {
            let (loss, gradient) = loss_and_gradient(&base, &prompt, &examples, false);
            assert!((loss / expected - 1.0).abs() < 1e-5, "tied {}, step {step}: loss {loss}, PEFT {expected}", case.tied);
            if step == 0 {
                let error = relative_error(&gradient, &case.gradient);
                assert!(error < 1e-5, "tied {}: the gradient differs from PEFT's by {error}", case.tied);
            }
            optimizer.update(&mut prompt, &gradient, 0.05);
        }
        let error = relative_error(&prompt, &case.prompt_after);
        assert!(error < 1e-4, "tied {}: the prompt after 20 updates differs from PEFT's by {error}", case.tied);
    }
}

#[test]
fn the_gradient_of_the_soft_prompt_matches_differences_of_the_whole_model() {
    // f32 losses carry about 1e-7; with a step of 5e-3 that is 4e-5 in the quotient, and curvature adds as much.
    const STEP: f32 = 5e-3;
    let base = tiny_base(true);
    let examples = &dataset().train[..5];
    let prompt = quarter_noise(9, 3 * 16);
    let (_, gradient) = loss_and_gradient(&base, &prompt, examples, false);
    let loss_with = |i: usize, step: f32| {
        let mut moved = prompt.clone();
        moved[i] += step;
        loss(&base, &moved, examples, 3)
    };
    for i in 0..prompt.len() {
        let expected = (loss_with(i, STEP) - loss_with(i, -STEP)) / f64::from(2.0 * STEP);
        assert!((f64::from(gradient[i]) - expected).abs() < 3e-4, "element {i}: {} against {expected}", gradient[i]);
    }
}

#[test]
fn computing_layers_again_gives_the_same_bits() {
    let base = tiny_base(false);
    let prompt = quarter_noise(9, 3 * 16);
    let kept = loss_and_gradient(&base, &prompt, &dataset().train, false);
    assert!(kept == loss_and_gradient(&base, &prompt, &dataset().train, true));
}

#[test]
fn the_packed_loss_is_the_weighted_mean_of_single_sequences() {
    let base = tiny_base(true);
    let prompt = quarter_noise(9, 3 * 16);
    let examples = dataset().train;
    let packed = loss(&base, &prompt, &examples, 3);
    let total: f64 = examples.iter().map(Example::total_weight).sum();
    let single: f64 = examples.iter().map(|e| loss(&base, &prompt, std::slice::from_ref(e), 3) * e.total_weight() / total).sum();
    assert!((packed - single).abs() < 1e-6, "{packed} packed, {single} one by one: sequences must not see each other");
}

#[test]
fn batches_cut_in_parts_add_up_to_the_same_gradient() {
    let base = tiny_base(true);
    let prompt = quarter_noise(9, 3 * 16);
    let examples = dataset().train;
    let whole = loss_and_gradient(&base, &prompt, &examples, false);
    let parts = PackedBatch::split(&examples, 3, 30);
    assert!(parts.len() > 3 && parts.iter().all(|part| part.rows() <= 30), "{} parts", parts.len());
    let normalizer = parts.iter().map(PackedBatch::total_weight).sum();
    let (mut workspace, mut gradient, mut loss) = (Workspace::default(), vec![0.0; prompt.len()], 0.0);
    for part in &parts {
        loss += base.loss_and_gradient(&prompt, part, normalizer, false, &mut workspace, &Control::default(), &mut gradient).unwrap();
    }
    assert!((loss - whole.0).abs() < 1e-6, "{loss} against {}", whole.0);
    assert!(relative_error(&gradient, &whole.1) < 1e-5);
}

#[test]
fn without_a_soft_prompt_the_loss_is_that_of_the_bare_base() {
    let base = tiny_base(true);
    let examples = dataset().heldout;
    let bare = loss(&base, &[], &examples, 0);
    let prompted = loss(&base, &quarter_noise(9, 3 * 16), &examples, 3);
    assert!(bare.is_finite() && (bare - prompted).abs() > 1e-4, "{bare} bare, {prompted} with a random prompt");
}

fn loss(base: &TrainableLlama, prompt: &[f32], examples: &[Example], virtual_tokens: usize) -> f64 {
    let batch = PackedBatch::new(examples, virtual_tokens);
    base.loss(prompt, &batch, batch.total_weight(), &mut Workspace::default(), &Control::default()).unwrap()
}

fn loss_and_gradient(base: &TrainableLlama, prompt: &[f32], examples: &[Example], recompute: bool) -> (f64, Vec<f32>) {
    let batch = PackedBatch::new(examples, 3);
    let (mut workspace, mut gradient) = (Workspace::default(), vec![0.0; prompt.len()]);
    let loss = base
        .loss_and_gradient(prompt, &batch, batch.total_weight(), recompute, &mut workspace, &Control::default(), &mut gradient)
        .unwrap();
    (loss, gradient)
}

/// Length of the difference over length.
fn relative_error(got: &[f32], expected: &[f32]) -> f64 {
    let length = |values: &mut dyn Iterator<Item = f32>| values.map(|v| f64::from(v) * f64::from(v)).sum::<f64>().sqrt();
    assert_eq!(got.len(), expected.len());
    length(&mut got.iter().zip(expected).map(|(g, e)| g - e)) / length(&mut expected.iter().copied())
}
