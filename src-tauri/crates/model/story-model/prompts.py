"""Makes prompts out of a text's own words, in the ways a person types them.

A model this small learns to follow a prompt mostly by learning to copy from it. A few thousand stories teach that slowly;
any passage can teach it, once it carries a prompt made of its own nouns, names or a clause.
"""

import collections
import re

DETERMINERS = set("a an the his her my your their our its this that these those some every each no another two three four five".split())
# What follows a noun and seldom an adjective: the word before it is then the head of its phrase.
AFTER_NOUN = set("""was is were are had has have and or but of in on at to from with by for that who which when where as would could
did said asked came went stood lay sat looked into over under behind before after until while if so then""".split())
STOP = set("""a an the and or but of in on at to from with by for that who which when where as was is were are be been had has have i you he she
it we they me him her us them my your his its our their this these those there here not no yes so then than very all one two some any what
how why out up down off into over about said say just only now more most other such can could would will shall should may might must do does
did thing things way lot bit kind sort time times day days moment side part end place piece rest nothing something everything anything
lady sir mr mrs dr o oh well still again never ever too also much many own same first last next back away""".split())
WORD = re.compile(r"[A-Za-zÀ-ÿ]+(?:['-][A-Za-zÀ-ÿ]+)*")


def noun_lexicon(texts, least=4, share=0.22):
    """The words that a corpus uses as nouns: often right after a determiner (one adjective may stand between) and right before
    a function word or a stop. No tagger, so it runs anywhere in seconds; adjectives fall out because a noun follows them."""
    seen, head = collections.Counter(), collections.Counter()
    token = re.compile(r"[A-Za-zÀ-ÿ]+(?:['-][A-Za-zÀ-ÿ]+)*|[.,;:!?\"]")
    for text in texts:
        words = [w.lower() for w in token.findall(text)]
        for i, w in enumerate(words):
            if not w[0].isalpha():
                continue
            seen[w] += 1
            after = words[i + 1] if i + 1 < len(words) else "."
            if (i > 0 and words[i - 1] in DETERMINERS or i > 1 and words[i - 2] in DETERMINERS) and (after in AFTER_NOUN or not after[0].isalpha()):
                head[w] += 1
    return {w for w, n in seen.items() if n >= least and len(w) > 2 and w not in STOP and not w.endswith(("ly", "ing")) and head[w] >= share * n}


def nouns(text, lexicon):
    """The text's nouns in order, each once, lower-case."""
    return list(dict.fromkeys(w for w in (m.lower() for m in WORD.findall(text)) if w in lexicon))


def names(text, lexicon):
    """Capitalised words inside sentences that are no known noun: people and places, most often first."""
    found = collections.Counter(m for m in re.findall(r"(?<=[a-z,] )[A-Z][a-zà-ÿ]{2,}", text) if m.lower() not in lexicon and m.lower() not in STOP)
    whole = collections.Counter(WORD.findall(text))
    return [n for n, _ in sorted(found.items(), key=lambda kv: -whole[kv[0]])]


def article(phrase):
    return ("an " if phrase[0].lower() in "aeiou" else "a ") + phrase


def phrases(text, lexicon):
    """Noun phrases as they stand in the text ("the old fox" -> "an old fox"), each head once."""
    out = {}
    for m in re.finditer(r"\b(a|an|the|his|her|my|their|your|two|three)\s+((?:[a-z]+\s+)?)([a-z]+)\b(?=[\s.,;:!?\"])", text):
        adjective, head = m.group(2).strip(), m.group(3)
        if head not in lexicon or adjective in STOP or adjective in DETERMINERS:
            continue
        count = m.group(1) if m.group(1) in ("two", "three") else None
        plain = f"{adjective} {head}".strip()
        plural = head.endswith("s") and not head.endswith("ss")
        out.setdefault(head, f"{count} {plain}" if count else plain if plural else article(plain))
    return list(out.values())


def clause(text, lexicon, rng):
    """A short clause of the text with at least two nouns, outside speech."""
    sentences = [s for s in re.split(r"(?<=[.!?])\s+", text.replace("\n", " ")) if '"' not in s]
    rng.shuffle(sentences)
    for s in sentences[:8]:
        s = s.strip(" .!?*_-")
        words = s.split()
        if len(words) > 14:
            cut = [i for i, w in enumerate(words[:14]) if i >= 5 and w.endswith((",", ";", ":"))]
            words = words[: cut[-1] + 1] if cut else words[: rng.randint(9, 14)]
        s = " ".join(words).strip(" ,;:")
        if 4 <= len(words) <= 14 and len(nouns(s, lexicon)) >= 2:
            return s
    return ""


def listed(parts):
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]


def from_text(text, lexicon, rng, rarity):
    """A prompt for a passage that has none. `rarity` weighs words: what is rare elsewhere and early or frequent here is the subject."""
    kind = rng.random()
    if kind < 0.34:
        found = clause(text[: int(len(text) * 0.8)], lexicon, rng)
        if found:
            return found
    where = {w: i for i, w in enumerate(nouns(text, lexicon))}
    counts = collections.Counter(w.lower() for w in WORD.findall(text))
    score = lambda w: counts[w] ** 0.7 * rarity(w) * (1.3 - min(where[w], 30) / 40) * rng.uniform(0.6, 1.4)
    ranked = sorted(where, key=score, reverse=True)
    people = names(text, lexicon)[:2]
    if not ranked:
        return people[0] if people else ""
    pick = ranked[: rng.choice([1, 2, 2, 2, 3, 3, 4])]
    if kind > 0.88:  # bare keywords
        return rng.choice([" ", ", "]).join(([people[0]] if people and rng.random() < 0.3 else []) + pick)
    by_head = {p.split()[-1]: p for p in phrases(text, lexicon)}
    parts = [by_head.get(w) or (w if w.endswith("s") else article(w)) for w in pick]
    if rng.random() < 0.3:
        parts = [p.replace("a ", "the ", 1) if p.startswith("a ") else p.replace("an ", "the ", 1) if p.startswith("an ") else p for p in parts]
    if people and rng.random() < 0.35:
        parts = [people[0]] + parts[:3]
    said = listed(parts)
    if rng.random() < 0.12:
        said = rng.choice(["a story about ", "tell me about ", "write a story about ", "story with "]) + said
    return said


def as_typed(prompt, rng):
    """The same prompt as different people type it."""
    kind = rng.random()
    if not prompt or kind < 0.55:
        return prompt
    if kind < 0.70:
        return prompt[0].lower() + prompt[1:]
    if kind < 0.85:
        return prompt[0].upper() + prompt[1:]
    if kind < 0.95:
        return prompt.rstrip(".") + "."
    return prompt.lower()
