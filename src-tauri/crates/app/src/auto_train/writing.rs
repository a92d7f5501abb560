//! Writes the examples of a session: n candidates each, voted on, and kept when they are good enough.

use super::spread::{Assignment, spread};
use crate::base::BUILT_IN;
use crate::write::{candidate_seed, mean};
use crate::{App, Home};
use domain::{
    ApiError, AutoTrain, AutoTrainAttempt, BaseId, Candidate, Example, ExampleId, ExampleSource, FinishReason, GenreMix, JobId, Settings,
    Timestamp, WriteRequest,
};
use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;
use taste::Quality;
use training::{Control, Stop};

/// Examples that a new one must not repeat: the newest of all sessions.
const COMPARED_WITH: u32 = 300;

/// Writes what a session has not tried yet. `Some` is why it stopped early; what was kept until then stays.
///
/// Between examples, and in the middle of one, it stands aside while the person waits for text. The example under way is then
/// written again from its own seed, so that the wait changes no text.
pub(crate) fn write_examples(app: &App, home: &Home, job_id: &JobId, control: &Control) -> Result<Option<Stop>, ApiError> {
    let session = home.store.auto_train_of_job(job_id)?;
    let settings = home.store.settings()?;
    let tried: BTreeSet<u32> = home.store.auto_attempts(&session.id)?.iter().map(|attempt| attempt.position).collect();
    let mut known: VecDeque<String> = home.store.examples(None, COMPARED_WITH)?.into_iter().map(|example| example.text).collect();
    for (position, assignment) in (0u32..).zip(spread(&session.settings)?).filter(|(position, _)| !tried.contains(position)) {
        let (attempt, kept, seconds) = loop {
            if let Err(stop) = control.breathe() {
                return Ok(Some(stop));
            }
            let started = Instant::now();
            if let Some((attempt, kept)) = one(app, home, &settings, &session, position, &assignment, known.make_contiguous(), control)? {
                break (attempt, kept, started.elapsed().as_secs_f64());
            }
        };
        let ready_at = (app.ready_at(home, &session.settings.user_id)?, settings.auto_train_automatic);
        home.store.record_attempt(&session.id, &attempt, kept.as_ref(), seconds, ready_at)?;
        if let Some(kept) = kept {
            known.push_front(kept.text);
            known.truncate(COMPARED_WITH as usize);
        }
    }
    Ok(None)
}

/// One example; `None` when it had to stand aside or stop half-way.
#[expect(clippy::too_many_arguments, reason = "what an example depends on; a struct for one caller would only rename them")]
fn one(
    app: &App,
    home: &Home,
    settings: &Settings,
    session: &AutoTrain,
    position: u32,
    assignment: &Assignment,
    known: &[String],
    control: &Control,
) -> Result<Option<(AutoTrainAttempt, Option<Example>)>, ApiError> {
    let Assignment { genre, style, prompt } = assignment;
    // Positive in every language that reads the export.
    let seed = candidate_seed(session.settings.seed, position as usize) as u32 & 0x7fff_ffff;
    let request = WriteRequest {
        prompt: prompt.clone(),
        genres: GenreMix([(*genre, 1.0)].into()),
        style: Some(*style),
        n: Some(session.settings.n),
        max_tokens: Some(session.settings.max_tokens),
        seed: Some(seed),
        explore: Some(false),
        // Its prompts are in the story format, and nothing of it leaves the machine.
        base: Some(BaseId::from(BUILT_IN)),
        ..WriteRequest::default()
    };
    let plan = app.plan_writing(home, settings, request)?;
    let wanted_elsewhere = AtomicBool::new(false);
    let completions = plan.write(settings, &wanted_elsewhere, &mut |_| {
        if control.stop().is_some() || control.gate().is_busy() {
            wanted_elsewhere.store(true, Ordering::Relaxed);
        }
    })?;
    if wanted_elsewhere.load(Ordering::Relaxed) || completions.iter().any(|one| one.finish == FinishReason::Cancelled) {
        return Ok(None);
    }
    let fluency: Vec<Option<f64>> = completions.iter().map(|one| mean(&one.logprobs)).collect();
    let mut candidates: Vec<(Candidate, Option<f64>)> =
        app.judge(settings, &plan, &plan.writers(), &completions).into_iter().zip(fluency).collect();
    candidates.sort_by_key(|(candidate, _)| candidate.rank);
    let known: Vec<&str> = known.iter().map(String::as_str).collect();
    let (candidate, quality) = best(&plan.request, candidates, &known).ok_or_else(|| ApiError::internal("nothing was written"))?;
    let good = quality.score >= taste::GOOD_ENOUGH;
    let example = good.then(|| Example {
        id: ExampleId::fresh(),
        user_id: session.settings.user_id.clone(),
        source: ExampleSource::Auto,
        auto_train_id: Some(session.id.clone()),
        prompt: prompt.clone(),
        genre: *genre,
        style: Some(*style),
        text: candidate.text.trim().to_owned(),
        quality: quality.score,
        quality_parts: quality.parts.clone(),
        member: candidate.member.clone(),
        seed,
        edited: false,
        dropped: false,
        remembered: session.settings.store_in_memory,
        learned_by: None,
        created_at: Timestamp::now(),
    });
    let attempt = AutoTrainAttempt {
        position,
        genre: *genre,
        style: *style,
        prompt: prompt.clone(),
        member: Some(candidate.member),
        quality: Some(quality.score),
        example_id: example.as_ref().map(|example| example.id.clone()),
        reason: (!good).then(|| worst_fault(&quality)),
    };
    Ok(Some((attempt, example)))
}

/// The first in the order of the vote that is good enough, else the winner; with its quality beside the known examples.
fn best(request: &WriteRequest, candidates: Vec<(Candidate, Option<f64>)>, known: &[&str]) -> Option<(Candidate, Quality)> {
    let mut winner = None;
    for (candidate, mean_logprob) in candidates {
        let quality = taste::quality(&taste::QualityInput {
            prompt: &request.prompt,
            text: &candidate.text,
            finish: candidate.finish_reason,
            mean_logprob,
            genres: &request.genres,
            style: request.style,
            others: known,
        });
        if quality.score >= taste::GOOD_ENOUGH {
            return Some((candidate, quality));
        }
        winner.get_or_insert((candidate, quality));
    }
    winner
}

/// The rule that took most.
fn worst_fault(quality: &Quality) -> String {
    let worst = quality.parts.iter().filter(|part| part.points < 0.0).min_by(|a, b| a.points.total_cmp(&b.points));
    worst.map_or_else(|| "quality below 7.0".to_owned(), |part| part.rule.clone())
}
