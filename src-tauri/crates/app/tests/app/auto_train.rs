use crate::{Desk, short};
use domain::*;
use std::path::Path;
use std::time::{Duration, Instant};

fn session(num_examples: u32, seed: u32) -> AutoTrainRequest {
    AutoTrainRequest { num_examples, seed: Some(seed), n: Some(2), ..AutoTrainRequest::default() }
}

impl Desk {
    fn auto_train(&self, request: AutoTrainRequest) -> AutoTrain {
        self.app.auto_train(request).expect("queued")
    }

    fn session(&self, id: &AutoTrainId) -> AutoTrain {
        let all = self.app.auto_trains(Limit::default()).expect("sessions");
        all.into_iter().find(|one| one.id == *id).expect("the session is there")
    }

    /// Waits until a session fulfils something.
    fn session_until(&self, id: &AutoTrainId, what: impl Fn(&AutoTrain) -> bool) -> AutoTrain {
        let started = Instant::now();
        while started.elapsed() < Duration::from_secs(120) {
            let session = self.session(id);
            if what(&session) {
                return session;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("the session is {:?}", self.session(id));
    }

    fn written(&self, id: &AutoTrainId) -> AutoTrain {
        self.session_until(id, |one| !matches!(one.state, JobState::Queued | JobState::Running))
    }

    fn examples(&self, id: &AutoTrainId) -> Vec<Example> {
        self.app.examples(ExampleQuery { auto_train_id: Some(id.clone()), limit: None }).expect("examples")
    }

    fn texts(&self, id: &AutoTrainId) -> Vec<String> {
        self.examples(id).into_iter().map(|one| one.text).collect()
    }
}

fn result(desk: &Desk, id: &AutoTrainId) -> AutoTrainResult {
    desk.app.auto_train_result(AutoTrainRef { auto_train_id: id.clone() }).expect("a result")
}

#[test]
fn a_session_keeps_good_texts_as_examples_and_leaves_the_persons_own_stories_alone() {
    let desk = Desk::open();
    let events = desk.app.subscribe();
    let asked = desk.auto_train(AutoTrainRequest { store_in_memory: true, ..session(8, 11) });
    let second = desk.app.auto_train(session(1, 1)).expect_err("one session at a time");
    assert_eq!(second.code, ErrorCode::Conflict);
    // Written for while the person writes too: it stands aside, and its texts are the same.
    desk.session_until(&asked.id, |one| one.state != JobState::Queued);
    desk.app.write(short("a dragon who keeps bees", 1)).expect("written");
    let ended = desk.written(&asked.id);
    assert_eq!((ended.state, ended.current, ended.eta_s), (JobState::Completed, 8, None), "{:?}", ended.error);
    let outcome = result(&desk, &asked.id);
    assert_eq!((outcome.total_requested, outcome.successful + outcome.failed), (8, 8));
    assert!(outcome.successful >= 3, "the filter keeps some of a normal batch: {outcome:?}");
    assert_eq!(outcome.genre_distribution.len(), 8, "every genre that was asked for is named");
    assert_eq!(outcome.genre_distribution.values().sum::<u32>(), outcome.successful);
    assert_eq!(outcome.quality_histogram.iter().sum::<u32>(), 8);
    assert_eq!(outcome.failure_reasons.values().sum::<u32>(), outcome.failed);
    assert!(outcome.stored_in_memory && !outcome.ready_for_finetuning);
    assert_eq!(outcome.training_stats.examples_until_next_training, 50 - outcome.successful);

    let examples = desk.examples(&asked.id);
    assert_eq!(examples.len(), outcome.successful as usize);
    assert!(examples.iter().all(|one| one.quality >= 7.0 && one.remembered && one.source == ExampleSource::Auto));
    let mean = examples.iter().map(|one| one.quality).sum::<f64>() / examples.len() as f64;
    assert!((mean - outcome.average_quality).abs() < 1e-9);
    let attempts = desk.app.auto_train_attempts(AutoTrainRef { auto_train_id: asked.id.clone() }).expect("attempts");
    assert_eq!(attempts.iter().map(|one| one.position).collect::<Vec<_>>(), (0..8).collect::<Vec<_>>());
    assert!(attempts.iter().all(|one| one.example_id.is_some() != one.reason.is_some()), "kept, or a reason why not");
    let history = desk.app.generations(GenerationQuery::default()).expect("history").items;
    assert_eq!(history.len(), 1, "only what the person wrote is in the history");
    let heard: Vec<u32> = events
        .try_iter()
        .filter_map(|event| if let Change::AutoTrainChanged { auto_train } = event.change { Some(auto_train.current) } else { None })
        .collect();
    assert!((0..=8).all(|current| heard.contains(&current)), "every example was announced: {heard:?}");

    let repeated = desk.auto_train(session(8, 11));
    desk.written(&repeated.id);
    let (known, again) = (desk.texts(&asked.id), desk.texts(&repeated.id));
    assert!(again.iter().all(|text| !known.contains(text)), "the same texts again are no new examples; others of the batch are");

    let other = Desk::open();
    let alone = other.auto_train(session(8, 11));
    other.written(&alone.id);
    assert_eq!(other.texts(&alone.id), desk.texts(&asked.id), "the seed decides the texts, not who waits in between");
}

#[test]
fn a_cancel_keeps_what_was_made_and_an_interrupted_session_goes_on_with_the_rest() {
    let desk = Desk::open();
    let whole = desk.auto_train(session(6, 5));
    desk.written(&whole.id);
    let wanted = desk.texts(&whole.id);

    let desk = Desk::open();
    let broken = desk.auto_train(session(6, 5));
    desk.session_until(&broken.id, |one| one.current >= 2);
    let desk = desk.reopened();
    let interrupted = desk.session(&broken.id);
    assert!(matches!(interrupted.state, JobState::Interrupted | JobState::Completed), "{interrupted:?}");
    if interrupted.state == JobState::Interrupted {
        desk.app.resume_job(JobRef { job_id: broken.job_id.clone() }).expect("resumed");
    }
    let resumed = desk.written(&broken.id);
    assert_eq!((resumed.state, resumed.current), (JobState::Completed, 6));
    assert_eq!(desk.texts(&broken.id), wanted, "the rest is what it would have been");

    let long = desk.auto_train(session(500, 6));
    desk.session_until(&long.id, |one| one.successful >= 1);
    desk.app.cancel_job(JobRef { job_id: long.job_id.clone() }).expect("cancelling");
    let cancelled = desk.written(&long.id);
    assert_eq!(cancelled.state, JobState::Cancelled);
    assert!(cancelled.current < 500 && cancelled.successful >= 1);
    assert_eq!(desk.examples(&long.id).len(), cancelled.successful as usize, "what was made is kept");
}

#[test]
fn the_personal_adapter_learns_from_kept_examples_and_liked_texts_only() {
    let desk = Desk::open();
    let me = || UserRef { user_id: "me".to_owned() };
    let nothing = desk.app.train_personal(me()).expect_err("nothing to learn from");
    assert_eq!(nothing.code, ErrorCode::NotReady);
    let liked = desk.like(&["a door under the stairs"]).remove(0);
    let made = desk.auto_train(session(6, 21));
    desk.written(&made.id);
    let examples = desk.examples(&made.id);
    assert!(examples.len() >= 2, "enough for the test: {examples:?}");
    let dropped = desk.app.drop_example(ExampleRef { example_id: examples[0].id.clone() }).expect("dropped");
    assert!(dropped.dropped);
    let edit = |text: &str| desk.app.edit_example(ExampleEdit { example_id: examples[1].id.clone(), text: text.to_owned() });
    assert_eq!(edit("  ").expect_err("an empty text").code, ErrorCode::InvalidInput);
    assert!(edit("My own words, which are better.").expect("edited").edited);
    let stats = desk.app.training_stats(me()).expect("stats");
    assert_eq!(stats.training_examples as usize, examples.len() - 1);
    assert!(!stats.custom_model_exists);

    let update = serde_json::json!({ "trainingEpochs": 1, "trainingMinSteps": 2 });
    let serde_json::Value::Object(update) = update else { panic!("an object") };
    desk.app.update_settings(SettingsUpdate(update)).expect("a short training");
    let queued = desk.app.train_personal(me()).expect("queued");
    let run = desk.ended(&queued.run_id);
    assert_eq!((run.status, run.recipe), (RunStatus::Completed, Recipe::Lora), "{:?}", run.error);
    let dataset = std::fs::read_to_string(Path::new(&run.directory).join("dataset.json")).expect("the frozen texts");
    let quoted = |text: &str| serde_json::to_string(text).expect("JSON");
    assert!(!dataset.contains(&quoted(&examples[0].text)), "a dropped example is not learned from");
    assert!(dataset.contains("My own words, which are better.") && !dataset.contains(&quoted(&examples[1].text)));
    let chosen = &liked.candidates.iter().find(|one| one.id == liked.chosen).expect("chosen").text;
    assert!(dataset.contains(&quoted(chosen)), "what the person liked is learned from too");
    let adapters = desk.app.adapters(Nothing {}).expect("adapters");
    assert_eq!(adapters.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(), ["personal-me"]);
    assert!(run.verdict.is_some(), "it went through the promotion check");
    let stats = desk.app.training_stats(me()).expect("stats");
    assert_eq!((stats.custom_model_exists, stats.new_examples), (true, 0));
    assert_eq!(stats.custom_model, run.adapter_id);
    assert_eq!(stats.examples_until_next_training, 50, "the count starts anew");
}

#[test]
fn a_bad_request_lists_every_fault() {
    let desk = Desk::open();
    let request = AutoTrainRequest {
        user_id: Some("../etc".to_owned()),
        num_examples: 501,
        genres: Some(vec!["fantasy".into(), "western".into()]),
        styles: Some(vec!["loud".into()]),
        n: Some(0),
        max_tokens: Some(5),
        ..AutoTrainRequest::default()
    };
    let error = desk.app.auto_train(request).expect_err("refused");
    assert_eq!(error.code, ErrorCode::InvalidInput);
    let fields: Vec<_> = error.detail.iter().map(|fault| fault.field.as_str()).collect();
    assert_eq!(fields, ["user_id", "genres", "styles", "num_examples", "n", "max_tokens"]);
    assert!(error.hint.expect("a hint").contains("dark_fantasy"), "the known genres are named");
    let spelled = AutoTrainRequest { genres: Some(vec!["Sci-Fi".into(), "dark fantasy".into()]), ..session(1, 1) };
    let session = desk.app.auto_train(spelled).expect("names as people write them");
    assert_eq!(session.settings.genres, [Genre::DarkFantasy, Genre::SciFi]);
}
