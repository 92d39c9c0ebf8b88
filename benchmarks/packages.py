"""What a model in one file takes longer to load than its folder, and how much memory it takes.

    python benchmarks/packages.py FOLDER [--variant V]... [--rounds N] [--threads N]

Each figure is of a process of its own that has imported everything; folder and package take turns,
and medians count. "anonymous" is what loading added to the memory that belongs to no file; "peak"
the most that was resident after ten tokens. "by buffers" opens the same graph by ONNX Runtime
alone, with weights that Python has mapped and handed over (`use_external_initializer_file_buffers_
directly`), and "by path" as it lies in the folder. The tables are Markdown. Linux.
"""

from __future__ import annotations

import argparse
import json
import mmap
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from machine import peak_memory

import pocketgpt

PROMPT, TOKENS = "Once upon a time", 10
DIRECTLY = "session.use_external_initializer_file_buffers_directly"

Figures = dict[str, float]


def anonymous() -> int:
    """Return the bytes of this process's memory that belong to no file."""
    for line in Path("/proc/self/smaps_rollup").read_text("ascii").splitlines():
        if line.startswith("Anonymous:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("this system does not count anonymous memory")


def load_once(path: Path, variant: str, threads: int | None, low: bool) -> Figures:
    """Load a model as an app does."""
    before, begin = anonymous(), time.perf_counter()
    model = pocketgpt.load(path, variant, threads=threads, low_memory=low)
    seconds, added = time.perf_counter() - begin, anonymous() - before
    model.generate(PROMPT, max_new_tokens=TOKENS, eos_token_id=[])
    return {"seconds": seconds, "anonymous": added, "peak": peak_memory() or 0}


def open_once(graph: Path, weights: Path, threads: int | None, buffers: bool) -> Figures:
    """Open a graph by ONNX Runtime alone."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads or 0
    before, begin = anonymous(), time.perf_counter()
    if buffers:
        with weights.open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        options.add_external_initializers_from_files_in_memory(
            [weights.name], [mapped], [len(mapped)]
        )
        options.add_session_config_entry(DIRECTLY, "1")
        session = ort.InferenceSession(graph.read_bytes(), options)
    else:
        session = ort.InferenceSession(graph, options)
    seconds = time.perf_counter() - begin
    assert session.get_inputs()
    return {"seconds": seconds, "anonymous": anonymous() - before, "peak": peak_memory() or 0}


def in_turn(ways: dict[str, dict[str, Any]], rounds: int) -> dict[str, Figures]:
    """Measure every way in processes of their own, in turn; return each one's medians."""
    found: dict[str, list[Figures]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, arguments in ways.items():
            command = [sys.executable, __file__, "--once", json.dumps(arguments)]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            found[way].append(json.loads(done.stdout))
    return {
        way: {name: statistics.median(one[name] for one in every) for name in every[0]}
        for way, every in found.items()
    }


def row(name: str, one: Figures, other: Figures) -> str:
    """Return how a package, the second, compares with the folder."""
    cells = [
        f"{one['seconds'] * 1e3:.0f} ms",
        f"{other['seconds'] / one['seconds']:.2f}",
        *(f"{figures['anonymous'] / 1e6:.1f} MB" for figures in (one, other)),
        f"{other['peak'] / one['peak']:.2f}",
    ]
    return f"| {name} | {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--variant", action="append", help="all of the folder's by default")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, help="the physical cores by default")
    parser.add_argument("--once", type=json.loads, help="what a process of its own does")
    arguments = parser.parse_args()
    if arguments.once:
        paths = {name: Path(value) for name, value in arguments.once.pop("paths").items()}
        does: Callable[..., Figures] = open_once if "graph" in paths else load_once
        print(json.dumps(does(**paths, **arguments.once)))
        return
    folder, threads = arguments.folder, arguments.threads
    if folder is None:
        parser.error("which model folder?")
    variants = pocketgpt.load(folder).manifest.variants
    opened: dict[str, dict[str, Figures]] = {}
    print("| variant | folder loads in | one file, times | anonymous | one file | peak, times |")
    print("|---|---:|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        for name in arguments.variant or variants:
            one = Path(scratch) / f"{name}.pocketgpt"
            pocketgpt.package(folder, one, [name])
            for low in (False, True):
                ways = {
                    str(path): {"paths": {"path": str(path)}, "variant": name, "threads": threads}
                    | {"low": low}
                    for path in (folder, one)
                }
                figures = in_turn(ways, arguments.rounds)
                label = f"{name}, low_memory" if low else name
                print(row(label, figures[str(folder)], figures[str(one)]), flush=True)
            graph, weights = (str(folder / file.path) for file in variants[name].files)
            ways = {
                way: {"paths": {"graph": graph, "weights": weights}, "threads": threads}
                | {"buffers": way == "by buffers"}
                for way in ("by path", "by buffers")
            }
            opened[name] = in_turn(ways, arguments.rounds)
            one.unlink()
    print("\n| variant | by path in | by buffers, times | anonymous | by buffers | peak, times |")
    print("|---|---:|---:|---:|---:|---:|")
    for name, found in opened.items():
        print(row(name, found["by path"], found["by buffers"]))


if __name__ == "__main__":
    main()
