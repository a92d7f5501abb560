//! Stopping, pausing, stepping aside.

use crate::fixture::{Recorder, dataset, quick_config, tiny_base};
use std::thread;
use std::time::{Duration, Instant};
use training::{Control, ForegroundGate, Outcome, RunConfig, SoftPromptConfig, Stop, soft_prompt};

#[test]
fn a_pause_keeps_what_was_done_and_a_resume_finishes_it() {
    let dir = tempfile::tempdir().unwrap();
    let (base, control) = (tiny_base(true), Control::default());
    let config = SoftPromptConfig {
        run: RunConfig { steps: 100_000, checkpoint_steps: 0, patience: None, heldout_every: 100_000, ..quick_config().run },
        ..quick_config()
    };
    let outcome = thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(Duration::from_millis(200));
            control.pause();
        });
        soft_prompt(&base, &dataset(), &config, dir.path(), false, &control, &mut Recorder::default()).unwrap()
    });
    let Outcome::Paused { step } = outcome else { panic!("{outcome:?}") };
    assert!(step > 0 && dir.path().join(format!("checkpoint-{step}")).exists(), "step {step}");

    control.resume();
    let mut recorder = Recorder::default();
    let stopper = control.clone();
    recorder.at_checkpoint = Some(Box::new(move |_| stopper.cancel()));
    let config = SoftPromptConfig { run: RunConfig { checkpoint_steps: step + 5, ..config.run }, ..config };
    let outcome = soft_prompt(&base, &dataset(), &config, dir.path(), true, &control, &mut recorder).unwrap();
    assert_eq!(outcome, Outcome::Cancelled { step: step + 5 }, "it went on from {step}");
    assert!(recorder.metrics.iter().all(|metric| metric.step > step), "nothing is reported twice");
}

#[test]
fn a_cancel_is_answered_within_a_quarter_of_a_second() {
    let dir = tempfile::tempdir().unwrap();
    let control = Control::default();
    let config = SoftPromptConfig { run: RunConfig { steps: 1_000_000, ..quick_config().run }, ..quick_config() };
    let asked = thread::scope(|scope| {
        let asked = scope.spawn(|| {
            thread::sleep(Duration::from_millis(150));
            control.cancel();
            Instant::now()
        });
        let outcome = soft_prompt(&tiny_base(true), &dataset(), &config, dir.path(), false, &control, &mut Recorder::default());
        assert!(matches!(outcome, Ok(Outcome::Cancelled { .. })), "{outcome:?}");
        asked.join().unwrap()
    });
    // R11 allows one micro-batch; a generous limit, since other tests share the processor.
    assert!(asked.elapsed() < Duration::from_millis(250), "{:?}", asked.elapsed());
}

#[test]
fn training_stands_still_while_somebody_waits_for_text() {
    let gate = ForegroundGate::default();
    let control = Control::new(gate.clone());
    let guest = gate.enter();
    let second = gate.clone().enter();
    let waited = thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            let began = Instant::now();
            control.breathe().unwrap();
            began.elapsed()
        });
        thread::sleep(Duration::from_millis(60));
        drop(guest);
        thread::sleep(Duration::from_millis(60));
        assert!(gate.is_busy() && !waiting.is_finished(), "the second guest is still there");
        drop(second);
        waiting.join().unwrap()
    });
    assert!(waited >= Duration::from_millis(100), "{waited:?}");
    assert!(control.waited() >= Duration::from_millis(90), "the wait is not counted as work");
    assert!(!gate.is_busy());
}

#[test]
fn a_stop_is_heard_while_waiting_and_a_cancel_outweighs_a_pause() {
    let gate = ForegroundGate::default();
    let control = Control::new(gate.clone());
    let _guest = gate.enter();
    control.pause();
    assert_eq!(control.breathe(), Err(Stop::Paused));
    control.cancel();
    assert_eq!(control.clone().breathe(), Err(Stop::Cancelled));
    control.resume();
    assert_eq!(control.breathe(), Err(Stop::Cancelled), "a resume does not take a cancel back");
}

#[test]
fn what_stops_the_whole_stops_its_part_but_not_the_other_way_round() {
    let whole = Control::default();
    let (first, second) = (whole.part(), whole.part());
    first.cancel();
    assert_eq!((first.stop(), second.stop(), whole.stop()), (Some(Stop::Cancelled), None, None));
    whole.pause();
    assert_eq!((first.stop(), second.stop()), (Some(Stop::Cancelled), Some(Stop::Paused)));
    whole.resume();
    assert_eq!(second.stop(), None);
}
