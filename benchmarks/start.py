"""From the start of a process to its first token: where the time goes.

    python benchmarks/start.py FOLDER [--variant V]... [--threads N] [--rounds N]

Every round is a process of its own; figures are medians in milliseconds. *Python* is the
interpreter's own start; then come its imports one by one, `load`, and the first token behind 32.
*Opening* is ONNX Runtime's part of `load`, by itself, and *laying out* what of it goes into weights
that are laid out anew for the kernels. The table is Markdown.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

STEPS = ("Python", "numpy", "onnxruntime", "pocketgpt", "load", "first token")
CHILD = """
import json, sys, time
folder, variant, threads, graph, begun = *sys.argv[1:5], float(sys.argv[5])
times = [time.time() - begun]
def step():
    times.append(time.time() - begun)
import numpy; step()
import onnxruntime; step()
import pocketgpt; step()
model = pocketgpt.load(folder, variant, threads=int(threads)); step()
session = model.session()
session.append([*range(32)])
session.generate(max_new_tokens=1, eos_token_id=[]); step()
def opened(*options):
    how = onnxruntime.SessionOptions()
    how.intra_op_num_threads, how.log_severity_level = int(threads), 3
    for option in options:
        how.add_session_config_entry(option, "1")
    begun = time.time()
    onnxruntime.InferenceSession(graph, how, providers=["CPUExecutionProvider"])
    return time.time() - begun
whole = opened()
laid = whole - opened("session.disable_prepacking")
print(json.dumps({"times": times, "whole": whole, "laid": laid}))
"""


def once(folder: Path, variant: str, threads: int) -> dict[str, float]:
    """Return the seconds of each part, in a new process."""
    manifest = json.loads((folder / "pocketgpt.json").read_text("utf-8"))
    files = [file["path"] for file in manifest["variants"][variant]["files"]]
    graph = next(folder / path for path in files if path.endswith(".onnx"))
    words = [folder, variant, threads, graph, time.time()]
    done = subprocess.run(
        [sys.executable, "-c", CHILD, *map(str, words)], stdout=subprocess.PIPE, check=True
    )
    found = json.loads(done.stdout)
    times = [0.0, *found["times"]]
    parts = (after - before for before, after in pairwise(times))
    return {
        **dict(zip(STEPS, parts, strict=True)),
        "opening": found["whole"],
        "laying out": found["laid"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--variant", action="append", help="q8, int8 and q4 by default")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    names = [*STEPS, "opening", "laying out"]
    print("| variant | " + " | ".join(names) + " |\n|---|" + "---|" * len(names))
    for variant in given.variant or ["q8", "int8", "q4"]:
        once(given.folder, variant, given.threads)  # reads the files
        found = [once(given.folder, variant, given.threads) for _ in range(given.rounds)]
        cells = (f"{1e3 * statistics.median(one[name] for one in found):.0f}" for name in names)
        print(f"| {variant} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
