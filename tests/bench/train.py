"""A step of training beside PyTorch + PEFT: both programs in turn, the fastest step of each, one table of ratios.

    cargo build --release -p inkling-cli
    python tests/bench/train.py --peft-script ../shared/bench/bench_peft_lora_llama.py [--rounds 3] [--steps 3] [--only "LoRA b 1"]

Needs torch, transformers and peft in the Python that runs it. Weights are random: for speed they do not matter. The first row
also has PEFT dump weights, adapter and gradient, and compares ours with them.
"""
import argparse
import json
import pathlib
import re
import subprocess
import sys
import tempfile

ROWS = [  # name, options of `inkling bench train`, options of the PEFT script
    ("LoRA b 1", ["--batch", "1"], ["--batch", "1"]),
    ("LoRA b 4", ["--batch", "4"], ["--batch", "4"]),
    ("LoRA b 1, PEFT on a bf16 base", ["--batch", "1"], ["--batch", "1", "--bf16"]),
    ("LoRA b 4, PEFT on a bf16 base", ["--batch", "4"], ["--batch", "4", "--bf16"]),
    ("DoRA b 1", ["--recipe", "dora", "--batch", "1"], ["--batch", "1", "--dora"]),
    ("QLoRA int8 b 1, PEFT f32", ["--batch", "1", "--quantization", "int8"], ["--batch", "1"]),
    # PEFT pads to the longest text; lengths of eight stories of the corpus.
    ("LoRA, uneven b 8", ["--lengths", "61,74,98,117,136,170,211,384"], ["--batch", "8", "--seq", "384"]),
]


def ours(inkling, options, steps):
    command = [inkling, "bench", "train", "--shape", "smollm2-135m", "--threads", "2", "--steps", str(steps), "--json", *options]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def theirs(script, options, steps):
    command = [sys.executable, script, "--threads", "2", "--steps", str(steps), "--warmup", "1", *options]
    line = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1]
    found = {name: float(re.search(name + r"=([0-9.]+)", line).group(1)) for name in ["min", "peak_rss_MB"]}
    return found["min"], found["peak_rss_MB"]


def parity(arguments):
    with tempfile.TemporaryDirectory() as folder:
        theirs(arguments.peft_script, ["--batch", "1", "--dump", folder], 1)
        found = ours(arguments.inkling, ["--weights", folder, "--reference", str(pathlib.Path(folder) / "ref_b1.safetensors")], 1)
        print(f"beside PEFT, LoRA b 1: the loss differs by {found['loss_error']:.1e}, the gradient by {found['gradient_error']:.1e}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--inkling", default="target/release/inkling")
    parser.add_argument("--peft-script", required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--only", default="")
    arguments = parser.parse_args()
    print(f"{'a step on SmolLM2-135M shape, seq 256':40} {'PEFT s':>8} {'ours s':>8} {'ratio':>6} {'PEFT MB':>8} {'ours MB':>8} {'share':>6}")
    for name, mine, other in ROWS:
        if arguments.only not in name:
            continue
        fastest, memory = [float("inf")] * 2, [0.0] * 2
        for _ in range(arguments.rounds):
            seconds, megabytes = theirs(arguments.peft_script, other, arguments.steps)
            result = ours(arguments.inkling, mine, arguments.steps)
            fastest = [min(fastest[0], seconds), min(fastest[1], result["min_step_s"])]
            memory = [max(memory[0], megabytes), max(memory[1], result["peak_memory_mb"])]
        ratio, share = fastest[0] / fastest[1], memory[1] / memory[0]
        print(f"{name:40} {fastest[0]:8.3f} {fastest[1]:8.3f} {ratio:6.2f} {memory[0]:8.0f} {memory[1]:8.0f} {share:6.2f}", flush=True)
    parity(arguments)


main()
