//! A training on the screen: a bar for people who watch, a few lines for those who do not, JSON lines for programs.

use crate::output::{Printer, duration};
use domain::{Metric, Phase, Recipe, TrainEvent, Trial, TrialRung, TrialState, Verdict};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

pub struct Progress<'a> {
    printer: &'a Printer,
    bar: Option<ProgressBar>,
    heldout: Option<f64>,
}

impl<'a> Progress<'a> {
    pub fn new(printer: &'a Printer) -> Self {
        Self { printer, bar: None, heldout: None }
    }

    pub fn show(&mut self, event: &TrainEvent) {
        if self.printer.json {
            return self.printer.json_line(event);
        }
        match event {
            TrainEvent::Started { run_id, total_steps, examples, heldout, .. } => {
                self.printer.remark(&format!("{run_id}: {total_steps} steps on {examples} texts, {heldout} held out to measure on."));
                self.bar = self.printer.bars().then(|| bar(u64::from(*total_steps)));
            }
            TrainEvent::Phase { phase, number, .. } => self.remark(&format!("{number} of 4: {}", in_words(*phase))),
            TrainEvent::Metric { metric, .. } => self.draw(metric),
            TrainEvent::Trial { trial, .. } => {
                if let Some(line) = trial_in_words(trial) {
                    self.remark(&line);
                }
            }
            TrainEvent::Searched { found, .. } => self.remark(&found.reason),
            _ => {}
        }
    }

    pub fn end(&mut self, event: &TrainEvent) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        match event {
            TrainEvent::Finished { run_id, adapter_id, final_loss, seconds, verdict, .. } if !self.printer.json => {
                self.printer.text(&finished(run_id.as_str(), adapter_id.as_str(), *final_loss, *seconds, verdict));
            }
            TrainEvent::Failed { error, .. } if !self.printer.json => self.printer.error(error),
            TrainEvent::Interrupted { run_id, step, reason, .. } if !self.printer.json => {
                self.printer.text(&match reason.as_str() {
                    "cancelled" => format!("{run_id} was cancelled at step {step}."),
                    _ => format!("{run_id} stopped at step {step} ({reason}). Go on with: inkling runs resume {run_id}"),
                });
            }
            event => self.show(event),
        }
    }

    fn remark(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(text),
            None => self.printer.remark(text),
        }
    }

    fn draw(&mut self, metric: &Metric) {
        self.heldout = metric.heldout_loss.or(self.heldout);
        let Some(bar) = &self.bar else { return };
        let heldout = self.heldout.map_or(String::new(), |loss| format!(", held-out {loss:.3}"));
        bar.set_length(u64::from(metric.total_steps));
        bar.set_position(u64::from(metric.step));
        bar.set_message(format!(
            "loss {:.3}{heldout}, {:.0} tokens/s, {} left",
            metric.loss,
            metric.tokens_per_second,
            duration(metric.eta_s)
        ));
    }
}

fn bar(steps: u64) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(steps), ProgressDrawTarget::stderr());
    match ProgressStyle::with_template("step {pos} of {len} [{bar:30}] {msg}") {
        Ok(style) => bar.with_style(style.progress_chars("=> ")),
        Err(_) => bar,
    }
}

/// What became of a trial, once something did.
fn trial_in_words(trial: &Trial) -> Option<String> {
    let numbers = &trial.hyperparameters;
    let what = match (trial.number, trial.recipe) {
        (0, _) => "the default".to_owned(),
        (_, Recipe::SoftPrompt) => format!("soft prompt of {}", numbers.virtual_tokens),
        (_, recipe) => format!("{} of rank {}", recipe.label(), numbers.rank),
    };
    let result = match (trial.state, trial.rungs.last()?) {
        (TrialState::Climbing, TrialRung { steps, heldout_loss: Some(loss), .. }) => format!("held-out loss {loss:.3} after {steps} steps"),
        (TrialState::Failed, _) => trial.problem.clone().unwrap_or_else(|| "failed".to_owned()),
        _ => return None,
    };
    Some(format!("  trial {}: {what}, learning rate {}: {result}", trial.number, numbers.learning_rate))
}

fn in_words(phase: Phase) -> &'static str {
    match phase {
        Phase::Prepare => "preparing the texts",
        Phase::Search => "looking for good settings",
        Phase::Train => "training",
        Phase::Evaluate => "comparing with what was used before",
    }
}

fn finished(run_id: &str, adapter_id: &str, final_loss: f64, seconds: f64, verdict: &Verdict) -> String {
    let used = if verdict.promoted { "is used from the next text on" } else { "is on trial" };
    format!(
        "{}\n{adapter_id} {used}: preferred in {:.0}% of {} pairs ({:.0}–{:.0}%), final loss {final_loss:.3}, {}.\n\
         inkling runs decide {run_id} keep | not-now | undo",
        verdict.reason,
        verdict.win_rate * 100.0,
        verdict.pairs,
        verdict.low * 100.0,
        verdict.high * 100.0,
        duration(seconds)
    )
}
