//! Files that are missing, cut off, changed or crafted give typed errors: no panic, no claimed sizes allocated (R5, R6).

use crate::bases::{numbers, odd_config, soft_prompt, story, story_dir, write_odd_base};
use model::{DenseWeights, LanguageModel, LlamaConfig, LoadOptions, ModelError, SoftPrompt, Tokenizer, verify_manifest};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tempfile::TempDir;

fn odd_base() -> (TempDir, PathBuf, Vec<u8>) {
    let dir = tempfile::tempdir().unwrap();
    write_odd_base(dir.path());
    let path = dir.path().join("model.safetensors");
    let bytes = fs::read(&path).unwrap();
    (dir, path, bytes)
}

fn copy_story() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(story_dir()).unwrap() {
        let entry = entry.unwrap();
        if entry.path().is_file() {
            fs::copy(entry.path(), dir.path().join(entry.file_name())).unwrap();
        }
    }
    dir
}

fn is_typed(error: &ModelError) -> bool {
    matches!(error, ModelError::Damaged { .. } | ModelError::Missing { .. } | ModelError::Unsupported { .. })
}

/// A safetensors file with this header and so many bytes of data.
fn crafted(header: &str, data: usize) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &vec![0; data]].concat()
}

#[test]
fn a_base_cut_at_any_offset_is_damaged_r6() {
    let (dir, path, bytes) = odd_base();
    let cuts = (0..300).chain((300..bytes.len()).step_by(bytes.len() / 256));
    let (mut tried, start) = (0, Instant::now());
    for cut in cuts {
        fs::write(&path, &bytes[..cut]).unwrap();
        let error = DenseWeights::load(dir.path()).unwrap_err();
        assert!(is_typed(&error), "cut at {cut}: {error}");
        tried += 1;
    }
    println!("R6: {tried} cuts in {:?}", start.elapsed());
    assert!(start.elapsed() < Duration::from_secs(tried), "an answer in under a second each");
}

#[test]
fn a_flipped_byte_in_a_header_is_an_error_or_harmless_r5() {
    let (dir, path, bytes) = odd_base();
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut harmless = 0;
    let noise = numbers(5, 8 + header);
    for at in 0..8 + header {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << ((noise[at].abs() * 8.0) as u32).min(7);
        fs::write(&path, &flipped).unwrap();
        match DenseWeights::load(dir.path()) {
            Ok(weights) => {
                assert_eq!(weights.config, odd_config());
                harmless += 1;
            }
            Err(error) => assert!(is_typed(&error), "flipped at {at}: {error}"),
        }
    }
    println!("R5: {} flips, {harmless} harmless", 8 + header);
    assert!(harmless < header / 4, "most of a header matters");
}

#[test]
fn one_flipped_byte_of_the_built_in_base_is_found_by_its_hash_r5() {
    let dir = copy_story();
    for name in ["model.safetensors", "tokenizer.json", "config.json"] {
        let path = dir.path().join(name);
        let bytes = fs::read(&path).unwrap();
        for part in [3, 2] {
            let mut flipped = bytes.clone();
            flipped[bytes.len() / part] ^= 1;
            fs::write(&path, &flipped).unwrap();
            let error = LanguageModel::load(dir.path(), &LoadOptions::new(1)).err();
            assert!(matches!(&error, Some(ModelError::Damaged { path: at, .. }) if *at == path), "{name}: {error:?}");
        }
        fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        assert!(matches!(DenseWeights::load(dir.path()), Err(ModelError::Damaged { path: at, .. }) if at == path));
        fs::remove_file(&path).unwrap();
        assert!(matches!(LanguageModel::load(dir.path(), &LoadOptions::new(1)), Err(ModelError::Missing { path: at }) if at == path));
        fs::write(&path, &bytes).unwrap();
    }
    verify_manifest(dir.path()).unwrap();
    let manifest = dir.path().join("model.json");
    let outside = fs::read_to_string(&manifest).unwrap().replace("config.json", "../config.json");
    fs::write(&manifest, outside).unwrap();
    assert!(matches!(verify_manifest(dir.path()), Err(ModelError::Damaged { path, .. }) if path == manifest), "names stay in the folder");
}

#[test]
fn crafted_headers_are_refused_before_anything_is_allocated_r6() {
    let (dir, path, _) = odd_base();
    let tensor =
        |dtype: &str, shape: &str, from: u64, to: u64| format!(r#"{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{from},{to}]}}"#);
    let one = |body: String| format!(r#"{{"a":{body}}}"#);
    let many: String = (0..20_001).map(|index| format!(r#""t{index}":{},"#, tensor("F32", "[0]", 0, 0))).collect();
    let cases = [
        ("offsets beyond the file", crafted(&one(tensor("F32", "[1000000000000]", 0, 4_000_000_000_000)), 8)),
        ("a size that overflows", crafted(&one(tensor("F32", "[4611686018427387904, 4]", 0, 0)), 0)),
        ("a shape that overflows u64", crafted(&one(tensor("F32", "[99999999999999999999999]", 0, 0)), 0)),
        ("a negative offset", crafted(r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[-4,0]}}"#, 4)),
        ("an end before the beginning", crafted(&one(tensor("F32", "[1]", 8, 4)), 8)),
        ("a size that is not dtype times shape", crafted(&one(tensor("F16", "[3]", 0, 4)), 4)),
        ("a gap before the data", crafted(&one(tensor("F32", "[1]", 4, 8)), 8)),
        ("data that no tensor owns", crafted(&one(tensor("F32", "[1]", 0, 4)), 8)),
        ("an unknown dtype", crafted(&one(tensor("Q4_K", "[1]", 0, 4)), 4)),
        ("too many dimensions", crafted(&one(tensor("F32", "[1,1,1,1,1,1,1,1,1]", 0, 4)), 4)),
        ("overlapping tensors", crafted(&format!(r#"{{"a":{},"b":{}}}"#, tensor("F32", "[2]", 0, 8), tensor("F32", "[2]", 4, 12)), 12)),
        ("20,001 tensors", crafted(&format!("{{{}}}", many.trim_end_matches(',')), 0)),
        ("deep nesting", crafted(&"[".repeat(100_000), 0)),
        ("no object", crafted("[]", 0)),
        ("a header of 2^63 bytes", [&(1u64 << 63).to_le_bytes()[..], b"{}"].concat()),
        ("a header of 9 MB", [&(9u64 << 20).to_le_bytes()[..], &vec![b' '; 10 << 20]].concat()),
        ("nothing", Vec::new()),
    ];
    for (what, bytes) in cases {
        fs::write(&path, bytes).unwrap();
        let start = Instant::now();
        let error = DenseWeights::load(dir.path()).unwrap_err();
        assert!(matches!(&error, ModelError::Damaged { path: at, .. } if *at == path), "{what}: {error}");
        assert!(start.elapsed() < Duration::from_secs(1), "{what} took {:?}", start.elapsed());
    }
}

#[test]
fn disguised_files_are_refused_by_content() {
    let (dir, path, bytes) = odd_base();
    for (what, start) in
        [("zip", &b"PK\x03\x04\x00\x00\x00\x00"[..]), ("pickle", b"\x80\x02}q\x00(X\x05"), ("gguf", b"GGUF\x03\x00\x00\x00")]
    {
        fs::write(&path, [start, &bytes].concat()).unwrap();
        let error = DenseWeights::load(dir.path()).unwrap_err();
        assert!(matches!(error, ModelError::Unsupported { .. }), "{what}: {error}");
    }
}

#[test]
fn weights_that_do_not_fit_the_config_are_damaged() {
    let (dir, path, bytes) = odd_base();
    let config = dir.path().join("config.json");
    let text = fs::read_to_string(&config).unwrap();
    let changes = [
        (r#""vocab_size": 101"#, r#""vocab_size": 102"#),
        (r#""num_hidden_layers": 2"#, r#""num_hidden_layers": 3"#),
        (r#""num_hidden_layers": 2"#, r#""num_hidden_layers": 1"#),
        (r#""intermediate_size": 84"#, r#""intermediate_size": 80"#),
        (r#""hidden_size": 48"#, r#""hidden_size": 0"#),
        (r#""hidden_size": 48"#, r#""hidden_size": 999999999999"#),
        (r#""num_attention_heads": 3"#, r#""num_attention_heads": 0"#),
        (r#""num_key_value_heads": 1"#, r#""num_key_value_heads": 2"#),
        (r#""rms_norm_eps": 1e-6"#, r#""rms_norm_eps": -1"#),
        ("{", "{{"),
    ];
    for (from, to) in changes {
        fs::write(&config, text.replacen(from, to, 1)).unwrap();
        let error = DenseWeights::load(dir.path()).unwrap_err();
        assert!(matches!(error, ModelError::Damaged { .. }), "{to}: {error}");
    }
    fs::write(&config, &text).unwrap();
    let mut infinite = bytes.clone();
    let end = infinite.len();
    infinite[end - 4..].copy_from_slice(&f32::INFINITY.to_le_bytes());
    fs::write(&path, infinite).unwrap();
    assert!(matches!(DenseWeights::load(dir.path()), Err(ModelError::Damaged { .. })), "a weight that is not finite");
}

#[test]
fn what_the_engine_does_not_do_is_refused_by_name() {
    let story = fs::read_to_string(story_dir().join("config.json")).unwrap();
    let parse = |text: &str| LlamaConfig::parse(text.as_bytes(), Path::new("config.json"));
    assert_eq!(parse(&story).unwrap(), *crate::bases::story().config());
    let changes = [
        (r#""model_type": "llama""#, r#""model_type": "gpt2""#),
        (r#""attention_bias": false"#, r#""attention_bias": true"#),
        (r#""mlp_bias": false"#, r#""mlp_bias": true"#),
        (r#""hidden_act": "silu""#, r#""hidden_act": "gelu""#),
        (r#""rope_type": "default""#, r#""rope_type": "spiral""#),
        (r#""use_cache": true"#, r#""quantization_config": {"bits": 4}"#),
    ];
    for (from, to) in changes {
        assert!(story.contains(from), "{from} is in the config");
        let error = parse(&story.replacen(from, to, 1)).unwrap_err();
        assert!(matches!(error, ModelError::Unsupported { .. }), "{to}: {error}");
    }
    let odd_heads = story.replacen(r#""head_dim": 64"#, r#""head_dim": 24"#, 1);
    let weights = DenseWeights { config: parse(&odd_heads).unwrap(), ..DenseWeights::load(&story_dir()).unwrap() };
    let tokenizer = Tokenizer::load(&story_dir()).unwrap();
    let refused = LanguageModel::from_weights(weights, tokenizer, &model::LoadOptions::new(1)).err();
    assert!(matches!(refused, Some(ModelError::Unsupported { .. })), "heads must be a multiple of 16");
}

#[test]
fn a_broken_tokenizer_is_damaged_and_never_a_panic() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tokenizer.json");
    let bytes = fs::read(story_dir().join("tokenizer.json")).unwrap();
    for cut in [0, 1, 100, 5_000, bytes.len() / 2, bytes.len() - 1] {
        fs::write(&path, &bytes[..cut]).unwrap();
        assert!(matches!(Tokenizer::load(dir.path()), Err(ModelError::Damaged { .. })), "cut at {cut}");
    }
    let text = String::from_utf8(bytes).unwrap();
    for (from, to) in [(r#""type": "BPE""#, r#""type": "Magic""#), (r#""merges": ["#, r#""merges": [["no", "such"],"#)] {
        assert!(text.contains(from));
        fs::write(&path, text.replacen(from, to, 1)).unwrap();
        assert!(matches!(Tokenizer::load(dir.path()), Err(ModelError::Damaged { .. })), "{to}");
    }
    fs::write(&path, vec![b' '; (64 << 20) + 1]).unwrap();
    assert!(matches!(Tokenizer::load(dir.path()), Err(ModelError::Damaged { .. })), "larger than 64 MB");
}

#[test]
fn a_soft_prompt_is_saved_in_pefts_layout_and_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("new/adapter");
    let soft = soft_prompt(3, 12);
    soft.save(&folder, story().config(), "story").unwrap();
    assert_eq!(SoftPrompt::load(&folder).unwrap(), soft);
    soft.save(&folder, story().config(), "story").unwrap();
    let mut names: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["adapter_config.json", "adapter_model.safetensors"], "no temporary file is left");
    let config: serde_json::Value = serde_json::from_slice(&fs::read(folder.join("adapter_config.json")).unwrap()).unwrap();
    let expected = serde_json::json!({
        "peft_type": "PROMPT_TUNING", "task_type": "CAUSAL_LM", "num_virtual_tokens": 12, "token_dim": 256, "num_layers": 6,
        "num_attention_heads": 4, "num_transformer_submodules": 1, "prompt_tuning_init": "RANDOM",
        "base_model_name_or_path": "story", "inference_mode": true
    });
    assert_eq!(config, expected);
    let file = fs::read(folder.join("adapter_model.safetensors")).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&file).unwrap();
    assert_eq!(tensors.tensor("prompt_embeddings").unwrap().shape(), [12, 256]);
    let wrong = SoftPrompt { tokens: 3, ..soft };
    assert!(matches!(wrong.save(&folder, story().config(), "story"), Err(ModelError::InvalidRequest { .. })));
}

#[test]
fn a_damaged_soft_prompt_is_found_and_another_kind_refused() {
    let dir = tempfile::tempdir().unwrap();
    soft_prompt(3, 4).save(dir.path(), story().config(), "story").unwrap();
    let (weights, config) = (dir.path().join("adapter_model.safetensors"), dir.path().join("adapter_config.json"));
    let (bytes, text) = (fs::read(&weights).unwrap(), fs::read_to_string(&config).unwrap());
    for cut in (0..bytes.len()).step_by(97) {
        fs::write(&weights, &bytes[..cut]).unwrap();
        assert!(matches!(SoftPrompt::load(dir.path()), Err(ModelError::Damaged { .. })), "cut at {cut}");
    }
    fs::write(&weights, &bytes).unwrap();
    for cut in 0..text.len() {
        fs::write(&config, &text[..cut]).unwrap();
        assert!(matches!(SoftPrompt::load(dir.path()), Err(ModelError::Damaged { .. })), "cut at {cut}");
    }
    fs::write(&config, text.replace("4,", "4000000000,")).unwrap();
    assert!(matches!(SoftPrompt::load(dir.path()), Err(ModelError::Damaged { .. })), "a claimed size is not believed");
    fs::write(&config, text.replace("PROMPT_TUNING", "LORA")).unwrap();
    assert!(matches!(SoftPrompt::load(dir.path()), Err(ModelError::Unsupported { .. })));
    fs::remove_file(&weights).unwrap();
    fs::write(&config, &text).unwrap();
    assert!(matches!(SoftPrompt::load(dir.path()), Err(ModelError::Missing { .. })));
}
