"""A missing optional dependency becomes one line with the command that installs it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from .errors import MissingExtraError


@contextmanager
def needs_extra(extra: str) -> Iterator[None]:
    """Import inside this what `pip install 'pocketgpt[extra]'` brings.

    Raises:
        MissingExtraError: one of the modules is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"{error.name} is not installed: pip install 'pocketgpt[{extra}]'"
        ) from error
