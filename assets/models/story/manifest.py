"""Writes model.json: the size and SHA-256 of each file of this model, which the loader checks. Run it after any change."""

import hashlib
import json
import pathlib

FILES = ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json"]

here = pathlib.Path(__file__).parent
files = {name: {"sha256": hashlib.sha256((here / name).read_bytes()).hexdigest(), "bytes": (here / name).stat().st_size} for name in FILES}
manifest = {"name": "story", "license": "Apache-2.0", "files": files}
(here / "model.json").write_text(json.dumps(manifest, indent=2) + "\n")
