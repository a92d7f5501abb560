//! Says what a base is, and what loading it takes: `cargo run --release -p inkling-model --example load <folder or .gguf>`.

use model::{LanguageModel, LoadOptions, ModelError, Precision, inspect};
use std::path::PathBuf;
use std::time::Instant;

fn main() -> Result<(), ModelError> {
    let path = PathBuf::from(std::env::args().nth(1).unwrap_or_else(|| ".".to_owned()));
    let start = Instant::now();
    let facts = inspect(&path)?;
    println!("{} {} {}, {:.1} M parameters", facts.architecture, facts.format, facts.numbers, facts.parameters as f64 / 1e6);
    println!("context {}, chat {}, file {:.1} MB", facts.context, facts.chat, facts.bytes as f64 / 1e6);
    println!("inspected in {:.0} ms", 1e3 * start.elapsed().as_secs_f64());
    println!("weights in memory, as estimated: {:.1} MB", facts.weight_bytes(Precision::Int8) as f64 / 1e6);
    for _ in 0..3 {
        let start = Instant::now();
        let base = LanguageModel::load(&path, &LoadOptions::new(2))?;
        println!("loaded in {:.2} s, {:.1} MB of weights", start.elapsed().as_secs_f64(), base.memory_bytes() as f64 / 1e6);
    }
    if let Ok(status) = std::fs::read_to_string("/proc/self/status") {
        status.lines().filter(|line| line.starts_with("VmHWM")).for_each(|line| println!("{line}"));
    }
    Ok(())
}
