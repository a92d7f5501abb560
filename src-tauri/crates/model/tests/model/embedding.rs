//! The built-in embedder against sentence-transformers (`tests/reference/embedder.py`), alone, beside others and damaged.

use model::{Embedder, Embedding, LoadOptions, ModelError, Precision, cosine};
use safetensors::SafeTensors;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use tempfile::TempDir;

fn embedder_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../assets/models/embedder")
}

fn embedder() -> &'static Embedder {
    static EMBEDDER: OnceLock<Embedder> = OnceLock::new();
    EMBEDDER.get_or_init(|| Embedder::load(&embedder_dir(), 2).unwrap())
}

/// The texts and what sentence-transformers makes of them in f32.
fn reference() -> (Vec<String>, Vec<Embedding>) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference");
    let described: serde_json::Value = serde_json::from_slice(&fs::read(folder.join("embedder.json")).unwrap()).unwrap();
    let texts = serde_json::from_value(described["texts"].clone()).unwrap();
    let bytes = fs::read(folder.join("embedder.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let numbers: Vec<f32> =
        file.tensor("embeddings").unwrap().data().as_chunks::<4>().0.iter().map(|raw| f32::from_le_bytes(*raw)).collect();
    (texts, numbers.as_chunks::<384>().0.to_vec())
}

fn lowest(found: &[Embedding], wanted: &[Embedding]) -> f64 {
    assert_eq!(found.len(), wanted.len(), "one embedding for each text");
    found.iter().zip(wanted).map(|(found, wanted)| cosine(found, wanted)).fold(1.0, f64::min)
}

#[test]
fn embeddings_are_those_of_sentence_transformers() {
    let (texts, wanted) = reference();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let exact = LoadOptions { precision: Precision::F32, ..LoadOptions::new(2) };
    // The stored weights are int8, so even exact arithmetic cannot give 1.
    let in_f32 = lowest(&Embedder::load_with(&embedder_dir(), &exact).unwrap().embed(&texts), &wanted);
    let in_int8 = lowest(&embedder().embed(&texts), &wanted);
    println!("lowest cosine over {} texts: int8 weights {in_f32:.5}, int8 activations too {in_int8:.5}", texts.len());
    assert!(in_f32 >= 0.995 && in_int8 >= 0.995, "{in_f32}, {in_int8}");
}

#[test]
fn neighbours_keep_their_order() {
    let (texts, wanted) = reference();
    let found = embedder().embed(&texts.iter().map(String::as_str).collect::<Vec<_>>());
    let (mut triples, mut swapped) = (0, 0);
    for a in 0..texts.len() {
        for b in 0..texts.len() {
            for c in 0..b {
                let margin = cosine(&wanted[a], &wanted[b]) - cosine(&wanted[a], &wanted[c]);
                if a != b && a != c && margin.abs() > 0.02 {
                    triples += 1;
                    swapped += u32::from((cosine(&found[a], &found[b]) - cosine(&found[a], &found[c])) * margin <= 0.0);
                }
            }
        }
    }
    println!("{swapped} of {triples} pairs of neighbours stand in another order");
    assert!(triples > 20_000 && swapped * 1_000 <= triples, "{swapped} of {triples}");
    // The first sixteen are pairs that say the same in other words.
    for (at, one) in found[..16].iter().enumerate() {
        let nearest = (0..16).filter(|other| *other != at).max_by(|a, b| cosine(one, &found[*a]).total_cmp(&cosine(one, &found[*b])));
        assert_eq!(nearest, Some(at ^ 1), "\"{}\" is nearest to its paraphrase", texts[at]);
    }
}

#[test]
fn an_embedding_depends_on_its_text_alone() {
    let (texts, _) = reference();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let together = embedder().embed(&texts);
    let alone: Vec<Embedding> = texts.iter().flat_map(|text| embedder().embed(&[text])).collect();
    assert!(together == alone, "texts beside it change nothing, to the bit");
    let backwards: Vec<&str> = texts.iter().rev().copied().collect();
    assert!(embedder().embed(&backwards).into_iter().rev().eq(together.iter().copied()), "neither does their order");
    let single = Embedder::load(&embedder_dir(), 1).unwrap();
    assert!(single.embed(&texts) == together, "nor the number of threads");
    assert!(embedder().embed(&[]).is_empty());
    for one in &together {
        assert!((cosine(one, one) - 1.0).abs() < 1e-6, "length 1");
    }
}

#[test]
fn what_follows_the_256th_word_piece_is_not_read() {
    // "a" is one piece; two frame the text.
    let words = |count: usize| vec!["a"; count].join(" ");
    let found = embedder().embed(&[&words(254), &words(255), &words(5_000), &words(253)]);
    assert!(found[0] == found[1] && found[0] == found[2], "cut at 256");
    assert!(found[0] != found[3], "and not before");
}

fn copy() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for name in ["config.json", "model.json", "model.safetensors", "tokenizer.json"] {
        fs::copy(embedder_dir().join(name), dir.path().join(name)).unwrap();
    }
    dir
}

fn refusal(dir: &Path) -> ModelError {
    match Embedder::load(dir, 1) {
        Ok(_) => panic!("the embedder in {} is damaged, but loads", dir.display()),
        Err(error) => error,
    }
}

#[test]
fn a_changed_or_missing_file_of_the_embedder_is_found() {
    let dir = copy();
    for name in ["config.json", "model.safetensors", "tokenizer.json"] {
        let path = dir.path().join(name);
        let bytes = fs::read(&path).unwrap();
        let mut flipped = bytes.clone();
        flipped[bytes.len() / 2] ^= 1;
        fs::write(&path, &flipped).unwrap();
        assert!(matches!(refusal(dir.path()), ModelError::Damaged { path: at, .. } if at == path), "{name}");
        fs::remove_file(&path).unwrap();
        assert!(matches!(refusal(dir.path()), ModelError::Missing { path: at } if at == path), "{name}");
        fs::write(&path, &bytes).unwrap();
    }
    Embedder::load(dir.path(), 1).unwrap();
}

#[test]
fn a_cut_or_crafted_embedder_without_a_manifest_is_refused() {
    let dir = copy();
    fs::remove_file(dir.path().join("model.json")).unwrap();
    let weights = dir.path().join("model.safetensors");
    let whole = fs::metadata(&weights).unwrap().len();
    let bytes = fs::read(&weights).unwrap();
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap());
    // From the end to the beginning, so that the file need not be written anew each time.
    let file = fs::OpenOptions::new().write(true).open(&weights).unwrap();
    for cut in [whole - 1, whole / 2, whole / 3, header, header - 1, header / 2, 9, 8, 7, 0] {
        file.set_len(cut).unwrap();
        assert!(matches!(refusal(dir.path()), ModelError::Damaged { .. }), "cut at {cut}");
    }
    // What the header may be changed to without being another shape altogether.
    let text = String::from_utf8(bytes[8..header as usize].to_vec()).unwrap();
    let changes = [
        ("word_embeddings.weight.scale", "word_embeddings.weight.other"),
        (r#""dtype":"I8""#, r#""dtype":"U8""#),
        ("[30522,384]", "[384,30522]"),
        ("encoder.layer.5.output.dense.bias", "encoder.layer.6.output.dense.bias"),
    ];
    for (from, to) in changes {
        assert!(text.contains(from), "{from} is in the header");
        let header_bytes = text.replacen(from, to, 1).into_bytes();
        fs::write(&weights, [&bytes[..8], &header_bytes, &bytes[header as usize..]].concat()).unwrap();
        let error = refusal(dir.path());
        assert!(matches!(error, ModelError::Damaged { .. } | ModelError::Unsupported { .. }), "{to}: {error}");
    }
    fs::write(&weights, &bytes).unwrap();
    let path = dir.path().join("config.json");
    let config = fs::read_to_string(&path).unwrap();
    let changes = [
        (r#""hidden_size": 384"#, r#""hidden_size": 768"#),
        (r#""num_hidden_layers": 6"#, r#""num_hidden_layers": 5"#),
        (r#""num_hidden_layers": 6"#, r#""num_hidden_layers": 200"#),
        (r#""num_attention_heads": 12"#, r#""num_attention_heads": 0"#),
        (r#""num_attention_heads": 12"#, r#""num_attention_heads": 7"#),
        (r#""num_attention_heads": 12"#, r#""num_attention_heads": 48"#),
        (r#""max_position_embeddings": 512"#, r#""max_position_embeddings": 128"#),
        (r#""vocab_size": 30522"#, r#""vocab_size": 999999999999"#),
        (r#""layer_norm_eps": 1e-12"#, r#""layer_norm_eps": -1"#),
        (r#""hidden_act": "gelu""#, r#""hidden_act": "relu""#),
        (r#""model_type": "bert""#, r#""model_type": "llama""#),
        (r#""absolute""#, r#""relative_key""#),
        ("{", "{{"),
    ];
    for (from, to) in changes {
        assert!(config.contains(from), "{from} is in the config");
        fs::write(&path, config.replacen(from, to, 1)).unwrap();
        let error = refusal(dir.path());
        assert!(matches!(error, ModelError::Damaged { .. } | ModelError::Unsupported { .. }), "{to}: {error}");
    }
}
