"""Makes company.txt and single.txt.

company.txt: the words of the project's own stories in groups that keep company: `boat`, `shore` and `sail` stand near each other
in texts, though their meanings differ. Words are counted together within EIGHT words, in the stories and in the public-domain
part of the training text; positive pointwise mutual information, its first 100 singular vectors but the very first (which is
how common a word is), k-means (Levy & Goldberg, "Neural word embedding as implicit matrix factorization", 2014).

single.txt: the commonest words, one by one: mean and deviation of sqrt(times in a hundred words) over the stories.

Ran with numpy 2.4, scikit-learn 1.9, zstandard 0.25; the same folders give the same files.

usage: company.py STORIES CORPUS"""
import io
import json
import sys

import numpy as np
import zstandard
from counted import WORD, Counted, folder, listed
from sklearn.cluster import KMeans
from sklearn.utils.extmath import randomized_svd

EIGHT, GROUPS, DIRECTIONS = 8, 100, 100
SMALL, LARGE = 0.03, 0.02
LETTERS = {"03-simple-modern": 20e6, "01-standard-ebooks": 60e6}
counted = Counted(sys.argv[1])
stories, stands = counted.stories, counted.stands
vocabulary = counted.vocabulary()
place = {word: at for at, word in enumerate(vocabulary)}
content = counted.content(listed("stop", "first_person"))
shares = {word: stands[word] / len(stories) for word in vocabulary}

ids = []


def read(words):
    ids.extend(place.get(word, -1) for word in words)
    ids.extend([-1] * EIGHT)


for story in stories:
    # Twice, because the texts that are judged are like them.
    read(story)
    read(story)
for name, most in LETTERS.items():
    letters = 0
    with open(f"{sys.argv[2]}/{name}.jsonl.zst", "rb") as packed:
        for line in io.TextIOWrapper(zstandard.ZstdDecompressor().stream_reader(packed), encoding="utf-8"):
            text = json.loads(line)["text"]
            read(WORD.findall(text.lower().replace("’", "'")))
            letters += len(text)
            if letters > most:
                break
ids, size = np.array(ids, np.int32), len(vocabulary)
together = np.zeros(size * size, np.float32)
for apart in range(1, EIGHT + 1):
    one, other = ids[:-apart], ids[apart:]
    both = (one >= 0) & (other >= 0)
    found = np.bincount(one[both].astype(np.int64) * size + other[both], minlength=size * size)
    together += found.astype(np.float32) * (1.0 if apart < 5 else 0.67)
together = together.reshape(size, size)
together += together.T
alone = together.sum(1)
context = alone**0.75 / (alone**0.75).sum()
information = np.log(np.maximum(together, 1e-9) / np.maximum(alone[:, None] * context[None], 1e-9))
information[together < 1] = 0
np.maximum(information, 0, out=information)
left, values, _ = randomized_svd(information, DIRECTIONS + 1, n_iter=3, random_state=0)
points = (left * np.sqrt(values))[:, 1:][[place[word] for word in content]]
points /= np.linalg.norm(points, axis=1, keepdims=True) + 1e-9
points -= points.mean(0)
points /= np.linalg.norm(points, axis=1, keepdims=True) + 1e-9
weight = np.array([min(shares[word], 0.05) + 0.002 for word in content])
labels = KMeans(GROUPS, n_init=1, random_state=0).fit(points, sample_weight=weight).labels_
group_of = dict(zip(content, labels.tolist()))


def measured(column_of):
    """Mean and standard deviation, over stories, of the square root of a column's words in a hundred."""
    values = np.zeros((len(stories), max(column_of.values()) + 1))
    for row, story in enumerate(stories):
        for word in story:
            if word in column_of:
                values[row, column_of[word]] += 100 / len(story)
    return np.sqrt(values).mean(0), np.sqrt(values).std(0)


mean, deviation = measured(group_of)
with open(f"{folder}/company.txt", "w", encoding="utf-8") as out:
    out.write("# Words that keep company: mean and deviation of sqrt(words in a hundred), commonest words first. ")
    out.write(f"{len(stories)} stories, company.py\n")
    for group in range(GROUPS):
        members = sorted((w for w in content if group_of[w] == group), key=lambda w: (-stands[w], w))
        out.write(f"company {mean[group]:.4f} {deviation[group]:.4f} {' '.join(members)}\n")

singles = [w for w in vocabulary if shares[w] > (SMALL if w in stop or len(w) < 3 else LARGE) and (w in stop or len(w) < 3 or w in group_of)]
singles.sort(key=lambda w: (w not in stop and len(w) >= 3, -stands[w], w))
mean, deviation = measured({word: at for at, word in enumerate(singles)})
with open(f"{folder}/single.txt", "w", encoding="utf-8") as out:
    out.write("# Small words, then words that name something: mean and deviation of sqrt(times in a hundred words). ")
    out.write(f"{len(stories)} stories, company.py\n")
    for word, one_mean, one_deviation in zip(singles, mean, deviation):
        kind = "small" if word in stop or len(word) < 3 else "large"
        out.write(f"{kind} {word} {one_mean:.4f} {one_deviation:.4f}\n")
