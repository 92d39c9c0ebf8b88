"""Where arrays come from: what is freed has to leave room for what comes next."""

from __future__ import annotations

import ctypes
from contextlib import suppress

M_MMAP_THRESHOLD = -3  # malloc.h's
OWN_MAPPING = 2**20  # bytes


def give_back_what_is_freed() -> None:
    """Let arrays of a megabyte and more go back to the system as soon as they are freed.

    GNU's C library keeps those below 32 MB, as holes that the next weights do not fit into.
    """
    with suppress(AttributeError, OSError, TypeError):  # another C library
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, OWN_MAPPING)
