"""What the processor multiplies fast."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

_FLAGS = re.compile(r"^flags\s*:(.*)$", re.MULTILINE)
_DOTS = {"avx512_vnni", "avx_vnni", "amx_int8"}


@cache
def multiplies_bytes() -> bool:
    """Whether this is an x86-64 with dot products of 8-bit numbers (VNNI or AMX), as far as known.

    Linux says; where nobody does, False.
    """
    try:
        found = _FLAGS.search(Path("/proc/cpuinfo").read_text("utf-8", "replace"))
    except OSError:
        return False
    return found is not None and not _DOTS.isdisjoint(found[1].split())
