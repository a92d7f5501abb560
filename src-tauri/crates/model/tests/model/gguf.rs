//! GGUF files: logits against llama.cpp (llama-cpp-python 0.3.36), tokenizers against transformers 5.23.0
//! (tests/reference/gguf_bases.py).

use crate::decoders::{cosine, dumped, reference};
use model::{DenseWeights, LanguageModel, LoadOptions, Precision, Tokenizer, inspect};
use safetensors::SafeTensors;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::PathBuf;

fn file(name: &str) -> PathBuf {
    reference("gguf").join(format!("{name}.gguf"))
}

fn best(logits: &[f32]) -> usize {
    (0..logits.len()).max_by(|a, b| logits[*a].total_cmp(&logits[*b])).unwrap()
}

/// The smallest cosine over all dumped positions, and the share with the same best token.
fn compare(name: &str, base: &LanguageModel) -> (f64, f64) {
    let bytes = std::fs::read(reference("gguf").join(format!("{name}.safetensors"))).unwrap();
    let dump = SafeTensors::deserialize(&bytes).unwrap();
    let vocab = base.config().vocab;
    let (mut lowest, mut same, mut all) = (1.0f64, 0, 0);
    for index in 0..2 {
        let raw = dump.tensor(&format!("tokens.{index}")).unwrap().data().to_vec();
        let tokens: Vec<u32> = raw.as_chunks::<4>().0.iter().map(|raw| u32::from_le_bytes(*raw)).collect();
        let found = base.logits(None, &tokens).unwrap();
        let wanted = dumped(&dump, &format!("logits.{index}"));
        // Every third position was kept.
        for (found, wanted) in found.chunks(vocab).step_by(3).zip(wanted.chunks(vocab)) {
            lowest = lowest.min(cosine(found, wanted));
            same += usize::from(best(found) == best(wanted));
            all += 1;
        }
    }
    (lowest, same as f64 / all as f64)
}

#[test]
fn logits_are_those_of_llama_cpp() {
    let names = [
        ("llama-f16", "F16"),
        ("llama-q8_0", "Q8_0"),
        ("llama-q4_0", "Q4_0"),
        ("llama-q5_0", "Q5_0"),
        ("llama-q4_k_m", "Q6_K"),
        ("qwen2-q8_0", "Q8_0"),
        ("qwen2-q5_k_m", "Q6_K"),
        ("phi3-q4_0", "Q4_0"),
    ];
    for (name, numbers) in names {
        let facts = inspect(&file(name)).unwrap();
        assert_eq!((facts.format, facts.numbers, facts.context), ("gguf", numbers, 256), "{name}");
        for precision in [Precision::F32, Precision::Int8] {
            let base = LanguageModel::load(&file(name), &LoadOptions { precision, ..LoadOptions::new(2) }).unwrap();
            let (lowest, same) = compare(name, &base);
            println!("{name} {precision:?}: lowest cosine {lowest:.6}, same best token {same:.3}");
            // llama.cpp rounds activations to int8 as we do with int8 weights, so neither side is exact.
            assert!(lowest >= 0.999 && same >= 0.97, "{name} {precision:?}: {lowest}, {same}");
        }
    }
}

#[test]
fn a_folder_with_one_gguf_file_is_that_file() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::copy(file("llama-q8_0"), dir.path().join("model.Q8_0.gguf")).unwrap();
    let base = LanguageModel::load(dir.path(), &LoadOptions::new(1)).unwrap();
    assert_eq!(model::BaseConfig::Decoder(base.config().clone()), inspect(&file("llama-q8_0")).unwrap().config);
    assert_eq!(base.end_tokens(), [0]);
    let dense = DenseWeights::load(dir.path()).unwrap();
    assert_eq!(dense.config.layers, dense.layers.len(), "for training, it is turned back into f32");
}

#[derive(Deserialize)]
struct Expected {
    texts: Vec<String>,
    ids: BTreeMap<String, Vec<Vec<u32>>>,
    decoded: BTreeMap<String, Vec<String>>,
    sentence_piece: Vec<Vec<u32>>,
    sentence_piece_decoded: Vec<String>,
}

#[test]
fn tokenizers_are_those_of_transformers_from_their_files_and_from_gguf() {
    let folder = reference("tokenizers");
    let expected: Expected = serde_json::from_slice(&std::fs::read(folder.join("expected.json")).unwrap()).unwrap();
    for (name, ids) in &expected.ids {
        for path in [folder.join(name), folder.join(format!("{name}.gguf"))] {
            let tokenizer = Tokenizer::load(&path).unwrap();
            // A SentencePiece tokenizer from GGUF works as sentencepiece itself: transformers leaves out the space before a text
            // that begins with one.
            let (ids, decoded) = match name == "llama" && path.is_file() {
                true => (&expected.sentence_piece, &expected.sentence_piece_decoded),
                false => (ids, &expected.decoded[name]),
            };
            for ((text, ids), decoded) in expected.texts.iter().zip(ids).zip(decoded) {
                assert_eq!(tokenizer.encode(text), *ids, "{text:?} by {}", path.display());
                assert_eq!(tokenizer.decode(ids), *decoded, "{text:?} back by {}", path.display());
                let mut stream = tokenizer.stream();
                let mut grown: String = ids.iter().map(|id| stream.push(*id)).collect();
                grown += &stream.finish();
                assert_eq!(grown, *decoded, "{text:?} piece by piece by {}", path.display());
            }
            if name == "llama" && path.is_file() {
                // As llama.cpp: a text begins with the token that the file names for that.
                assert_eq!(tokenizer.encode_start("A fox."), [&[1], &tokenizer.encode("A fox.")[..]].concat());
            }
        }
    }
}
