"""Draws simulated users by chance: python3 draw.py SEED COUNT > fresh.rs

Themes and manners stand here, written down before any of the users met taste; which of them a user likes, which way, and how
they are joined is a seeded draw. Names, lists and seeds are no part of the product.
"""

import random
import sys

THEMES = {
    "gardens": "garden flower flowers tree trees leaf leaves grass seed seeds root roots branch rose petals vine bush",
    "music": "song songs sing sang singing music piano violin guitar drum drums dance danced dancing band melody tune",
    "school": "school teacher class lesson student students desk homework exam pupil classroom learn learned taught",
    "games": "game games play played playing ball team win won race score match goal kick cards dice",
    "sickness": "sick ill doctor hospital medicine fever hurt nurse weak cough bandage heal healed cure tired",
    "faith": "god church pray prayed prayer priest angel soul heaven holy bless blessed sacred monk temple",
    "sounds": "sound noise loud whisper whispered heard hear bang crash rustle hum echo voice voices bell",
    "light": "light lights bright glow glowed glowing shining shone flame candle lamp lantern spark flash",
    "smells": "smell smelled scent taste tasted sweet bitter sour salty spice perfume smoke honey fresh",
    "space": "star stars planet planets space moon alien aliens galaxy orbit astronaut earth rocket",
    "anger": "angry anger furious rage shouted yelled mad snapped glared fist argued slammed hate hated",
    "secrets": "secret secrets hidden hide hid truth lie lied lies promise promised trust trusted whisper",
    "rooms": "door doors key keys lock locked wall walls room window floor stairs hall corner ceiling",
    "children": "child children kid kids boy boys girl girls baby babies young",
    "sizes": "big huge tiny small large giant little enormous great long short tall",
    "haste": "quickly fast hurried hurry rushed sudden suddenly ran run running raced quick",
    "hands at work": "took take grabbed held hold put pushed pulled carried opened closed picked lifted",
    "could and should": "could would should might must can cannot couldn't wouldn't shouldn't can't",
    "everything": "all every everything everyone each many much more most always",
    "we": "we us our ours ourselves",
    "they": "they them their theirs themselves",
    "and": "and",
    "was": "was were",
    "of": "of",
    "towns": "town city street shop market village square crowd people house houses building",
    "night": "night dark moon midnight sleep slept dream dreams shadow shadows evening asleep",
    "looking": "look looked looking see saw seen watch watched eyes stared glance glanced",
    "friends": "friend friends together helped help share shared thank thanked kind hug hugged",
    "treasure": "gold treasure jewel jewels coin coins chest map crown diamond ring silver",
    "cold": "cold ice snow frozen freeze winter shiver shivered frost chill wind",
}

MANNERS = {
    "short sentences now and then": "share(seen.sentences.iter().filter(|words| **words <= 5).count(), seen.sentences.len())",
    "one long sentence": "seen.sentences.iter().copied().max().unwrap_or(0) as f64",
    "commas": "per_hundred(seen, seen.text.matches(',').count())",
    "exclamations": "per_hundred(seen, seen.text.matches('!').count())",
    "question marks": "per_hundred(seen, seen.text.matches('?').count())",
    "long words": "share(seen.words.iter().map(String::len).sum(), seen.words.len())",
    "a long opening": "seen.sentences.first().copied().unwrap_or(0) as f64",
    "a short last sentence": "-(seen.sentences.last().copied().unwrap_or(0) as f64)",
    "different words": "seen.words.iter().take(70).collect::<HashSet<_>>().len() as f64",
    "words in -ly": "per_hundred(seen, seen.words.iter().filter(|word| word.len() > 4 && word.ends_with(\"ly\")).count())",
    "words in -ing": "per_hundred(seen, seen.words.iter().filter(|word| word.len() > 4 && word.ends_with(\"ing\")).count())",
    "contractions": "per_hundred(seen, seen.words.iter().filter(|word| word.contains('\\'')).count())",
    "speech": "seen.spoken()",
    "length": "seen.words.len() as f64",
    "sentence length": "seen.sentence_length()",
    "very short words": "per_hundred(seen, seen.words.iter().filter(|word| word.len() <= 3).count())",
    "names": "per_hundred(seen, seen.text.split_whitespace().filter(|word| word.starts_with(char::is_uppercase)).count())",
}

# Those that taste has a feature near.
FEATURED = {"commas", "exclamations", "question marks", "long words", "speech", "length", "sentence length", "names"}

# Medians over the frozen pool, in the order of MANNERS.
MIDDLES = [0.33, 17.0, 5.11, 0.0, 0.0, 3.67, 10.0, -7.0, 51.0, 0.0, 1.02, 0.95, 0.08, 122.0, 8.12, 52.44, 11.29]

# How a user likes, and how often in a hundred.
SHAPES = {"theme": 34, "little of a theme": 6, "theme over theme": 10, "theme at the end": 8, "either theme": 6, "manner": 12,
          "little of a manner": 8, "middle of a manner": 6, "theme and manner": 10}


def rate(theme, place="seen"):
    return f'{place}.rate("{THEMES[theme]}")'


def user(draw):
    """Name, kind and trait."""
    shape = draw.choices(list(SHAPES), list(SHAPES.values()))[0]
    a, b = draw.sample(list(THEMES), 2)
    m = draw.choice(list(MANNERS))
    manner, middle = MANNERS[m], MIDDLES[list(MANNERS).index(m)]
    kind = "Featured" if m in FEATURED else "Unfeatured"
    shapes = {
        "theme": (a, "Unfeatured", rate(a)),
        "little of a theme": (f"little of {a}", "Unfeatured", "-" + rate(a)),
        "theme over theme": (f"{a} over {b}", "Unfeatured", f"{rate(a)} - {rate(b)}"),
        "theme at the end": (f"{a} at the end", "Unfeatured", rate(a, "seen.ending(60)")),
        "either theme": (f"{a} or {b}", "Unfeatured", f"f64::max({rate(a)}, {rate(b)})"),
        "manner": (m, kind, manner),
        "little of a manner": (f"little of {m}", kind, f"-({manner})"),
        "middle of a manner": (f"some {m}", "Unfeatured", f"-({manner} - {middle}).abs()"),
        "theme and manner": (f"{a} and {m}", "Unfeatured", f"f64::min({rate(a)} / 2.0, 1.0) + 0.5 * f64::from({manner} > {middle})"),
    }
    return shapes[shape]


def main():
    seed, count = int(sys.argv[1]), int(sys.argv[2])
    draw = random.Random(seed)
    found = {}
    while len(found) < count:
        name, kind, trait = user(draw)
        found.setdefault(name, (kind, trait))
    for at, (name, (kind, trait)) in enumerate(found.items()):
        slips = at == count - 1
        one = f'User::new("{name}{", 25% slips" if slips else ""}", Kind::{kind}, |seen| {trait})'
        print("    " + (f"User {{ slips: 0.25, ..{one} }}" if slips else one) + ",")


main()
