"""Whether a draft model is worth the reading: what it gained or cost in the texts before.

A draft reads a text from its beginning before it guesses, which in a short text is a good part of
all there is to compute. Where the texts before were slower with it, a new one is read along only
now and then: as often as a share of all steps pays for.
"""

from __future__ import annotations

import threading

SHARE = 0.02  # of the steps of all texts, which reading in vain may cost
MOST_SAVED_UP = 64.0  # plain steps
NEWEST = 0.5  # weight of the newest text among those before


class Worth:
    """What a draft was worth, in plain steps of its model; threads may share it."""

    def __init__(self) -> None:
        """Start without prejudice: the first text is read."""
        self._expected = 0.0
        self._saved_up = 0.0
        self._lock = threading.Lock()

    def admit(self, steps: float) -> bool:
        """Whether to read along in a text that may take so many steps."""
        with self._lock:
            self._saved_up = min(MOST_SAVED_UP, self._saved_up + SHARE * steps)
            loss = max(0.0, -self._expected)
            if loss > self._saved_up:
                return False
            self._saved_up -= loss
            return True

    def ended(self, gained: float) -> None:
        """Take note of what a text that was read along gained, in plain steps."""
        with self._lock:
            gained = max(
                gained, -MOST_SAVED_UP
            )  # one that can never be paid for is not tried again
            self._expected += NEWEST * (gained - self._expected)
