"""Guessing how a text goes on, so that one pass checks several tokens: prompt lookup.

What followed the newest tokens where they came before may follow them again: code that is edited,
texts that are quoted, fields that are extracted. A pass over the guesses gives the logits after
each of them; every token is chosen from its logits as ever, and as long as it is the one that was
guessed, the next one's logits are there already. So the tokens are those of plain decoding, drawn
ones too: a guess that is certain is accepted as often as it would have been drawn
(https://arxiv.org/abs/2211.17192, with a draft that gives its tokens probability 1). But a
quantized variant's logits depend a little on what is computed together, and when guesses pay on
how long a step took: where its likeliest two nearly tie, either may come.

As transformers' PromptLookupCandidateGenerator, but for the newest match instead of the first, and
for how often it guesses: no more than pays.
"""

from __future__ import annotations

from collections.abc import Sequence

NGRAMS = (3, 2)  # tokens to look up; the longer ones first
FIRST_GUESS = 4  # tokens; more once guesses come true
SMOOTHING = 0.25  # weight of the newest measurement
SHORTEST_PAUSE, LONGEST_PAUSE = 16, 256  # steps without guesses, once they did not pay


class Speculation:
    """What one text may go on with, and whether guessing pays.

    Attributes:
        guessed: tokens that were guessed.
        accepted: those of them that came true.
    """

    def __init__(self, prompt_ids: Sequence[int], most: int) -> None:
        """Begin behind a prompt; a guess has at most `most` tokens."""
        self.guessed = self.accepted = 0
        self._most = most
        self._count = min(FIRST_GUESS, most)
        self._ids: list[int] = []
        # What came behind each sequence of n tokens lately, as a place among the ids.
        self._behind: dict[tuple[int, ...], int] = {}
        self._step_seconds = 0.0
        self._saved = 0.0  # seconds that a guess saved, smoothed
        self._pause, self._waiting = SHORTEST_PAUSE, 0
        for token_id in prompt_ids:
            self.accept(token_id)

    def accept(self, token_id: int) -> None:
        """Take the text's next token."""
        for size in NGRAMS:
            if len(self._ids) >= size:
                self._behind[tuple(self._ids[-size:])] = len(self._ids)
        self._ids.append(token_id)

    def guess(self, most: int) -> list[int]:
        """Return what may come next, at most `most` tokens; nothing where guessing would not pay.

        A text that repeats itself up to its end is taken to go on so.
        """
        if self._waiting or not self._step_seconds:
            return []
        count = min(self._count, most)
        for size in NGRAMS:
            place = self._behind.get(tuple(self._ids[-size:])) if len(self._ids) >= size else None
            if place is not None:
                period = len(self._ids) - place
                return [self._ids[place + number % period] for number in range(count)]
        return []

    def stepped(self, seconds: float) -> None:
        """Take note of a step without guesses, and how long ONNX Runtime took."""
        self._step_seconds = _smoothed(self._step_seconds, seconds)
        self._waiting = max(0, self._waiting - 1)

    def checked(self, guessed: int, accepted: int, seconds: float) -> None:
        """Take note of how many of the tokens guessed came true, and how long the pass took."""
        self.guessed += guessed
        self.accepted += accepted
        self._saved = _smoothed(self._saved, (accepted + 1) * self._step_seconds - seconds)
        if self._saved > 0:
            self._pause = SHORTEST_PAUSE
        else:
            self._waiting, self._saved = self._pause, 0.0
            self._pause = min(2 * self._pause, LONGEST_PAUSE)
        self._count = min(2 * guessed if accepted == guessed else accepted + 2, self._most)


def _smoothed(before: float, newest: float) -> float:
    return newest if not before else before + SMOOTHING * (newest - before)
