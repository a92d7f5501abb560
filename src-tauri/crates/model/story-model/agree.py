"""Asserts that transformers and llama.cpp read the shipped model alike, and keeps transformers' logits for our runtime's tests.

usage: agree.py ../../../../assets/models/story [--dump ../tests/reference/story.json]
Both get the same f16 weights (llama.cpp as GGUF by export.py, tokenizer included). Needs: torch, transformers, tokenizers, gguf 0.19,
llama-cpp-python 0.3.36.
"""

import argparse
import hashlib
import json
import pathlib
import tempfile

import llama_cpp
import numpy as np
import tokenizers
import torch
import transformers

from export import write_gguf

TEXT = ('<|genre|>fantasy 7, mystery 3<|style|>dialogue<|prompt|>a fox, a lantern and a lost letter<|story|>The fox had lost it.\n\n"Where did you '
        'look?" asked Zoë, who kept the lantern at No. 42.<|end|>')
# Logits of these positions from the end, this many of each.
KEPT_POSITIONS, KEPT = 8, 256
# What guidance leads away from, how far, and how many tokens are compared.
UNASKED, GUIDANCE, GUIDED_TOKENS = "<|genre|>any<|style|><|prompt|><|story|>", 2.0, 100


def main():
    p = argparse.ArgumentParser()
    p.add_argument("folder", type=pathlib.Path)
    p.add_argument("--dump", type=pathlib.Path)
    a = p.parse_args()
    ids = tokenizers.Tokenizer.from_file(str(a.folder / "tokenizer.json")).encode(TEXT, add_special_tokens=False).ids
    model = transformers.LlamaForCausalLM.from_pretrained(a.folder, dtype=torch.float32).eval()
    with torch.no_grad():
        expected = model(torch.tensor([ids])).logits[0].numpy()
    with tempfile.TemporaryDirectory() as folder:
        write_gguf(a.folder, pathlib.Path(folder) / "story.gguf")
        llama = llama_cpp.Llama(f"{folder}/story.gguf", n_ctx=256, n_threads=1, logits_all=True, verbose=False)
        theirs = llama.tokenize(TEXT.encode(), add_bos=False, special=True)
        assert theirs == ids, f"llama.cpp's tokens differ: {theirs} and {ids}"
        llama.eval(ids)
        found = np.array(llama.scores[: len(ids)])
    tok = tokenizers.Tokenizer.from_file(str(a.folder / "tokenizer.json"))
    asked, unasked = (torch.tensor([tok.encode(text, add_special_tokens=False).ids]) for text in (TEXT[: TEXT.index("The fox")], UNASKED))
    guided = model.generate(asked, negative_prompt_ids=unasked, guidance_scale=GUIDANCE, do_sample=False, max_new_tokens=GUIDED_TOKENS, eos_token_id=None)
    furthest, same = np.abs(found - expected).max(), (found.argmax(1) == expected.argmax(1)).mean()
    print(f"transformers {transformers.__version__} and llama-cpp-python {llama_cpp.__version__}: {len(ids)} equal tokens; logits {expected.min():.1f} to "
          f"{expected.max():.1f}, at most {furthest:.4f} apart; same best token at {same:.1%}")
    # llama.cpp multiplies f16 weights with f16 activations.
    assert furthest < 0.1 and same > 0.95
    if a.dump:
        a.dump.write_text(json.dumps({
            "made_with": {"transformers": transformers.__version__, "llama_cpp_python": llama_cpp.__version__},
            "weights_sha256": hashlib.sha256((a.folder / "model.safetensors").read_bytes()).hexdigest(),
            "text": TEXT, "tokens": ids,
            "transformers": [[round(float(v), 5) for v in row[:KEPT]] for row in expected[-KEPT_POSITIONS:]],
            "guided": {"scale": GUIDANCE, "away_from": UNASKED, "tokens": guided[0, asked.shape[1]:].tolist()},
            "llama_cpp": [[round(float(v), 5) for v in row[:KEPT]] for row in found[-KEPT_POSITIONS:]],
        }) + "\n")


if __name__ == "__main__":
    main()
