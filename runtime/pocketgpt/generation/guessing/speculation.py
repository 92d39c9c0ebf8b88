"""Who guesses for the texts that run, how many tokens, and what came of it."""

from __future__ import annotations

from collections.abc import Sequence

from ...engine.decoder import Decoder
from ..sequence import TokenSequence
from .draft import Draft
from .pace import Pace


class Speculation:
    """Guesses for the texts of one scheduler.

    A text with prompt lookup is guessed for by that, others by the draft, where there is one.

    Attributes:
        active: whether any text is to be guessed for.
    """

    def __init__(self, decoder: Decoder, n_positions: int, draft: Draft | None = None) -> None:
        """Guess for what runs on a decoder whose model has so long a context."""
        self.active = False
        self._decoder = decoder
        self._n_positions = n_positions
        self._draft = draft
        self._pace = Pace()
        self._drafted: set[TokenSequence] = set()  # those that the draft reads along
        self._gained = 0.0  # by them, in plain steps, as far as no text that ended had its share
        self._spent = (0.0, 0.0, 0.0)  # what the draft took when the last guess began

    def admit(self, text: TokenSequence) -> None:
        """Take note of a text that will run."""
        if text.lookup is None and not self._is_worth_drafting(text):
            return
        self.active = True
        self._pace.admit(text.tokens_left / self._decoder.slots, not text.lookup)

    def leave(self, text: TokenSequence) -> None:
        """Take note that a text has ended."""
        if self._draft is not None and text in self._drafted:
            if text.record.guessed:
                share = self._gained / len(self._drafted)
                self._gained -= share
                self._draft.worth.ended(share)
            self._drafted.remove(text)
            self._draft.leave(text)

    def guess(self, texts: Sequence[TokenSequence]) -> list[list[int]] | None:
        """Return a guess for each of the texts that run, by slot; None where none would pay."""
        rows = len(texts)
        most = self._decoder.widest - 1 if rows > 1 else self._n_positions
        if not most or not self._pace.affordable(rows):
            return None
        rooms = [min(most, self._room(slot, text)) for slot, text in enumerate(texts)]
        if not any(rooms):
            return None
        drafted = [
            text for text, room in zip(texts, rooms, strict=True) if room and not text.lookup
        ]
        likely = [text.record.likely for text in texts]
        count = self._pace.count(rooms, likely, bool(drafted))
        if not count:
            for text, room in zip(texts, rooms, strict=True):
                if room:
                    text.record.forget()
            return None
        self._spent = self._draft_seconds
        made = self._draft.guess(drafted, count) if self._draft and drafted else []
        from_draft = dict(zip(drafted, made, strict=True))
        return [
            (text.lookup.guess(count) if text.lookup else from_draft.get(text, []))[:room]
            for text, room in zip(texts, rooms, strict=True)
        ]

    def stepped(self, rows: int, seconds: float) -> None:
        """Take note of a step of so many texts without guesses, and how long it took."""
        self._pace.stepped(rows, seconds)

    def checked(
        self,
        texts: Sequence[TokenSequence],
        guesses: Sequence[Sequence[int]],
        accepted: Sequence[int],
        seconds: float,
    ) -> None:
        """Take note of how many of each text's guesses came true, and how long the pass took."""
        taken = zip(self._draft_seconds, self._spent, strict=True)
        guessing, first, late = (now - before for now, before in taken)
        for text, guess, count in zip(texts, guesses, accepted, strict=True):
            if guess:
                text.record.checked(len(guess), count)
        longest = max(len(guess) for guess in guesses)
        drafted = any(guess and not text.lookup for text, guess in zip(texts, guesses, strict=True))
        rows = len(texts)
        saved = self._pace.checked(rows, longest, sum(accepted), seconds + guessing, drafted, late)
        if drafted:
            self._gained += rows * (saved - self._pace.in_steps(first, rows))

    @property
    def _draft_seconds(self) -> tuple[float, float, float]:
        """What the draft took so far: to guess, to read beginnings, to read what it had missed."""
        draft = self._draft
        return (draft.seconds, draft.first_seconds, draft.late_seconds) if draft else (0.0,) * 3

    def _is_worth_drafting(self, text: TokenSequence) -> bool:
        draft = self._draft
        if draft is None or not text.options.num_assistant_tokens:
            return False
        if not draft.worth.admit(text.tokens_left / self._decoder.slots):
            return False
        self._drafted.add(text)
        return True

    def _room(self, slot: int, text: TokenSequence) -> int:
        """Return how many tokens can be guessed for a text: there is a token before them."""
        context = self._n_positions - int(self._decoder.lengths[slot]) - 1
        room = min(context, text.tokens_left - 1)
        if room < 1:
            return 0
        if text.lookup is not None:
            return min(room, text.lookup.room)
        if self._draft is not None and text in self._drafted:
            return min(room, self._draft.room(text))
        return 0
