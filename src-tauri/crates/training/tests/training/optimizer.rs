//! AdamW against PyTorch, the schedule against its formula, the order of batches.

use crate::fixture::noise;
use crate::gradient::reference;
use std::collections::HashSet;
use training::{AdamW, BatchOrder, Decay, learning_rate};

#[test]
fn twenty_updates_of_adamw_agree_with_torch() {
    let mut weights = noise(1, 7);
    let mut optimizer = AdamW::new(7, 0.1);
    for (step, expected) in reference().adamw.iter().enumerate() {
        let scale = 1.5f64.powi(step as i32);
        let gradient: Vec<f32> = noise(100 + step as u64, 7).into_iter().map(|g| g * scale as f32 / 100.0).collect();
        optimizer.update(&mut weights, &gradient, 0.03);
        for (got, expected) in weights.iter().zip(expected) {
            assert!((got - expected).abs() < 2e-6, "step {step}: {got}, torch {expected}");
        }
    }
}

#[test]
fn the_rate_rises_linearly_and_falls_along_a_cosine() {
    let rate = |step| learning_rate(step, 110, 10, 2.0, 0.1, Decay::Cosine);
    let close = |step, expected: f64| assert!((rate(step) - expected).abs() < 1e-12, "step {step}: {}", rate(step));
    close(1, 0.2);
    close(10, 2.0);
    // Half-way between 10 and 110 the cosine is 0: the mean of peak and floor.
    close(60, 2.0 * (0.1 + 0.9 * 0.5));
    close(110, 0.2);
    assert!((11..110).all(|step| rate(step) > rate(step + 1)), "it only falls after the warm-up");
    assert!(learning_rate(1, 1, 0, 1.0, 0.0, Decay::Linear) >= 0.0, "a single step without warm-up has a rate");
}

#[test]
fn every_epoch_uses_every_example_once_in_another_order() {
    let order = BatchOrder::new(3, 10, 4);
    let all: Vec<usize> = (0..10).flat_map(|update| order.batch(update)).collect();
    assert_eq!(all.len(), 40);
    let epochs: Vec<&[usize]> = all.chunks(10).collect();
    for epoch in &epochs {
        assert_eq!(epoch.iter().collect::<HashSet<_>>().len(), 10, "{epoch:?}");
    }
    assert_ne!(epochs[0], epochs[1]);
    assert_eq!(order.batch(6), BatchOrder::new(3, 10, 4).batch(6), "the order follows from seed and update alone");
    assert_ne!(order.batch(0), BatchOrder::new(4, 10, 4).batch(0));
    assert_eq!(order.position(6), (2, 4));
    assert_eq!(BatchOrder::new(3, 2, 4).batch(5).len(), 2, "a small dataset makes a small batch");
}

#[test]
fn a_linear_rate_falls_evenly_and_a_constant_one_stays() {
    let rate = |step, decay| learning_rate(step, 20, 10, 2.0, 0.5, decay);
    assert_eq!([5, 10, 15, 20].map(|step| rate(step, Decay::Linear)), [1.0, 2.0, 1.5, 1.0]);
    assert_eq!([5, 10, 15, 20].map(|step| rate(step, Decay::Constant)), [1.0, 2.0, 2.0, 2.0]);
}
