"""How a text goes on, at each keystroke: only what is new is computed, and never for long.

completer = Completer(pocketgpt.load("models/demo"))
pending = completer.begin("Once upon a ti")    # ends what was still being computed
print(pending.result().text)                   # "me there was a"
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from healing import Healer, split

import pocketgpt

BLOCK = 128  # tokens that a long text's beginning is cut by, so that it is cut seldom


@dataclass(frozen=True)
class Suggestion:
    """What may follow; `text` is whole words, or empty.

    `seconds` is the time from the keystroke, `computed` how many tokens went through the model.
    """

    text: str
    seconds: float
    computed: int


class Pending:
    """A suggestion that is being made. `cancel` is for any thread, `result` for one."""

    def __init__(self, session: pocketgpt.Session, stream: pocketgpt.Stream, typed: str) -> None:
        """Use `Completer.begin`."""
        self._session, self._stream, self._typed = session, stream, typed
        self._start, self._before = time.perf_counter(), session.evaluated_tokens

    def cancel(self) -> None:
        """End it within one step."""
        self._stream.cancel()

    def result(self) -> Suggestion:
        """Compute it, until it is there or cancelled; then its text is empty."""
        for _ in self._stream:
            pass
        made = self._stream.result
        assert made is not None
        text = made.text.removeprefix(self._typed) if made.text.startswith(self._typed) else ""
        if made.finish_reason == "cancelled":
            text = ""
        elif made.finish_reason == "length":  # its last word may be half of one
            text = whole_words(text)
        seconds = time.perf_counter() - self._start
        return Suggestion(text.rstrip(), seconds, self._session.evaluated_tokens - self._before)


class Completer:
    """Follows a text that somebody types, with one session.

    Attributes:
        tokens: how many are made for a suggestion, at most.
    """

    def __init__(self, model: pocketgpt.Model, tokens: int = 10) -> None:
        """Begin with an empty text.

        Raises:
            OptionError: the model's tokens are not GPT-2's bytes.
        """
        self._model, self.tokens = model, tokens
        self._healer = Healer(model.tokenizer)
        self._session = model.session()
        self._pending: Pending | None = None

    @property
    def evaluated_tokens(self) -> int:
        """How many tokens went through the model so far."""
        return self._session.evaluated_tokens

    def begin(self, text: str) -> Pending:
        """Cancel what is being made, and begin what follows `text`. For one thread at a time."""
        self.cancel()
        prompt, typed = split(text)
        budget = self.tokens + len(self._model.tokenizer.encode(typed))
        self._follow(self._recent(self._model.tokenizer.encode(prompt), budget))
        length = max(1, len(self._session.token_ids))  # an empty text begins with BOS
        stream = self._session.stream(
            max_new_tokens=budget,
            do_sample=False,
            stop_strings=["\n"],
            logits_processor=[self._healer.beginning(typed, length)],
        )
        self._pending = Pending(self._session, stream, typed)
        return self._pending

    def cancel(self) -> None:
        """End what is being made within one step, if anything is."""
        if self._pending is not None:
            self._pending.cancel()

    def _follow(self, wanted: list[int]) -> None:
        """Make the session's text `wanted`; what it begins with stays in the cache."""
        session = self._session
        session.rewind(0)  # ends a stream that was cancelled: what it made is the session's
        pairs = enumerate(zip(wanted, session.token_ids, strict=False))
        shorter = min(len(wanted), len(session.token_ids))
        same = next((place for place, (one, other) in pairs if one != other), shorter)
        session.rewind(len(session.token_ids) - same)
        session.append(wanted[same:])

    def _recent(self, ids: list[int], budget: int) -> list[int]:
        """Leave out the beginning of a text that is longer than the context."""
        over = len(ids) + budget - self._model.config.n_positions
        return ids[-(-over // BLOCK) * BLOCK :] if over > 0 else ids


def whole_words(text: str) -> str:
    """Cut a text at its last space: what follows may go on."""
    return text[: max((place for place, one in enumerate(text) if one.isspace()), default=0)]
