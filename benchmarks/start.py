"""From the start of a process to its first token: where the time goes.

    python benchmarks/start.py FOLDER [--variant V]... [--threads N] [--rounds N]

Every round is a process of its own; figures are medians in milliseconds. *Python* is the
interpreter's own start; then come its imports one by one, `load`, and the first token behind 32.
*Opening* is ONNX Runtime's part of `load`, by itself, and *laying out* what of it goes into weights
that are laid out anew for the kernels; *opening, laid out* is of files in which ONNX Runtime saved
them so, and *room* how many times as large those are. The table is Markdown.
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
OPENING = ("opening", "laying out", "opening, laid out")
CHILD = """
import json, os, sys, tempfile, time
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
def opened(graph, *settings, save=None):
    how = onnxruntime.SessionOptions()
    how.intra_op_num_threads, how.log_severity_level = int(threads), 3
    for setting in settings:
        how.add_session_config_entry(setting, "1")
    if save:
        how.optimized_model_filepath = save
        how.add_session_config_entry("session.save_external_prepacked_constant_initializers", "1")
        where = "session.optimized_model_external_initializers_file_name"
        how.add_session_config_entry(where, "saved.data")
    begun = time.time()
    onnxruntime.InferenceSession(graph, how, providers=["CPUExecutionProvider"])
    return time.time() - begun
whole = opened(graph)
laying = whole - opened(graph, "session.disable_prepacking")
with tempfile.TemporaryDirectory() as room:
    saved = os.path.join(room, "saved.onnx")
    opened(graph, save=saved)
    again = opened(saved)
    larger = os.path.getsize(os.path.join(room, "saved.data")) / os.path.getsize(graph + "_data")
print(json.dumps({"times": times, "opening": [whole, laying, again], "larger": larger}))
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
        **dict(zip(OPENING, found["opening"], strict=True)),
        "room": found["larger"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--variant", action="append", help="q8, int8 and q4 by default")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    names = [*STEPS, *OPENING]
    print("| variant | " + " | ".join([*names, "room"]) + " |\n|---|" + "---|" * (len(names) + 1))
    for variant in given.variant or ["q8", "int8", "q4"]:
        once(given.folder, variant, given.threads)  # reads the files
        found = [once(given.folder, variant, given.threads) for _ in range(given.rounds)]
        cells = [f"{1e3 * statistics.median(one[name] for one in found):.0f}" for name in names]
        print(
            f"| {variant} | " + " | ".join([*cells, f"{found[0]['room']:.1f}"]) + " |", flush=True
        )


if __name__ == "__main__":
    main()
