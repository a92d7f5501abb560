"""Reads exported training data as TRL does. usage: read_exports.py FOLDER

Loads sft.jsonl, kto.jsonl and dpo.jsonl with `datasets`, and asks TRL's own functions which format each row has.
Written with datasets 4 and trl 0.2x/1.x; prints one line a file and ends with 1 when one is not what TRL expects.
"""
import os, sys

os.environ["HF_HUB_OFFLINE"] = "1"
import datasets, trl
from datasets import load_dataset
from trl.data_utils import is_conversational

wanted = {"sft": {"prompt", "completion"}, "kto": {"prompt", "completion", "label"}, "dpo": {"prompt", "chosen", "rejected"}}
wrong = []
for kind, columns in wanted.items():
    path = os.path.join(sys.argv[1], f"{kind}.jsonl")
    rows = load_dataset("json", data_files=path, split="train", cache_dir=os.path.join(sys.argv[1], "cache"))
    ok = set(rows.column_names) == columns and not is_conversational(rows[0]) and all(isinstance(rows[0][name], str) for name in columns - {"label"})
    if kind == "kto":
        ok = ok and isinstance(rows[0]["label"], bool)
    print(f"{kind}: {len(rows)} rows, {sorted(rows.column_names)}, {'read' if ok else 'NOT as TRL wants it'}")
    wrong += [] if ok else [kind]
print(f"datasets {datasets.__version__}, trl {trl.__version__}")
sys.exit(1 if wrong else 0)
