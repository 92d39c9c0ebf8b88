"""Who sits where: the decoder's slots among the jobs that run, fill up, or are gone.

    0 ... running ... n-1 | n ... filling, and free ones between them ... slots-1

What runs takes the first slots, side by side, because a step goes over the first slots. A job that
leaves has its slot taken by the last running one: one slot is copied, whatever the batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..engine.decoder import Decoder
from .results import FinishReason

Ids = NDArray[np.int64]


class Job(Protocol):
    """What takes slots: one text, or a beam search for several of one prompt."""

    @property
    def width(self) -> int:
        """How many slots it takes."""

    @property
    def ids(self) -> Ids:
        """The tokens that its first slot holds, as far as it is filled."""

    @property
    def finish_reason(self) -> FinishReason | None:
        """Why it has ended; None while it goes on."""

    def seated(self) -> None:
        """Take note that it has its slots: until now it waited."""

    def cancel(self) -> list[tuple[Any, str]]:
        """End it; return what was held back."""

    def abandon(self) -> None:
        """End it as it is, after an error; nothing of it is wanted any more."""


@dataclass(eq=False)
class Seat:
    """A job in its slots.

    Attributes:
        job: whose it is.
        slots: one for each of its rows; until it runs only the first one holds anything.
        ids: what has to be in the cache before it can run.
        done: how many of those are.
        leader: the seat that computes the first `shared` of them.
        tokens: the next token of each row, once it runs.
        whole: whether the cache holds the job's tokens from the first on.
        turn: of those that fill up the one with the lowest is next.
    """

    job: Job
    slots: list[int]
    ids: Sequence[int]
    done: int = 0
    leader: Seat | None = None
    shared: int = 0
    tokens: list[int] = field(default_factory=list)
    whole: bool = True
    turn: int = 0


class SlotTable:
    """The seats of one decoder.

    Attributes:
        running: by slot, the seat there and which of its rows that is.
        filling: seats that do not run yet, lowest first slot first.
    """

    def __init__(self, decoder: Decoder, held: Ids) -> None:
        """Start with nobody; the first slot may hold a text that is there already."""
        self.running: list[tuple[Seat, int]] = []
        self.filling: list[Seat] = []
        self._decoder = decoder
        self._free = set(range(decoder.slots))
        self._left: dict[int, Ids] = {0: held}  # what ended texts have left in free slots
        self._turns = count()

    @property
    def free(self) -> int:
        """How many slots nobody has."""
        return len(self._free)

    def seats(self) -> list[Seat]:
        """Return the seats that run, each once, in the order of their first rows."""
        return [seat for seat, row in self.running if row == 0]

    def admit(self, job: Job, ids: Sequence[int]) -> Seat:
        """Give a job the lowest free slots; its seat fills up."""
        seat = Seat(job, sorted(self._free)[: job.width], ids)
        self._free.difference_update(seat.slots)
        self._enter(seat)
        return seat

    def texts(self, but: Seat) -> Iterator[tuple[int, Ids]]:
        """Yield slots and the tokens that they hold, those of `but` left out."""
        for seat in (*self.seats(), *self.filling):
            if seat.whole and seat is not but:
                slot = seat.slots[0]
                yield slot, seat.job.ids[: self._decoder.lengths[slot]]
        yield from self._left.items()

    def take_over(self, seat: Seat, slot: int, count: int) -> None:
        """Let a seat's first slot hold the first `count` tokens of another slot, or its own."""
        target = seat.slots[0]
        if slot == target:
            self._decoder.rewind(count, target)
        else:
            self._decoder.copy_slot(slot, target, end=count)
        seat.done = count

    def empty(self, seat: Seat) -> None:
        """Forget what a seat's first slot held before."""
        self._decoder.rewind(0, seat.slots[0])

    def start(self, seat: Seat) -> None:
        """Let a filled seat run: behind those that do, its text in every row."""
        self.filling.remove(seat)
        for row in range(len(seat.slots)):
            self._move(seat, row, len(self.running))
            self.running.append((seat, row))
            if row:
                self._decoder.copy_slot(seat.slots[0], seat.slots[row])

    def stop(self, seat: Seat, left: Ids | None = None) -> None:
        """Take a seat out; `left` are the tokens that its first slot goes on holding."""
        before = seat.slots[0]
        if seat in self.filling:
            self.filling.remove(seat)
        else:
            self._leave(seat)
        for slot in seat.slots:
            self._free.add(slot)
            self._left.pop(slot, None)
        if left is not None and len(left) and seat.slots[0] == before:  # no other took its place
            self._left[before] = left

    def refill(self, seat: Seat, ids: Sequence[int]) -> None:
        """Let a running seat of one row fill up again, from nothing."""
        self._leave(seat)
        self.empty(seat)
        seat.ids, seat.done, seat.leader, seat.whole = ids, 0, None, False
        self._enter(seat)

    def requeue(self, seat: Seat) -> None:
        """Let all others that fill up now have a turn before a seat's next."""
        seat.turn = next(self._turns)

    def _enter(self, seat: Seat) -> None:
        for slot in seat.slots[1:]:
            self._left.pop(slot, None)
        self.requeue(seat)
        self.filling.append(seat)
        self.filling.sort(key=lambda other: other.slots[0])

    def forget(self, slot: int) -> None:
        """No longer offer what an ended text left in a slot."""
        self._left.pop(slot, None)

    def _leave(self, seat: Seat) -> None:
        """Close the gap that a running seat leaves, from behind.

        Afterwards its slots are the ones behind those that run.
        """
        for row in sorted(range(len(seat.slots)), key=lambda row: -seat.slots[row]):
            slot, last = seat.slots[row], len(self.running) - 1
            other, other_row = self.running.pop()
            if slot != last:
                self._decoder.copy_slot(last, slot)
                self.running[slot] = (other, other_row)
                other.slots[other_row] = slot
                seat.slots[row] = last

    def _move(self, seat: Seat, row: int, target: int) -> None:
        """Bring a row of a filled seat to a slot; whoever has that one gets the row's."""
        source = seat.slots[row]
        if source == target:
            return
        holder = next((other for other in self.filling if target in other.slots), None)
        theirs = holder is not None and holder.slots[0] == target and holder.done > 0
        saved = self._decoder.read(target) if theirs else None
        self._left.pop(target, None)
        if row == 0:
            self._decoder.copy_slot(source, target)
        if target in seat.slots:  # one of its own rows was to get it, and holds nothing yet
            seat.slots[seat.slots.index(target)] = source
            seat.slots[row] = target
            return
        if saved is not None:
            self._decoder.write(*saved, slot=source)
        else:
            self._decoder.rewind(0, source)
        seat.slots[row] = target
        if holder is None:
            self._free.discard(target)
            self._free.add(source)
        else:
            holder.slots[holder.slots.index(target)] = source
            self.filling.sort(key=lambda other: other.slots[0])
