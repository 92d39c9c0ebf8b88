"""What machine benchmarks run on, and how fast it reads its memory."""

from __future__ import annotations

import os
import platform
import time
from typing import Any

from pocketgpt.measure.machine import describe, peak_memory, read_bandwidth

__all__ = ["bandwidth", "described", "peak_memory"]


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
