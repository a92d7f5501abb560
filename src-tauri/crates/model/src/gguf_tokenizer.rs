//! The tokenizer of a GGUF file, put into the form of a `tokenizer.json`.
//!
//! `gpt2` is byte-level BPE with the splitting rules that `tokenizer.ggml.pre` names; `llama` is SentencePiece BPE with byte
//! fallback, whose merges follow from the scores of its pieces as in transformers 5.23 (`convert_slow_tokenizer.py`).

use crate::gguf::{Gguf, Value};
use crate::{Architecture, ModelError, Tokenizer};
use serde_json::{Value as Json, json};
use std::collections::HashMap;

/// Kinds of tokens as ggml numbers them.
const UNKNOWN: i64 = 2;
const CONTROL: i64 = 3;
const USER_DEFINED: i64 = 4;

/// Longest piece of a SentencePiece vocabulary that merges are looked for in.
const MAX_PIECE_CHARS: usize = 256;

/// Builds the tokenizer.
///
/// # Errors
/// `Damaged` when its entries do not fit each other, `Unsupported` for another kind or unknown splitting rules.
pub(crate) fn tokenizer(file: &Gguf) -> Result<Tokenizer, ModelError> {
    let damaged = |reason: &str| ModelError::damaged(file.path(), reason);
    let tokens = file.texts("tokenizer.ggml.tokens").ok_or_else(|| damaged("it holds no tokenizer"))?;
    let kinds = match file.value("tokenizer.ggml.token_type") {
        Some(Value::Integers(kinds)) if kinds.len() == tokens.len() => &kinds[..],
        None => &[],
        Some(_) => return Err(damaged("its tokens and their kinds are not as many")),
    };
    let mut ids: HashMap<&str, u32> = HashMap::with_capacity(tokens.len());
    for (id, token) in tokens.iter().enumerate() {
        if ids.insert(token, id as u32).is_some() {
            return Err(damaged("two of its tokens are the same"));
        }
    }
    let vocabulary = Vocabulary { file, tokens, kinds, ids };
    let description = match file.text("tokenizer.ggml.model") {
        Some("gpt2") => vocabulary.byte_level()?,
        Some("llama") => vocabulary.sentence_piece()?,
        Some(other) => return Err(ModelError::unsupported(file.path(), format!("its tokenizer \"{other}\" is not known"))),
        None => return Err(damaged("it names no kind of tokenizer")),
    };
    Tokenizer::parse(description.to_string().as_bytes(), file.path())
}

/// The tokens that end a text or a turn.
pub(crate) fn end_tokens(file: &Gguf) -> Vec<u32> {
    let keys = ["eos_token_id", "eot_token_id", "eom_token_id"].map(|key| format!("tokenizer.ggml.{key}"));
    let ids = keys.iter().filter_map(|key| file.integer(key)).filter_map(|id| u32::try_from(id).ok());
    let mut ends: Vec<u32> = ids.collect();
    ends.dedup();
    // What llama.cpp does, too: files rarely name the token that ends a turn.
    if let (Some(tokens), true) = (file.texts("tokenizer.ggml.tokens"), file.text("tokenizer.chat_template").is_some()) {
        let turns = ["<|im_end|>", "<|eot_id|>", "<|end|>", "<end_of_turn>"];
        let known = tokens.iter().enumerate().filter(|(_, token)| turns.contains(&token.as_str())).map(|(id, _)| id as u32);
        ends.extend(known.filter(|id| !ends.contains(id)).collect::<Vec<_>>());
    }
    ends
}

struct Vocabulary<'a> {
    file: &'a Gguf,
    tokens: &'a [String],
    kinds: &'a [i64],
    ids: HashMap<&'a str, u32>,
}

impl Vocabulary<'_> {
    fn byte_level(&self) -> Result<Json, ModelError> {
        let rules = self.file.text("tokenizer.ggml.pre").unwrap_or("default");
        let Some((normalizer, mut splits, whole_words)) = splitting(rules) else {
            let reason = format!("the splitting rules \"{rules}\" of its tokenizer are not known");
            return Err(ModelError::unsupported(self.file.path(), reason));
        };
        let plain = splits.is_empty();
        splits.push(json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": plain || rules == "smollm"}));
        let Some(merges) = self.file.texts("tokenizer.ggml.merges") else {
            return Err(ModelError::damaged(self.file.path(), "its tokenizer has no merges"));
        };
        let pairs = merges.iter().map(|merge| merge.split_once(' ').map(|(left, right)| json!([left, right])));
        let Some(pairs) = pairs.collect::<Option<Vec<Json>>>() else {
            return Err(ModelError::damaged(self.file.path(), "a merge of its tokenizer is not two tokens"));
        };
        let byte_level = json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true});
        let model = json!({"type": "BPE", "vocab": self.ids, "merges": pairs, "ignore_merges": whole_words});
        Ok(self.describe(model, normalizer, json!({"type": "Sequence", "pretokenizers": splits}), byte_level))
    }

    fn sentence_piece(&self) -> Result<Json, ModelError> {
        let scores = match self.file.value("tokenizer.ggml.scores") {
            Some(Value::Floats(scores)) if scores.len() == self.tokens.len() => scores,
            _ => return Err(ModelError::damaged(self.file.path(), "its tokens and their scores are not as many")),
        };
        let mut merges: Vec<(f32, &str, &str)> = Vec::new();
        for (piece, score) in self.tokens.iter().zip(scores) {
            for (at, _) in piece.char_indices().skip(1).take(MAX_PIECE_CHARS) {
                let (left, right) = piece.split_at(at);
                if self.ids.contains_key(left) && self.ids.contains_key(right) {
                    merges.push((*score, left, right));
                }
            }
        }
        let sizes = |left: &str, right: &str| (left.chars().count(), right.chars().count());
        merges.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| sizes(b.1, b.2).cmp(&sizes(a.1, a.2))));
        let pairs: Vec<Json> = merges.iter().map(|(_, left, right)| json!([left, right])).collect();
        let unknown = (0..self.tokens.len()).find(|id| self.kind(*id) == UNKNOWN).map(|id| &self.tokens[id]);
        let model = json!({
            "type": "BPE", "vocab": self.ids, "merges": pairs, "unk_token": unknown, "fuse_unk": true, "byte_fallback": true,
        });
        let spaced = self.file.flag("tokenizer.ggml.add_space_prefix").unwrap_or(true);
        let mut steps = vec![json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"})];
        let mut back = vec![
            json!({"type": "Replace", "pattern": {"String": "▁"}, "content": " "}),
            json!({"type": "ByteFallback"}),
            json!({"type": "Fuse"}),
        ];
        if spaced {
            steps.insert(0, json!({"type": "Prepend", "prepend": "▁"}));
            back.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
        }
        let normalizer = json!({"type": "Sequence", "normalizers": steps});
        Ok(self.describe(model, normalizer, Json::Null, json!({"type": "Sequence", "decoders": back})))
    }

    fn kind(&self, id: usize) -> i64 {
        self.kinds.get(id).copied().unwrap_or(1)
    }

    fn describe(&self, model: Json, normalizer: Json, splitter: Json, decoder: Json) -> Json {
        // Phi-3's special tokens swallow the white space behind them (its tokenizer.json says so, GGUF has no place for it).
        let phi = self.file.text("general.architecture") == Some(Architecture::Phi3.name());
        let added = |id: usize| {
            let kind = self.kind(id);
            // SentencePiece files call the unknown token neither.
            let special = matches!(kind, CONTROL | UNKNOWN);
            let content = &self.tokens[id];
            let swallows = phi && kind != UNKNOWN && content.starts_with("<|") && content != "<|endoftext|>";
            (special || kind == USER_DEFINED).then(|| {
                json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": swallows,
                    "normalized": false, "special": special})
            })
        };
        let added: Vec<Json> = (0..self.tokens.len()).filter_map(added).collect();
        json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": added, "normalizer": normalizer,
            "pre_tokenizer": splitter, "post_processor": self.frame(), "decoder": decoder, "model": model,
        })
    }

    /// The tokens that a text begins and ends with.
    fn frame(&self) -> Json {
        let id = |name: &str| self.file.integer(&format!("tokenizer.ggml.{name}_token_id")).and_then(|id| usize::try_from(id).ok());
        let wanted = |name: &str, default: bool| self.file.flag(&format!("tokenizer.ggml.add_{name}_token")).unwrap_or(default);
        let sentence_piece = self.file.text("tokenizer.ggml.model") == Some("llama");
        let rules = self.file.text("tokenizer.ggml.pre");
        let token = |name: &str, default: bool| id(name).filter(|id| *id < self.tokens.len() && wanted(name, default));
        let begin = token("bos", sentence_piece || rules == Some("llama-bpe"));
        let end = token("eos", false);
        let one = |id: &usize| json!({"SpecialToken": {"id": self.tokens[*id], "type_id": 0}});
        let text = json!({"Sequence": {"id": "A", "type_id": 0}});
        let single: Vec<Json> = begin.iter().map(one).chain([text]).chain(end.iter().map(one)).collect();
        let entry = |id: &usize| (self.tokens[*id].clone(), json!({"id": self.tokens[*id], "ids": [id], "tokens": [self.tokens[*id]]}));
        let special: serde_json::Map<String, Json> = begin.iter().chain(&end).map(entry).collect();
        match special.is_empty() {
            true => Json::Null,
            false => json!({"type": "TemplateProcessing", "single": single, "pair": [
                {"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}], "special_tokens": special}),
        }
    }
}

/// Normalizer, steps before the bytes, and whether whole words are looked up before they are merged, by the name of the rules.
///
/// The expressions are those of the named tokenizers' own `tokenizer.json` files.
fn splitting(rules: &str) -> Option<(Json, Vec<Json>, bool)> {
    let split = |pattern: &str| json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false});
    let words = |digits: &str| {
        let (letters, marks) = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+", r" ?[^\s\p{L}\p{N}]+[\r\n]*");
        split(&format!(r"{letters}|{digits}|{marks}|\s*[\r\n]+|\s+(?!\S)|\s+"))
    };
    match rules {
        "default" | "gpt-2" => Some((Json::Null, Vec::new(), false)),
        "smollm" => Some((Json::Null, vec![json!({"type": "Digits", "individual_digits": true})], false)),
        "qwen2" | "deepseek-r1-qwen" => Some((json!({"type": "NFC"}), vec![words(r"\p{N}")], false)),
        "llama-bpe" | "llama3" | "llama-v3" => Some((Json::Null, vec![words(r"\p{N}{1,3}")], true)),
        _ => None,
    }
}
