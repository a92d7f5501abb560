"""Writes gguf_blocks.bin: random blocks of every format and what the package makes of them.

Made with gguf 0.19.0 and numpy 2 (PyPI). For each format in the order of FORMATS: the bytes of 2 rows of 512 columns, then
their 1,024 numbers as f32, all little-endian.
"""
import pathlib

import gguf
import numpy as np
from gguf import GGMLQuantizationType as T
from gguf.quants import dequantize

# Byte offsets of the f16 numbers in a block, which must be finite.
FORMATS = {
    T.F32: None,
    T.F16: None,
    T.BF16: None,
    T.Q4_0: [0],
    T.Q4_1: [0, 2],
    T.Q5_0: [0],
    T.Q5_1: [0, 2],
    T.Q8_0: [0],
    T.Q4_K: [0, 2],
    T.Q5_K: [0, 2],
    T.Q6_K: [208],
}
COLUMNS, ROWS = 512, 2
random = np.random.default_rng(7)

with open(pathlib.Path(__file__).parent / "gguf_blocks.bin", "wb") as out:
    for kind, halves in FORMATS.items():
        per_block, size = gguf.GGML_QUANT_SIZES[kind]
        if halves is None:
            numbers = random.standard_normal((ROWS, COLUMNS)).astype(np.float32)
            blocks = gguf.quantize(numbers, kind).view(np.uint8).reshape(ROWS, -1)
        else:
            blocks = random.integers(0, 256, (ROWS * COLUMNS // per_block, size), dtype=np.uint8)
            for at in halves:
                scales = (random.standard_normal(len(blocks)) / 16).astype(np.float16)
                blocks[:, at : at + 2] = scales.view(np.uint8).reshape(-1, 2)
            blocks = blocks.reshape(ROWS, -1)
        plain = blocks.view({T.F32: np.float32, T.F16: np.float16}.get(kind, np.uint8))
        out.write(blocks.tobytes())
        out.write(dequantize(plain, kind).astype("<f4").tobytes())
