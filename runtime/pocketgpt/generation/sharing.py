"""Where the beginning of a text comes from, if it is not computed: another slot, or memory."""

from __future__ import annotations

import numpy as np

from ..engine.decoder import Decoder
from .prefix_cache import Prefix, Prefixes, common_prefix
from .results import Counters
from .sequence import TokenSequence
from .slots import Ids, Seat, SlotTable


class Sharing:
    """Lets seats take what other texts have in common with theirs from the first token on."""

    def __init__(
        self,
        decoder: Decoder,
        table: SlotTable,
        prefixes: Prefixes | None,
        min_shared: int,
        counters: Counters,
    ) -> None:
        """Share among the slots of a table.

        Args:
            decoder: what the slots are of.
            table: who sits where.
            prefixes: what earlier texts left in memory.
            min_shared: how long a beginning has to be that is taken from another text.
            counters: `shared` of it counts what was taken.
        """
        self._decoder = decoder
        self._table = table
        self._prefixes = prefixes
        self._min_shared = min_shared
        self._counters = counters

    def begin(self, seat: Seat) -> None:
        """Take the longest beginning that is in memory, or will be, from there.

        A prompt that is scored is computed whole: it is the logits on the way that are wanted.
        """
        ids = np.array(seat.ids, np.int64)
        seat.leader, seat.shared = None, 0
        if isinstance(seat.job, TokenSequence) and seat.job.prompt_logprobs is not None:
            self._table.empty(seat)
        else:
            self._take_longest(seat, ids)
        self._table.forget(seat.slots[0])

    def follow(self, leader: Seat) -> list[Seat]:
        """Copy what others wait for; return those of the same prompt, which are full with it."""
        full = []
        for seat in self._followers(leader):
            if leader.done < seat.shared:
                continue
            seat.leader = None
            same = seat.shared == len(seat.ids) == len(leader.ids)
            count = seat.shared if same else min(seat.shared, len(seat.ids) - 1)
            self._take_slot(seat, leader.slots[0], count)
            if same:
                full.append(seat)
        return full

    def keep(self, seat: Seat) -> Ids | None:
        """Return the tokens that a seat, about to leave, leaves in its first slot; remember them.

        None where what is there begins no text.
        """
        if not isinstance(seat.job, TokenSequence) or not seat.whole:
            return None
        slot = seat.slots[0]
        left = seat.job.ids[: self._decoder.lengths[slot]]
        if self._prefixes:
            self._prefixes.put(left, lambda: self._decoder.read(slot))
        return left

    def orphan(self, leader: Seat) -> None:
        """Let those who wait for a seat that has left look for another beginning."""
        for seat in self._followers(leader):
            self.begin(seat)

    def _followers(self, leader: Seat) -> list[Seat]:
        return [seat for seat in self._table.filling if seat.leader is leader]

    def _take_longest(self, seat: Seat, ids: Ids) -> None:
        slot, count = self._longest_left(seat, ids)
        prefix = self._prefixes.longest(ids) if self._prefixes else None
        leader, led = self._longest_filling(seat, ids)
        kept = prefix[0] if prefix else 0
        most = max(count, kept, led)
        if most < self._min_shared and not kept and led < len(ids):
            self._table.empty(seat)
        elif prefix and kept and (kept == most or most < self._min_shared):
            self._take_prefix(seat, prefix[1], min(kept, len(ids) - 1))
        elif count == most:
            self._take_slot(seat, slot, min(most, len(ids) - 1))
        else:
            self._table.empty(seat)
            seat.leader, seat.shared = leader, led

    def _longest_left(self, seat: Seat, ids: Ids) -> tuple[int, int]:
        """Return the slot that holds most of the beginning of `ids`, and how much of it."""
        best, most = 0, 0
        for slot, text in self._table.texts(seat):
            count = common_prefix(text, ids)
            if count > most:
                best, most = slot, count
        return best, most

    def _longest_filling(self, seat: Seat, ids: Ids) -> tuple[Seat | None, int]:
        """Return the seat that is about to compute most of the beginning of `ids`."""
        leader, most = None, 0
        for other in self._table.filling:
            if other is seat or other.leader is not None or not other.whole:
                continue
            count = common_prefix(np.array(other.ids, np.int64), ids)
            if count > most:
                leader, most = other, count
        return leader, most

    def _take_prefix(self, seat: Seat, prefix: Prefix, count: int) -> None:
        slot = seat.slots[0]
        self._decoder.write(prefix.keys[:, :, :count], prefix.values[:, :, :count], slot)
        seat.done = count
        self._note_shared(seat, count)

    def _take_slot(self, seat: Seat, slot: int, count: int) -> None:
        self._table.take_over(seat, slot, count)
        self._note_shared(seat, count)

    def _note_shared(self, seat: Seat, count: int) -> None:
        self._counters.shared += count
        if isinstance(seat.job, TokenSequence):
            seat.job.reused_tokens = count
