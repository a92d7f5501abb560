"""Writes what `inkling-eval model` measures with: the held-out stories and a genre classifier that has seen none of them.

usage: heldout.py --stories DIR --corpus DIR --out ../../eval/heldout
stories.jsonl: prompt, genres, style, story and the prompt's main nouns and names. genre_words.json: complement naive Bayes
(Rennie et al. 2003) over words, present or not, trained on the other stories' texts only. Of six classifiers tried (logistic
regression and naive Bayes over words, stems, tf-idf) it agrees best with people's labels of held-out stories, which is not often:
many stories fit several genres.
Needs: scikit-learn, numpy, the zstd program.
"""

import argparse
import json
import os

import numpy as np
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.naive_bayes import ComplementNB

from format import GENRES
from prepare import corpus_rows, is_held, story_rows
from prompts import names, noun_lexicon, nouns


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--stories", required=True)
    p.add_argument("--corpus", required=True)
    p.add_argument("--out", required=True)
    a = p.parse_args()
    os.makedirs(a.out, exist_ok=True)
    rows = story_rows(a.stories)
    held = [r for r in rows if is_held(r["prompt"])]
    held_texts = {r["story"] for r in held}
    train = [r for r in rows if not is_held(r["prompt"]) and r["story"] not in held_texts]
    plain = [r["text"][:3000] for r in corpus_rows(a.corpus) if r.get("register") in ("simple", "plain")]
    lexicon = noun_lexicon([r["story"] for r in rows] + plain)

    with open(f"{a.out}/stories.jsonl", "w", encoding="utf-8") as f:
        for r in held:
            main_words = nouns(r["prompt"], lexicon) + [n.lower() for n in names("x " + r["prompt"][0].lower() + r["prompt"][1:], lexicon)]
            f.write(json.dumps({"prompt": r["prompt"], "genres": r["genres"], "style": r["style"] or None, "nouns": main_words, "story": r["story"]},
                               ensure_ascii=False) + "\n")

    top = lambda r: max(r["genres"], key=r["genres"].get)
    counts = CountVectorizer(lowercase=True, token_pattern=r"[a-z']+", binary=True, min_df=3)
    x, y = counts.fit_transform([r["story"] for r in train]), [GENRES.index(top(r)) for r in train]
    model = ComplementNB(alpha=0.5).fit(x, y)
    agreement = float((model.predict(counts.transform([r["story"] for r in held])) == [GENRES.index(top(r)) for r in held]).mean())
    # What counts is the difference between genres. Hundredths are enough to choose the largest of eight.
    centred = model.feature_log_prob_ - model.feature_log_prob_.mean(0)
    weights = {w: [int(v) for v in np.round(100 * centred[:, i])] for w, i in sorted(counts.vocabulary_.items())}
    out = {"genres": [GENRES[c] for c in model.classes_], "trained_on": len(train), "agreement_with_held_out_stories": round(agreement, 3), "words": weights}
    with open(f"{a.out}/genre_words.json", "w", encoding="utf-8") as f:
        f.write(json.dumps({k: v for k, v in out.items() if k != "words"})[:-1] + ', "words": {\n')
        f.write(",\n".join(f"{json.dumps(w)}: {json.dumps(v, separators=(',', ':'))}" for w, v in out["words"].items()) + "\n}}\n")
    print(f"{len(held)} held-out stories, {np.mean([len(nouns(r['prompt'], lexicon)) for r in held]):.1f} nouns a prompt; the classifier agrees with {agreement:.1%} of them")


if __name__ == "__main__":
    main()
