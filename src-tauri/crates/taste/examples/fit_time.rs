//! How long relearning takes: `cargo run --release -p inkling-taste --example fit_time`.
//!
//! The texts are halves of the tests' stories put together anew, so that 10,000 of them differ; thumbs follow the
//! dialogue in them, with slips. Targets of LEARNING.md: well under a second for 10,000 thumbs.

use std::time::Instant;
use taste::{TasteData, TasteModel, Thumb};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let stories: Vec<String> = include_str!("../tests/taste/fixtures/stories.jsonl")
        .lines()
        .map(|line| Ok(serde_json::from_str::<serde_json::Value>(line)?["story"].as_str().unwrap_or_default().to_owned()))
        .collect::<Result<_, serde_json::Error>>()?;
    let half = |at: usize, second: bool| {
        let story = &stories[at % stories.len()];
        let middle = story[..story.len() / 2 + 40].rfind(". ").map_or(0, |at| at + 2);
        if second { story[middle..].to_owned() } else { story[..middle].to_owned() }
    };
    for n in [25, 100, 1_000, 10_000] {
        let thumb = |at: usize| {
            let text = half(at * 7 + at / 400, false) + &half(at * 13 + at / 97, true);
            let liked = (text.matches('"').count() > 4) != (at % 10 == 3);
            Thumb { generation: format!("{}", at / 4), text, liked }
        };
        let data = TasteData { thumbs: (0..n).map(thumb).collect(), comparisons: Vec::new() };
        let mut times: Vec<f64> = (0..5)
            .map(|_| {
                let start = Instant::now();
                std::hint::black_box(TasteModel::fit(&data, &domain::TasteTraining::default()));
                start.elapsed().as_secs_f64() * 1e3
            })
            .collect();
        times.sort_by(f64::total_cmp);
        let model = TasteModel::fit(&data, &domain::TasteTraining::default());
        let start = Instant::now();
        for thumb in &data.thumbs[..25] {
            std::hint::black_box(model.predict(&thumb.text));
        }
        let predict = start.elapsed().as_secs_f64() * 1e6 / 25.0;
        let size = serde_json::to_string(&model)?.len();
        println!(
            "{n:6} thumbs: fit {:.1} ms (median of 5; least {:.1}), AUC {:?}, predict {predict:.0} µs, file {size} bytes",
            times[2], times[0], model.auc
        );
    }
    Ok(())
}
