"""Standard input as it comes: none at all, a folder, bytes that are no UTF-8."""

from __future__ import annotations

import sys
from typing import BinaryIO

from ..errors import OptionError


class UnreadableLineError(OptionError):
    """A line that is not UTF-8; the next one may be."""


def standard_input() -> BinaryIO:
    """Return standard input, of bytes.

    Raises:
        OptionError: there is none, as in a daemon, or it is closed.
    """
    if sys.stdin is None or sys.stdin.closed:
        raise OptionError("standard input is closed; give the text in another way")
    return sys.stdin.buffer


def read_standard_input() -> str:
    """Return all of standard input as text, without a byte order mark.

    Raises:
        OptionError: there is none, or it cannot be read or is not UTF-8.
    """
    try:
        return standard_input().read().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise OptionError(f"the prompt on standard input is not UTF-8: {error}") from None
    except OSError as error:
        raise OptionError(f"standard input cannot be read: {error}") from None


def read_line() -> str | None:
    """Return the next line of standard input, without white space around it; None at the end.

    Raises:
        UnreadableLineError: the line is not UTF-8.
        OptionError: there is no standard input, or it cannot be read.
    """
    try:
        line = standard_input().readline()
        return line.decode("utf-8").strip() if line else None
    except UnicodeDecodeError as error:
        raise UnreadableLineError(f"this line is not UTF-8: {error}") from None
    except OSError as error:
        raise OptionError(f"standard input cannot be read: {error}") from None
