"""Counts words that hardly any text of the corpus knows, in what `inkling-eval model … --json FILE` wrote and in the held-out stories.

usage: made_up.py --corpus ../../../../../shared/corpus --stories ../../../../../shared/stories FILE...
A word is known when the corpus and the stories use it five times; names of few people count as unknown in both.
"""

import argparse
import collections
import json
import pathlib
import re
import subprocess

p = argparse.ArgumentParser()
p.add_argument("--corpus", type=pathlib.Path, required=True)
p.add_argument("--stories", type=pathlib.Path, required=True)
p.add_argument("files", nargs="+")
a = p.parse_args()


def words(text):
    return re.findall(r"[a-z]+", text.lower())


known = collections.Counter()
for path in sorted(a.corpus.glob("*.zst")):
    known.update(words(subprocess.run(["zstd", "-dc", path], capture_output=True, text=True, check=True).stdout))
for path in sorted(a.stories.glob("*/part-*.jsonl")):
    known.update(words(path.read_text(encoding="utf-8")))


def tell(name, text):
    seen = words(text)
    print(f"{name}: {sum(known[word] < 5 for word in seen) / len(seen):.4f} of {len(seen)} words")


held_out = pathlib.Path(__file__).parent / "../../eval/heldout/stories.jsonl"
tell("held-out stories", " ".join(json.loads(line)["story"] for line in held_out.open(encoding="utf-8")))
for file in a.files:
    for model in json.load(open(file, encoding="utf-8"))["models"]:
        tell(f"{file}, {model['folder']}", " ".join(sample["text"] for sample in model["samples"]))
