//! Comparisons and the blind test.

use crate::sample::{at, open, request, run, verdict, write};
use domain::*;
use store::{StoreError, StoredBlindPair};

pub fn preference(id: &str, generation: Option<&str>, better: &str, worse: &str) -> Preference {
    Preference {
        id: id.into(),
        source: if generation.is_some() { PreferenceSource::Explore } else { PreferenceSource::Blind },
        generation_id: generation.map(GenerationId::from),
        prompt: "A lamp".to_owned(),
        genres: request("").genres,
        style: Some(Style::Twist),
        better: better.to_owned(),
        worse: worse.to_owned(),
        created_at: at("2026-11-21T09:00:00.000Z"),
    }
}

fn pair(number: u32, trained_first: bool) -> StoredBlindPair {
    StoredBlindPair {
        number,
        prompt: "A lamp".to_owned(),
        genres: request("").genres,
        style: None,
        first: format!("First {number}"),
        second: format!("Second {number}"),
        trained_first,
        choice: None,
    }
}

#[test]
fn of_several_answers_on_the_same_two_texts_the_newest_counts() {
    let (_folder, store) = open();
    write(&store, "gen_1", "A lamp");
    let wanted = preference("pref_3", Some("gen_1"), "b", "a");
    for one in [preference("pref_1", Some("gen_1"), "a", "b"), preference("pref_2", None, "c", "d"), wanted.clone()] {
        store.add_preference(&one).unwrap();
    }
    assert_eq!(store.preferences().unwrap(), [preference("pref_2", None, "c", "d"), wanted]);
    assert!(matches!(store.add_preference(&preference("pref_2", None, "c", "d")), Err(StoreError::Conflict(_))), "an id is stored once");
    store.remove_generation(&"gen_1".into()).unwrap();
    assert_eq!(store.preferences().unwrap().len(), 1, "a removed generation teaches nothing");
    assert!(store.changes_after(0, 100).unwrap().iter().any(|event| matches!(event.change, Change::PreferenceStored { .. })));
}

#[test]
fn generations_that_nobody_judged_are_told_from_the_others() {
    let (_folder, store) = open();
    for id in ["gen_1", "gen_2", "gen_3"] {
        write(&store, id, "A lamp");
    }
    store.add_feedback(&crate::sample::feedback("f1", "gen_1-b", 1, None)).unwrap();
    store.add_preference(&preference("pref_1", Some("gen_3"), "a", "b")).unwrap();
    let left = store.unjudged_generations(10).unwrap();
    assert_eq!(left.iter().map(|one| one.generation_id.as_str()).collect::<Vec<_>>(), ["gen_2"]);
    assert_eq!(left[0].texts, ["The lamp of gen_2 went out.", "Nobody in gen_2 slept."]);
}

#[test]
fn a_blind_answer_stores_the_preference_and_what_the_run_is_worth_together() {
    let (_folder, store) = open();
    store.enqueue(&crate::sample::job("job_1", Priority::Normal), &run("run_1")).unwrap();
    let id = RunId::from("run_1");
    assert!(matches!(store.save_blind_pairs(&"run_none".into(), &[pair(1, true)]), Err(StoreError::NotFound { .. })));
    store.save_blind_pairs(&id, &[pair(1, true), pair(2, false)]).unwrap();
    let mut judged = store.run(&id).unwrap();
    judged.verdict = Some(verdict());
    let answer = preference("pref_1", None, "First 1", "Second 1");
    store.answer_blind_pair(&judged, 1, BlindChoice::First, Some(&answer)).unwrap();
    assert!(matches!(store.answer_blind_pair(&judged, 7, BlindChoice::Neither, None), Err(StoreError::NotFound { .. })));
    let pairs = store.blind_pairs(&id).unwrap();
    assert_eq!(pairs, [StoredBlindPair { choice: Some(BlindChoice::First), ..pair(1, true) }, pair(2, false)]);
    assert_eq!(store.preferences().unwrap(), [answer]);
    assert_eq!(store.run(&id).unwrap().verdict, Some(verdict()));
    store.save_blind_pairs(&id, &[pair(1, false)]).unwrap();
    assert_eq!(store.blind_pairs(&id).unwrap(), [pair(1, false)], "a new test takes the place of the old one");
    assert_eq!(store.preferences().unwrap().len(), 1, "what was answered is kept");
}
