//! R1: `kill -9` at any moment loses no acknowledged prompt, candidate, feedback or draft.

use crate::child::{Chance, Inkling, short, times};
use app::calls::call;
use domain::*;
use http::Client;
use std::sync::Mutex;
use std::time::Duration;

/// What the killed process had acknowledged, recorded outside of it.
#[derive(Default)]
struct Acknowledged {
    prompts: Vec<(GenerationId, String)>,
    texts: Vec<(GenerationId, CandidateId, String)>,
    feedback: Vec<(GenerationId, CandidateId, FeedbackId)>,
    draft: Option<String>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_acknowledged_survives_kills_at_random_moments() {
    let home = tempfile::tempdir().expect("a folder");
    let mut chance = Chance::fresh();
    let acknowledged = Mutex::new(Acknowledged::default());
    let kills = times(20, 200);
    for round in 0..kills {
        let inkling = Inkling::start(home.path()).await;
        check(&inkling.client, &acknowledged).await;
        let user = use_it(inkling.client.clone(), &acknowledged, round, chance.below(1 << 30));
        let moment = Duration::from_millis(5 + chance.below(700));
        tokio::join!(user, async {
            tokio::time::sleep(moment).await;
            inkling.kill();
        });
    }
    let inkling = Inkling::start(home.path()).await;
    check(&inkling.client, &acknowledged).await;
    let log = acknowledged.lock().expect("unpoisoned");
    println!(
        "R1: {kills} kills, {} prompts, {} texts, {} verdicts acknowledged, none lost",
        log.prompts.len(),
        log.texts.len(),
        log.feedback.len()
    );
    assert!(log.texts.len() >= 10 && log.feedback.len() >= 5, "the user got something done between the kills");
}

/// Writes, judges and drafts until the process is gone.
async fn use_it(client: Client, log: &Mutex<Acknowledged>, round: u32, seed: u64) {
    let mut chance = Chance(seed);
    for turn in 0.. {
        let prompt = format!("a fox in round {round}, turn {turn}");
        let mut started = None;
        let request = short(&prompt, chance.below(1000) as u32, 8 + chance.below(24) as u32);
        let written = client
            .write_streaming(&request, &mut |event| {
                if let WriteEvent::Started { generation_id, .. } = event {
                    started = Some(generation_id);
                }
            })
            .await;
        let record = |act: &dyn Fn(&mut Acknowledged)| act(&mut log.lock().expect("unpoisoned"));
        if let Some(id) = started {
            record(&|log| log.prompts.push((id.clone(), prompt.clone())));
        }
        let Ok(result) = written else { return };
        for candidate in &result.candidates {
            record(&|log| log.texts.push((result.generation_id.clone(), candidate.id.clone(), candidate.text.clone())));
        }
        let judged = FeedbackRequest {
            candidate_id: result.chosen.clone(),
            verdict: Some(if chance.below(2) == 0 { 1 } else { -1 }),
            tags: vec!["dull".to_owned()],
            comment: Some(prompt.clone()),
            edited_text: None,
        };
        let Ok(stored) = client.call::<call::Feedback>(judged).await else { return };
        record(&|log| log.feedback.push((result.generation_id.clone(), result.chosen.clone(), stored.feedback_id.clone())));
        let draft = Draft { json: format!("{{\"prompt\":\"{prompt}\"}}") };
        if client.call::<call::SaveDraft>(draft.clone()).await.is_err() {
            // It may or may not have been stored: what it was before no longer counts.
            record(&|log| log.draft = None);
            return;
        }
        record(&|log| log.draft = Some(draft.json.clone()));
    }
}

async fn check(client: &Client, log: &Mutex<Acknowledged>) {
    let (prompts, texts, feedback, draft) = {
        let log = log.lock().expect("unpoisoned");
        (log.prompts.clone(), log.texts.clone(), log.feedback.clone(), log.draft.clone())
    };
    let detail = |id: GenerationId| async move {
        client.call::<call::Generation>(GenerationRef { generation_id: id }).await.expect("it is still there")
    };
    for (id, prompt) in prompts {
        assert_eq!(detail(id).await.request.prompt, prompt, "an acknowledged prompt");
    }
    for (id, candidate, text) in texts {
        let found = detail(id).await.result.candidates.into_iter().find(|one| one.id == candidate).expect("an acknowledged candidate");
        assert_eq!(found.text, text, "word for word");
    }
    for (id, candidate, wanted) in feedback {
        let found = detail(id).await.result.candidates.into_iter().find(|one| one.id == candidate).expect("an acknowledged candidate");
        assert_eq!(found.feedback.map(|feedback| feedback.id), Some(wanted), "an acknowledged verdict");
    }
    if let Some(wanted) = draft {
        assert_eq!(client.call::<call::Draft>(Nothing {}).await.expect("a draft").json, wanted, "the acknowledged draft");
    }
    let doctor = client.call::<call::Doctor>(Nothing {}).await.expect("a report");
    assert!(!doctor.problems.iter().any(|problem| problem.code == ErrorCode::Damaged), "integrity: {:?}", doctor.problems);
}
