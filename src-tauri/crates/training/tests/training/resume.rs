//! R2: a stopped or killed run ends in the same bits as one that was left alone.

use crate::fixture::{Recorder, dataset, example, quick_config, tiny_base};
use model::SoftPrompt;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use training::{Control, Dataset, Outcome, RunConfig, SoftPromptConfig, TrainError, TrainableLlama, Trained, soft_prompt};

#[test]
fn a_run_cancelled_again_and_again_ends_in_the_same_bits() {
    let base = tiny_base(true);
    let expected = uninterrupted(&base);
    for stride in [1, 2, 5] {
        let dir = tempfile::tempdir().unwrap();
        let config = SoftPromptConfig { run: RunConfig { checkpoint_steps: stride, ..quick_config().run }, ..quick_config() };
        let mut sessions = 0;
        let trained = loop {
            sessions += 1;
            let control = Control::default();
            let stop = control.clone();
            let mut recorder = Recorder::at_checkpoint(move |_| stop.cancel());
            match soft_prompt(&base, &dataset(), &config, dir.path(), true, &control, &mut recorder).unwrap() {
                Outcome::Finished(trained) => break trained,
                Outcome::Cancelled { .. } => {}
                Outcome::Paused { step } => panic!("nobody paused at {step}"),
            }
        };
        assert!(sessions >= 12 / stride, "{sessions} sessions of {stride} steps");
        assert_same(&trained, &expected);
    }
}

#[test]
fn a_run_cancelled_in_the_middle_of_a_pass_ends_in_the_same_bits() {
    let base = tiny_base(true);
    let expected = uninterrupted(&base);
    let mut stopped_inside = 0;
    for microseconds in [300, 900, 2_000, 4_000, 7_000, 11_000] {
        let dir = tempfile::tempdir().unwrap();
        let control = Control::default();
        let first = std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(std::time::Duration::from_micros(microseconds));
                control.cancel();
            });
            let config = SoftPromptConfig { run: RunConfig { checkpoint_steps: 0, ..quick_config().run }, ..quick_config() };
            soft_prompt(&base, &dataset(), &config, dir.path(), true, &control, &mut Recorder::default()).unwrap()
        });
        stopped_inside += u32::from(matches!(first, Outcome::Cancelled { .. }));
        assert_same(&resumed(&base, dir.path()), &expected);
    }
    println!("R2: {stopped_inside} of 6 runs were cancelled between two checkpoints");
}

#[test]
fn a_killed_run_resumes_with_the_same_losses_from_any_kept_checkpoint() {
    let base = tiny_base(true);
    let expected = uninterrupted(&base);
    for killed_at in [3, 6, 9, 12] {
        let dir = tempfile::tempdir().unwrap();
        // A panic in the observer stands for `kill -9`: nothing after it runs, nothing more is written.
        let kill = catch_unwind(AssertUnwindSafe(|| {
            let mut recorder = Recorder::at_checkpoint(move |step| assert!(step != killed_at, "killed"));
            soft_prompt(&base, &dataset(), &quick_config(), dir.path(), false, &Control::default(), &mut recorder)
        }));
        assert!(kill.is_err());
        assert_same(&resumed(&base, dir.path()), &expected);
        // And again from each older one alone.
        for newest in (3..killed_at).step_by(3) {
            let older = tempfile::tempdir().unwrap();
            let name = format!("checkpoint-{newest}");
            copy_dir(&dir.path().join(&name), &older.path().join(&name));
            assert_same(&resumed(&base, older.path()), &expected);
        }
    }
}

#[test]
fn another_number_of_threads_or_recomputation_may_go_on_with_a_run() {
    let base = tiny_base(true);
    let dir = stopped_at(&base, 6);
    let config =
        SoftPromptConfig { run: RunConfig { threads: 2, recompute: true, checkpoint_steps: 5, ..quick_config().run }, ..quick_config() };
    let outcome = soft_prompt(&base, &dataset(), &config, dir.path(), true, &Control::default(), &mut Recorder::default()).unwrap();
    let Outcome::Finished(trained) = outcome else { panic!("{outcome:?}") };
    assert_same(&trained, &uninterrupted(&base));
}

#[test]
fn a_checkpoint_of_another_base_dataset_or_configuration_is_refused() {
    let base = tiny_base(true);
    let dir = stopped_at(&base, 6);
    let resume = |base: &TrainableLlama, data: &Dataset, config: &SoftPromptConfig| match soft_prompt(
        base,
        data,
        config,
        dir.path(),
        true,
        &Control::default(),
        &mut Recorder::default(),
    ) {
        Err(TrainError::DifferentRun { what, .. }) => what,
        other => panic!("{other:?}"),
    };
    let mut more = dataset();
    more.train.push(example(99, 2, 2, 1.0));
    assert_eq!(resume(&tiny_base(false), &dataset(), &quick_config()), "base");
    assert_eq!(resume(&base, &more, &quick_config()), "dataset");
    assert_eq!(
        resume(&base, &dataset(), &SoftPromptConfig { run: RunConfig { learning_rate: 0.01, ..quick_config().run }, ..quick_config() }),
        "configuration"
    );
    assert!(dir.path().join("checkpoint-6").exists(), "a refusal removes nothing");
}

#[test]
fn a_fresh_start_in_the_same_folder_forgets_the_old_checkpoints() {
    let base = tiny_base(true);
    let dir = stopped_at(&base, 6);
    let config = SoftPromptConfig { run: RunConfig { seed: 8, steps: 4, ..quick_config().run }, ..quick_config() };
    soft_prompt(&base, &dataset(), &config, dir.path(), false, &Control::default(), &mut Recorder::default()).unwrap();
    assert!(!dir.path().join("checkpoint-6").exists() && dir.path().join("checkpoint-4").exists());
}

fn uninterrupted(base: &TrainableLlama) -> Trained<SoftPrompt> {
    let dir = tempfile::tempdir().unwrap();
    resumed(base, dir.path())
}

fn resumed(base: &TrainableLlama, dir: &Path) -> Trained<SoftPrompt> {
    match soft_prompt(base, &dataset(), &quick_config(), dir, true, &Control::default(), &mut Recorder::default()).unwrap() {
        Outcome::Finished(trained) => trained,
        other => panic!("{other:?}"),
    }
}

fn stopped_at(base: &TrainableLlama, step: u32) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let control = Control::default();
    let mut recorder = Recorder::cancel_at(&control, step);
    let outcome = soft_prompt(base, &dataset(), &quick_config(), dir.path(), false, &control, &mut recorder).unwrap();
    assert_eq!(outcome, Outcome::Cancelled { step });
    dir
}

fn assert_same(got: &Trained<SoftPrompt>, expected: &Trained<SoftPrompt>) {
    let bits = |trained: &Trained<SoftPrompt>| trained.adapter.vectors.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    assert_eq!(got.history, expected.history, "the same loss at every step");
    assert!(bits(got) == bits(expected), "the same soft prompt, bit for bit");
    assert_eq!((got.heldout_before, got.heldout_after), (expected.heldout_before, expected.heldout_after));
}

fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}
