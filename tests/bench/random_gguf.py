"""Writes a GGUF file with random weights in a real model's shape; speed does not depend on the values.

usage: random_gguf.py story|smollm2-135m|tinyllama-1.1b Q8_0|Q4_0|Q4_K|… OUT.gguf
The blocks are random bytes with small scales, so that every format can be written. A shape whose widths a K-format does not
divide takes the fallback that llama.cpp's quantiser takes (Q4_K: Q5_0, Q5_K: Q5_1, Q6_K: Q8_0).
"""
import sys

import gguf
import numpy as np
from gguf import GGMLQuantizationType as T

# hidden, intermediate, layers, heads, key heads, vocabulary, tied
SHAPES = {
    "story": (256, 768, 6, 4, 2, 8192, True),
    "smollm2-135m": (576, 1536, 30, 9, 3, 49152, True),
    "tinyllama-1.1b": (2048, 5632, 22, 32, 4, 32000, False),
}
FALLBACK = {T.Q4_K: T.Q5_0, T.Q5_K: T.Q5_1, T.Q6_K: T.Q8_0}
# The upper byte of each f16 scale of a block, and where it is.
SCALES = {
    T.F16: [(1, 0x14)],
    T.Q4_0: [(1, 0x04)],
    T.Q4_1: [(1, 0x14), (3, 0x94)],
    T.Q5_0: [(1, 0x04)],
    T.Q5_1: [(1, 0x14), (3, 0x94)],
    T.Q8_0: [(1, 0x04)],
    T.Q4_K: [(1, 0x04), (3, 0x04)],
    T.Q5_K: [(1, 0x04), (3, 0x04)],
    T.Q6_K: [(209, 0x04)],
}

shape, wanted, path = sys.argv[1:]
wanted = T[wanted]
hidden, intermediate, layers, heads, kv_heads, vocab, tied = SHAPES[shape]
random = np.random.default_rng(1)
writer = gguf.GGUFWriter(path, "llama")
writer.add_context_length(2048)
writer.add_embedding_length(hidden)
writer.add_block_count(layers)
writer.add_feed_forward_length(intermediate)
writer.add_head_count(heads)
writer.add_head_count_kv(kv_heads)
writer.add_layer_norm_rms_eps(1e-5)
writer.add_rope_dimension_count(hidden // heads)
writer.add_rope_freq_base(10000.0)
writer.add_vocab_size(vocab)
writer.add_tokenizer_model("no_vocab")


def matrix(name, rows, cols):
    per_block, size = gguf.GGML_QUANT_SIZES[wanted]
    kind = wanted if cols % per_block == 0 else FALLBACK[wanted]
    per_block, size = gguf.GGML_QUANT_SIZES[kind]
    blocks = random.integers(0, 256, (rows * cols // per_block, size), dtype=np.uint8)
    for at, byte in SCALES[kind]:
        blocks[:, at] = byte
    writer.add_tensor(name, blocks.reshape(rows, -1), raw_dtype=kind)


def norm(name):
    writer.add_tensor(name, np.ones(hidden, np.float32))


matrix("token_embd.weight", vocab, hidden)
norm("output_norm.weight")
if not tied:
    matrix("output.weight", vocab, hidden)
keys = hidden // heads * kv_heads
for layer in range(layers):
    block = f"blk.{layer}"
    norm(f"{block}.attn_norm.weight")
    norm(f"{block}.ffn_norm.weight")
    for name, rows, cols in [
        ("attn_q", hidden, hidden),
        ("attn_k", keys, hidden),
        ("attn_v", keys, hidden),
        ("attn_output", hidden, hidden),
        ("ffn_gate", intermediate, hidden),
        ("ffn_up", intermediate, hidden),
        ("ffn_down", hidden, intermediate),
    ]:
        matrix(f"{block}.{name}.weight", rows, cols)
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()
