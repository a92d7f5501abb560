//! What a training would do, in words for a terminal.

use crate::output::Printer;
use domain::{DatasetReport, TrainingPlan};

/// The plan with its cost, what stands in its way, and what became of the rows of a file.
pub fn in_words(plan: &TrainingPlan) -> String {
    let mut lines = vec![
        plan.sentence.clone(),
        format!(
            "{} steps, about {:.0} s and {:.0} MB of {:.0} MB free.",
            plan.hyperparameters.steps, plan.estimated_seconds, plan.estimated_memory_mb, plan.available_memory_mb
        ),
    ];
    lines.extend(plan.dataset.iter().flat_map(rows_in_words));
    if let Some(error) = &plan.blocked_by {
        lines.push(format!("It cannot start now: {}", error.message));
        lines.extend(error.hint.clone());
    }
    lines.join("\n")
}

/// Says on the terminal how many rows are left out, and why the first were.
pub fn remark_skipped(plan: &TrainingPlan, printer: &Printer) {
    if let Some(report) = plan.dataset.as_ref().filter(|report| report.skipped > 0) {
        rows_in_words(report).iter().for_each(|line| printer.remark(line));
    }
}

fn rows_in_words(report: &DatasetReport) -> Vec<String> {
    let formats: Vec<String> = report.formats.iter().map(|one| format!("{} with {}", one.examples, one.format)).collect();
    let mut lines = vec![format!("{} rows in {}: {}; {} skipped.", report.rows, report.path, formats.join(", "), report.skipped)];
    lines.extend(report.first_skipped.iter().map(|skipped| format!("  row {}: {}", skipped.row, skipped.reason)));
    let more = report.skipped as usize - report.first_skipped.len().min(report.skipped as usize);
    if more > 0 {
        lines.push(format!("  and {more} more"));
    }
    lines
}
