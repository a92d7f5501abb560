"""A step of training beside PyTorch + PEFT: both programs in turn, the fastest step of each, one table of ratios.

    cargo build --release -p inkling-cli
    python tests/bench/train.py [--rounds 2] [--steps 3] [--only "LoRA b 1;DoRA b 1"]

Needs torch, transformers, peft and tokenizers in the Python that runs it. Weights are random: for speed they do not matter. With
--parity PEFT also dumps weights, adapter and gradient, and ours are compared with them. "Uneven" batches are eight stories each,
drawn from the folder of stories and cut into tokens by the built-in base; PEFT pads them to the longest, as its collator does.
Steps of KTO are those of later epochs: ours has then asked the base about every text, TRL's default asks again at each step.
"""
import argparse
import json
import pathlib
import random
import re
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
LORA, T5, LOOPS = "bench_peft_lora_llama.py", "bench_peft_soft_prompt_t5.py", "peft_step.py"
SOFT = ["--recipe", "soft-prompt", "--shape", "flan-t5-small", "--rows-at-once", "4096"]


def rows(uneven):
    batches = [("--lengths", ",".join(map(str, batch))) for batch in uneven]
    yield "LoRA b 1", 2.0, [["--batch", "1"]], LORA, [["--batch", "1"]]
    yield "LoRA b 4", 2.3, [["--batch", "4", "--rows-at-once", "1024"]], LORA, [["--batch", "4"]]
    bf16 = ["--quantization", "bf16"]
    yield "LoRA b 1 in bf16, PEFT f32", 2.0, [["--batch", "1", *bf16]], LORA, [["--batch", "1"]]
    yield "LoRA b 4 in bf16, PEFT f32", 2.3, [["--batch", "4", "--rows-at-once", "1024", *bf16]], LORA, [["--batch", "4"]]
    yield "LoRA b 1, both in bf16", 1.0, [["--batch", "1", *bf16]], LORA, [["--batch", "1", "--bf16"]]
    yield "LoRA b 4, both in bf16", 1.0, [["--batch", "4", "--rows-at-once", "1024", *bf16]], LORA, [["--batch", "4", "--bf16"]]
    yield "LoRA b 1 on int8, PEFT f32", 1.5, [["--batch", "1", "--quantization", "int8"]], LORA, [["--batch", "1"]]
    yield "LoRA b 1 on int4, PEFT f32", 1.5, [["--batch", "1", "--quantization", "int4"]], LORA, [["--batch", "1"]]
    yield "DoRA b 1", 1.5, [["--recipe", "dora", "--batch", "1"]], LORA, [["--batch", "1", "--dora"]]
    yield "DPO, 1 pair", 1.5, [["--objective", "dpo", "--batch", "1"]], LOOPS, [["--objective", "dpo", "--batch", "1"]]
    yield "KTO, 2 texts", 1.5, [["--objective", "kto", "--batch", "2"]], LOOPS, [["--objective", "kto", "--batch", "2"]]
    kto = ["--objective", "kto", "--batch", "2"]
    yield "KTO, 2 texts, reference precomputed", 1.5, [kto], LOOPS, [[*kto, "--precomputed"]]
    yield "soft prompt, T5 b 8", 1.5, [[*SOFT, "--lengths", "128,125,122,119,116,113,110,107"]], T5, [["--batch", "8"]]
    yield "soft prompt, T5 b 1", 1.3, [[*SOFT, "--lengths", "128"]], T5, [["--batch", "1"]]
    bf16_t5 = [[*SOFT, "--lengths", "128,125,122,119,116,113,110,107", *bf16]]
    yield "soft prompt, T5 b 8 in bf16, PEFT f32", 1.5, bf16_t5, T5, [["--batch", "8"]]
    yield "soft prompt, T5 b 1 in bf16, PEFT f32", 1.3, [[*SOFT, "--lengths", "128", *bf16]], T5, [["--batch", "1"]]
    padded = [["--t5", *batch] for batch in batches]
    yield "soft prompt, T5 uneven b 8", 3.0, [[*SOFT, *batch] for batch in batches], LOOPS, padded
    yield "soft prompt, T5 uneven b 8 in bf16, PEFT f32", 3.0, [[*SOFT, *batch, *bf16] for batch in batches], LOOPS, padded
    yield "LoRA, uneven b 8", 3.0, [[*batch, "--rows-at-once", "2048"] for batch in batches], LOOPS, [list(batch) for batch in batches]
    ours = [[*batch, "--rows-at-once", "2048", *bf16] for batch in batches]
    yield "LoRA, uneven b 8 in bf16, PEFT f32", 3.0, ours, LOOPS, [list(batch) for batch in batches]


def ours(inkling, options, steps):
    command = [*inkling, "--threads", "2", "--steps", str(steps), "--json", *options]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
    return found["min_step_s"], found["peak_memory_mb"], found


def theirs(shared, script, options, steps):
    path = HERE / script if script == LOOPS else shared / script
    command = [sys.executable, path, "--threads", "2", "--steps", str(steps), "--warmup", "1", *options]
    line = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1]
    found = {name: float(re.search(name + r"=([0-9.]+)", line).group(1)) for name in ["min", "peak_rss_MB"]}
    return found["min"], found["peak_rss_MB"]


def stories(folder, tokenizer, batches):
    from tokenizers import Tokenizer
    tokenizer = Tokenizer.from_file(str(tokenizer))
    texts = [json.loads(line)["story"] for path in sorted(folder.rglob("part-01.jsonl")) for line in path.open()]
    chosen = random.Random(0).sample(texts, 8 * batches)
    lengths = [len(tokenizer.encode(text).ids) for text in chosen]
    return [lengths[start:start + 8] for start in range(0, len(lengths), 8)]


def parity(inkling, shared):
    with tempfile.TemporaryDirectory() as folder:
        theirs(shared, LORA, ["--batch", "1", "--dump", folder], 1)
        reference = ["--weights", folder, "--reference", str(pathlib.Path(folder) / "ref_b1.safetensors")]
        for name, options in [("f32", []), ("bf16", ["--quantization", "bf16"])]:
            found = ours(inkling, [*reference, *options], 1)[2]
            print(f"beside PEFT f32, LoRA b 1 in {name}: the loss differs by {found['loss_error']:.1e}, "
                  f"the gradient by {found['gradient_error']:.1e}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--inkling", default=f"{ROOT}/target/release/inkling bench train", help="the program and its first words")
    parser.add_argument("--shared", type=pathlib.Path, default=ROOT.parent / "shared", help="folder of the baselines and stories")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--uneven-batches", type=int, default=2)
    parser.add_argument("--only", default="", help="names of rows, with semicolons between")
    parser.add_argument("--parity", action="store_true")
    arguments = parser.parse_args()
    inkling, baselines = arguments.inkling.split(), arguments.shared / "bench"
    only = [name.strip() for name in arguments.only.split(";") if name.strip()]
    uneven = stories(arguments.shared / "stories", ROOT / "assets/models/story/tokenizer.json", arguments.uneven_batches)
    print(f"{'a step (LoRA r 16, 135M shape, seq 256)':44} {'PEFT s':>8} {'ours s':>8} {'ratio':>6} {'target':>6}"
          f" {'PEFT MB':>8} {'ours MB':>8} {'share':>6}")
    for name, target, mine, script, other in rows(uneven):
        if only and name not in only:
            continue
        best = [[float("inf")] * len(mine), [float("inf")] * len(mine)]
        memory = [0.0, 0.0]
        for _ in range(arguments.rounds):
            for index, (our_options, their_options) in enumerate(zip(mine, other)):
                for side, (seconds, megabytes) in enumerate([
                    theirs(baselines, script, their_options, arguments.steps),
                    ours(inkling, our_options, arguments.steps)[:2],
                ]):
                    best[side][index] = min(best[side][index], seconds)
                    memory[side] = max(memory[side], megabytes)
        their_time, our_time = map(sum, best)
        print(f"{name:44} {their_time:8.3f} {our_time:8.3f} {their_time / our_time:6.2f} {target:6.1f}"
              f" {memory[0]:8.0f} {memory[1]:8.0f} {memory[1] / memory[0]:6.2f}", flush=True)
    if arguments.parity:
        parity(inkling, baselines)


main()
