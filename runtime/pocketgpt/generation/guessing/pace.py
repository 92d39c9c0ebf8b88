"""Whether guessing pays, by what steps and passes over guesses were measured to take.

A pass over c guesses for each of some rows takes about as long as a line says, `a + b * c`, fitted
to the passes of so many rows. Of all lengths that one pays best whose expected tokens a second are
the most.

Expectations fail, so there is an account, in plain steps: what guesses save goes in, what they cost
goes out, and while it is empty nothing is guessed. A text brings a little for the steps that it
may take, and every plain step adds half a hundredth: no more is what guessing can cost.
"""

from __future__ import annotations

from collections.abc import Sequence

FIRST_GUESS = 3  # tokens, while it is not known what a pass takes
MOST_CHECKED = 192  # tokens of a pass, padding included: each takes a row of logits
SLOWER = 0.1  # weight of a step among faster ones before: what disturbs a step slows it down
STEPS_FIRST = 2  # that are measured before any guess: the first one meets cold caches
PASSES_AGAIN = 16  # over guesses, after which a plain step is measured again
KEPT = 0.9  # weight of the passes before, with every new one
# Of a text's steps: one that looks up may not repeat itself, a draft is there to be used.
LOOKUP_ADVANCE, DRAFT_ADVANCE, MOST_ADVANCE = 0.004, 0.01, 1.5  # the last in plain steps
ALLOWANCE = 0.005  # of a plain step
MOST_CREDIT, MOST_DEBT = 4.0, 1.28  # plain steps; a debt lasts 256 of them


class Pace:
    """What the passes of one scheduler took.

    Attributes:
        credit: what guesses may still cost, in plain steps.
    """

    def __init__(self) -> None:
        """Start with nothing measured."""
        self.credit = 0.0
        self._steps: dict[int, float] = {}  # seconds of a plain step, by rows
        self._measured: dict[int, int] = {}  # how many of them
        self._since = 0  # passes since the last one
        self._passes: dict[tuple[int, bool], _Line] = {}  # by rows, and whether a draft guessed

    def affordable(self, rows: int) -> bool:
        """Whether to think about guesses for so many rows."""
        known = self._measured.get(rows, 0) >= STEPS_FIRST and self._since < PASSES_AGAIN
        return known and self.credit > 0 and 2 * rows <= MOST_CHECKED

    def admit(self, steps: float, drafted: bool) -> None:
        """Take note of a text that may take so many steps more, its share of each counted."""
        advance = (DRAFT_ADVANCE if drafted else LOOKUP_ADVANCE) * steps
        self.credit = min(MOST_CREDIT, self.credit + min(MOST_ADVANCE, advance))

    def stepped(self, rows: int, seconds: float) -> None:
        """Take note of a step without guesses, and how long it took."""
        before = self._steps.get(rows, seconds)
        self._steps[rows] = min(seconds, before + SLOWER * (seconds - before))
        self._measured[rows] = self._measured.get(rows, 0) + 1
        self._since = 0
        self.credit = min(MOST_CREDIT, self.credit + ALLOWANCE)

    def checked(
        self, rows: int, count: int, accepted: int, seconds: float, drafted: bool, late: float = 0.0
    ) -> float:
        """Take note of a pass over guesses.

        Args:
            rows: texts in it.
            count: tokens of the longest guess.
            accepted: guesses that came true, of all rows.
            seconds: how long it took, guessing included.
            drafted: whether a draft guessed.
            late: seconds that the draft took besides, for what it had not read.

        Returns:
            What the pass saved, in plain steps; below zero what it cost.
        """
        self._since += 1
        self._passes.setdefault((rows, drafted), _Line()).add(count, seconds)
        saved = 1 + accepted / rows - self.in_steps(seconds + late, rows)
        self.credit = max(-MOST_DEBT, min(MOST_CREDIT, self.credit + saved))
        return saved

    def in_steps(self, seconds: float, rows: int) -> float:
        """Return how many plain steps of so many rows take so long."""
        return seconds / self._steps[rows]

    def count(self, rooms: Sequence[int], likely: Sequence[float], drafted: bool) -> int:
        """Return how many tokens to guess for each row, where there is room; 0 where none pays.

        Args:
            rooms: the most that each row can guess.
            likely: how likely each row's guesses are to come true, token by token.
            drafted: whether a draft guesses.
        """
        rows = len(rooms)
        most = min(max(rooms), MOST_CHECKED // rows - 1)
        step, line = self._steps[rows], self._passes.get((rows, drafted))
        if line is None:
            return min(FIRST_GUESS, most)
        begin, slope = line.fit(step)
        best, best_rate = 0, rows / step
        chances, tokens = list(likely), float(rows)
        for count in range(1, most + 1):
            for row, room in enumerate(rooms):
                if count <= room:
                    tokens += chances[row]
                    chances[row] *= likely[row]
            rate = tokens / (begin + slope * count)
            if rate > best_rate:
                best, best_rate = count, rate
        return best


class _Line:
    """Seconds by number of guesses: weighted least squares, the newest pass counting most."""

    def __init__(self) -> None:
        self._weight = self._x = self._xx = self._y = self._xy = 0.0

    def add(self, count: int, seconds: float) -> None:
        new = (1.0, count, count * count, seconds, count * seconds)
        old = (self._weight, self._x, self._xx, self._y, self._xy)
        self._weight, self._x, self._xx, self._y, self._xy = (
            KEPT * before + now for before, now in zip(old, new, strict=True)
        )

    def fit(self, step: float) -> tuple[float, float]:
        """Return what a pass takes without guesses, and more for each; a step is one, too."""
        weight, y = self._weight + 1, self._y + step
        slope = (weight * self._xy - self._x * y) / (weight * self._xx - self._x * self._x)
        slope = max(0.0, slope)
        return max(step, (y - slope * self._x) / weight), slope
