"""Makes themes.txt: a common word and those nearest to it in meaning and in company, for tastes such as "weapons and war".

Where the groups of groups.txt and company.txt divide the words among them, themes overlap: whatever a person likes, some word
stands near its middle. Meaning is the word's vector by all-MiniLM-L6-v2 (as in groups.py); company is how much oftener than by
chance two words stand within seven content words of each other in the project's own stories (positive pointwise mutual
information, Levy & Goldberg 2014), in 100 dimensions; both count alike. The THEMES commonest words that stand in the middle of
one, each with its NEAREST, none sharing more than half of its words with a commoner one's. Ran with torch 2.15, transformers 5,
scikit-learn 1.9.1; the same folder gives the same themes.

usage: themes.py STORIES > themes.txt"""
import collections
import sys

import numpy as np
from counted import Counted, listed, meanings
from scipy.sparse import coo_matrix
from sklearn.utils.extmath import randomized_svd

THEMES, NEAREST, LEAST, COMPANY, DIMENSIONS = 400, 14, 0.25, 7, 100
counted = Counted(sys.argv[1])
stories, stands = counted.stories, counted.stands
words = counted.content(listed("stop", "first_person", "past", "present"))
number = {word: at for at, word in enumerate(words)}


def standing(vectors):
    vectors = vectors - vectors.mean(0)
    return vectors / (np.linalg.norm(vectors, axis=1, keepdims=True) + 1e-9)


meaning = standing(meanings(words))

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
