"""Processors of the user's own: plain functions of a text's token ids and logits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Self

import numpy as np

from ...errors import OptionError
from .base import Logits, Processor

LogitsFunction = Callable[..., Any]  # (ids [length], logits [vocab]) -> logits [vocab]


class CustomProcessors(Processor):
    """Call functions one after another with all ids of the text and what its logits are by then."""

    def __init__(self, functions: Sequence[LogitsFunction], prompt_ids: Sequence[int]) -> None:
        """Begin behind a prompt."""
        self._functions = functions
        self._length = len(prompt_ids)
        self._ids = np.array([*prompt_ids, *([0] * 64)], np.int64)  # and room for more

    def process(self, logits: Logits) -> None:
        """Change the logits `[vocab]` in place.

        Raises:
            OptionError: a function gives no such logits, or a NaN.
        """
        ids = self._ids[: self._length]
        ids.flags.writeable = False
        for function in self._functions:
            logits[:] = _checked(function, function(ids, logits), len(logits))

    def accept(self, token_id: int) -> None:
        """Append a token."""
        if self._length == len(self._ids):
            self._ids = np.concatenate([self._ids, np.zeros_like(self._ids)])
        self._ids[self._length] = token_id
        self._length += 1

    def fork(self) -> Self:
        """Return one in the same state that goes on by itself; the functions are shared."""
        twin = super().fork()
        twin._ids = self._ids.copy()
        return twin


def _checked(function: LogitsFunction, logits: Any, vocab_size: int) -> Logits:
    name = getattr(function, "__name__", type(function).__name__)
    try:
        array = np.asarray(logits, np.float32)
    except (TypeError, ValueError):
        kind = type(logits).__name__
        raise OptionError(f"logits_processor {name} returned no logits but {kind}") from None
    if array.shape != (vocab_size,):
        raise OptionError(
            f"logits_processor {name} should return logits of shape ({vocab_size},), "
            f"not {array.shape}"
        )
    if np.isnan(array).any():
        raise OptionError(f"logits_processor {name} returned logits with NaN")
    return array
