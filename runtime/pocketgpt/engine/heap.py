"""What is freed goes back to the system; GNU's C library keeps much of it."""

from __future__ import annotations

import ctypes
from contextlib import suppress

OTHER_LIBRARY = suppress(AttributeError, OSError, TypeError)


def trim_heap() -> None:
    """Give back what is free of the heap, such as what opening a graph needed on the way."""
    with OTHER_LIBRARY:
        ctypes.CDLL(None).malloc_trim(0)
