"""The command line: one module a verb, one library call a verb, errors as one line.

Results go to standard output, progress and errors to standard error. Exit code 0: done; 1: the work
failed or a check did not hold; 2: the call was wrong.
"""

from __future__ import annotations

import sys

from ..errors import OptionError, PocketGPTError


def main() -> None:
    """Run the `pocketgpt` command."""
    try:
        from .app import app
    except ModuleNotFoundError as error:
        if error.name not in ("typer", "rich"):
            raise
        sys.exit("error: the command line needs its extra: pip install 'pocketgpt[cli]'")
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]  # a console without UTF-8
    try:
        app()
    except PocketGPTError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2 if isinstance(error, OptionError) else 1)
    except BrokenPipeError:  # the reader of our output has seen enough
        sys.stderr.close()
        sys.exit(1)
