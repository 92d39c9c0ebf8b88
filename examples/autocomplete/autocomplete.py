"""Suggestions that keep up with somebody who types.

One thread follows the text in a session: what the text has in common with the one before is in the
cache, and a keystroke cancels the suggestion that is being made, within one step of the model.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

import pocketgpt

Logits = NDArray[np.float32]


@dataclass(frozen=True)
class Suggestion:
    """How a text may go on, as far as that is known; `done` says that no more comes.

    `milliseconds` went by from the keystroke to the suggestion's first words, and `computed` tokens
    went through the model for them.
    """

    text: str
    suggestion: str
    milliseconds: float
    computed: int
    done: bool


class Autocomplete:
    """Suggests how a text goes on; `show` is called with suggestions, by a thread of its own.

    Example:
        >>> with Autocomplete(pocketgpt.load("models/demo"), print) as autocomplete:
        ...     autocomplete.type("Once upon a ti")
        ...     autocomplete.wait()
    """

    def __init__(
        self, model: pocketgpt.Model, show: Callable[[Suggestion], None], max_new_tokens: int = 8
    ) -> None:
        """Start with an empty text.

        Args:
            model: what suggests.
            show: called with every suggestion as it grows.
            max_new_tokens: how much is suggested at most.
        """
        self.cancelled = 0  # suggestions that a keystroke ended before they were whole
        self._tokenizer = model.tokenizer
        self._words = Words(model)
        self._session = model.session()
        self._show = show
        self._length = max_new_tokens
        self._changed = threading.Condition()
        self._wanted: tuple[str, float] | None = None
        self._stream: pocketgpt.Stream | None = None
        self._idle = True
        self._open = True
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def type(self, text: str) -> None:
        """Take the text as it is now; what was being suggested for another one ends."""
        with self._changed:
            self._wanted = text, time.perf_counter()
            self._idle = False
            if self._stream is not None:
                self._stream.cancel()
            self._changed.notify_all()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until the newest text's suggestion is whole; return whether it is."""
        with self._changed:
            return self._changed.wait_for(lambda: self._idle, seconds)

    def close(self) -> None:
        """End the thread."""
        with self._changed:
            self._open = False
            if self._stream is not None:
                self._stream.cancel()
            self._changed.notify_all()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._wanted or not self._open)
                if not self._open:
                    return
                assert self._wanted is not None
                (text, since), self._wanted = self._wanted, None
            self._suggest(text, since)
            with self._changed:
                self._idle = self._wanted is None
                self._changed.notify_all()

    def _suggest(self, text: str, since: float) -> None:
        """Suggest until it is whole, or somebody types."""
        whole, begun = self._words.split(text)
        before = self._session.evaluated_tokens
        self._follow(self._tokenizer.encode(whole))
        rules = [self._words.beginning_with(begun)] if begun else []
        made, first = "", 0.0
        with self._changed:
            self._stream = self._session.stream(
                max_new_tokens=self._length, stop_strings=["\n"], logits_processor=rules
            )
            if self._wanted is not None:  # typed since
                self._stream.cancel()
        for piece in self._stream:
            made += piece
            first = first or 1000 * (time.perf_counter() - since)
            computed = self._session.evaluated_tokens - before
            self._tell(Suggestion(text, made[len(begun) :], first, computed, done=False))
        result = self._stream.result
        with self._changed:
            self._stream = None
        if result is not None and result.finish_reason == "cancelled":
            self.cancelled += 1
            return
        computed = self._session.evaluated_tokens - before
        self._tell(Suggestion(text, made[len(begun) :].rstrip(), first, computed, done=True))

    def _tell(self, suggestion: Suggestion) -> None:
        with self._changed:
            newest = self._wanted is None
        if newest:
            self._show(suggestion)

    def _follow(self, wanted: list[int]) -> None:
        """Let the session hold these tokens, keeping what it has of them."""
        held = self._session.token_ids
        pairs = enumerate(zip(wanted, held, strict=False))
        same = next((n for n, (a, b) in pairs if a != b), min(len(wanted), len(held)))
        self._session.rewind(len(held) - same)
        self._session.append(wanted[same:])


class Words:
    """Words that are half typed: their tokens are others than those of the whole word.

    So the last token of a text that ends with a letter or a space is taken back, and the model may
    only go on with tokens that begin as the text ended.
    """

    def __init__(self, model: pocketgpt.Model) -> None:
        tokenizer = model.tokenizer
        self._tokenizer = tokenizer
        self._bytes = [tokenizer.token_bytes(number) for number in range(model.config.vocab_size)]

    def split(self, text: str) -> tuple[str, str]:
        """Return the text without its last token, and that token's text, where it may go on."""
        if not (text[-1:].isalnum() or text.endswith(" ")):
            return text, ""
        ids = self._tokenizer.encode(text)
        begun = self._bytes[ids[-1]].decode("utf-8", "replace")
        if not text.endswith(begun) or len(begun) == len(text):
            return text, ""  # half a character, or all there is
        return text[: -len(begun)], begun

    def beginning_with(self, begun: str) -> Callable[[Any, Logits], Logits]:
        """Return a logits processor that lets a text go on with what begins so."""
        wanted = begun.encode()
        starts = np.array([one.startswith(wanted) for one in self._bytes])
        length: list[int] = []

        def only_these(ids: Any, logits: Logits) -> Logits:
            length[:] = length or [len(ids)]
            if len(ids) == length[0]:  # the first token alone
                logits[~starts] = -np.inf
            return logits

        return only_these
