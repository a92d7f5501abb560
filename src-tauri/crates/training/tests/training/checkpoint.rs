//! R3, R4, R5 in their short form: whole or not at all, faults of the disk, flipped bytes.

use crate::fixture::{Recorder, dataset, quick_config, tiny_base};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use training::{
    Checkpoint, Checkpoints, Control, Disk, FileLayer, Outcome, Progress, RunIdentity, Tensor, TrainError, soft_prompt, soft_prompt_on,
};

#[test]
fn a_checkpoint_comes_back_bit_for_bit_and_only_the_newest_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let checkpoints = Checkpoints::new(&Disk, dir.path(), 2);
    for step in [1, 2, 3, 20] {
        checkpoints.save(&state(step)).unwrap();
    }
    assert_eq!(steps(dir.path()), [3, 20]);
    assert_eq!(checkpoints.newest().unwrap().found.unwrap().1, state(20));
    checkpoints.clear().unwrap();
    assert!(checkpoints.newest().unwrap().found.is_none());
    let nowhere = Checkpoints::new(&Disk, &dir.path().join("absent"), 2);
    assert!(nowhere.newest().unwrap().found.is_none(), "a folder that does not exist holds no checkpoint");
}

#[test]
fn a_damaged_newest_checkpoint_is_passed_over_with_the_reason() {
    let mut flipped = 0;
    for file in ["state.safetensors", "state.json", "manifest.json"] {
        let dir = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::new(&Disk, dir.path(), 2);
        checkpoints.save(&state(1)).unwrap();
        let path = checkpoints.save(&state(2)).unwrap().join(file);
        let whole = fs::read(&path).unwrap();
        for place in (0..whole.len()).step_by(whole.len() / 40) {
            let mut bytes = whole.clone();
            bytes[place] ^= 0x20;
            fs::write(&path, &bytes).unwrap();
            let newest = checkpoints.newest().unwrap();
            let (found, checkpoint) = newest.found.unwrap();
            // A flipped byte of the manifest may be harmless (white space) but never gives a wrong state.
            let harmless = file == "manifest.json" && found.ends_with("checkpoint-2") && checkpoint == state(2);
            assert!(harmless || checkpoint == state(1), "{file}, byte {place}");
            assert!(
                harmless
                    || newest.skipped.len() == 1 && newest.skipped[0].reason.contains("state")
                    || newest.skipped[0].reason.contains("manifest")
            );
            flipped += 1;
        }
        for cut in [0, 1, whole.len() / 2, whole.len() - 1] {
            fs::write(&path, &whole[..cut]).unwrap();
            assert_eq!(checkpoints.newest().unwrap().found.unwrap().1, state(1), "{file} cut at {cut}");
        }
        fs::remove_file(&path).unwrap();
        assert_eq!(checkpoints.newest().unwrap().found.unwrap().1, state(1), "{file} is missing");
    }
    println!("R5: {flipped} flipped bytes, 12 cuts and 3 missing files, none led to a wrong state");
}

#[test]
fn a_checkpoint_of_a_newer_version_is_not_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let checkpoints = Checkpoints::new(&Disk, dir.path(), 2);
    let path = checkpoints.save(&state(2)).unwrap().join("manifest.json");
    let newer = fs::read_to_string(&path).unwrap().replace("\"format\": 1", "\"format\": 2");
    fs::write(&path, newer).unwrap();
    assert!(matches!(checkpoints.newest(), Err(TrainError::NewerCheckpoint { format: 2, .. })));
}

#[test]
fn whichever_file_operation_fails_the_previous_checkpoint_stays_usable() {
    let mut points = 0;
    for torn in [false, true] {
        for k in 0.. {
            let dir = tempfile::tempdir().unwrap();
            Checkpoints::new(&Disk, dir.path(), 3).save(&state(1)).unwrap();
            let faulty = Faulty { fails_at: k, torn, ..Faulty::default() };
            let saved = Checkpoints::new(&faulty, dir.path(), 3).save(&state(2));
            let newest = Checkpoints::new(&Disk, dir.path(), 3).newest().unwrap().found.unwrap().1;
            if faulty.count.load(Ordering::Relaxed) <= k {
                assert!(saved.is_ok() && newest == state(2), "nothing failed");
                break;
            }
            let error = saved.expect_err("an operation failed");
            assert!(matches!(error, TrainError::DiskFull { .. }), "operation {k}: {error}");
            // Only the last sync comes after the rename: then the new one is there, whole.
            assert!(newest == state(1) || newest == state(2), "operation {k}");
            points += 1;
            // The next attempt clears away what was left.
            Checkpoints::new(&Disk, dir.path(), 3).save(&state(2)).unwrap();
            assert_eq!(steps(dir.path()), [1, 2], "operation {k}");
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "operation {k}: no leftovers");
        }
    }
    println!("R3: {points} faults, the previous checkpoint was usable after each");
    assert_eq!(points, 20, "create, 3 × (write, sync), sync, rename, sync; each whole and torn");
}

#[test]
fn a_full_disk_stops_training_with_a_hint_and_the_old_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let base = tiny_base(true);
    // Two checkpoints fit (10 operations each), the third does not.
    let faulty = Faulty { fails_at: 23, ..Faulty::default() };
    let config = quick_config();
    let error = soft_prompt_on(&faulty, &base, &dataset(), &config, dir.path(), false, &Control::default(), &mut Recorder::default());
    let Err(error) = error else { panic!("{error:?}") };
    assert!(matches!(error, TrainError::DiskFull { .. }), "{error}");
    assert!(error.hint().is_some_and(|hint| hint.contains("Free some space")));
    assert_eq!(domain::ApiError::from(&error).code, domain::ErrorCode::DiskFull);
    assert_eq!(steps(dir.path()), [3, 6]);
    let resumed = soft_prompt(&base, &dataset(), &config, dir.path(), true, &Control::default(), &mut Recorder::default()).unwrap();
    let other = tempfile::tempdir().unwrap();
    let whole = soft_prompt(&base, &dataset(), &config, other.path(), false, &Control::default(), &mut Recorder::default()).unwrap();
    let (Outcome::Finished(resumed), Outcome::Finished(whole)) = (resumed, whole) else { panic!("both finish") };
    assert!(resumed.adapter == whole.adapter && resumed.history == whole.history);
}

#[test]
fn training_resumes_past_a_damaged_checkpoint_and_replaces_it() {
    let dir = tempfile::tempdir().unwrap();
    let base = tiny_base(true);
    let control = Control::default();
    soft_prompt(&base, &dataset(), &quick_config(), dir.path(), false, &control, &mut Recorder::cancel_at(&control, 9)).unwrap();
    fs::write(dir.path().join("checkpoint-9/state.json"), "{}").unwrap();
    let mut recorder = Recorder::default();
    let outcome = soft_prompt(&base, &dataset(), &quick_config(), dir.path(), true, &Control::default(), &mut recorder).unwrap();
    assert!(matches!(outcome, Outcome::Finished(_)), "{outcome:?}");
    assert_eq!(recorder.skipped.len(), 1);
    assert!(recorder.skipped[0].reason.contains("state.json has 2 bytes"), "{:?}", recorder.skipped);
    assert_eq!(recorder.checkpoints[0].0, 9, "it went on from 6 and wrote 9 again");
}

/// Fails the operation numbered `fails_at` and, as a full disk would, every later write.
#[derive(Default)]
struct Faulty {
    fails_at: u32,
    /// The failing write leaves half of the bytes.
    torn: bool,
    count: AtomicU32,
}

impl Faulty {
    fn step(&self) -> io::Result<()> {
        if self.count.fetch_add(1, Ordering::Relaxed) >= self.fails_at {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }
}

impl FileLayer for Faulty {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.step()?;
        Disk.create_dir(path)
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let result = self.step();
        if result.is_err() && self.torn {
            Disk.write(path, &bytes[..bytes.len() / 2])?;
        }
        result?;
        Disk.write(path, bytes)
    }

    fn sync_file(&self, path: &Path) -> io::Result<()> {
        self.step()?;
        Disk.sync_file(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.step()?;
        Disk.sync_dir(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step()?;
        Disk.rename(from, to)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.step()?;
        Disk.remove_dir(path)
    }
}

/// A state whose numbers have no short decimal form, and one that is not a number.
fn state(step: u32) -> Checkpoint {
    let values: Vec<f32> = (0..12).map(|i| (step as f32 + i as f32).sqrt()).collect();
    let run = RunIdentity { base: "b".into(), dataset: "d".into(), config: "c".into() };
    Checkpoint {
        progress: Progress {
            format: 1,
            run,
            seed: 7,
            step,
            epoch: 0,
            epoch_position: step,
            best: Some(training::Best { step, heldout_loss: f64::from(step).sqrt() / 3.0 }),
            strikes: 1,
            measured: Some(step),
            heldout_before: None,
            history: (1..=step).map(|step| training::Point { step, loss: 1.0 / f64::from(step) / 3.0, heldout_loss: None }).collect(),
        },
        tensors: BTreeMap::from([("weights".to_owned(), Tensor { shape: vec![3, 4], values })]),
    }
}

fn steps(dir: &Path) -> Vec<u32> {
    Checkpoints::new(&Disk, dir, 9).list().unwrap().into_iter().map(|(step, _)| step).collect()
}
