"""Asserts that no text of a held-out prompt is trained on: check.py --stories DIR --tokenizer tokenizer.json --data DIR

Reads the token rows themselves, as they are trained on. Three things must hold: no document has a held-out prompt, none has the
text of a held-out story, and no long sentence of a held-out story stands anywhere in the rows.
"""

import argparse
import re

import numpy as np
from tokenizers import Tokenizer

from prepare import is_held, story_rows

LONG = 45


def sentences(text):
    return {s for s in re.split(r"(?<=[.!?])\s+", text) if len(s) >= LONG}


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--stories", required=True)
    p.add_argument("--tokenizer", required=True)
    p.add_argument("--data", required=True)
    a = p.parse_args()
    tokenizer = Tokenizer.from_file(a.tokenizer)
    rows = story_rows(a.stories)
    held = [r for r in rows if is_held(r["prompt"])]
    held_texts = {r["story"] for r in held}
    # What a training story says too, in the same words, is no leak.
    kept = [r for r in rows if not is_held(r["prompt"]) and r["story"] not in held_texts]
    shared = {s for r in kept for s in sentences(r["story"])}
    wanted = {s for r in held for s in sentences(r["story"])} - shared
    for name in ("main", "anneal"):
        documents = 0
        for at in range(0, len(data := np.load(f"{a.data}/{name}.npy")), 2000):
            for text in tokenizer.decode_batch([r[r > 0].tolist() for r in data[at:at + 2000]], skip_special_tokens=False):
                for document in text.split("<|genre|>")[1:]:
                    header, _, body = document.removesuffix("<|end|>").partition("<|story|>")
                    prompt = header.partition("<|prompt|>")[2]
                    documents += 1
                    assert not is_held(prompt) or prompt.lower() not in {r["prompt"].lower() for r in held}, f"{name}: held-out prompt {prompt!r}"
                    assert body not in held_texts, f"{name}: a held-out story"
                    leaked = sentences(body) & wanted
                    assert not leaked, f"{name}: {leaked}"
        print(f"{name}: {documents} documents, none of {len(held)} held-out prompts or of their {len(wanted)} long sentences among them")


if __name__ == "__main__":
    main()
