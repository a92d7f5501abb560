//! Journeys through the use cases, on the real store and the real built-in base.

#![allow(clippy::expect_used, clippy::unwrap_used)] // helpers of tests fail loudly too

#[path = "app/auto_train.rs"]
mod auto_train;
#[path = "app/bad_input.rs"]
mod bad_input;
#[path = "app/bad_training.rs"]
mod bad_training;
#[path = "app/bases.rs"]
mod bases;
#[path = "app/families.rs"]
mod families;
#[path = "app/folder.rs"]
mod folder;
#[path = "app/relevance.rs"]
mod relevance;
#[path = "app/search.rs"]
mod search;
#[path = "app/t5.rs"]
mod t5;
#[path = "app/taste.rs"]
mod taste;
#[path = "app/train.rs"]
mod train;
#[path = "app/write.rs"]
mod write;

use app::{App, OpenOptions, Opened};
use domain::*;
use std::path::Path;
use std::sync::Arc;

/// An app on a data folder of its own.
pub struct Desk {
    pub folder: tempfile::TempDir,
    pub app: Arc<App>,
}

impl Desk {
    pub fn open() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let app = open(folder.path());
        Self { folder, app }
    }

    /// Closes the app and opens it again on the same folder.
    pub fn reopened(self) -> Self {
        let Self { folder, app } = self;
        close(app);
        let app = open(folder.path());
        Self { folder, app }
    }

    /// Writes one short generation for each prompt and likes its winner.
    pub fn like(&self, prompts: &[&str]) -> Vec<WriteResult> {
        let write = |(seed, prompt): (usize, &&str)| {
            let result = self.app.write(short(prompt, seed as u32)).expect("written");
            self.thumb(&result.chosen, 1);
            result
        };
        prompts.iter().enumerate().map(write).collect()
    }

    pub fn thumb(&self, candidate: &CandidateId, verdict: i8) -> FeedbackResult {
        self.app.feedback(feedback(candidate, verdict)).expect("stored")
    }

    /// Waits until a run has ended, and returns it.
    pub fn ended(&self, run_id: &RunId) -> Run {
        for _ in 0..6000 {
            let run = self.app.run(RunRef { run_id: run_id.clone() }).expect("the run is there");
            if !matches!(run.status, RunStatus::Queued | RunStatus::Running) {
                return run;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        panic!("the run did not end within five minutes");
    }
}

pub fn open(path: &Path) -> Arc<App> {
    match App::open(OpenOptions { data_dir: Some(path.to_owned()), assets_dir: None, ..OpenOptions::default() }).expect("opens") {
        Opened::Owner(app) => app,
        Opened::HeldBy(holder) => panic!("held by {holder:?}"),
    }
}

/// Ends an app as a closing window does; the folder's lock is free afterwards.
pub fn close(app: Arc<App>) {
    app.shutdown();
    let mut app = Some(app);
    for _ in 0..200 {
        match Arc::try_unwrap(app.take().expect("still there")) {
            Ok(owned) => return drop(owned),
            Err(shared) => app = Some(shared),
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("something still holds the app");
}

pub fn short(prompt: &str, seed: u32) -> WriteRequest {
    WriteRequest {
        prompt: prompt.to_owned(),
        genres: GenreMix([(Genre::Fantasy, 0.7), (Genre::Mystery, 0.3)].into()),
        n: Some(2),
        max_tokens: Some(40),
        seed: Some(seed),
        ..WriteRequest::default()
    }
}

pub fn feedback(candidate: &CandidateId, verdict: i8) -> FeedbackRequest {
    FeedbackRequest { candidate_id: candidate.clone(), verdict: Some(verdict), tags: vec![], comment: None, edited_text: None }
}

pub fn training(steps: u32) -> TrainRequest {
    TrainRequest {
        hyperparameters: HyperparameterChoice { steps: Some(steps), checkpoint_steps: Some(5), ..Default::default() },
        ..TrainRequest::of(Recipe::SoftPrompt)
    }
}

pub const PROMPTS: [&str; 8] = [
    "a dragon who keeps bees",
    "the last lamp in the harbour",
    "a letter that came too late",
    "two thieves and one key",
    "the clock that ran backwards",
    "a door under the stairs",
    "the girl who talked to crows",
    "snow on the summer fair",
];
