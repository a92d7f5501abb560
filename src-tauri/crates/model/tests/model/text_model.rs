//! Either family behind one face.

use model::{
    Adapters, BaseConfig, ChatMessage, ChatRole, Generate, Guidance, LoadOptions, Lora, LoraShape, MemberSpec, ModelError, Precision,
    Projection, Sampler, SoftPrompt, T5Generate, T5Model, TextModel, WeightedLora, inspect,
};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

fn folder(kind: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference/t5").join(kind)
}

fn options() -> LoadOptions {
    LoadOptions { precision: Precision::F32, ..LoadOptions::new(1) }
}

fn member(seed: u64, soft_prompt: Option<Arc<SoftPrompt>>) -> MemberSpec {
    let sampler = Sampler { temperature: 0.9, seed, ..Sampler::greedy() };
    MemberSpec::with(sampler, Adapters { soft_prompt, ..Adapters::default() })
}

fn request(members: Vec<MemberSpec>) -> Generate {
    Generate {
        prompt: vec![5, 6, 7, 1],
        written: 0,
        members,
        max_tokens: 12,
        stop: vec![1],
        stop_texts: Vec::new(),
        guidance: Guidance::default(),
    }
}

fn never() -> AtomicBool {
    AtomicBool::new(false)
}

#[test]
fn config_json_says_which_family_it_is() {
    let base = TextModel::load(&folder("flan"), &options()).unwrap();
    assert!(base.answers_apart() && base.decoder().is_none() && !base.chats());
    assert_eq!(base.end_tokens(), [1]);
    let prompt = base.plain_prompt("the sea");
    assert_eq!((prompt.last(), base.context()), (Some(&1), 4096), "what it reads ends with its end token");
    let story = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../assets/models/story");
    assert!(!TextModel::load(&story, &LoadOptions::new(1)).unwrap().answers_apart());
    let facts = inspect(&folder("flan")).unwrap();
    assert_eq!((facts.architecture, facts.format, facts.chat), ("t5", "safetensors", false));
    let BaseConfig::T5(config) = &facts.config else { panic!("{:?}", facts.config) };
    assert_eq!(facts.parameters as usize, config.parameters() + 101 * 48, "flan-t5 has a head of its own");
    let first = inspect(&folder("first")).unwrap();
    assert_eq!(first.parameters as usize, first.config.parameters(), "the first T5 has not");
    let loaded = T5Model::load(&folder("flan"), &LoadOptions { precision: Precision::Int8, ..LoadOptions::new(1) }).unwrap();
    let estimated = facts.weight_bytes(Precision::Int8) as f64;
    // Tiles of 16 rows weigh heavily in a base this small.
    let share = loaded.memory_bytes() as f64 / estimated;
    assert!((0.5..1.6).contains(&share), "{} loaded, {estimated} expected", loaded.memory_bytes());
}

#[test]
fn members_with_and_without_a_soft_prompt_write_what_each_writes_alone() {
    let base = TextModel::load(&folder("flan"), &options()).unwrap();
    let alone = T5Model::load(&folder("flan"), &options()).unwrap();
    let soft = Arc::new(SoftPrompt::load(&folder("prompt_1")).unwrap());
    let members = vec![member(1, None), member(2, Some(soft.clone())), member(3, None), member(4, Some(soft.clone()))];
    let mut told = vec![String::new(); 4];
    let written = base.generate(&request(members.clone()), &never(), &mut |event| told[event.candidate].push_str(event.text)).unwrap();
    for (index, (one, member)) in written.iter().zip(&members).enumerate() {
        let request = T5Generate {
            prompt: vec![5, 6, 7, 1],
            members: vec![member.sampler.clone()],
            soft_prompt: member.soft_prompt.as_deref().cloned(),
            max_tokens: 12,
            stop: vec![1],
        };
        assert_eq!(*one, alone.generate(&request, &never(), &mut |_| {}).unwrap().remove(0), "member {index}");
        assert_eq!(told[index], one.text, "what was streamed is the text");
        let adapters = Adapters { soft_prompt: member.soft_prompt.clone(), ..Adapters::default() };
        let scores = base.score_with(&adapters, &[5, 6, 7, 1], &one.token_ids).unwrap();
        for (score, drawn) in scores.iter().zip(&one.logprobs) {
            assert!((score - drawn).abs() < 1e-4, "scored as it was drawn: {score} against {drawn}");
        }
    }
    assert_ne!(written[0].token_ids, written[1].token_ids);
}

#[test]
fn what_a_t5_cannot_do_is_refused() {
    let base = TextModel::load(&folder("flan"), &options()).unwrap();
    let refused = |members, stop_texts: Vec<String>| {
        let error = base.generate(&Generate { stop_texts, ..request(members) }, &never(), &mut |_| {}).unwrap_err();
        assert!(matches!(error, ModelError::InvalidRequest { .. }), "{error}");
    };
    let shape = LoraShape { rank: 1, alpha: 1.0, rank_stabilised: false, dora: false, targets: vec![Projection::Q] };
    let lora = Arc::new(Lora { shape, layers: Vec::new() });
    let with = MemberSpec { lora: Some(WeightedLora { lora, strength: 1.0 }), ..member(1, None) };
    refused(vec![with], Vec::new());
    let soft = Arc::new(SoftPrompt::load(&folder("prompt_1")).unwrap());
    refused(vec![MemberSpec { strength: 0.5, ..member(1, Some(soft.clone())) }], Vec::new());
    refused(vec![member(1, None)], vec!["The end".to_owned()]);
    assert!(matches!(base.chat_prompt(&[ChatMessage::new(ChatRole::User, "Hi")]), Err(ModelError::Chat { .. })));
    let off = MemberSpec { strength: 0.0, ..member(1, Some(soft)) };
    let written = |members| base.generate(&request(members), &never(), &mut |_| {}).unwrap().remove(0).text;
    assert_eq!(written(vec![off]), written(vec![member(1, None)]), "at 0 it is the plain base");
}

#[test]
fn a_soft_prompt_before_a_t5_is_written_as_peft_describes_one() {
    let base = inspect(&folder("flan")).unwrap().config;
    let soft = SoftPrompt { tokens: 2, hidden: 48, vectors: (0..96).map(|value| value as f32 / 96.0).collect() };
    let dir = tempfile::tempdir().unwrap();
    soft.save(dir.path(), &base, "google/flan-t5-small").unwrap();
    assert_eq!(SoftPrompt::load(dir.path()).unwrap(), soft);
    let config: serde_json::Value = serde_json::from_slice(&std::fs::read(dir.path().join("adapter_config.json")).unwrap()).unwrap();
    assert_eq!((&config["task_type"], &config["num_layers"]), (&"SEQ_2_SEQ_LM".into(), &2.into()));
    // PEFT 0.21.2 gives the same logits for one part as for two: it passes the first on to the encoder and drops the second.
    assert_eq!(config["num_transformer_submodules"], 1);
}
