"""Prints the samples of a model's card from `inkling-eval model … --json FILE`: the first text of every so many prompts, unpicked.

usage: card_samples.py FILE [FOLDER-AS-NAMED-IN-IT] [--count 20]
"""

import argparse
import json

p = argparse.ArgumentParser()
p.add_argument("file")
p.add_argument("folder", nargs="?")
p.add_argument("--count", type=int, default=20)
a = p.parse_args()
models = json.load(open(a.file, encoding="utf-8"))["models"]
model = next(m for m in models if a.folder in (None, m["folder"]))
first = list({s["prompt"]: s for s in reversed(model["samples"])}.values())[::-1]
for i in range(a.count):
    s = first[i * len(first) // a.count]
    genres = ", ".join(f"{g} {round(10 * w)}" for g, w in sorted(s["genres"].items(), key=lambda kv: -kv[1]))
    print(f"{i + 1}. **{s['prompt']}** ({genres}{'; ' + s['style'] if s['style'] else ''}){'' if s['ended'] else ' (cut at the limit)'}\n")
    print("\n".join(f"   > {line}" if line else "   >" for line in s["text"].split("\n")) + "\n")
