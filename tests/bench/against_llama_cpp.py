"""Speed of writing and reading, ours and llama.cpp's, measured in turns on the same files; one table of ratios.

usage: against_llama_cpp.py INKLING [--shapes story,smollm2-135m] [--formats Q8_0,Q4_0] [--sequences 1,8] [--turns 3]
The first time, llama-cpp-python is built into a virtual environment under target/bench (about ten minutes, needs the network
and a C++ compiler). INKLING_ISA chooses our instructions.
"""
import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import venv

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parents[1]
ENVIRONMENT = ROOT / "target" / "bench" / "venv"
FILES = ROOT / "target" / "bench" / "models"

parser = argparse.ArgumentParser()
parser.add_argument("inkling")
parser.add_argument("--shapes", default="story,smollm2-135m")
parser.add_argument("--formats", default="Q8_0,Q4_0,Q4_K")
parser.add_argument("--sequences", default="1,8")
parser.add_argument("--python", help="a Python that has llama_cpp and gguf already")
for name, default in [("threads", 2), ("prompt", 256), ("generate", 64), ("turns", 3)]:
    parser.add_argument(f"--{name}", type=int, default=default)
options = parser.parse_args()


def python():
    if options.python:
        return options.python
    found = ENVIRONMENT / "bin" / "python"
    has_all = [str(found), "-c", "import llama_cpp, gguf"]
    if not found.exists() or subprocess.run(has_all, capture_output=True).returncode != 0:
        print("Building llama-cpp-python into target/bench/venv …", file=sys.stderr)
        venv.create(ENVIRONMENT, with_pip=True)
        packages = ["llama-cpp-python", "gguf", "numpy"]
        subprocess.run([found, "-m", "pip", "install", "--quiet", *packages], check=True)
    return str(found)


def measured(command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, command))} failed:\n{done.stdout}{done.stderr}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def row(shape, format, sequences, interpreter):
    FILES.mkdir(parents=True, exist_ok=True)
    file = FILES / f"{shape}-{format}.gguf"
    if not file.exists():
        subprocess.run([interpreter, HERE / "random_gguf.py", shape, format, file], check=True)
    sizes = ["--threads", options.threads, "--prompt", options.prompt, "--generate", options.generate, "--sequences", sequences]
    sizes = [str(size) for size in sizes]
    ours, theirs = [], []
    for _ in range(options.turns):
        ours.append(measured([options.inkling, "bench", "decode", "--model", file, "--rounds", "1", "--json", *sizes]))
        theirs.append(measured([interpreter, HERE / "llama_speed.py", file, "--rounds", "1", *sizes]))
    cells = [shape, format, str(sequences), ours[0]["isa"]]
    for key in ["prefill_tokens_per_s", "decode_tokens_per_s"]:
        mine, other = (statistics.median(one[key] for one in all) for all in (ours, theirs))
        cells += [f"{mine:.0f}", f"{other:.0f}", f"{mine / other:.2f}"]
    return cells, theirs[0]["version"]


interpreter = python()
head = ["shape", "format", "sequences", "ours on", "reads/s", "llama.cpp", "ratio", "writes/s", "llama.cpp", "ratio"]
print("| " + " | ".join(head) + " |")
print("|" + "---|" * len(head))
version = None
for shape in options.shapes.split(","):
    for format in options.formats.split(","):
        for sequences in options.sequences.split(","):
            cells, version = row(shape, format, sequences, interpreter)
            print("| " + " | ".join(cells) + " |", flush=True)
print(f"\nllama-cpp-python {version}; medians of {options.turns} turns, {options.threads} threads, prompt {options.prompt}.")
