"""What machine benchmarks run on, how fast it reads its memory, and a bare decoder."""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path
from typing import Any, Literal

from pocketgpt import Decoder
from pocketgpt.engine.graph import open_graph
from pocketgpt.folder.opening import open_folder
from pocketgpt.measure.machine import describe, peak_memory, read_bandwidth

__all__ = ["bandwidth", "described", "open_decoder", "peak_memory"]


def described(threads: int) -> dict[str, Any]:
    """Return the processor, the system, and when that was."""
    return {
        "processor": describe(),
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "threads": threads,
        "system": f"{platform.system()} on {platform.machine()}",
        "python": platform.python_version(),
        "date": time.strftime("%Y-%m-%d"),
    }


def bandwidth(threads: int) -> dict[str, Any]:
    """Return the bytes a second that so many threads read together."""
    return {"bandwidth": read_bandwidth(threads)}


def open_decoder(
    folder: Path, variant: str, cache: Literal["float", "int8"], threads: int | None, *, tuned: bool
) -> Decoder:
    """Return a decoder of one text, over the graph as it runs (`tuned`) or as it lies there."""
    opened = open_folder(folder, variant, kv_cache=cache)
    return open_graph(
        opened.graph, opened.config, weights=opened.weights, threads=threads, tuned=tuned
    ).decoder()
