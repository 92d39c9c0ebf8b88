"""What this machine is, how fast its memory is read, and how much of it this process took."""

from __future__ import annotations

import platform
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

BANDWIDTH_BYTES = 1 << 28  # well above the caches of most machines
BANDWIDTH_PASSES = 7


def describe() -> str:
    """Return the processor's name, or where the system does not say, its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def read_bandwidth(threads: int, size: int = BANDWIDTH_BYTES) -> float:
    """Measure how many bytes a second `threads` threads read from memory together.

    Each finds the maximum of its part of a buffer of `size` bytes; of several passes the fastest
    counts. Decoding reads memory the same way: every weight once a step, in order.
    """
    parts = np.array_split(np.ones(size // 4, np.float32), threads)
    fastest = float("inf")
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(BANDWIDTH_PASSES):
            begin = time.perf_counter()
            list(pool.map(np.max, parts))
            fastest = min(fastest, time.perf_counter() - begin)
    return size / fastest


def peak_memory() -> int | None:
    """Return the most bytes that this process had resident; None where nobody counts (Windows).

    Linux's `ru_maxrss` also knows the process that started this one, so its own status is read.
    """
    try:
        for line in Path("/proc/self/status").read_text("ascii", "replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        import resource
    except ModuleNotFoundError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
