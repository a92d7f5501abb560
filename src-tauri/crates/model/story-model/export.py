"""Writes a trained folder as it is shipped: f16 safetensors, and on request a GGUF file of the same weights.

usage: export.py TRAINED --out ../../../../assets/models/story [--gguf story.gguf [--f32]]
Needs: torch, safetensors; gguf 0.19 for --gguf. `python3 ../../../../assets/models/story/manifest.py` then names the files anew.
"""

import argparse
import json
import os
import shutil

import numpy as np
import torch
from safetensors.torch import load_file, save_file

PARTS = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
}


def write_safetensors(source, out):
    weights = {n: t.to(torch.float16) for n, t in load_file(f"{source}/model.safetensors").items()}
    assert all(t.isfinite().all() for t in weights.values()), "a weight is too large for f16"
    save_file(weights, f"{out}/model.safetensors", metadata={"format": "pt"})
    os.chmod(f"{out}/model.safetensors", 0o644)
    config = json.load(open(f"{source}/config.json"))
    config["dtype"] = "float16"
    json.dump(config, open(f"{out}/config.json", "w"), indent=2)
    open(f"{out}/config.json", "a").write("\n")
    shutil.copyfile(f"{source}/tokenizer.json", f"{out}/tokenizer.json")


def interleaved(rows, heads):
    """GGUF's Llama rotates neighbours, Hugging Face's halves: the rows of queries and keys change places."""
    return rows.reshape(heads, 2, rows.shape[0] // heads // 2, -1).swapaxes(1, 2).reshape(rows.shape)


def write_gguf(source, path, f32=False):
    import gguf

    config = json.load(open(f"{source}/config.json"))
    tokenizer = json.load(open(f"{source}/tokenizer.json"))
    vocabulary = tokenizer["model"]["vocab"] | {t["content"]: t["id"] for t in tokenizer["added_tokens"]}
    special = {t["content"] for t in tokenizer["added_tokens"]}
    tokens = sorted(vocabulary, key=vocabulary.get)
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    w = gguf.GGUFWriter(str(path), "llama")
    w.add_name("Inkling story")
    w.add_license("Apache-2.0")
    w.add_context_length(config["max_position_embeddings"])
    w.add_embedding_length(config["hidden_size"])
    w.add_block_count(config["num_hidden_layers"])
    w.add_feed_forward_length(config["intermediate_size"])
    w.add_head_count(heads)
    w.add_head_count_kv(kv_heads)
    w.add_layer_norm_rms_eps(config["rms_norm_eps"])
    w.add_rope_freq_base((config.get("rope_parameters") or config)["rope_theta"])
    w.add_rope_dimension_count(config["head_dim"])
    w.add_vocab_size(config["vocab_size"])
    w.add_file_type(gguf.LlamaFileType.ALL_F32 if f32 else gguf.LlamaFileType.MOSTLY_F16)
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("gpt-2")
    w.add_token_list(tokens)
    w.add_token_types([gguf.TokenType.CONTROL if t in special else gguf.TokenType.NORMAL for t in tokens])
    w.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in tokenizer["model"]["merges"]])
    w.add_bos_token_id(config["bos_token_id"])
    w.add_eos_token_id(config["eos_token_id"])
    w.add_pad_token_id(config["pad_token_id"])
    w.add_add_bos_token(False)
    for name, tensor in load_file(f"{source}/model.safetensors").items():
        rows = tensor.float().numpy()
        stem = name.removeprefix("model.").removesuffix(".weight")
        if stem == "embed_tokens":
            new = "token_embd.weight"
        elif stem == "norm":
            new = "output_norm.weight"
        else:
            _, layer, part = stem.split(".", 2)
            rows = interleaved(rows, {"self_attn.q_proj": heads, "self_attn.k_proj": kv_heads}[part]) if part in ("self_attn.q_proj", "self_attn.k_proj") else rows
            new = f"blk.{layer}.{PARTS[part]}.weight"
        w.add_tensor(new, rows if f32 or rows.ndim == 1 else rows.astype(np.float16))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def main():
    p = argparse.ArgumentParser()
    p.add_argument("source")
    p.add_argument("--out")
    p.add_argument("--gguf")
    p.add_argument("--f32", action="store_true")
    a = p.parse_args()
    if a.out:
        write_safetensors(a.source, a.out)
    if a.gguf:
        write_gguf(a.source, a.gguf, a.f32)


if __name__ == "__main__":
    main()
