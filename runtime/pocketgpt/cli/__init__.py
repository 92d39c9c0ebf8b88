"""The command line: one module a verb, one library call a verb, errors as one line.

Results go to standard output, progress and errors to standard error. Exit code 0: done; 1: the work
failed or a check did not hold; 2: the call was wrong; 130: interrupted.
"""

from __future__ import annotations

import os
import sys
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..errors import OptionError, PocketGPTError, ProviderWarning

_plain_warning = warnings.formatwarning


def main() -> None:
    """Run the `pocketgpt` command."""
    try:
        from .app import app
    except ModuleNotFoundError as error:
        if error.name not in ("typer", "rich"):
            raise
        sys.exit("error: the command line needs its extra: pip install 'pocketgpt[cli]'")
    if sys.stderr is None:  # closed, or a program without a console
        sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115  # it stays
    if sys.stdout is None:
        _fail("standard output is closed: there is nowhere to write the result", 1)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]  # a console without UTF-8
    warnings.formatwarning = _warning_line
    try:
        try:
            app()
        finally:
            sys.stdout.flush()  # a full disk may show only now
    except PocketGPTError as error:
        _fail(str(error), 2 if isinstance(error, OptionError) else 1)
    except BrokenPipeError:  # the reader of our output has seen enough
        _drop_output()
        sys.exit(1)
    except OSError as error:
        _drop_output()
        _fail(str(error), 1)


def _warning_line(message: Warning | str, category: type[Warning], *where: Any, **line: Any) -> str:
    if issubclass(category, ProviderWarning):
        return f"warning: {message}\n"
    return _plain_warning(message, category, *where, **line)


def _fail(message: str, code: int) -> None:
    print(f"error: {message}", file=sys.stderr)
    sys.exit(code)


def _drop_output() -> None:
    """Send what is still to be written nowhere: Python would try, and complain, at its end."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
