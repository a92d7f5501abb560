//! The sampler on logits whose probabilities are known.

use kernels::isa::Isa;
use model::{Draw, Sampler};

/// Logits of these probabilities.
fn logits(probabilities: &[f32]) -> Vec<f32> {
    probabilities.iter().map(|p| p.ln()).collect()
}

/// Shares of the tokens in many draws.
fn shares(sampler: &Sampler, logits: &[f32], draws: usize) -> Vec<f64> {
    let mut counts = vec![0.0; logits.len()];
    for seed in 0..draws as u64 {
        // A new generator each time also tests that neighbouring seeds are unrelated.
        let mut draw = Draw::new(&Sampler { seed, ..sampler.clone() }, &[]);
        counts[draw.next(Isa::detect(), logits).token as usize] += 1.0 / draws as f64;
    }
    counts
}

fn plain() -> Sampler {
    Sampler { temperature: 1.0, top_p: 1.0, ..Sampler::default() }
}

fn assert_near(found: &[f64], expected: &[f64]) {
    // 20,000 draws: three standard deviations of a share are below 0.011.
    let near = found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 0.012 && (*b > 0.0 || *a == 0.0));
    assert!(near, "{found:?} for {expected:?}");
}

const DRAWS: usize = 20_000;
const FOUR: [f32; 4] = [0.1, 0.4, 0.3, 0.2];

#[test]
fn draws_follow_the_probabilities_at_every_temperature() {
    assert_near(&shares(&plain(), &logits(&FOUR), DRAWS), &[0.1, 0.4, 0.3, 0.2]);
    // At temperature 1/2 probabilities are squared: 1, 16, 9, 4 of 30.
    let half = Sampler { temperature: 0.5, ..plain() };
    assert_near(&shares(&half, &logits(&FOUR), DRAWS), &[1.0 / 30.0, 16.0 / 30.0, 9.0 / 30.0, 4.0 / 30.0]);
}

#[test]
fn each_cut_leaves_what_it_should() {
    let top_k = Sampler { top_k: 2, ..plain() };
    assert_near(&shares(&top_k, &logits(&FOUR), DRAWS), &[0.0, 4.0 / 7.0, 3.0 / 7.0, 0.0]);
    let top_p = Sampler { top_p: 0.65, ..plain() };
    assert_near(&shares(&top_p, &logits(&FOUR), DRAWS), &[0.0, 4.0 / 7.0, 3.0 / 7.0, 0.0]);
    let crossing = Sampler { top_p: 0.75, ..plain() };
    assert_near(&shares(&crossing, &logits(&FOUR), DRAWS), &[0.0, 4.0 / 9.0, 3.0 / 9.0, 2.0 / 9.0]);
    let min_p = Sampler { min_p: 0.45, ..plain() };
    assert_near(&shares(&min_p, &logits(&FOUR), DRAWS), &[0.0, 4.0 / 9.0, 3.0 / 9.0, 2.0 / 9.0]);
    // Top-p counts within what top-k left: 4/7 alone passes one half.
    let both = Sampler { top_k: 2, top_p: 0.5, ..plain() };
    assert_near(&shares(&both, &logits(&FOUR), DRAWS), &[0.0, 1.0, 0.0, 0.0]);
    let none = Sampler { top_p: 0.0, ..plain() };
    assert_near(&shares(&none, &logits(&FOUR), 100), &[0.0, 1.0, 0.0, 0.0]);
}

#[test]
fn cuts_reach_far_into_flat_and_steep_distributions() {
    // Nearly flat over 1,000 tokens: top-p 0.5 must keep about half of them, though none is likely.
    let flat: Vec<f32> = (0..1000).map(|token| -1e-3 * token as f32).collect();
    let half = shares(&Sampler { top_p: 0.5, ..plain() }, &flat, DRAWS);
    let kept = half.iter().filter(|share| **share > 0.0).count();
    // The sum of exp(-x/1000) up to n is half of the whole at n = -1000 ln((1 + 1/e) / 2) = 380.
    assert!((370..=381).contains(&kept), "{kept} tokens kept");
    // A token 10 below the first is beyond the first look, but top-p 0.99999 must reach it.
    let steep = [0.0, -10.0, -30.0];
    let far = Sampler { top_p: 0.999_999, ..plain() };
    let tokens: Vec<u32> =
        (0..200_000).map(|seed| Draw::new(&Sampler { seed, ..far.clone() }, &[]).next(Isa::detect(), &steep).token).collect();
    assert!(tokens.contains(&1), "exp(-10) is one in 22,000");
    assert!(!tokens.contains(&2));
}

#[test]
fn greedy_takes_the_first_of_the_most_likely() {
    let mut draw = Draw::new(&Sampler::greedy(), &[]);
    let drawn = draw.next(Isa::detect(), &[0.0, 2.0, 2.0, -1.0]);
    assert_eq!(drawn.token, 1);
    let sum = 1.0f32 + 2.0 * 2.0f32.exp() + (-1.0f32).exp();
    assert!((drawn.logprob - (2.0 - sum.ln())).abs() < 1e-6, "the log-probability is the model's own");
}

#[test]
fn repetition_is_penalised_for_the_prompt_and_for_what_was_drawn() {
    let sampler = Sampler { repetition_penalty: 2.0, ..Sampler::greedy() };
    let mut draw = Draw::new(&sampler, &[0]);
    let logits = [3.0, 2.0, 1.9, -1.0];
    let order: Vec<u32> = (0..3).map(|_| draw.next(Isa::detect(), &logits).token).collect();
    // 3.0 counts as 1.5; then 2.0 as 1.0, 1.9 as 0.95; then 1.5 is the largest.
    assert_eq!(order, [1, 2, 0]);
    let negative = Draw::new(&sampler, &[0]).next(Isa::detect(), &[-1.0, -1.5]).token;
    assert_eq!(negative, 1, "a negative logit is multiplied, so that it falls too");
}
