"""Log-probabilities of tokens, in the two forms that OpenAI's API has for them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ..generation.results import TokenLogprobs
from ..text.text_stream import TextStream
from ..text.tokenizer import Tokenizer

LEAST = -9999.0  # what the API has for a token that is next to impossible
Entry = TokenLogprobs | None


def shown(tokenizer: Tokenizer, token_id: int) -> str:
    """Return a token as the API writes it: its text, or its bytes where they are no text alone."""
    raw = tokenizer.token_bytes(token_id)
    if not raw:  # a special token, or an id without one
        return tokenizer.name(token_id) or f"<|{token_id}|>"
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in raw)


class CompletionLogprobs:
    """Lists side by side: tokens, their log-probabilities, the likeliest, and where each begins.

    A text may end in a stop string, which is cut: tokens that begin behind the cut are left out.
    Fed as tokens come, it gives them out once all their text is.
    """

    def __init__(self, tokenizer: Tokenizer, behind: Sequence[int], offset: int) -> None:
        """Start at a character of the answer's text.

        Args:
            tokenizer: of the model.
            behind: the ids that come before.
            offset: where the first token begins, in characters.
        """
        self._tokenizer = tokenizer
        self._stream = TextStream(tokenizer, behind)
        self._place = offset
        self._held: list[tuple[Entry, int, int, int]] = []  # with its id, beginning and end
        self.count = 0  # new tokens so far

    @property
    def nothing(self) -> dict[str, Any]:
        """The lists of no tokens."""
        return self._lists([])

    def push(self, entries: Iterable[tuple[int, Entry]]) -> None:
        """Take new tokens, each with what is known of it."""
        for token_id, entry in entries:
            self._hold(token_id, entry, len(self._stream.push(token_id)))
            self.count += 1

    def push_prompt(self, entries: Iterable[tuple[int, Entry]], prompt: str) -> None:
        """Take the prompt's tokens; of the first one nothing is known.

        Special tokens that the prompt has written out take their place in it.
        """
        for token_id, entry in entries:
            length = len(self._stream.push(token_id))
            name = "" if length else self._tokenizer.name(token_id) or ""
            if name and prompt.startswith(name, self._place):
                length = len(name)
            self._hold(token_id, entry, length)
        self._place = len(prompt)

    def _hold(self, token_id: int, entry: Entry, length: int) -> None:
        begin, self._place = self._place, self._place + length
        self._held.append((entry, token_id, begin, self._place))

    def take(self, length: int, *, last: bool = False) -> dict[str, Any] | None:
        """Return the tokens whose text is out, now that it is so long; None where there are none.

        Args:
            length: characters of the answer's text so far.
            last: whether nothing follows: what begins within the text then belongs to it, and at
                its end only what stands for no text, such as its end.
        """
        if last:
            ready = [
                held for held in self._held if held[2] < length or held[2] == held[3] == length
            ]
            self._held = []
        else:
            count = 0
            while count < len(self._held) and self._held[count][3] <= length:
                count += 1
            ready, self._held = self._held[:count], self._held[count:]
        return self._lists(ready) if ready else None

    def _lists(self, ready: Sequence[tuple[Entry, int, int, int]]) -> dict[str, Any]:
        return {
            "tokens": [shown(self._tokenizer, token_id) for _, token_id, _, _ in ready],
            "token_logprobs": [entry and _number(entry.logprob) for entry, *_ in ready],
            "top_logprobs": [entry and self._top(entry) for entry, *_ in ready],
            "text_offset": [begin for _, _, begin, _ in ready],
        }

    def _top(self, entry: TokenLogprobs) -> dict[str, float]:
        """Return the likeliest tokens and the chosen one; of equal texts the likeliest counts."""
        found: dict[str, float] = {}
        for token_id, logprob in (*entry.top, (entry.token_id, entry.logprob)):
            found.setdefault(shown(self._tokenizer, token_id), _number(logprob))
        return found


def chat_logprobs(tokenizer: Tokenizer, entries: Sequence[TokenLogprobs]) -> dict[str, Any]:
    """Return what a choice of a chat has as its `logprobs`."""

    def one(token_id: int, logprob: float) -> dict[str, Any]:
        raw = tokenizer.token_bytes(token_id)
        return {
            "token": shown(tokenizer, token_id),
            "logprob": _number(logprob),
            "bytes": list(raw) or None,
        }

    content = [
        {**one(entry.token_id, entry.logprob), "top_logprobs": [one(*top) for top in entry.top]}
        for entry in entries
    ]
    return {"content": content, "refusal": None}


def _number(logprob: float) -> float:
    return max(logprob, LEAST)
