//! An adapter's folder in PEFT's layout. The first byte says whether the rest replaces its settings or its weights, and of which
//! kind it is.
#![no_main]

use fuzzing::{folder, put, reference};
use libfuzzer_sys::fuzz_target;
use model::{LlamaConfig, Lora, SoftPrompt};
use std::sync::LazyLock;

static CONFIG: LazyLock<LlamaConfig> = LazyLock::new(|| LlamaConfig::load(&reference("decoders/llama")).expect("a sound config"));

const LORA: &str = r#"{"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 2, "lora_alpha": 4, "lora_dropout": 0.0,
    "target_modules": ["q_proj", "down_proj"], "base_model_name_or_path": "story"}"#;
const SOFT_PROMPT: &str = r#"{"peft_type": "PROMPT_TUNING", "task_type": "CAUSAL_LM", "num_virtual_tokens": 4, "token_dim": 64,
    "num_transformer_submodules": 1, "base_model_name_or_path": "story"}"#;
/// Room for every tensor that the settings above ask for.
const LENGTH: u64 = 1 << 16;

fuzz_target!(|bytes: &[u8]| {
    let Some((kind, bytes)) = bytes.split_first() else { return };
    let folder = folder(&reference(""), &[]);
    let settings = if kind & 1 == 0 { LORA } else { SOFT_PROMPT };
    if kind & 2 == 0 {
        put(folder, "adapter_config.json", settings.as_bytes(), 0);
        put(folder, "adapter_model.safetensors", bytes, LENGTH);
    } else {
        put(folder, "adapter_config.json", bytes, 0);
    }
    if kind & 1 == 0 {
        let _ = Lora::load(folder, &CONFIG);
    } else {
        let _ = SoftPrompt::load(folder);
    }
});
