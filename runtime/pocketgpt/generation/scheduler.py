"""The one loop from prompts to new tokens: step what runs, let what ended go, fill what waits.

A round is one step of every running row and one pass of prefill. A row that ends leaves its slot
at once, and the next job in line gets it in the same round. While rows run, a pass of prefill is at
most one chunk, so that none waits longer than that for its next token.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from ..engine.decoder import Decoder
from .beam import BeamSearch
from .guessing.draft import Draft
from .guessing.speculation import Speculation
from .pipeline import choose_tokens
from .prefix_cache import Prefix, Prefixes, common_prefix
from .processors import Logits
from .results import Counters
from .sequence import Piece, TokenSequence
from .slots import Ids, Seat, SlotTable

CHUNKS_TOGETHER = 4  # in a pass of several prompts, padding included, while nothing runs
MAX_PADDED = 1.1  # times the tokens there are: beyond it a pass for each prompt is the faster way
MIN_SHARED = 16  # tokens; a shorter common beginning is sooner computed again than looked for

AnyJob = TokenSequence | BeamSearch


class Scheduler:
    """Runs jobs on a decoder's slots; whoever drives it calls `round` while it is `busy`.

    Attributes:
        waiting: jobs that have no slots yet, first come first.
        counters: what was done so far.
    """

    def __init__(
        self,
        decoder: Decoder,
        n_positions: int,
        *,
        prefixes: Prefixes | None = None,
        min_shared: int = MIN_SHARED,
        held: Sequence[int] = (),
        draft: Draft | None = None,
    ) -> None:
        """Take over a decoder.

        Args:
            decoder: its slots are free.
            n_positions: the context.
            prefixes: what earlier texts left in memory.
            min_shared: how long a beginning has to be that is taken from another text.
            held: the tokens that the first slot holds already.
            draft: what guesses for texts without prompt lookup; it has as many slots.
        """
        self.waiting: deque[AnyJob] = deque()
        self.counters = Counters()
        self._longest = 0  # tokens that a text may have
        self._decoder = decoder
        self._n_positions = n_positions
        self._prefixes = prefixes
        self._min_shared = min_shared
        self._table = SlotTable(decoder, np.array(held, np.int64))
        self._draft = draft
        self._speculation = Speculation(decoder, n_positions, draft)

    @property
    def busy(self) -> bool:
        """Whether a job is not done."""
        return bool(self.waiting or self._table.running or self._table.filling)

    def submit(self, job: AnyJob) -> None:
        """Put a job in line; one that has ended already is passed over.

        The cache gets room for all that it may become: memory that is not written to costs nothing,
        and a cache that grows is copied.
        """
        if job.finish_reason is None:
            self.waiting.append(job)
            self._longest = max(self._longest, min(job.most_tokens, self._n_positions))
            if isinstance(job, TokenSequence):
                self._speculation.admit(job)

    def run(self, cancelled: Callable[[], bool]) -> Iterator[Piece]:
        """Go on until all is done, yielding each piece of text as it is final.

        `cancelled` is asked before every round; when it says so, all that goes on ends.
        """
        while self.busy:
            yield from self.cancel() if cancelled() else self.round()

    def round(self) -> list[Piece]:
        """Step what runs, admit what waits, fill one pass; return what became final."""
        pieces = self._step()
        self._admit()
        pieces += self._fill()
        self._admit()  # to the slots of texts that ended with their first token
        return pieces

    def cancel(self) -> list[Piece]:
        """End every job; return what they had held back."""
        seats = [*self._table.seats(), *self._table.filling]
        pieces = [piece for seat in seats for piece in seat.job.cancel()]
        pieces += [piece for job in self.waiting for piece in job.cancel()]
        for seat in seats:
            self._leave(seat)
        for job in self.waiting:
            if isinstance(job, TokenSequence):
                self._speculation.leave(job)
        self.waiting.clear()
        return pieces

    def _step(self) -> list[Piece]:
        self._make_room()
        running = self._table.running
        if not running:
            return []
        self.counters.steps += 1
        self.counters.rows += len(running)
        if self.waiting:
            self.counters.idle += self._table.free
        seats = self._table.seats()
        guessing = self._speculation.active and len(seats) == len(running)
        if guessing and (guesses := self._speculation.guess(_texts(seats))):
            return self._check(seats, guesses)
        begun = time.perf_counter()
        logits = self._decoder.step([seat.tokens[row] for seat, row in running])
        if guessing:
            self._speculation.stepped(len(seats), time.perf_counter() - begun)
        return self._choose(seats, logits)

    def _check(self, seats: Sequence[Seat], guesses: Sequence[list[int]]) -> list[Piece]:
        """Step all that runs, texts of one row each; their guesses are checked in the same pass."""
        begun, held = time.perf_counter(), self._decoder.lengths[: len(seats)] + 1
        chunks = [[*seat.tokens, *guess] for seat, guess in zip(seats, guesses, strict=True)]
        logits = self._decoder.check(chunks)
        seconds = time.perf_counter() - begun
        pieces: list[Piece] = []
        accepted, going, place = [0] * len(seats), [*range(len(seats))], 0
        try:
            while going:
                rows = np.stack([logits[row][place] for row in going])
                pieces += self._take([seats[row] for row in going], rows)
                going = [row for row in going if _came_true(seats[row], guesses[row], place)]
                for row in going:
                    accepted[row] += 1
                place += 1
        finally:  # a processor may raise, and a session goes on from what the slot holds
            for row, count in enumerate(accepted):
                self._decoder.rewind(int(held[row]) + count, row)
        self._speculation.checked(_texts(seats), guesses, accepted, seconds)
        self._retire(seats)
        return pieces

    def _make_room(self) -> None:
        """Where a text fills the context, compute its first `keep` tokens and newest half afresh.

        Learned positions cannot be shifted.
        """
        full = [
            seat
            for seat, row in self._table.running
            if row == 0 and self._decoder.lengths[seat.slots[0]] == self._n_positions
        ]
        for seat in full:
            job = seat.job
            assert isinstance(job, TokenSequence)
            ids = job.ids.tolist()
            self._table.refill(seat, ids[: job.options.keep] + ids[-(self._n_positions // 2) :])
            job.reprefills += 1

    def _admit(self) -> None:
        """Give free slots to the jobs that are first in line, shorter prompts to the lower ones."""
        if not self.waiting:
            return
        admitted: list[AnyJob] = []
        room = self._table.free
        while self.waiting and self.waiting[0].width <= room:
            job = self.waiting.popleft()
            room -= job.width
            admitted.append(job)
        if admitted:
            self._decoder.reserve(self._longest)
        for job in sorted(admitted, key=lambda job: len(job.prompt_ids)):
            seat = self._table.admit(job, job.prompt_ids)
            self._share(seat)

    def _share(self, seat: Seat) -> None:
        """Take the longest beginning that is in memory, or will be, from there."""
        ids = np.array(seat.ids, np.int64)
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
        self._table.forget(seat.slots[0])

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
        self.counters.shared += count
        if isinstance(seat.job, TokenSequence):
            seat.job.reused_tokens = count

    def _fill(self) -> list[Piece]:
        """Run one pass of prefill; what is full begins."""
        seats = self._next_to_fill()
        if not seats:
            return []
        if len(seats) > 1:
            logits = self._decoder.fill([seat.ids for seat in seats], seats[0].slots[0])
            longest = max(len(seat.ids) for seat in seats)
            self.counters.padding += sum(longest - len(seat.ids) for seat in seats)
        else:
            (seat,) = seats
            chunk, slot = seat.ids[seat.done : seat.done + self._decoder.chunk], seat.slots[0]
            if seat.done + len(chunk) < len(seat.ids):
                self._decoder.feed(chunk, slot)
            else:
                logits = self._decoder.append(chunk, slot)
        self.counters.passes += 1
        begun, rows = [], []
        for row, seat in enumerate(seats):
            before, seat.done = seat.done, int(self._decoder.lengths[seat.slots[0]])
            self.counters.prefilled += seat.done - before
            together = self._follow(seat)
            if seat.done == len(seat.ids):
                begun += [seat, *together]
                rows += [row] * (1 + len(together))
        return self._begin(begun, logits[rows]) if begun else []

    def _next_to_fill(self) -> list[Seat]:
        """Return the seat to fill next, or several empty ones side by side that fit one pass."""
        if not self._table.filling:
            return []
        ready = [seat for seat in self._table.filling if seat.leader is None]
        chunk = self._decoder.chunk
        budget = chunk if self._table.running else CHUNKS_TOGETHER * chunk
        group: list[Seat] = []
        longest = tokens = 0
        for seat in ready:
            longest, tokens = max(longest, len(seat.ids)), tokens + len(seat.ids)
            padded = (len(group) + 1) * longest
            beside = not group or seat.slots[0] == group[-1].slots[0] + 1
            fits = padded <= min(budget, MAX_PADDED * tokens) and len(seat.ids) <= chunk
            if seat.done or not beside or not fits:
                break
            group.append(seat)
        return group or ready[:1]

    def _follow(self, leader: Seat) -> list[Seat]:
        """Copy what others wait for; return those of the same prompt, which are full with it."""
        full = []
        for seat in [seat for seat in self._table.filling if seat.leader is leader]:
            if leader.done < seat.shared:
                continue
            seat.leader = None
            same = seat.shared == len(seat.ids) == len(leader.ids)
            count = seat.shared if same else min(seat.shared, len(seat.ids) - 1)
            self._take_slot(seat, leader.slots[0], count)
            if same:
                full.append(seat)
        return full

    def _begin(self, seats: Sequence[Seat], logits: Logits) -> list[Piece]:
        """Let full seats run; `logits [seats, vocab_size]` are those after each one's ids."""
        for seat in seats:
            self._table.start(seat)
        rows = np.repeat(np.arange(len(seats)), [seat.job.width for seat in seats])
        return self._choose(seats, logits[rows], packed=True)

    def _choose(self, seats: Sequence[Seat], logits: Logits, packed: bool = False) -> list[Piece]:
        """Choose the next tokens of seats, all plain ones at once; those that end leave.

        Args:
            seats: some that run.
            logits: `[rows, vocab_size]`, by slot, or where `packed` seat after seat.
            packed: see `logits`.
        """
        if all(seat.job.width == 1 for seat in seats):  # then either way a row is a seat's
            return self._choose_singles(seats, logits)
        first, at = 0, {}
        for seat in seats:
            at[seat] = [*range(first, first + len(seat.slots))] if packed else [*seat.slots]
            first += len(seat.slots)
        singles = [seat for seat in seats if seat.job.width == 1]
        rows = [at[seat][0] for seat in singles]
        pieces = self._choose_singles(singles, logits[rows]) if singles else []
        for seat in seats:
            if isinstance(seat.job, BeamSearch):
                pieces += self._advance(seat, seat.job, logits[at[seat]])
        return pieces

    def _choose_singles(self, seats: Sequence[Seat], logits: Logits) -> list[Piece]:
        """Choose for seats of one row each; `logits [seats, vocab_size]` are theirs in order."""
        pieces = self._take(seats, logits)
        self._retire(seats)
        return pieces

    def _take(self, seats: Sequence[Seat], logits: Logits) -> list[Piece]:
        """Give each seat its next token; `logits [seats, vocab_size]`."""
        texts = _texts(seats)
        tokens = choose_tokens(
            [text.pipeline for text in texts], logits, [text.random for text in texts]
        ).tolist()
        pieces = []
        for seat, text, token_id, row in zip(seats, texts, tokens, logits, strict=True):
            text.record_logprobs(row, token_id)
            text.pipeline.accept(token_id)
            piece = text.add(token_id, self._engine_seconds)
            seat.tokens = [token_id]
            if piece:
                pieces.append((text, piece))
        return pieces

    def _retire(self, seats: Sequence[Seat]) -> None:
        """Let the seats leave whose jobs have ended."""
        ended = [seat for seat in seats if seat.job.finish_reason is not None]
        # From behind: of rows that end together the last ones leave no gap.
        for seat in sorted(ended, key=lambda seat: -seat.slots[0]):
            self._leave(seat)

    def _advance(self, seat: Seat, search: BeamSearch, logits: Logits) -> list[Piece]:
        def copy_row(source: int, target: int, start: int) -> None:
            self._decoder.copy_slot(seat.slots[source], seat.slots[target], start)

        tokens = search.advance(logits, copy_row, self._engine_seconds)
        if tokens is not None:
            seat.tokens = tokens
            return []
        self._leave(seat)
        return [(text, text.text) for text in search.texts if text.text]

    def _leave(self, seat: Seat) -> None:
        """Take a seat out; its text may serve one that begins alike."""
        job = seat.job
        left = None
        if isinstance(job, TokenSequence) and seat.whole:
            slot = seat.slots[0]
            left = job.ids[: self._decoder.lengths[slot]]
            if self._prefixes:
                self._prefixes.put(left, lambda: self._decoder.read(slot))
        self._table.stop(seat, left)
        if isinstance(job, TokenSequence):
            self._speculation.leave(job)

    @property
    def _engine_seconds(self) -> float:
        """How long ONNX Runtime has run in all, the draft's passes too."""
        drafting = self._draft.engine_seconds if self._draft else 0.0
        return self._decoder.engine_seconds + drafting


def _texts(seats: Sequence[Seat]) -> list[TokenSequence]:
    """Return the texts of seats of one row each."""
    return [seat.job for seat in seats if isinstance(seat.job, TokenSequence)]


def _came_true(seat: Seat, guess: Sequence[int], place: int) -> bool:
    """Whether a text goes on, and its newest token is the one guessed at a place."""
    return seat.job.finish_reason is None and [*guess[place : place + 1]] == seat.tokens
