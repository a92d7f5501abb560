//! The bases that the tests use.

use model::{LanguageModel, LlamaConfig, LoadOptions, Precision, SoftPrompt, StoryFormat, Variant};
use safetensors::tensor::{Dtype, TensorView, serialize};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

pub fn story_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../assets/models/story")
}

/// The built-in base in int8, loaded once.
pub fn story() -> &'static LanguageModel {
    static STORY: OnceLock<LanguageModel> = OnceLock::new();
    STORY.get_or_init(|| LanguageModel::load(&story_dir(), &LoadOptions::new(2)).unwrap())
}

/// A base of its own, for tests about what is remembered.
pub fn fresh(threads: usize, precision: Precision) -> LanguageModel {
    LanguageModel::load(&story_dir(), &LoadOptions { precision, ..LoadOptions::new(threads) }).unwrap()
}

pub fn story_prompt(prompt: &str) -> Vec<u32> {
    story().tokenizer().encode(&StoryFormat::prompt_text(&Default::default(), None, prompt))
}

/// Numbers in -1..1 from a seed.
pub fn numbers(seed: u64, count: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

pub fn soft_prompt(seed: u64, tokens: usize) -> SoftPrompt {
    let hidden = story().config().hidden;
    SoftPrompt { tokens, hidden, vectors: numbers(seed, tokens * hidden).iter().map(|x| 0.1 * x).collect() }
}

/// A random base of an odd shape: untied, three query heads to one key head, widths that are no multiples of 32.
pub fn odd_config() -> LlamaConfig {
    LlamaConfig {
        hidden: 48,
        intermediate: 84,
        layers: 2,
        heads: 3,
        kv_heads: 1,
        head_dim: 16,
        vocab: 101,
        context: 64,
        rope_theta: 500.0,
        rms_eps: 1e-6,
        tied: false,
        bos: None,
        eos: None,
        pad: None,
        variant: Variant::default(),
    }
}

/// Writes the random base in transformers' layout: flat `rope_theta`, no `head_dim`.
pub fn write_odd_base(dir: &Path) {
    let config = odd_config();
    let json = r#"{"model_type": "llama", "hidden_size": 48, "intermediate_size": 84, "num_hidden_layers": 2, "hidden_act": "silu",
        "num_attention_heads": 3, "num_key_value_heads": 1, "vocab_size": 101, "max_position_embeddings": 64,
        "rope_theta": 500.0, "rms_norm_eps": 1e-6, "rope_scaling": null}"#;
    std::fs::write(dir.join("config.json"), json).unwrap();
    let (hidden, inner, queries, keys) = (config.hidden, config.intermediate, config.query_width(), config.kv_width());
    let mut shapes = vec![
        ("model.embed_tokens".to_owned(), vec![config.vocab, hidden]),
        ("model.norm".to_owned(), vec![hidden]),
        ("lm_head".to_owned(), vec![config.vocab, hidden]),
    ];
    for layer in 0..config.layers {
        let mut add = |part: &str, shape: &[usize]| shapes.push((format!("model.layers.{layer}.{part}"), shape.to_vec()));
        add("input_layernorm", &[hidden]);
        add("post_attention_layernorm", &[hidden]);
        add("self_attn.q_proj", &[queries, hidden]);
        add("self_attn.k_proj", &[keys, hidden]);
        add("self_attn.v_proj", &[keys, hidden]);
        add("self_attn.o_proj", &[hidden, queries]);
        add("mlp.gate_proj", &[inner, hidden]);
        add("mlp.up_proj", &[inner, hidden]);
        add("mlp.down_proj", &[hidden, inner]);
    }
    let bytes = |(index, (_, shape)): (usize, &(String, Vec<usize>))| -> Vec<u8> {
        // Norms near one, matrices of a size that keeps the signal alive.
        let norm = shape.len() == 1;
        let values = numbers(1 + index as u64, shape.iter().product());
        values.iter().map(|x| if norm { 1.0 + 0.2 * x } else { 0.3 * x }).flat_map(f32::to_le_bytes).collect()
    };
    let data: Vec<Vec<u8>> = shapes.iter().enumerate().map(bytes).collect();
    let views = shapes
        .iter()
        .zip(&data)
        .map(|((name, shape), bytes)| (format!("{name}.weight"), TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap()));
    std::fs::write(dir.join("model.safetensors"), serialize(views, None).unwrap()).unwrap();
}
