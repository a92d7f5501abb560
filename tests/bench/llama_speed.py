"""llama.cpp's speed on this machine, through llama-cpp-python.

usage: llama_speed.py MODEL.gguf --sequences 8 [--threads 2 --prompt 256 --generate 64 --rounds 3] [--one-by-one]
Prints one JSON line with the medians of the rounds, after one to warm up. The prompt is decoded once and its cells are
shared by all sequences; tokens are random and no sampler runs, as in `inkling bench decode`. With --one-by-one the sequences
are written one after the other, each from the kept prompt, which is how a best of n is had from a server for one person.
"""
import argparse
import ctypes
import json
import resource
import statistics
import time

import llama_cpp as llama
import numpy as np

parser = argparse.ArgumentParser()
parser.add_argument("model")
for name, default in [("threads", 2), ("sequences", 8), ("prompt", 256), ("generate", 64), ("rounds", 3)]:
    parser.add_argument(f"--{name}", type=int, default=default)
parser.add_argument("--one-by-one", action="store_true")
options = parser.parse_args()

silent = llama.llama_log_callback(lambda level, text, user: None)
llama.llama_log_set(silent, ctypes.c_void_p(0))
llama.llama_backend_init()
model_parameters = llama.llama_model_default_params()
model_parameters.n_gpu_layers = 0
start = time.perf_counter()
model = llama.llama_model_load_from_file(options.model.encode(), model_parameters)
loaded = time.perf_counter() - start
vocab = llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(model))
parameters = llama.llama_context_default_params()
parameters.n_ctx = options.prompt + options.sequences * options.generate + 64
parameters.n_batch, parameters.n_ubatch, parameters.n_seq_max = 2048, 512, options.sequences
parameters.n_threads = parameters.n_threads_batch = options.threads
if hasattr(parameters, "kv_unified"):
    parameters.kv_unified = True
if hasattr(parameters, "flash_attn_type"):
    parameters.flash_attn_type = 1
context = llama.llama_init_from_model(model, parameters)
memory = llama.llama_get_memory(context)
random = np.random.default_rng(0)


def decode(rows):
    """Computes rows of (token, position, sequence, whether its logits are wanted)."""
    batch = llama.llama_batch_init(len(rows), 0, 1)
    batch.n_tokens = len(rows)
    for index, (token, position, sequence, wanted) in enumerate(rows):
        batch.token[index], batch.pos[index], batch.n_seq_id[index], batch.logits[index] = token, position, 1, wanted
        batch.seq_id[index][0] = sequence
    code = llama.llama_decode(context, batch)
    llama.llama_synchronize(context)
    llama.llama_batch_free(batch)
    if code != 0:
        raise SystemExit(f"llama_decode answered {code}")


read, written = [], []
for _ in range(options.rounds + 1):
    llama.llama_memory_clear(memory, True)
    prompt = random.integers(0, vocab, options.prompt).tolist()
    start = time.perf_counter()
    decode([(token, at, 0, at == options.prompt - 1) for at, token in enumerate(prompt)])
    read.append(options.prompt / (time.perf_counter() - start))
    for sequence in range(1, options.sequences):
        llama.llama_memory_seq_cp(memory, 0, sequence, -1, -1)
    start = time.perf_counter()
    together = [[sequence] for sequence in range(options.sequences)] if options.one_by_one else [list(range(options.sequences))]
    for sequences in together:
        for step in range(options.generate):
            tokens = random.integers(0, vocab, len(sequences)).tolist()
            decode([(token, options.prompt + step, sequence, True) for sequence, token in zip(sequences, tokens)])
    written.append(options.sequences * options.generate / (time.perf_counter() - start))
print(
    json.dumps(
        {
            "version": llama.__version__,
            "load_s": loaded,
            "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6,
            "prefill_tokens_per_s": statistics.median(read[1:]),
            "decode_tokens_per_s": statistics.median(written[1:]),
        }
    )
)
