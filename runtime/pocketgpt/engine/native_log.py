"""What ONNX Runtime says on standard error, for it has no other place to say some things."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from contextlib import suppress

_LINE = re.compile(r"\[([EW]):[^\]]*\] (.*)")
_COLOR = re.compile(r"\x1b\[[0-9;]*m")
_CODE = re.compile(r"^.*\[ONNXRuntimeError\] : \d+ : \w+ : ")  # and the function it comes from
_LONGEST = 400
_STDERR = 2  # the process's, which native code writes to; Python's own may be another


def said_while(run: Callable[[], object]) -> str | None:
    """Run something that ends badly, with standard error led to a file; return why, in a line.

    It is the last error there, or the last warning; None without any. Other threads' lines are
    lost meanwhile: this is for a call that has failed once already.
    """
    import tempfile  # and all that it imports, for what seldom happens

    with tempfile.TemporaryFile() as file:
        try:
            kept = os.dup(_STDERR)
        except OSError:  # closed
            return None
        os.dup2(file.fileno(), _STDERR)
        try:
            with suppress(Exception):  # it is known to fail
                run()
        finally:
            os.dup2(kept, _STDERR)
            os.close(kept)
        file.seek(0)
        return last_reason(file.read().decode("utf-8", "replace"))


def last_reason(log: str) -> str | None:
    """Return the last error's text of ONNX Runtime's log, or the last warning's."""
    found = _LINE.findall(_COLOR.sub("", log))
    for wanted in "EW":
        texts = [text for severity, text in found if severity == wanted]
        if texts:
            return " ".join(_CODE.sub("", texts[-1]).split())[:_LONGEST]
    return None
