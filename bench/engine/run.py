#!/usr/bin/env python3
"""Compares the engine with llama.cpp on the same Q8_0 file, in the same run, on one thread.

    bench/engine/run.py MODEL.gguf [--rounds 5] [--libraries DIR] [--out RESULT.json] [--golden FILE]

The model is requantised to Q8_0 by llama.cpp itself (llama_model_quantize) and both engines get that file.
Rounds are interleaved: llama.cpp, then the engine, and again, because a shared machine changes from minute to
minute; the ratio of each round is taken, then the median. Figures are tokens per CPU-second of the thread.
Then the logits of 320 positions of a passage are compared; a mean difference above 0.25 fails the run.

llama.cpp comes as prebuilt libraries from the npm package @node-llama-cpp/linux-x64 (its CPU variants
choose themselves at run time), fetched with the user's own npm unless --libraries names a directory that has
them. --golden writes the reference that the test `close_to_llama_cpp` reads. Needs gcc, npm and cargo.
"""

import argparse
import array
import json
import os
import platform
import re
import statistics
import struct
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

PACKAGE = "@node-llama-cpp/linux-x64@3.22.1"
HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
TESTDATA = ROOT / "crates/bourse-engine/testdata"
FIGURES = ["prompt_512", "decode_1", "decode_8", "decode_32"]
TARGETS = {"prompt_512": 0.8, "decode_1": 1.2, "decode_8": 2.4}
MEAN_DIFFERENCE_MAX = 0.25
RSS_FACTOR_MAX = 1.3
# Logits kept for each position of the golden file: the largest, and some spread over the vocabulary.
GOLDEN_TOP, GOLDEN_SPREAD = 32, 32


def call(*arguments, **options):
    return subprocess.run([str(argument) for argument in arguments], check=True, **options)


def read(*arguments):
    return call(*arguments, stdout=subprocess.PIPE, text=True).stdout


def fetch_libraries(work):
    name = read("npm", "pack", "--silent", "--pack-destination", work, PACKAGE).split()[-1]
    with tarfile.open(work / name) as package:
        package.extractall(work, filter="data")
    return work / "package/bins/linux-x64"


def build_driver(libraries, work):
    wanted = [next(libraries.glob(pattern)) for pattern in ("libllama.v*.so", "libggml.v*.so")]
    driver = work / "llama_bench"
    call("gcc", "-O2", "-Wall", HERE / "llama_bench.c", "-o", driver, *wanted,
         f"-Wl,-rpath,{libraries}", "-Wl,--allow-shlib-undefined")
    return [str(driver), str(libraries)]


def build_engine():
    call("cargo", "build", "--release", "--quiet", "-p", "bourse-engine", "--examples", cwd=ROOT)
    target = json.loads(read("cargo", "metadata", "--format-version", "1", "--no-deps",
                             "--manifest-path", ROOT / "Cargo.toml"))["target_directory"]
    return Path(target) / "release/examples"


def floats(path):
    numbers = array.array("f")
    numbers.frombytes(path.read_bytes())
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers


def compare_logits(driver, examples, model, work):
    ids = TESTDATA / "tokens.txt"
    theirs, ours = work / "theirs.bin", work / "ours.bin"
    call(*driver, "logits", model, ids, theirs)
    call(examples / "engine_logits", model, ids, ours)
    theirs, ours = floats(theirs), floats(ours)
    positions = len(ids.read_text().split())
    vocabulary = len(theirs) // positions
    if len(ours) != len(theirs):
        sys.exit("the engines have vocabularies of different sizes")
    total, largest, flips = 0.0, 0.0, 0
    for position in range(positions):
        row = slice(position * vocabulary, (position + 1) * vocabulary)
        a, b = theirs[row], ours[row]
        differences = [abs(x - y) for x, y in zip(a, b)]
        total += sum(differences)
        largest = max(largest, max(differences))
        flips += a.index(max(a)) != b.index(max(b))
    summary = {"positions": positions, "mean": total / len(ours), "max": largest, "argmax_flips": flips}
    return summary, theirs, vocabulary


def write_golden(path, logits, vocabulary):
    """For each position: (token, logit) pairs, the largest logits and some spread ones."""
    out = bytearray()
    for position in range(len(logits) // vocabulary):
        row = logits[position * vocabulary:(position + 1) * vocabulary]
        tokens = sorted(range(vocabulary), key=lambda token: -row[token])[:GOLDEN_TOP]
        tokens += [(position * 977 + k * 1531) % vocabulary for k in range(GOLDEN_SPREAD)]
        for token in tokens:
            out += struct.pack("<If", token, row[token])
    Path(path).write_bytes(out)


def machine():
    text = Path("/proc/cpuinfo").read_text()
    found = re.search(r"model name\s*: (.*)", text)
    flags = [flag for flag in ("avx2", "avx512_vnni") if re.search(rf"\b{flag}\b", text)]
    return {"cpu": found.group(1) if found else platform.processor(), "cores": os.cpu_count(), "flags": flags,
            "load_average": os.getloadavg(), "python": platform.python_version()}


def measure(driver, examples, model, rounds):
    results = []
    for number in range(rounds):
        pair = {"llama.cpp": json.loads(read(*driver, "bench", model)),
                "bourse": json.loads(read(examples / "engine_bench", model))}
        pair["ratio"] = {figure: pair["bourse"][figure] / pair["llama.cpp"][figure] for figure in FIGURES}
        results.append(pair)
        shown = "  ".join(f"{figure} {pair['ratio'][figure]:.2f}x" for figure in FIGURES)
        print(f"round {number + 1} of {rounds}: {shown}", file=sys.stderr)
    return results


def table(results):
    median = lambda pick: statistics.median(pick(result) for result in results)
    rows = []
    print(f"{'tokens per CPU-second':24}{'llama.cpp':>12}{'bourse':>12}{'ratio':>9}{'target':>9}")
    for figure in FIGURES:
        row = {"figure": figure, "target": TARGETS.get(figure),
               "ratio": median(lambda result: result["ratio"][figure])}
        row |= {engine: median(lambda result: result[engine][figure]) for engine in ("llama.cpp", "bourse")}
        rows.append(row)
        target = f"{row['target']:8.1f}x" if row["target"] else " " * 9
        print(f"{figure:24}{row['llama.cpp']:12.1f}{row['bourse']:12.1f}{row['ratio']:8.2f}x{target}")
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--libraries", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--golden", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        work = Path(directory)
        libraries = options.libraries.resolve() if options.libraries else fetch_libraries(work)
        driver, examples = build_driver(libraries, work), build_engine()
        model = work / "model-q8_0.gguf"
        call(*driver, "quantize", options.model, model)
        difference, logits, vocabulary = compare_logits(driver, examples, model, work)
        if options.golden:
            write_golden(options.golden, logits, vocabulary)
        results = measure(driver, examples, model, options.rounds)
    rows = table(results)
    ours = results[0]["bourse"]
    needed = ours["weight_bytes"] + ours["kv_bytes"]
    rss = {"peak_bytes": ours["peak_rss_bytes"], "weights_and_kv_bytes": needed, "factor": ours["peak_rss_bytes"] / needed}
    print(f"memory: peak {rss['peak_bytes'] / 1e6:.0f} MB, {rss['factor']:.2f}x of weights and KV (at most {RSS_FACTOR_MAX})")
    print(f"logits against llama.cpp over {difference['positions']} positions: mean {difference['mean']:.3f} "
          f"(at most {MEAN_DIFFERENCE_MAX}), max {difference['max']:.3f}, {difference['argmax_flips']} argmax flips")
    met = {row["figure"]: row["ratio"] >= row["target"] for row in rows if row["target"]}
    met |= {"memory": rss["factor"] <= RSS_FACTOR_MAX, "logits": difference["mean"] <= MEAN_DIFFERENCE_MAX}
    report = {"machine": machine(), "llama_cpp": PACKAGE, "rounds": results, "median": rows, "memory": rss,
              "logits": difference, "met": met}
    if options.out:
        options.out.write_text(json.dumps(report, indent=1) + "\n")
    if not met["logits"]:
        sys.exit("the logits are too far from llama.cpp's")


if __name__ == "__main__":
    main()
