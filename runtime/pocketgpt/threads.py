"""How many threads to compute with: the physical cores that this process may use."""

from __future__ import annotations

import os
from pathlib import Path

_SIBLINGS = "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"


def physical_cores() -> int:
    """Return the number of physical cores this process may run on, at least 1.

    Hyper-threads of one core count once: matrix products gain nothing from the second. Where the
    system does not say which threads share a core, every logical processor counts.
    """
    if not hasattr(os, "sched_getaffinity"):
        return os.cpu_count() or 1
    allowed = os.sched_getaffinity(0)
    return max(1, len({_core_of(processor) for processor in allowed}))


def _core_of(processor: int) -> str:
    try:
        return Path(_SIBLINGS.format(processor)).read_text("ascii").strip()
    except OSError:
        return str(processor)
