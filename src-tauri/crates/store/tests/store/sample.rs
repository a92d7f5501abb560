//! Values to store. Texts are short and distinct, so that a test can tell them apart.

use domain::*;
use store::Store;
use tempfile::TempDir;

pub fn open() -> (TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(folder.path()).unwrap();
    (folder, store)
}

pub fn at(text: &str) -> Timestamp {
    Timestamp(text.to_owned())
}

pub fn request(prompt: &str) -> WriteRequest {
    WriteRequest {
        prompt: prompt.to_owned(),
        genres: GenreMix([(Genre::Fantasy, 0.7), (Genre::Mystery, 0.3)].into()),
        style: Some(Style::Twist),
        n: Some(2),
        ..WriteRequest::default()
    }
}

pub fn candidate(id: &str, text: &str, rank: u32) -> Candidate {
    Candidate {
        id: id.into(),
        text: text.to_owned(),
        continued_chars: 0,
        member: "story".to_owned(),
        left_machine: false,
        finish_reason: FinishReason::End,
        tokens: 12,
        rank,
        scores: Scores {
            taste: Some(0.61),
            quality: 7.5,
            quality_parts: vec![QualityPart { rule: "dialogue".into(), points: 0.3 }],
            ..Scores::default()
        },
        feedback: None,
    }
}

/// Two candidates, `<id>-a` (the chosen one) and `<id>-b`.
pub fn result(id: &str) -> WriteResult {
    let candidates = vec![
        candidate(&format!("{id}-a"), &format!("The lamp of {id} went out."), 1),
        candidate(&format!("{id}-b"), &format!("Nobody in {id} slept."), 2),
    ];
    WriteResult {
        generation_id: id.into(),
        chosen: candidates[0].id.clone(),
        explore_pair: Some((candidates[0].id.clone(), candidates[1].id.clone())),
        candidates,
        seed: 41,
        seconds: 1.25,
        first_token_seconds: 0.1,
        tokens_per_second: 80.0,
        retried: Some(Retried { member: "story · calmer".into(), candidates: 1, before: 3.1, after: 5.2 }),
        notices: vec![Notice { code: NoticeCode::PromptCut, message: "The prompt was cut.".into() }],
    }
}

/// A finished generation.
pub fn write(store: &Store, id: &str, prompt: &str) -> WriteResult {
    let result = result(id);
    store.begin_generation(&id.into(), &request(prompt)).unwrap();
    store.finish_generation(&result).unwrap();
    result
}

pub fn feedback(id: &str, candidate: &str, verdict: i8, edited: Option<&str>) -> FeedbackItem {
    FeedbackItem {
        id: id.into(),
        candidate_id: candidate.into(),
        verdict,
        tags: vec!["good".into()],
        comment: Some("warm".into()),
        edited_text: edited.map(str::to_owned),
        created_at: Timestamp::now(),
    }
}

pub fn job(id: &str, priority: Priority) -> Job {
    Job {
        id: id.into(),
        kind: JobKind::Train,
        state: JobState::Queued,
        priority,
        phase: None,
        progress: 0.0,
        run_id: None,
        attempts: 0,
        error: None,
        created_at: Timestamp::now(),
        started_at: None,
        finished_at: None,
        title: format!("Training {id}"),
    }
}

pub fn run(id: &str) -> Run {
    Run {
        run_id: id.into(),
        job_id: None,
        status: RunStatus::Queued,
        recipe: Recipe::SoftPrompt,
        base: "story".into(),
        hyperparameters: Hyperparameters {
            objective: Objective::Kto,
            rank: 16,
            alpha: 32.0,
            virtual_tokens: 16,
            dropout: 0.0,
            target_modules: Vec::new(),
            layers: 0,
            rank_stabilised: false,
            quantization: BasePrecision::Fp32,
            beta: 0.1,
            learning_rate: 0.3,
            warmup_steps: 10,
            schedule: Schedule::Cosine,
            epochs: 3,
            steps: 200,
            batch_size: 4,
            max_samples: 2000,
            source_max_tokens: 384,
            target_max_tokens: 384,
            checkpoint_steps: 25,
            checkpoints_kept: 2,
            seed: 7,
            threads: 2,
        },
        search: None,
        phase: None,
        step: 0,
        samples: 20,
        heldout: 4,
        final_loss: None,
        adapter_id: None,
        verdict: None,
        decision: None,
        error: None,
        seconds: None,
        peak_memory_mb: None,
        checkpoint_step: None,
        directory: format!("runs/{id}"),
        triggered_by: "person".to_owned(),
        created_at: Timestamp::now(),
        started_at: None,
        finished_at: None,
    }
}

pub fn verdict() -> Verdict {
    Verdict {
        win_rate: 0.66,
        low: 0.51,
        high: 0.79,
        pairs: 40,
        fluency_ratio: 1.01,
        diversity_ratio: 0.97,
        repetition: 0.002,
        repetition_before: 0.001,
        heldout_loss_before: Some(2.5),
        disarray: None,
        heldout_loss_after: Some(2.25),
        promoted: true,
        reason: "Preferred in 66% of pairs.".into(),
        blind: Some(BlindResult { trained: 3, before: 1, neither: 1 }),
    }
}

pub fn metric(step: u32) -> Metric {
    Metric {
        step,
        total_steps: 200,
        loss: 3.0 / f64::from(step),
        heldout_loss: step.is_multiple_of(2).then_some(2.0),
        lr: 0.3,
        tokens_per_second: 900.0,
        eta_s: 12.5,
    }
}

pub fn adapter(id: &str, run_id: Option<&str>) -> Adapter {
    Adapter {
        id: id.into(),
        name: format!("Adapter {id}"),
        kind: AdapterKind::SoftPrompt,
        state: AdapterState::Trial,
        base: "story".into(),
        run_id: run_id.map(RunId::from),
        strength: 1.0,
        path: format!("adapters/{id}"),
        sha256: "ab".repeat(32),
        size_bytes: 32_768.0,
        verdict: Some(verdict()),
        created_at: Timestamp::now(),
    }
}

/// Queues the session `auto_<name>` of so many examples with the job `auto_job_<name>`.
pub fn queue_session(store: &Store, name: &str, examples: u32) -> AutoTrain {
    let settings = AutoTrainSettings {
        user_id: "me".to_owned(),
        num_examples: examples,
        genres: vec![Genre::Fantasy],
        styles: vec![Style::Twist],
        store_in_memory: true,
        seed: 7,
        n: 4,
        max_tokens: 150,
    };
    let job = Job { kind: JobKind::AutoTrain, ..job(&format!("auto_job_{name}"), Priority::Normal) };
    store.enqueue_auto_train(&job, &format!("auto_{name}").into(), &settings).unwrap()
}

pub fn attempt(position: u32, kept: Option<&str>) -> AutoTrainAttempt {
    AutoTrainAttempt {
        position,
        genre: Genre::Fantasy,
        style: Style::Twist,
        prompt: "A lamp goes out".to_owned(),
        member: Some("story".to_owned()),
        quality: Some(if kept.is_some() { 8.5 } else { 5.0 }),
        example_id: kept.map(ExampleId::from),
        reason: kept.is_none().then(|| "cut-off ending".to_owned()),
    }
}

pub fn example(id: &str) -> Example {
    Example {
        id: id.into(),
        user_id: "me".to_owned(),
        source: ExampleSource::Auto,
        auto_train_id: Some("auto_1".into()),
        prompt: "A lamp goes out".to_owned(),
        genre: Genre::Fantasy,
        style: Some(Style::Twist),
        text: format!("The lamp of {id} went out."),
        quality: 8.5,
        quality_parts: vec![QualityPart { rule: "base".into(), points: 7.0 }],
        member: "story".to_owned(),
        seed: 7,
        edited: false,
        dropped: false,
        remembered: true,
        learned_by: None,
        created_at: Timestamp::now(),
    }
}
