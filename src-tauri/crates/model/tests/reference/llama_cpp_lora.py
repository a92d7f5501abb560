"""llama.cpp's logits with and without a LoRA that this crate exported as GGUF.

Run after `cargo test -p inkling-model merging`, which writes target/tmp/lora.gguf (and fails while the dump is old):

    pip install gguf==0.19.0 llama-cpp-python==0.3.36 numpy safetensors
    python src-tauri/crates/model/tests/reference/llama_cpp_lora.py target/tmp/lora.gguf

The base is the built-in story model, written here as an f32 GGUF with the gguf package. Its vocabulary in the file is
made up, since only token ids go in. Rows of queries and keys are reordered as the format wants them.
"""

import hashlib
import json
import pathlib
import sys
import tempfile

import gguf
import llama_cpp
import numpy as np
from safetensors.numpy import load_file

here = pathlib.Path(__file__).parent
story = here.parents[4] / "assets/models/story"
adapter = pathlib.Path(sys.argv[1])
config = json.loads((story / "config.json").read_text())
heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
TOKENS = [1, 5, 300, 41, 812, 77, 2000, 9, 1234, 500, 63, 7]
KEPT = 512

NAMES = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
}


def reordered(rows, count):
    return rows.reshape(count, 2, rows.shape[0] // count // 2, -1).swapaxes(1, 2).reshape(rows.shape)


def write_base(path):
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base((config.get("rope_parameters") or config)["rope_theta"])
    writer.add_rope_dimension_count(config.get("head_dim") or config["hidden_size"] // heads)
    writer.add_vocab_size(config["vocab_size"])
    writer.add_tokenizer_model("llama")
    writer.add_token_list([f"t{index}" for index in range(config["vocab_size"])])
    writer.add_token_scores([0.0] * config["vocab_size"])
    writer.add_token_types([1] * config["vocab_size"])
    for name, tensor in load_file(story / "model.safetensors").items():
        tensor = tensor.astype(np.float32)
        stem = name.removeprefix("model.").removesuffix(".weight")
        if stem == "embed_tokens":
            writer.add_tensor("token_embd.weight", tensor)
        elif stem == "norm":
            writer.add_tensor("output_norm.weight", tensor)
        elif stem == "lm_head":
            writer.add_tensor("output.weight", tensor)
        else:
            _, layer, part = stem.split(".", 2)
            if part == "self_attn.q_proj":
                tensor = reordered(tensor, heads)
            if part == "self_attn.k_proj":
                tensor = reordered(tensor, kv_heads)
            writer.add_tensor(f"blk.{layer}.{NAMES[part]}.weight", tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def logits(base, lora):
    model = llama_cpp.Llama(str(base), n_ctx=64, n_threads=1, lora_path=lora, logits_all=True, verbose=False)
    model.eval(TOKENS)
    return [round(float(value), 5) for value in model.scores[len(TOKENS) - 1][:KEPT]]


with tempfile.TemporaryDirectory() as folder:
    base = pathlib.Path(folder) / "base.gguf"
    write_base(base)
    dump = {
        "made_with": {"llama_cpp_python": llama_cpp.__version__, "gguf": "0.19.0"},
        "adapter_sha256": hashlib.sha256(adapter.read_bytes()).hexdigest(),
        "tokens": TOKENS,
        "logits": logits(base, str(adapter)),
        "logits_without": logits(base, None),
    }
(here / "llama_cpp_lora.json").write_text(json.dumps(dump) + "\n")
