//! Prints what the built-in model writes, and how fast: `cargo run --release -p inkling-model --example decode [folder] [threads]`.

use domain::{Genre, GenreMix, Style};
use model::{Generate, Guidance, LanguageModel, LoadOptions, MemberSpec, ModelError, Sampler, StoryFormat};
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

const TOKENS: usize = 200;
const ROUNDS: usize = 9;

fn main() -> Result<(), ModelError> {
    let mut arguments = std::env::args().skip(1);
    let built_in = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../assets/models/story");
    let dir = PathBuf::from(arguments.next().unwrap_or_else(|| built_in.to_owned()));
    let threads = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(2);

    let start = Instant::now();
    let model = LanguageModel::load(&dir, &LoadOptions::new(threads))?;
    println!("load {:.0} ms, {} threads, {}", 1e3 * start.elapsed().as_secs_f64(), threads, model.isa());

    let genres = GenreMix([(Genre::Fantasy, 0.7), (Genre::Mystery, 0.3)].into());
    let text = StoryFormat::prompt_text(&genres, Some(Style::Twist), "two sisters and a dragon");
    let prompt = model.tokenizer().encode(&text);
    let member = |seed| MemberSpec::plain(Sampler { seed, ..Sampler::default() });
    let never = AtomicBool::new(false);

    let story = Generate {
        prompt: prompt.clone(),
        written: 0,
        members: vec![member(7)],
        max_tokens: 256,
        stop: StoryFormat::stop(model.tokenizer()),
        stop_texts: Vec::new(),
        guidance: Guidance::default(),
    };
    let mut first = None;
    let start = Instant::now();
    let written = model.generate(&story, &never, &mut |_| {
        first.get_or_insert_with(|| start.elapsed());
    })?;
    println!("first token after {:.2} ms, prompt of {} tokens", 1e3 * first.unwrap_or_default().as_secs_f64(), prompt.len());
    written.iter().for_each(|one| println!("\n{text}{}\n[{:?}, {} tokens]\n", one.text, one.finish, one.token_ids.len()));

    for n in [1, 4, 8, 16] {
        // No stop tokens: every candidate has the full length.
        let request = Generate {
            prompt: prompt.clone(),
            written: 0,
            members: (0..n).map(member).collect(),
            max_tokens: TOKENS,
            stop: Vec::new(),
            stop_texts: Vec::new(),
            guidance: Guidance::default(),
        };
        let mut rates = Vec::new();
        for _ in 0..ROUNDS {
            let start = Instant::now();
            let tokens: usize = model.generate(&request, &never, &mut |_| {})?.iter().map(|one| one.token_ids.len()).sum();
            rates.push(tokens as f64 / start.elapsed().as_secs_f64());
        }
        rates.sort_by(f64::total_cmp);
        println!("n = {n:2}: {:6.0} tokens/s (median of {ROUNDS}, {:.0} to {:.0})", rates[ROUNDS / 2], rates[0], rates[ROUNDS - 1]);
    }

    let long: Vec<u32> = prompt.iter().copied().cycle().take(512).collect();
    let start = Instant::now();
    let scores = model.score(None, &long[..1], &long[1..])?;
    println!("score of {} tokens: {:.1} ms", scores.len(), 1e3 * start.elapsed().as_secs_f64());
    println!("weights, caches and work space: {:.1} MB", model.memory_bytes() as f64 / 1e6);
    if let Ok(status) = std::fs::read_to_string("/proc/self/status") {
        status.lines().filter(|line| line.starts_with("VmRSS") || line.starts_with("VmHWM")).for_each(|line| println!("{line}"));
    }
    Ok(())
}
