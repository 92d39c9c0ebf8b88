"""What is freed has to leave room for what comes next; GNU's C library keeps much of it."""

from __future__ import annotations

import ctypes

from pocketgpt.engine.heap import OTHER_LIBRARY

M_MMAP_THRESHOLD = -3  # malloc.h's
OWN_MAPPING = 2**20  # bytes


def keep_arrays_off_the_heap() -> None:
    """Let arrays of a megabyte and more go back to the system as soon as they are freed.

    Those below 32 MB would stay, as holes that the next weights do not fit into.
    """
    with OTHER_LIBRARY:
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, OWN_MAPPING)
