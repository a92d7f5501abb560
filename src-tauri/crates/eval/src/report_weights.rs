//! The report on trained weights: markdown tables with targets beside figures.

use crate::gate::{GateResult, Sabotage};
use crate::tuned::TunedResult;
use std::fmt::Write;

/// E3, E4 and E5.
pub fn tuned(results: &[TunedResult]) -> String {
    let mut text = String::from("## E3 to E5: one sample with the adapter against one of the plain base\n\n");
    if results.is_empty() {
        text.push_str("Not run.\n\n");
        return text;
    }
    text.push_str(
        "After 100 thumbs. E3: share won, by the oracle (targets: best ≥ 0.65, LoRA or DoRA with DPO or KTO ≥ 0.60, soft prompt\n",
    );
    text.push_str(
        "≥ 0.55). E4: perplexity of probe stories (≤ 1.05) and repeated 4-grams (≤ 1.2). E5: distinct-2 (≥ 0.90), self-BLEU (≤ +0.05)\n",
    );
    text.push_str(
        "and compression ratio (≤ 1.10), each against the plain base. Own perplexity: what the plain base makes of the texts written.\n\n",
    );
    text.push_str(
        "Taste-made: pairs of what was written anew for the prompts of the thumbs, among all that is learned from. Rate: share of that in\n\
         the settings. Seconds by the clock, while others used the machine too.\n\n",
    );
    text.push_str(
        "| base, M | user | method | E3 won (95%, by prompt) | learned from | taste-made | updates | β | rate | seconds | perplexity × | own perplexity × | repetition × | \
         distinct-2 × | self-BLEU | compression × |\n",
    );
    text.push_str("|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|\n");
    for result in results {
        let _ = writeln!(text, "{}", tuned_row(result));
    }
    text.push('\n');
    text
}

pub fn tuned_row(result: &TunedResult) -> String {
    format!(
        "| {} | {} | {} | {} | {} | {} | {} of {} | {} | {} | {:.0} | {:.3} | {:.3} | {:.2} | {:.3} | {:+.3} | {:.3} |",
        result.base,
        result.user,
        result.method.name(),
        result.wins,
        result.learned_from,
        result.by_taste,
        result.steps,
        result.setting.steps,
        result.setting.beta,
        result.setting.rate,
        result.seconds,
        result.perplexity,
        result.written_perplexity,
        result.repetition,
        result.distinct,
        result.self_bleu,
        result.compression
    )
}

/// E7, and the part of E6 on promotion.
pub fn gate(results: &[GateResult]) -> String {
    let mut text = String::from("## E7: sabotaged updates and taking back\n\n");
    if results.is_empty() {
        text.push_str("Not run.\n");
        return text;
    }
    let random = |result: &&GateResult| result.user == "random";
    let of = |spoilt: bool| results.iter().filter(move |result| !random(result) && (result.sabotage != Sabotage::None) == spoilt);
    let caught = of(true).filter(|result| !result.promoted).count();
    let (promoted, alarms) = (of(false).filter(|result| result.promoted).count(), of(false).filter(|result| result.alarm).count());
    let slowest = results.iter().map(|result| result.rollback_seconds).fold(0.0, f64::max);
    let same = results.iter().filter(|result| result.same_text).count();
    let _ = writeln!(
        text,
        "{caught} of {} sabotaged updates were held back (target: 20 of 20), {} of them with an alarm: language less natural or less varied,\n\
         texts liked less, or texts to learn from in disarray. Of {} sound ones {promoted} were promoted and {alarms} raised an alarm (target: at most 1 of 20); the rest\n\
         stayed on trial, not shown to be better. Slowest rollback {slowest:.2} s (target ≤ 5 s); after it {same} of {} wrote byte for byte\n\
         what was written before.\n",
        of(true).count(),
        of(true).filter(|result| result.alarm).count(),
        of(false).count(),
        results.len()
    );
    let coins = || results.iter().filter(random);
    if coins().count() > 0 {
        let promoted = coins().filter(|result| result.promoted).count();
        let _ = writeln!(text, "E6: of {} updates from random thumbs {promoted} were promoted (target: 0 of 20).\n", coins().count());
    }
    text.push_str(
        "| user | update | promoted | alarm | in disarray | why | rollback, s | same text after |\n|---|---|---|---|---|---|---|---|\n",
    );
    for result in results {
        let _ = writeln!(text, "{}", gate_row(result));
    }
    text.push('\n');
    text
}

pub fn gate_row(result: &GateResult) -> String {
    let kind = match result.sabotage {
        Sabotage::None => "sound",
        Sabotage::Rate => "learning rate × 100",
        Sabotage::Labels => "flipped labels",
        Sabotage::Garbage => "garbage text",
    };
    let GateResult { user, promoted, alarm, disarray, reason, rollback_seconds, same_text, .. } = result;
    format!("| {user} | {kind} | {promoted} | {alarm} | {disarray:.2} | {reason} | {rollback_seconds:.2} | {same_text} |")
}
