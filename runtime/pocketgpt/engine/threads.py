"""How many threads to compute with: the physical cores that this process may use."""

from __future__ import annotations

import math
import os
from pathlib import Path

_SIBLINGS = "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
_CGROUPS = Path("/sys/fs/cgroup")


def physical_cores() -> int:
    """Return the number of physical cores this process may run on, at least 1.

    Hyper-threads of one core count once: matrix products gain nothing from the second. Where the
    system does not say which threads share a core, every logical processor counts. A container's
    limit on processor time counts as so many cores, rounded up.
    """
    if not hasattr(os, "sched_getaffinity"):
        return os.cpu_count() or 1
    cores = {_core_of(processor) for processor in os.sched_getaffinity(0)}
    return max(1, math.ceil(min(len(cores), _quota())))


def _quota() -> float:
    """Return how many processors' time the control group may take; infinity without a limit.

    A container sees its own group at the root: `cpu.max` in version 2, two files in version 1.
    https://docs.kernel.org/admin-guide/cgroup-v2.html
    """
    version_1 = ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")
    for names in (("cpu.max",), version_1):
        try:
            words = [word for name in names for word in (_CGROUPS / name).read_text().split()]
            quota, period = map(float, words)
        except (OSError, ValueError):  # no such file; or `max`, which is no number
            continue
        if quota > 0 and period > 0:
            return quota / period
    return math.inf


def _core_of(processor: int) -> str:
    try:
        return Path(_SIBLINGS.format(processor)).read_text("ascii").strip()
    except OSError:
        return str(processor)
