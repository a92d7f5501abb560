//! R2: a training killed with `kill -9` and resumed gives bit for bit what an unbroken one gives.

use crate::child::{Chance, Inkling, short, times};
use app::calls::call;
use domain::*;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_training_killed_again_and_again_ends_with_the_same_losses_and_the_same_adapter() {
    killed_again_and_again(Recipe::SoftPrompt, 120, times(2, 20)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lora_training_killed_again_and_again_ends_with_the_same_losses_and_the_same_adapter() {
    killed_again_and_again(Recipe::Lora, 40, times(2, 10)).await;
}

async fn killed_again_and_again(recipe: Recipe, steps: u32, kills: u32) {
    let mut chance = Chance::fresh();
    let unbroken_home = tempfile::tempdir().expect("a folder");
    let inkling = Inkling::start(unbroken_home.path()).await;
    for (seed, prompt) in ["a fox and a lamp", "the ship of glass", "a wolf at the fair", "three letters"].iter().enumerate() {
        let result = inkling.client.call::<call::Write>(short(prompt, seed as u32, 48)).await.expect("written");
        let liked = FeedbackRequest { candidate_id: result.chosen, verdict: Some(1), tags: vec![], comment: None, edited_text: None };
        inkling.client.call::<call::Feedback>(liked).await.expect("liked");
    }
    inkling.kill();
    let killed_home = tempfile::tempdir().expect("a folder");
    copy(unbroken_home.path(), killed_home.path());

    let inkling = Inkling::start(unbroken_home.path()).await;
    let run_id = inkling.client.call::<call::Train>(training(recipe, steps)).await.expect("queued").run_id;
    let unbroken = outcome(&inkling, &run_id).await;
    inkling.kill();

    let inkling = Inkling::start(killed_home.path()).await;
    let run_id = inkling.client.call::<call::Train>(training(recipe, steps)).await.expect("queued").run_id;
    let mut inkling = inkling;
    let mut interrupted = 0;
    for kill in 1..=kills {
        // Killed at a random moment after a random step of the next stretch.
        // It may stop early by held-out loss, so all kills come in its first third.
        let wanted = steps / 3 * kill / (kills + 1);
        while run(&inkling, &run_id).await.step < wanted && run(&inkling, &run_id).await.status != RunStatus::Completed {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        tokio::time::sleep(Duration::from_millis(chance.below(60))).await;
        inkling.kill();
        inkling = Inkling::start(killed_home.path()).await;
        let status = run(&inkling, &run_id).await.status;
        if status == RunStatus::Interrupted {
            interrupted += 1;
            inkling.client.call::<call::ResumeRun>(RunRef { run_id: run_id.clone() }).await.expect("resumed");
        }
    }
    let resumed = outcome(&inkling, &run_id).await;
    println!("R2: {recipe:?}, {kills} kills, {interrupted} of them while it trained; {} losses compared", resumed.losses.len());
    assert!(interrupted >= 1, "at least one kill hit the training");
    assert_eq!(unbroken.hash, resumed.hash, "the adapters are the same bytes");
    for (step, loss) in &resumed.losses {
        if let Some(wanted) = unbroken.losses.get(step) {
            assert_eq!(loss.to_bits(), wanted.to_bits(), "the loss of step {step}");
        }
    }
    let last = |losses: &BTreeMap<u32, f64>| losses.last_key_value().map(|(step, _)| *step);
    assert_eq!(last(&unbroken.losses), last(&resumed.losses), "both end at the same step, which is always reported");
}

struct RunOutcome {
    hash: String,
    losses: BTreeMap<u32, f64>,
}

async fn outcome(inkling: &Inkling, run_id: &RunId) -> RunOutcome {
    let mut state = run(inkling, run_id).await;
    for _ in 0..3000 {
        if !matches!(state.status, RunStatus::Queued | RunStatus::Running) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(40)).await;
        state = run(inkling, run_id).await;
    }
    assert_eq!(state.status, RunStatus::Completed, "{:?}", state.error);
    let adapters = inkling.client.call::<call::Adapters>(Nothing {}).await.expect("adapters");
    let hash = adapters.into_iter().find(|adapter| Some(&adapter.id) == state.adapter_id.as_ref()).expect("its adapter").sha256;
    let metrics =
        inkling.client.call::<call::RunMetrics>(MetricsQuery { run_id: run_id.clone(), after: None }).await.expect("metrics").metrics;
    RunOutcome { hash, losses: metrics.into_iter().map(|metric| (metric.step, metric.loss)).collect() }
}

async fn run(inkling: &Inkling, run_id: &RunId) -> Run {
    inkling.client.call::<call::Run>(RunRef { run_id: run_id.clone() }).await.expect("a run")
}

fn training(recipe: Recipe, steps: u32) -> TrainRequest {
    TrainRequest {
        hyperparameters: HyperparameterChoice { steps: Some(steps), checkpoint_steps: Some(7), seed: Some(3), ..Default::default() },
        ..TrainRequest::of(recipe)
    }
}

fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        let kind = entry.file_type().expect("a type");
        if kind.is_dir() {
            std::fs::create_dir_all(&target).expect("made");
            copy(&entry.path(), &target);
        } else if kind.is_file() && entry.file_name() != "inkling.lock" {
            std::fs::copy(entry.path(), target).expect("copied");
        }
    }
}
