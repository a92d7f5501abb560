//! Prints how many texts a second the built-in embedder reads.
//!
//! `cargo run --release -p inkling-model --example embed [threads] [repeats]`

use model::Embedder;
use std::path::Path;
use std::time::Instant;

const SENTENCE: &str = "The keeper of the lighthouse wrote a line about gulls into the book, and the sea beat against the rocks.";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let number = |place: usize, default: usize| std::env::args().nth(place).and_then(|text| text.parse().ok()).unwrap_or(default);
    let (threads, repeats) = (number(1, 2), number(2, 5));
    let started = Instant::now();
    let embedder = Embedder::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../assets/models/embedder"), threads)?;
    println!("loaded in {:.3} s, {:.1} MB of weights", started.elapsed().as_secs_f64(), embedder.memory_bytes() as f64 / 1e6);
    let story = [SENTENCE; 6].join(" ");
    for (what, text, count) in
        [("1 sentence", SENTENCE, 1), ("64 sentences", SENTENCE, 64), ("5 stories", &story, 5), ("32 stories", &story, 32)]
    {
        let texts = vec![text; count];
        let mut seconds: Vec<f64> = (0..repeats)
            .map(|_| {
                let started = Instant::now();
                std::hint::black_box(embedder.embed(&texts));
                started.elapsed().as_secs_f64()
            })
            .collect();
        seconds.sort_by(f64::total_cmp);
        let median = seconds[repeats / 2];
        let best = seconds[0];
        println!("{what} at once: median {:.1} ms, {:.0} texts/s; best {:.1} ms", 1e3 * median, count as f64 / median, 1e3 * best);
    }
    Ok(())
}
