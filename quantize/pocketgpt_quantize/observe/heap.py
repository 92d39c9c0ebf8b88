"""What is freed has to leave room for what comes next; GNU's C library keeps much of it."""

from __future__ import annotations

import ctypes
from contextlib import suppress

M_MMAP_THRESHOLD = -3  # malloc.h's
OWN_MAPPING = 2**20  # bytes

_OTHER_LIBRARY = suppress(AttributeError, OSError, TypeError)


def keep_arrays_off_the_heap() -> None:
    """Let arrays of a megabyte and more go back to the system as soon as they are freed.

    Those below 32 MB would stay, as holes that the next weights do not fit into.
    """
    with _OTHER_LIBRARY:
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, OWN_MAPPING)


def trim_heap() -> None:
    """Give back what smaller things have left, such as a session that is gone."""
    with _OTHER_LIBRARY:
        ctypes.CDLL(None).malloc_trim(0)
