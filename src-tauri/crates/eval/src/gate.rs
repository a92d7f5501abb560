//! E7: sabotaged updates against the app's own promotion check, and how fast an update is taken back.

use crate::oracle::{Bar, Kind, Seen, User};
use crate::{EvalError, Pool, Random};
use app::{App, OpenOptions, Opened};
use domain::{
    CandidateId, Decision, FeedbackRequest, HyperparameterChoice, JobRef, Objective, Recipe, Run, RunDecision, RunRef, RunStatus,
    SettingsUpdate, TrainRequest, WriteRequest,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How an update is spoilt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Sabotage {
    /// None: a control, to count false alarms.
    None,
    /// A hundred times the learning rate.
    Rate,
    /// Liked texts pass for disliked ones and the other way round, in the frozen dataset of the run only.
    Labels,
    /// The words of every text in a random order.
    Garbage,
}

/// What became of one update.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct GateResult {
    pub user: String,
    pub sabotage: Sabotage,
    pub promoted: bool,
    /// Whether the check found harm: language less natural or less varied, texts liked less, or nothing sensible to learn from. An update that is merely not
    /// shown to be better stays on trial without one.
    pub alarm: bool,
    /// Share of the texts looked at that the base could make nothing of.
    pub disarray: f64,
    pub reason: String,
    /// Until an update that was kept is taken back.
    pub rollback_seconds: f64,
    /// Whether the same seed wrote the same text before the update and after taking it back.
    pub same_text: bool,
}

/// Updates of an adapter, in tokens short enough for minutes.
const LENGTH: u32 = 90;
const STEPS: u32 = 24;
const TASTE_PAIRS: u32 = 24;
/// Longest wait until a paused run can go on.
const RESUME: Duration = Duration::from_secs(20);
const PROMPTS: usize = 24;

/// One person's app with thumbs, and updates of each kind in turn; `count` of them are sabotaged, as many are not. From
/// random thumbs none is: that nothing of them is promoted is E6; each of these runs learns from coins thrown anew.
///
/// The first `known` updates are left out: every update is taken back, so the next one starts as if those had been run.
///
/// # Errors
/// What the app reports.
pub fn run(user: &User, pool: &Pool, count: usize, known: usize, tell: &mut dyn FnMut(&GateResult)) -> Result<(), EvalError> {
    if known >= 2 * count {
        return Ok(());
    }
    let folder = tempfile::tempdir().map_err(EvalError::file(&std::env::temp_dir()))?;
    let app = match App::open(OpenOptions { data_dir: Some(folder.path().to_owned()), ..OpenOptions::default() })? {
        Opened::Owner(app) => app,
        Opened::HeldBy(_) => return Err(EvalError::Usage("the folder is in use".to_owned())),
    };
    app.update_settings(SettingsUpdate([("tastePairs".to_owned(), TASTE_PAIRS.into())].into_iter().collect()))?;
    let shown = shown(&app, user, pool)?;
    for at in known..2 * count {
        if at == known || user.kind == Kind::Random {
            teach(&app, user, &shown, at as u64)?;
        }
        let sabotage = match (at % 2, at / 2 % 3) {
            _ if user.kind == Kind::Random => Sabotage::None,
            (0, _) => Sabotage::None,
            (_, 0) => Sabotage::Rate,
            (_, 1) => Sabotage::Labels,
            _ => Sabotage::Garbage,
        };
        tell(&update(&app, user, pool, sabotage, at as u32)?);
    }
    app.shutdown();
    Ok(())
}

fn request(pool: &Pool, entry: usize, n: u32, seed: u32) -> WriteRequest {
    let prompt = &pool.entries[entry].prompt;
    WriteRequest {
        prompt: prompt.text.clone(),
        genres: prompt.genres.clone(),
        style: prompt.style,
        n: Some(n),
        max_tokens: Some(LENGTH),
        seed: Some(seed),
        ..WriteRequest::default()
    }
}

/// Four texts for each of some learning prompts, with the user's trait of each.
fn shown(app: &Arc<App>, user: &User, pool: &Pool) -> Result<Vec<(CandidateId, f64)>, EvalError> {
    let mut texts = Vec::new();
    for (at, entry) in pool.learning().into_iter().take(PROMPTS).enumerate() {
        let written = app.write(request(pool, entry, 4, at as u32))?;
        texts.extend(written.candidates.into_iter().map(|one| (one.id, (user.trait_of)(&Seen::new(&one.text)))));
    }
    Ok(texts)
}

/// Thumbs on those texts; the bar is their median.
fn teach(app: &Arc<App>, user: &User, shown: &[(CandidateId, f64)], throw: u64) -> Result<(), EvalError> {
    let bar = Bar::new(&shown.iter().map(|(_, value)| *value).collect::<Vec<_>>());
    let mut random = Random::for_purpose("gate", if user.kind == Kind::Random { throw } else { 0 });
    for (candidate_id, value) in shown {
        let liked = if user.kind == Kind::Random { random.chance(0.5) } else { bar.likes(*value) != random.chance(user.slips) };
        let verdict = Some(if liked { 1 } else { -1 });
        app.feedback(FeedbackRequest { candidate_id: candidate_id.clone(), verdict, tags: Vec::new(), comment: None, edited_text: None })?;
    }
    Ok(())
}

fn update(app: &Arc<App>, user: &User, pool: &Pool, sabotage: Sabotage, seed: u32) -> Result<GateResult, EvalError> {
    let write = || -> Result<String, EvalError> {
        Ok(app.write(request(pool, pool.held_out()[0], 1, 7))?.candidates.into_iter().map(|one| one.text).collect())
    };
    let before = write()?;
    let rate = 3e-4 * if sabotage == Sabotage::Rate { 100.0 } else { 1.0 };
    let hyperparameters = HyperparameterChoice {
        steps: Some(STEPS),
        learning_rate: Some(rate),
        seed: Some(seed),
        checkpoint_steps: Some(100_000),
        ..Default::default()
    };
    let objective = Some(if sabotage == Sabotage::Garbage { Objective::Sft } else { Objective::Kto });
    let queued = app.train(TrainRequest {
        objective,
        hyperparameters,
        triggered_by: Some("experiment".to_owned()),
        ..TrainRequest::of(Recipe::Lora)
    })?;
    let which = RunRef { run_id: queued.run_id.clone() };
    if matches!(sabotage, Sabotage::Labels | Sabotage::Garbage) {
        // Its texts are frozen on disk: the spoilt ones take their place while it stands still.
        app.pause_job(JobRef { job_id: queued.job_id.clone() })?;
        let paused = ended(app, &which)?;
        spoil(Path::new(&paused.directory), sabotage, seed)?;
        // The run is paused a moment before its job lets go of it.
        let since = Instant::now();
        while let Err(error) = app.resume_run(which.clone()) {
            if since.elapsed() > RESUME {
                return Err(error.into());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    let run = ended(app, &which)?;
    let verdict = run.verdict.clone().ok_or_else(|| EvalError::Usage(format!("the run ended as {:?} without a verdict", run.status)))?;
    // Kept by a person in spite of everything, then taken back.
    if !verdict.promoted {
        app.decide(RunDecision { run_id: queued.run_id.clone(), decision: Decision::Keep })?;
    }
    let began = Instant::now();
    app.decide(RunDecision { run_id: queued.run_id.clone(), decision: Decision::Undo })?;
    let rollback_seconds = began.elapsed().as_secs_f64();
    let same_text = write()? == before;
    let in_disarray = verdict.disarray.as_ref().is_some_and(domain::Disarray::outweighs);
    let unnatural = verdict.less_natural() || verdict.less_varied() || verdict.repeats_itself();
    let alarm = in_disarray || unnatural || verdict.high < 0.5;
    Ok(GateResult {
        user: user.name.to_owned(),
        sabotage,
        promoted: verdict.promoted,
        alarm,
        disarray: verdict.disarray.map_or(0.0, |found| f64::from(found.texts) / f64::from(found.looked_at.max(1))),
        reason: verdict.reason,
        rollback_seconds,
        same_text,
    })
}

fn ended(app: &Arc<App>, which: &RunRef) -> Result<Run, EvalError> {
    loop {
        let run = app.run(which.clone())?;
        if !matches!(run.status, RunStatus::Queued | RunStatus::Running) {
            return Ok(run);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Spoils the frozen texts of a run and forgets what it has learned so far.
fn spoil(run_folder: &Path, sabotage: Sabotage, seed: u32) -> Result<(), EvalError> {
    let path = run_folder.join("dataset.json");
    let json = std::fs::read(&path).map_err(EvalError::file(&path))?;
    let mut dataset: Value = serde_json::from_slice(&json).map_err(|error| EvalError::Pool(error.to_string()))?;
    let mut random = Random::for_purpose("garbage", u64::from(seed));
    for part in ["train", "heldout"] {
        for text in dataset[part].as_array_mut().into_iter().flatten() {
            match sabotage {
                Sabotage::Labels => text["liked"] = Value::Bool(text["liked"] != Value::Bool(true)),
                Sabotage::Garbage => {
                    let mut words: Vec<String> = text["text"].as_str().unwrap_or_default().split_whitespace().map(str::to_owned).collect();
                    random.shuffle(&mut words);
                    text["text"] = Value::String(words.join(" "));
                }
                Sabotage::None | Sabotage::Rate => {}
            }
        }
    }
    for entry in std::fs::read_dir(run_folder).map_err(EvalError::file(run_folder))?.flatten() {
        let made = entry.path();
        if made == path {
            continue;
        }
        let gone = if made.is_dir() { std::fs::remove_dir_all(&made) } else { std::fs::remove_file(&made) };
        gone.map_err(EvalError::file(&made))?;
    }
    std::fs::write(&path, dataset.to_string()).map_err(EvalError::file(&path))
}
