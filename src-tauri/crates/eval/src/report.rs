//! The report: markdown tables with targets beside figures.

use crate::belief::{EVERY, LOOKS, Look};
use crate::estimate::Estimate;
use crate::oracle::Kind;
use crate::taste_runs::{AFTER, SINCE_TURN, TURN, UserResult, mean, over_users};
use std::collections::BTreeSet;
use std::fmt::Write;

const E1_TARGETS: [f64; 3] = [0.70, 0.78, 0.85];
const E2_TARGETS: [f64; 3] = [0.65, 0.72, 0.80];

/// How often people without a taste are believed to have one (E6).
pub fn belief(looks: &[Look]) -> String {
    let people: BTreeSet<u64> = looks.iter().map(|look| look.seed).collect();
    let believed: Vec<&Look> = looks.iter().filter(|look| look.believed).collect();
    let ever: BTreeSet<u64> = believed.iter().map(|look| look.seed).collect();
    let last = looks.iter().map(|look| look.thumbs).max().unwrap_or(0);
    let at_last = believed.iter().filter(|look| look.thumbs == last).count();
    let share = |part: usize, whole: usize| 100.0 * part as f64 / whole.max(1) as f64;
    format!(
        "## E6: people who throw coins\n\n\
         {} of them, each looked at after every {EVERY} thumbs from {} to {last}: {} of {} looks believed in a taste ({:.1}%; target: at most\n\
         1%), {at_last} of the last ones; {} people ({:.0}%) were believed at some look.\n\n",
        people.len(),
        LOOKS.start(),
        believed.len(),
        looks.len(),
        share(believed.len(), looks.len()),
        ever.len(),
        share(ever.len(), people.len())
    )
}

/// E1, E2, E6 and E8 of one set of users.
pub fn taste(title: &str, results: &[UserResult], seeds: u64) -> String {
    let mut text = format!("## {title}\n\n{} users, {seeds} seeds each; intervals are 95%, bootstrapped over users.\n\n", results.len());
    text.push_str("| experiment | figure | target | reached |\n|---|---|---|---|\n");
    let mut row = |what: &str, figure: String, target: String, reached: bool| {
        let _ = writeln!(text, "| {what} | {figure} | {target} | {} |", if reached { "yes" } else { "**no**" });
    };
    for (at, n) in AFTER.into_iter().enumerate() {
        let (estimate, _) = over_users(results, |result| mean(&result.auc[at]));
        row(&format!("E1 AUC, {n} thumbs"), estimate.to_string(), format!("≥ {:.2}", E1_TARGETS[at]), estimate.mean >= E1_TARGETS[at]);
    }
    let (_, worst) = over_users(results, |result| mean(&result.auc[2]));
    row("E1 worst learnable user, 100 thumbs", format!("{worst:.3}"), "≥ 0.65".to_owned(), worst >= 0.65);
    let (calibration, _) = over_users(results, |result| result.calibration);
    row("E1 calibration error", calibration.to_string(), "≤ 0.10".to_owned(), calibration.mean <= 0.10);
    for (at, n) in AFTER.into_iter().enumerate() {
        let (estimate, _) = over_users(results, |result| mean(&result.wins[at]));
        row(
            &format!("E2 best of 8, {n} thumbs"),
            estimate.to_string(),
            format!("≥ {:.2}", E2_TARGETS[at]),
            estimate.mean >= E2_TARGETS[at],
        );
    }
    for (at, n) in AFTER.into_iter().enumerate() {
        let (share, _) = over_users(results, |result| result.confident[at] as f64 / seeds.max(1) as f64);
        row(&format!("taste believed, {n} thumbs"), share.to_string(), "–".to_owned(), true);
    }
    for result in results.iter().filter(|result| result.user.kind == Kind::Random) {
        let auc = Estimate::bootstrap(&result.auc[2]);
        row("E6 random user, AUC at 100", auc.to_string(), "0.42–0.58".to_owned(), (0.42..=0.58).contains(&auc.mean));
        let believed: usize = result.confident.iter().sum();
        let looks = result.confident.len() * seeds as usize;
        row("E6 random user believed", format!("{believed} of {looks} looks"), "none".to_owned(), believed == 0);
    }
    for result in results.iter().filter(|result| result.user.kind == Kind::Changing) {
        for (at, since) in SINCE_TURN.into_iter().enumerate() {
            let auc = Estimate::bootstrap(&result.since_turn[at]);
            let what = format!("E8 \"{}\", {since} thumbs after the turn at {TURN}", result.user.name);
            row(&what, auc.to_string(), if since == 40 { "≥ 0.60".to_owned() } else { "–".to_owned() }, since != 40 || auc.mean >= 0.60);
        }
    }
    text.push_str("\nEvery user (mean over seeds; *featured*: taste has a feature near the trait):\n\n");
    text.push_str(
        "| user | kind | AUC 25 | 50 | 100 (interval over seeds) | best of 8: 25 | 50 | 100 | ceiling | believed at 100 | calibration |\n",
    );
    text.push_str("|---|---|---|---|---|---|---|---|---|---|---|\n");
    for result in results {
        let [a, b, c] = &result.auc;
        let [u, v, w] = &result.wins;
        let kind = match result.user.kind {
            Kind::Featured => "featured",
            Kind::Unfeatured => "unfeatured",
            Kind::Changing => "changing (before the turn)",
            Kind::Random => "random",
        };
        let _ = writeln!(
            text,
            "| {} | {kind} | {:.3} | {:.3} | {} | {:.3} | {:.3} | {:.3} | {:.3} | {} of {seeds} | {:.3} |",
            result.user.name,
            mean(a),
            mean(b),
            Estimate::bootstrap(c),
            mean(u),
            mean(v),
            mean(w),
            result.ceiling,
            result.confident[2],
            result.calibration
        );
    }
    text.push('\n');
    text
}
