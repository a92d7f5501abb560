//! `inkling bench train`

use crate::args::BenchTrain;
use crate::output::Printer;
use app::{TrainBench, bench_train};
use domain::ApiError;

pub fn run(bench: BenchTrain, printer: &Printer) -> Result<(), ApiError> {
    let result = bench_train(&TrainBench {
        recipe: bench.recipe,
        objective: bench.objective,
        shape: bench.shape,
        weights: bench.weights,
        batch: bench.batch,
        seq: bench.seq,
        lengths: bench.lengths,
        answer: bench.answer,
        rank: bench.rank,
        virtual_tokens: bench.num_virtual_tokens,
        steps: bench.steps,
        threads: bench.threads,
        rows_at_once: bench.rows_at_once,
        quantization: bench.quantization,
        recompute: bench.recompute,
        reference: bench.reference,
    })?;
    printer.result(&result, || {
        let mut words = format!(
            "{:.4} s a step (median; fastest {:.4} s), loss {:.4}, peak {:.0} MB",
            result.median_step_s, result.min_step_s, result.loss, result.peak_memory_mb
        );
        if let (Some(loss), Some(gradient)) = (result.loss_error, result.gradient_error) {
            words.push_str(&format!("; beside the reference the loss differs by {loss:.1e}, the gradient by {gradient:.1e}"));
        }
        words
    });
    Ok(())
}
