"""Turns the corpus and the stories into packed token rows, every passage with a prompt of its own words.

usage: prepare.py --corpus DIR --stories DIR --tokenizer tokenizer.json --out DIR
Writes main.npy and anneal.npy (uint16, rows of --seq + 1 tokens), heldout.jsonl and mix.json (what went in, in tokens).
Needs: tokenizers, numpy, the zstd program.
"""

import argparse
import collections
import glob
import json
import math
import os
import random
import re
import subprocess
import zlib

import numpy as np
from tokenizers import Tokenizer

from format import GENRES, document
from prompts import as_typed, from_text, listed, names, noun_lexicon, nouns, phrases

# Characters whose names may be trademarks: a passage that names one is left out.
PROTECTED = re.compile(
    r"\b(Nancy Drew|Ned Nickerson|Hardy Boys|Frank Hardy|Joe Hardy|Bobbsey|Tom Swift|Tarzan|Greystoke|John Carter|Dejah Thoris|Barsoom"
    r"|Conan|Cimmerian|Solomon Kane|Bran Mak Morn|Kull|Zorro|Fu Manchu|Peter Pan|Tinker ?Bell|Winnie|Pooh|Piglet|Eeyore|Poirot|Marple"
    r"|Peter Rabbit|Raggedy Ann|Doctor Dolittle|Hopalong|Buck Rogers|Cthulhu|Bulldog Drummond|Biggles|Mickey Mouse|Bambi|Pinocchio)\b", re.I)


def is_held(prompt):
    """One prompt in 25 is never trained on. By prompt, not by row: stable as stories are added, and twins stay together."""
    return zlib.crc32(prompt.lower().encode()) % 25 == 0


def corpus_rows(folder):
    for path in sorted(glob.glob(f"{folder}/*.jsonl.zst")):
        for line in subprocess.run(["zstd", "-dc", path], capture_output=True, check=True).stdout.splitlines():
            yield json.loads(line)


def story_rows(folder):
    return [json.loads(l) for p in sorted(glob.glob(f"{folder}/**/*.jsonl", recursive=True)) for l in open(p, encoding="utf-8") if l.strip()]


def windows(text, size):
    """Cuts at paragraph ends into pieces of about `size` characters; a long paragraph is cut at sentence ends. Yields (piece, last)."""
    pieces, piece = [], ""
    for paragraph in text.split("\n\n"):
        parts = [paragraph]
        if len(paragraph) > size:
            parts, sentence = [], ""
            for s in re.split(r"(?<=[.!?])\s+", paragraph):
                sentence = f"{sentence} {s}".strip()
                if len(sentence) > 0.5 * size:
                    parts.append(sentence)
                    sentence = ""
            if sentence:
                parts.append(sentence)
        for part in parts:
            if piece and len(piece) + len(part) > size:
                pieces.append(piece)
                piece = ""
            piece = f"{piece}\n\n{part}" if piece else part
    if piece:
        pieces.append(piece)
    for i, p in enumerate(pieces):
        if 200 < len(p) < 1.6 * size:
            yield p, i == len(pieces) - 1


ARCHAIC = re.compile(r"\b(thee|thou|thy|hath|doth|ere|nay|upon|shall|whilst|hither|thither|wherefore|whom|indeed|countenance|presently|ejaculated)\b", re.I)


def plainness(text):
    """Low is plain: words a sentence, old words and long words."""
    words = text.split()
    sentences = max(1, len(re.findall(r"[.!?]+", text)))
    return len(words) / sentences + 400 * len(ARCHAIC.findall(text)) / len(words) + 30 * sum(len(w) > 8 for w in words) / len(words)


class Mix:
    def __init__(self, args):
        self.args, self.rng = args, random.Random(args.seed)
        self.tokenizer = Tokenizer.from_file(args.tokenizer)
        rows = [r for r in corpus_rows(args.corpus) if r.get("register") in ("simple", "plain")]
        stories = story_rows(args.stories)
        self.held = [r for r in stories if is_held(r["prompt"])]
        self.stories = [r for r in stories if not is_held(r["prompt"])]
        held_texts = {r["story"] for r in self.held}
        self.stories = [r for r in self.stories if r["story"] not in held_texts]
        self.passages = {"simple": [], "plain": []}
        dropped = 0
        for r in rows:
            for text, last in windows(r["text"], args.window):
                if PROTECTED.search(text):
                    dropped += 1
                    continue
                self.passages[r["register"]].append((text, last, r))
        self.passages["plain"].sort(key=lambda p: plainness(p[0]))
        texts = [t for p in self.passages.values() for t, _, _ in p] + [s["story"] for s in self.stories for _ in range(2)]
        self.lexicon = noun_lexicon(texts)
        self.frequency = collections.Counter(w for t in texts for w in set(re.findall(r"[a-z]+", t.lower())))
        self.documents = len(texts)
        print(f"{len(self.stories)} stories, {len(self.held)} held out; passages {({k: len(v) for k, v in self.passages.items()})}, "
              f"{dropped} dropped for protected names; {len(self.lexicon)} nouns", flush=True)

    def rarity(self, word):
        n = self.frequency[word]
        # A person's prompt names common things: a word of very few texts is no better a subject for being rare.
        return min(4.0, max(0.3, math.log(self.documents / (1 + n)) - 2)) * min(1.0, n / 40)

    def passage(self, item):
        text, last, row = item
        rng, labels, guess = self.rng, row.get("genres") or [], row.get("genre_guess")
        genre = guess if guess in labels else (rng.choice(labels) if labels else None)
        genre = genre.replace(" ", "_").replace("-", "_") if genre else None
        weights = {genre: 1.0} if genre in GENRES and rng.random() > 0.25 else {}
        style = row["register"] if rng.random() > 0.25 else ""
        made = document(text, weights, style, as_typed(from_text(text, self.lexicon, rng, self.rarity), rng) if rng.random() > 0.06 else "")
        # A passage that was cut is no place to learn where stories end.
        return made if last else made.removesuffix("<|end|>")

    def prompt_of(self, row):
        """The story's own prompt mostly; else its nouns as keywords, or a prompt made from the story."""
        rng, kind, prompt = self.rng, self.rng.random(), row["prompt"]
        if kind < 0.60:
            return as_typed(prompt, rng)
        if kind < 0.70:
            kept = nouns(prompt, self.lexicon) + names(" x " + prompt, self.lexicon)[:1]
            if kept:
                return rng.choice([" ".join(kept), ", ".join(kept), listed(phrases(prompt + ".", self.lexicon) or kept)])
            return prompt
        return as_typed(from_text(row["story"], self.lexicon, rng, self.rarity), rng) if kind < 0.93 else ""

    def story(self, row):
        return document(row["story"], row["genres"] if self.rng.random() > 0.08 else {}, row["style"], self.prompt_of(row))

    def take(self, items, passes):
        return [i for i in items for _ in range(int(passes))] + self.rng.sample(items, int(len(items) * (passes - int(passes))))

    def write_heldout(self):
        ids = [self.tokenizer.encode(document(r["story"], r["genres"], r["style"], r["prompt"]), add_special_tokens=False).ids for r in self.held]
        # One document a row, as the model is used: packed rows make a model that never saw any look far worse than it is.
        self.save_rows("heldout", ids)

    def save_rows(self, name, rows):
        out = np.full((len(rows), min(max(map(len, rows)), self.args.seq + 1)), self.tokenizer.token_to_id("<|pad|>"), dtype=np.uint16)
        for i, row in enumerate(rows):
            row = row[: out.shape[1]]
            out[i, : len(row)] = row
        np.save(f"{self.args.out}/{name}.npy", out)

    def write(self, name, stories, simple, plain):
        plainest = self.passages["plain"][: int(len(self.passages["plain"]) * self.args.plainest)]
        parts = {"stories": [self.story(r) for r in self.take(self.stories, stories)],
                 "simple": [self.passage(i) for i in self.take(self.passages["simple"], simple)],
                 "plain": [self.passage(i) for i in self.take(plainest, plain)]}
        documents = [d for p in parts.values() for d in p]
        self.rng.shuffle(documents)
        ids = [e.ids for i in range(0, len(documents), 4096) for e in self.tokenizer.encode_batch(documents[i:i + 4096], add_special_tokens=False)]
        rows = pack(ids, self.args.seq + 1) if self.args.packed else [d[: self.args.seq + 1] for d in ids]
        self.rng.shuffle(rows)
        self.save_rows(name, rows)
        tokens = sum(map(len, ids))
        share = {k: round(sum(map(len, p)) / sum(map(len, documents)), 3) for k, p in parts.items()}
        print(f"{name}: {len(documents)} documents, {tokens / 1e6:.2f} M tokens in {len(rows)} rows ({tokens / len(rows) / (self.args.seq + 1):.1%} full), share of characters {share}", flush=True)
        return {"documents": {k: len(p) for k, p in parts.items()}, "share_of_characters": share, "tokens": tokens, "rows": len(rows)}


def pack(ids, size):
    """First fit into rows, whole documents: a prompt is never cut off from its story. Only what is longer than a row is cut."""
    open_rows, done = [], []
    for d in ids:
        d = d[:size]
        for i, row in enumerate(open_rows):
            if len(row) + len(d) <= size:
                row.extend(d)
                break
        else:
            open_rows.append(list(d))
            i = len(open_rows) - 1
        if len(open_rows[i]) > size - 40 or len(open_rows) > 200:
            done.append(open_rows.pop(i if len(open_rows[i]) > size - 40 else max(range(len(open_rows)), key=lambda j: len(open_rows[j]))))
    return done + open_rows


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--corpus", required=True)
    parser.add_argument("--stories", required=True)
    parser.add_argument("--tokenizer", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--seq", type=int, default=264, help="tokens a row learns from")
    parser.add_argument("--packed", action="store_true", help="several documents a row: quicker, for a training from scratch with --seq 512")
    parser.add_argument("--window", type=int, default=780, help="characters a passage is cut to, at paragraph ends")
    parser.add_argument("--plainest", type=float, default=0.5, help="which part of the plain passages, the plainest first")
    parser.add_argument("--main", default="2,2,0.25", help="passes over stories, simple, plain")
    parser.add_argument("--anneal", default="6,2.5,0.15")
    parser.add_argument("--seed", type=int, default=7)
    args = parser.parse_args()
    os.makedirs(args.out, exist_ok=True)
    mix = Mix(args)
    with open(f"{args.out}/heldout.jsonl", "w", encoding="utf-8") as f:
        f.writelines(json.dumps(r, ensure_ascii=False) + "\n" for r in mix.held)
    mix.write_heldout()
    report = {name: mix.write(name, *map(float, passes.split(","))) for name, passes in (("main", args.main), ("anneal", args.anneal))}
    json.dump(report, open(f"{args.out}/mix.json", "w"), indent=1)


if __name__ == "__main__":
    main()
