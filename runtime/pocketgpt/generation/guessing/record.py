"""What came of one text's guesses."""

from __future__ import annotations

KEPT = 0.7  # what was seen before counts so much less with every pass
FORGOTTEN = 0.97  # and so much less with every step that guesses nothing
FIRST_HITS, FIRST_TRIALS = 0.8, 1.0  # what a text is taken to be like before anything is seen


class Record:
    """Counts of one text's guesses.

    Attributes:
        guessed: tokens that were guessed.
        accepted: those of them that came true.
    """

    def __init__(self) -> None:
        """Start with none."""
        self.guessed = self.accepted = 0
        self._hits = self._trials = 0.0

    @property
    def likely(self) -> float:
        """How likely the next guessed token is to come true, if all before it do."""
        return (self._hits + FIRST_HITS) / (self._trials + FIRST_TRIALS)

    def checked(self, guessed: int, accepted: int) -> None:
        """Take note of how many of the tokens guessed came true: the first ones."""
        self.guessed += guessed
        self.accepted += accepted
        self._hits = KEPT * self._hits + accepted
        self._trials = KEPT * self._trials + accepted + (accepted < guessed)

    def forget(self) -> None:
        """Trust what was seen a little less: the text has gone on since."""
        self._hits *= FORGOTTEN
        self._trials *= FORGOTTEN
