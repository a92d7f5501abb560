"""Speed of writing and reading, ours and llama.cpp's, measured in turns on the same files; one table of ratios.

usage: against_llama_cpp.py INKLING [--shapes story,smollm2-135m] [--formats Q8_0,Q4_0] [--sequences 1,8] [--best-of 8]
The last row of each is a best of n: we write all candidates at once, llama.cpp one by one from its kept prompt.
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
parser.add_argument("--sequences", default="1,4,8")
parser.add_argument("--python", help="a Python that has llama_cpp and gguf already")
for name, default in [("threads", 2), ("prompt", 256), ("read", 512), ("generate", 64), ("best-of", 8), ("turns", 3)]:
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


def file_of(shape, format):
    FILES.mkdir(parents=True, exist_ok=True)
    file = FILES / f"{shape}-{format}.gguf"
    if not file.exists():
        subprocess.run([interpreter, HERE / "random_gguf.py", shape, format, file], check=True)
    return file


def in_turns(file, prompt, sequences, *theirs_only):
    """Runs of both, taking turns, so that a machine that slows down slows both."""
    sizes = ["--threads", options.threads, "--prompt", prompt, "--generate", options.generate, "--sequences", sequences]
    sizes = ["--rounds", "1", *(str(size) for size in sizes)]
    ours, theirs = [], []
    for _ in range(options.turns):
        ours.append(measured([options.inkling, "bench", "decode", "--model", file, "--json", *sizes]))
        theirs.append(measured([interpreter, HERE / "llama_speed.py", file, *sizes, *theirs_only]))
    return ours, theirs


def cells(ours, theirs, number, digits=0):
    mine, other = (statistics.median(number(one) for one in all) for all in (ours, theirs))
    return [f"{mine:.{digits}f}", f"{other:.{digits}f}", f"{mine / other:.2f}"]


def seconds(sequences):
    """For reading the prompt and writing all sequences."""
    return lambda run: options.prompt / run["prefill_tokens_per_s"] + sequences * options.generate / run["decode_tokens_per_s"]


def rows(shape, format):
    """What is measured, and both engines' figures for it."""
    file = file_of(shape, format)
    for sequences in options.sequences.split(","):
        ours, theirs = in_turns(file, options.prompt, int(sequences))
        notes.update(version=theirs[0]["version"], isa=ours[0]["isa"])
        yield f"writes, {sequences} at once, tokens/s", cells(ours, theirs, lambda run: run["decode_tokens_per_s"])
    ours, theirs = in_turns(file, options.read, 1)
    yield f"reads {options.read}, tokens/s", cells(ours, theirs, lambda run: run["prefill_tokens_per_s"])
    yield "loads, s", cells(ours, theirs, lambda run: run["load_s"], 2)
    yield "peak memory, MB", cells(ours, theirs, lambda run: run["peak_memory_mb"])
    if options.best_of > 1:
        ours, theirs = in_turns(file, options.prompt, options.best_of, "--one-by-one")
        (mine, other, _), best_of = cells(ours, theirs, seconds(options.best_of), 2), options.best_of
        yield f"best of {best_of} from {options.prompt}, {options.generate} each, s", [mine, other, f"{float(other) / float(mine):.2f}"]


interpreter = python()
notes = {}
print("| shape | format | what | Inkling | llama.cpp | ratio |\n|" + "---|" * 6)
for shape in options.shapes.split(","):
    for format in options.formats.split(","):
        for what, found in rows(shape, format):
            print("| " + " | ".join([shape, format, what, *found]) + " |", flush=True)
print(
    f"\nInkling on {notes['isa']}; llama-cpp-python {notes['version']} as built on this machine. Medians of {options.turns} turns,"
    f" {options.threads} threads, prompts of {options.prompt} tokens. Ratios above 1 are in Inkling's favour, but for memory and loading."
)
