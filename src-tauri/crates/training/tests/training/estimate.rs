//! What was said beforehand beside what happened. Needs a process and a machine of its own:
//!
//!     cargo test --release -p inkling-training --test training estimate -- --ignored --nocapture

use crate::fixture::Recorder;
use model::bench::Shape;
use model::{LoraShape, Projection};
use std::time::Instant;
use training::{
    Control, Dataset, Estimate, Example, Judgement, Judgements, LoraConfig, Preference, Quantisation, RunConfig, SingleLoss,
    SoftPromptConfig, estimate, estimate_judgements, estimate_lora, lora, lora_from_judgements, measure_lora_speed, measure_speed,
    random_base, soft_prompt,
};

/// The largest resident size since the last call, in bytes, where the system tells.
fn peak_since_last() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default();
    let kibibytes: u64 = line.split_whitespace().nth(1).and_then(|word| word.parse().ok()).unwrap_or(0);
    // Forgets the peak; where that is not allowed the figure stays too high, which the output shows.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
    kibibytes << 10
}

#[test]
#[ignore = "prints how estimates compare with this machine"]
fn estimates_beside_what_happens() {
    let base = random_base(Shape::Story.config(), None).unwrap();
    let text = |index: usize| {
        let token = |place: usize| ((place * 31 + index * 17 + 5) % 8192) as u32;
        Example { prompt: (0..12).map(token).collect(), answer: (12..140 + index % 7 * 20).map(token).collect(), weight: 1.0 }
    };
    let examples = Dataset { train: (0..40).map(text).collect(), heldout: (40..46).map(text).collect() };
    let pair = |index| Judgement::Pair { chosen: text(index), rejected: text(index + 100) };
    let pairs = Judgements { train: (0..40).map(pair).collect(), heldout: Vec::new() };
    let single = |index| Judgement::Single { text: text(index), liked: index % 2 == 0 };
    let singles = Judgements { train: (0..40).map(single).collect(), heldout: Vec::new() };
    let run = RunConfig { steps: 40, patience: None, threads: 2, ..RunConfig::default() };
    let shape = |dora| LoraShape { rank: 16, alpha: 32.0, rank_stabilised: false, dora, targets: Projection::ALL.to_vec() };
    let config = |dora| LoraConfig { shape: shape(dora), run: run.clone(), ..LoraConfig::default() };
    let kto = LoraConfig { preference: Preference { singles: SingleLoss::Kto, ..Preference::default() }, ..config(false) };
    let prompt = SoftPromptConfig { run: run.clone(), ..SoftPromptConfig::default() };
    let (plain, dora) = (config(false), config(true));

    let compare = |name: &str, said: Estimate, work: &mut dyn FnMut(&std::path::Path, &mut Recorder)| {
        let folder = tempfile::tempdir().unwrap();
        peak_since_last();
        let began = Instant::now();
        work(folder.path(), &mut Recorder::default());
        let (took, peak) = (began.elapsed().as_secs_f64(), peak_since_last());
        let megabytes = |bytes: u64| bytes as f64 / 1e6;
        println!(
            "{name:12} {:6.1} s said, {took:6.1} s taken ({:.2}); {:5.0} MB said, {:5.0} MB used ({:.2})",
            said.seconds,
            said.seconds / took,
            megabytes(said.peak_memory_bytes),
            megabytes(peak),
            said.peak_memory_bytes as f64 / peak as f64
        );
    };
    let (control, shape_of) = (Control::default(), base.config().clone());
    let speed = measure_speed(&base, 2).unwrap();
    compare("soft prompt", estimate(&prompt, &examples, &shape_of, speed), &mut |folder, recorder| {
        soft_prompt(&base, &examples, &prompt, folder, false, &control, recorder).unwrap();
    });
    let speed = measure_lora_speed(&base, &plain.shape, 2).unwrap();
    compare("LoRA", estimate_lora(&plain, &examples, &shape_of, speed), &mut |folder, recorder| {
        lora(&base, &examples, &plain, folder, false, &control, recorder).unwrap();
    });
    compare("DPO", estimate_judgements(&plain, &pairs, &shape_of, speed), &mut |folder, recorder| {
        lora_from_judgements(&base, &pairs, &plain, folder, false, &control, recorder).unwrap();
    });
    compare("KTO", estimate_judgements(&kto, &singles, &shape_of, speed), &mut |folder, recorder| {
        lora_from_judgements(&base, &singles, &kto, folder, false, &control, recorder).unwrap();
    });
    let speed = measure_lora_speed(&base, &dora.shape, 2).unwrap();
    compare("DoRA", estimate_lora(&dora, &examples, &shape_of, speed), &mut |folder, recorder| {
        lora(&base, &examples, &dora, folder, false, &control, recorder).unwrap();
    });
}

#[test]
fn a_base_in_fewer_bits_is_counted_as_it_is_held_and_read() {
    let base = Shape::SmolLm2_135M.config();
    let text = Example { prompt: vec![0; 8], answer: vec![1; 40], weight: 1.0 };
    let data = Dataset { train: vec![text], heldout: Vec::new() };
    let estimate = |quantisation, dora| {
        let estimate = estimate_lora(&LoraConfig::default(), &data, &base, 1000.0).holding(&base, quantisation, dora);
        estimate.peak_memory_bytes as i64
    };
    let projections = (base.parameters() - base.vocab * base.hidden - (2 * base.layers + 1) * base.hidden) as i64;
    let (dense, halves) = (estimate(None, false), estimate(Some(Quantisation::Bf16), false));
    assert_eq!(dense - halves, 2 * projections, "two bytes less for each weight of a projection, and nothing beside");
    let (int8, int4) = (estimate(Some(Quantisation::Int8), false), estimate(Some(Quantisation::Int4), false));
    assert_eq!(dense - int8, 4 * projections - projections * 34 / 32, "a byte each, and a scale for 32");
    assert!(int4 < int8 && int4 > 4 * (base.vocab * base.hidden) as i64, "embedding and head stay as they are");
    let panel = 4 * 2 * (base.intermediate * base.hidden) as i64;
    assert_eq!(estimate(Some(Quantisation::Int8), true) - int8, panel, "lengths of DoRA's rows are taken from one matrix in f32");
}
