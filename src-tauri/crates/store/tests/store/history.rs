//! Generations, candidates, feedback, taste, settings and the draft.

use crate::sample::{self, feedback, open, request, write};
use domain::*;
use store::{Store, StoreError};

#[test]
fn a_generation_reads_back_as_it_was_written() {
    let (_folder, store) = open();
    let result = write(&store, "gen_1", "A young wizard");
    let detail = store.generation(&"gen_1".into()).unwrap();
    assert_eq!(detail.request, request("A young wizard"));
    assert_eq!(detail.result, result);
    let stored = store.candidate(&"gen_1-b".into()).unwrap();
    assert_eq!((stored.candidate, stored.generation_id), (result.candidates[1].clone(), "gen_1".into()));
    assert_eq!(stored.request.prompt, "A young wizard");
}

#[test]
fn a_prompt_is_there_before_its_text() {
    let (folder, store) = open();
    store.begin_generation(&"gen_1".into(), &request("Half a story")).unwrap();
    store.close().unwrap();
    let (store, _) = Store::open(folder.path()).unwrap();
    let detail = store.generation(&"gen_1".into()).unwrap();
    assert_eq!((detail.request.prompt.as_str(), detail.result.chosen.as_str()), ("Half a story", ""));
}

#[test]
fn a_score_that_is_not_a_number_does_not_cost_the_text() {
    let (_folder, store) = open();
    store.begin_generation(&"gen_1".into(), &request("x")).unwrap();
    let mut result = sample::result("gen_1");
    result.candidates[0].scores.fluency = f64::NAN;
    result.candidates[0].scores.taste = Some(f64::INFINITY);
    result.tokens_per_second = f64::NAN;
    store.finish_generation(&result).unwrap();
    let read = store.generation(&"gen_1".into()).unwrap().result;
    assert_eq!((read.candidates[0].scores.fluency, read.candidates[0].scores.taste, read.tokens_per_second), (0.0, None, 0.0));
}

#[test]
fn a_taken_id_and_an_unknown_one_are_told_apart() {
    let (_folder, store) = open();
    write(&store, "gen_1", "x");
    assert!(matches!(store.begin_generation(&"gen_1".into(), &request("y")), Err(StoreError::Conflict(_))));
    assert!(matches!(store.finish_generation(&sample::result("gen_9")), Err(StoreError::NotFound { .. })));
    assert!(matches!(store.generation(&"gen_9".into()), Err(StoreError::NotFound { .. })));
    assert!(matches!(store.add_feedback(&feedback("f", "nobody", 1, None)), Err(StoreError::NotFound { .. })));
    assert_eq!(store.generation(&"gen_1".into()).unwrap().request.prompt, "x", "the refused request changed nothing");
}

#[test]
fn history_pages_newest_first_whatever_the_clock_says() {
    // Each stamp lies before the one of the row before it.
    fn backwards() -> Timestamp {
        use std::sync::atomic::{AtomicU32, Ordering};
        static CALLS: AtomicU32 = AtomicU32::new(0);
        let call = CALLS.fetch_add(1, Ordering::Relaxed);
        Timestamp(format!("{:04}-01-01T00:00:00.000Z", 2040 - call))
    }
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = Store::open_with(folder.path(), &store::Options { clock: backwards, ..Default::default() }).unwrap();
    for number in 1..=5 {
        write(&store, &format!("gen_{number}"), "x");
    }
    let first = store.generations(2, None, None).unwrap();
    let ids = |page: &GenerationPage| page.items.iter().map(|item| item.generation_id.0.clone()).collect::<Vec<_>>();
    assert_eq!(ids(&first), ["gen_5", "gen_4"]);
    assert!(first.items[0].created_at < first.items[1].created_at, "the clock ran backwards");
    let second = store.generations(2, first.next.as_ref(), None).unwrap();
    let third = store.generations(2, second.next.as_ref(), None).unwrap();
    assert_eq!((ids(&second), ids(&third), third.next), (vec!["gen_3".into(), "gen_2".into()], vec!["gen_1".into()], None));
}

#[test]
fn search_finds_every_word_in_prompts_texts_and_edits_whatever_the_case() {
    let (_folder, store) = open();
    write(&store, "gen_1", "Die Äbtissin und der 100%_Drache");
    write(&store, "gen_2", "A quiet harbour");
    store.add_feedback(&feedback("f1", "gen_2-a", 1, Some("The GULLS came back."))).unwrap();
    let found = |words: &str| {
        store.generations(10, None, Some(words)).unwrap().items.into_iter().map(|item| item.generation_id.0).collect::<Vec<_>>()
    };
    assert_eq!(found("äBTISSIN drache"), ["gen_1"]);
    assert_eq!(found("100%_"), ["gen_1"], "a percent sign is a percent sign");
    assert_eq!(found("a%r"), Vec::<String>::new(), "and no wildcard");
    assert_eq!(found("gulls"), ["gen_2"]);
    assert_eq!(found("nobody slept"), ["gen_2", "gen_1"]);
    assert_eq!(found("  ").len(), 2, "blank is no search");
}

#[test]
fn a_removed_generation_is_gone_from_history_and_learning_and_comes_back_whole() {
    let (_folder, store) = open();
    write(&store, "gen_1", "x");
    store.add_feedback(&feedback("f1", "gen_1-a", 1, None)).unwrap();
    let before = store.generation(&"gen_1".into()).unwrap();
    store.remove_generation(&"gen_1".into()).unwrap();
    assert!(store.generations(10, None, None).unwrap().items.is_empty());
    assert!(store.feedback_for_taste().unwrap().is_empty());
    assert!(matches!(store.remove_generation(&"gen_1".into()), Err(StoreError::NotFound { .. })));
    store.restore_generation(&"gen_1".into()).unwrap();
    assert_eq!(store.generation(&"gen_1".into()).unwrap(), before);

    store.remove_generation(&"gen_1".into()).unwrap();
    assert_eq!(store.purge_removed_generations(&sample::at("2000-01-01T00:00:00.000Z")).unwrap(), 0, "removed later than that");
    assert_eq!(store.purge_removed_generations(&sample::at("9999-01-01T00:00:00.000Z")).unwrap(), 1);
    assert!(matches!(store.restore_generation(&"gen_1".into()), Err(StoreError::NotFound { .. })));
}

#[test]
fn all_verdicts_are_kept_and_the_newest_counts() {
    let (_folder, store) = open();
    write(&store, "gen_1", "x");
    store.add_feedback(&feedback("f1", "gen_1-a", 1, None)).unwrap();
    store.add_feedback(&feedback("f2", "gen_1-b", -1, None)).unwrap();
    store.add_feedback(&feedback("f3", "gen_1-a", -1, None)).unwrap();
    assert_eq!(store.feedback_of(&"gen_1-a".into()).unwrap().len(), 2);
    let thumbs = store.thumbs().unwrap();
    assert_eq!((thumbs.liked, thumbs.disliked, thumbs.total()), (0, 2, 2));
    let detail = store.generation(&"gen_1".into()).unwrap();
    assert_eq!(detail.result.candidates[0].feedback.as_ref().unwrap().id, "f3".into());
    assert_eq!(store.generations(1, None, None).unwrap().items[0].verdict, Some(-1));
    let rated = store.feedback_for_taste().unwrap();
    let order: Vec<_> = rated.iter().map(|one| (one.candidate_id.0.as_str(), one.verdict, one.at_seq)).collect();
    assert_eq!(order, [("gen_1-b", -1, 2), ("gen_1-a", -1, 3)]);
}

#[test]
fn an_edit_is_what_was_liked_and_keeps_what_it_replaced() {
    let (_folder, store) = open();
    write(&store, "gen_1", "A lamp");
    store.add_feedback(&feedback("f1", "gen_1-a", 1, Some("The lamp burned on."))).unwrap();
    store.add_feedback(&feedback("f2", "gen_1-a", 1, None)).unwrap();
    let rated = &store.feedback_for_taste().unwrap()[0];
    assert_eq!(rated.text, "The lamp burned on.", "a thumb after an edit is about the edited text");
    assert_eq!(rated.original_text.as_deref(), Some("The lamp of gen_1 went out."));
    assert_eq!((rated.prompt.as_str(), &rated.genres, rated.style), ("A lamp", &request("").genres, Some(Style::Twist)));
}

#[test]
fn the_newest_taste_counts_and_old_ones_are_let_go() {
    let (_folder, store) = open();
    assert_eq!(store.newest_taste().unwrap(), None);
    for thumbs in 1..=30 {
        let summary = TasteSummary { trained: true, thumbs, auc: Some(0.75), confident: true, pinned: false };
        assert_eq!(store.save_taste(&format!("{{\"thumbs\":{thumbs}}}"), &summary).unwrap(), thumbs);
    }
    let newest = store.newest_taste().unwrap().unwrap();
    assert_eq!((newest.version, newest.json.as_str(), newest.summary.thumbs), (30, "{\"thumbs\":30}", 30));
    let versions = store.taste_versions().unwrap();
    assert_eq!((versions.len(), versions[0].version, versions[19].version), (20, 30, 11), "the newest twenty, newest first");
}

#[test]
fn settings_keep_what_differs_from_the_defaults() {
    let (folder, store) = open();
    assert_eq!(store.settings().unwrap(), Settings::default());
    let wanted = Settings { theme: Theme::Dark, server_port: 9100, ..Settings::default() };
    assert_eq!(store.save_settings(&wanted).unwrap(), ["theme", "serverPort"]);
    assert!(store.save_settings(&wanted).unwrap().is_empty(), "nothing changed the second time");
    assert_eq!(store.settings().unwrap(), wanted);

    // A key of another version and a value out of range must not take the others with them.
    let raw = rusqlite::Connection::open(folder.path().join(Store::FILE_NAME)).unwrap();
    raw.execute("UPDATE setting SET overrides = '{\"theme\":\"dark\",\"serverPort\":1,\"gone\":true}'", []).unwrap();
    assert_eq!(store.settings().unwrap(), Settings { theme: Theme::Dark, ..Settings::default() });
}

#[test]
fn the_draft_is_the_last_one_saved() {
    let (_folder, store) = open();
    assert_eq!(store.draft().unwrap(), Draft::default());
    for json in ["{\"prompt\":\"A\"}", "{\"prompt\":\"A y\"}"] {
        store.save_draft(&Draft { json: json.to_owned() }).unwrap();
    }
    assert_eq!(store.draft().unwrap().json, "{\"prompt\":\"A y\"}");
}
