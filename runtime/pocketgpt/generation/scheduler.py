"""The one loop from prompts to new tokens: step what runs, let what ended go, fill what waits.

A round is one step of every running row and one pass of prefill. A row that ends leaves its slot
at once, and the next job in line gets it in the same round. While rows run, a pass of prefill is at
most one chunk, so that none waits longer than that for its next token; prompts that are longer take
turns, so that a short one waits for a chunk of each other at most.

Whoever serves several people at once may `drop` one job and let the others go on, and `isolate`
what fails by its own options.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from ..engine.decoder import Decoder
from ..errors import PocketGPTError
from .beam import BeamSearch
from .guessing.draft import Draft
from .guessing.speculation import Speculation
from .pipeline import choose_tokens
from .prefix_cache import Prefixes
from .processors import Logits
from .results import Counters
from .sequence import Piece, TokenSequence
from .sharing import Sharing
from .slots import Seat, SlotTable

CHUNKS_TOGETHER = 4  # in a pass of several prompts, padding included, while nothing runs
MAX_PADDED = 1.1  # times the tokens there are: beyond it a pass for each prompt is the faster way
MIN_SHARED = 16  # tokens; a shorter common beginning is sooner computed again than looked for
SCORED_CHUNK = 64  # tokens of a prompt that is scored, while rows run: each has all of its logits

AnyJob = TokenSequence | BeamSearch


class Scheduler:
    """Runs jobs on a decoder's slots; whoever drives it calls `round` while it is `busy`.

    Attributes:
        waiting: jobs that have no slots yet, first come first.
        counters: what was done so far.
        failed: jobs that an error of their own has ended, and it; for who isolates them.
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
        isolate: bool = False,
    ) -> None:
        """Take over a decoder.

        Args:
            decoder: its slots are free.
            n_positions: the context.
            prefixes: what earlier texts left in memory.
            min_shared: how long a beginning has to be that is taken from another text.
            held: the tokens that the first slot holds already.
            draft: what guesses for texts without prompt lookup; it has as many slots.
            isolate: whether a job whose options cannot be followed ends alone, and is put on
                `failed`; otherwise its error ends the round.
        """
        self.waiting: deque[AnyJob] = deque()
        self.counters = Counters()
        self.failed: list[tuple[AnyJob, PocketGPTError]] = []
        self._longest = 0  # tokens that a text may have
        self._decoder = decoder
        self._n_positions = n_positions
        self._table = SlotTable(decoder, np.array(held, np.int64))
        self._sharing = Sharing(decoder, self._table, prefixes, min_shared, self.counters)
        self._draft = draft
        self._speculation = Speculation(decoder, n_positions, draft)
        self._isolate = isolate

    @property
    def busy(self) -> bool:
        """Whether a job is not done."""
        return bool(self.waiting or self._table.running or self._table.filling)

    @property
    def room(self) -> int:
        """How many slots nobody has or waits for."""
        return self._table.free - sum(job.width for job in self.waiting)

    @property
    def running(self) -> int:
        """How many rows a step has now."""
        return len(self._table.running)

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

    def drop(self, job: AnyJob) -> list[Piece]:
        """End one job, wherever it is, and free its slots; return what it had held back.

        One that has ended stays as it is.
        """
        if job.finish_reason is not None:
            return []
        pieces = job.cancel()
        if job in self.waiting:
            self.waiting.remove(job)
        for seat in [*self._table.seats(), *self._table.filling]:
            if seat.job is job:
                self._leave(seat)
                self._sharing.orphan(seat)
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
            job.seated()
            self._sharing.begin(self._table.admit(job, job.prompt_ids))

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
            logits = self._fill_one(seats[0])
        self.counters.passes += 1
        begun, rows = [], []
        for row, seat in enumerate(seats):
            before, seat.done = seat.done, int(self._decoder.lengths[seat.slots[0]])
            self.counters.prefilled += seat.done - before
            together = self._sharing.follow(seat)
            if seat.done == len(seat.ids):
                begun += [seat, *together]
                rows += [row] * (1 + len(together))
            else:
                self._table.requeue(seat)
        return self._begin(begun, logits[rows]) if begun else []

    def _fill_one(self, seat: Seat) -> Logits:
        """Run the next chunk of a prompt; return `[1, vocab_size]` after it, if it is the last."""
        slot, job, size = seat.slots[0], seat.job, self._decoder.chunk
        scored = _is_scored(seat) and seat.whole
        if scored and self._table.running:
            size = min(size, SCORED_CHUNK)
        chunk = seat.ids[seat.done : seat.done + size]
        if scored:
            assert isinstance(job, TokenSequence)
            logits = self._decoder.score(chunk, slot)
            job.record_prompt(logits, seat.done)
            return logits[-1:]
        if seat.done + len(chunk) < len(seat.ids):
            self._decoder.feed(chunk, slot)
            return np.zeros((1, 0), np.float32)
        return self._decoder.append(chunk, slot)

    def _next_to_fill(self) -> list[Seat]:
        """Return the seat to fill next, or several empty ones side by side that fit one pass."""
        if not self._table.filling:
            return []
        ready = [seat for seat in self._table.filling if seat.leader is None]
        first = min(range(len(ready)), key=lambda place: ready[place].turn)
        chunk = self._decoder.chunk
        budget = chunk if self._table.running else CHUNKS_TOGETHER * chunk
        group: list[Seat] = []
        longest = tokens = 0
        for seat in ready[first:]:
            longest, tokens = max(longest, len(seat.ids)), tokens + len(seat.ids)
            padded = (len(group) + 1) * longest
            beside = not group or seat.slots[0] == group[-1].slots[0] + 1
            fits = padded <= min(budget, MAX_PADDED * tokens) and len(seat.ids) <= chunk
            if seat.done or not beside or not fits or _is_scored(seat):
                break
            group.append(seat)
        return group or [ready[first]]

    def _begin(self, seats: Sequence[Seat], logits: Logits) -> list[Piece]:
        """Let full seats run; `logits [seats, vocab_size]` are those after each one's ids."""
        full = [seat for seat in seats if _may_go_on(seat)]
        if len(full) < len(seats):  # what was to be scored alone
            logits = logits[[_may_go_on(seat) for seat in seats]]
            for seat in seats:
                if seat not in full:
                    self._leave(seat)
            seats = full
        if not seats:
            return []
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
        failed: dict[int, PocketGPTError] | None = {} if self._isolate else None
        tokens = choose_tokens(
            [text.pipeline for text in texts], logits, [text.random for text in texts], failed
        ).tolist()
        pieces = []
        for place, (seat, text, token_id) in enumerate(zip(seats, texts, tokens, strict=True)):
            try:
                if failed and place in failed:
                    raise failed[place]
                text.pipeline.accept(token_id)
            except PocketGPTError as error:
                self._fail(text, error)
                continue
            text.record_logprobs(logits[place], token_id)
            piece = text.add(token_id, self._engine_seconds)
            seat.tokens = [token_id]
            if piece:
                pieces.append((text, piece))
        return pieces

    def _fail(self, job: AnyJob, error: PocketGPTError) -> None:
        """End a job by an error of its own, where it is to end alone.

        Raises:
            PocketGPTError: `error`, where it is not.
        """
        if not self._isolate:
            raise error
        job.abandon()
        self.failed.append((job, error))

    def _retire(self, seats: Sequence[Seat]) -> None:
        """Let the seats leave whose jobs have ended."""
        ended = [seat for seat in seats if seat.job.finish_reason is not None]
        # From behind: of rows that end together the last ones leave no gap.
        for seat in sorted(ended, key=lambda seat: -seat.slots[0]):
            self._leave(seat)

    def _advance(self, seat: Seat, search: BeamSearch, logits: Logits) -> list[Piece]:
        def copy_row(source: int, target: int, start: int) -> None:
            self._decoder.copy_slot(seat.slots[source], seat.slots[target], start)

        try:
            tokens = search.advance(logits, copy_row, self._engine_seconds)
        except PocketGPTError as error:
            self._fail(search, error)
            self._leave(seat)
            return []
        if tokens is not None:
            seat.tokens = tokens
            return []
        self._leave(seat)
        return [(text, text.text) for text in search.texts if text.text]

    def _leave(self, seat: Seat) -> None:
        """Take a seat out; its text may serve one that begins alike."""
        self._table.stop(seat, self._sharing.keep(seat))
        if isinstance(seat.job, TokenSequence):
            self._speculation.leave(seat.job)

    @property
    def _engine_seconds(self) -> float:
        """How long ONNX Runtime has run in all, the draft's passes too."""
        drafting = self._draft.engine_seconds if self._draft else 0.0
        return self._decoder.engine_seconds + drafting


def _texts(seats: Sequence[Seat]) -> list[TokenSequence]:
    """Return the texts of seats of one row each."""
    return [seat.job for seat in seats if isinstance(seat.job, TokenSequence)]


def _is_scored(seat: Seat) -> bool:
    """Whether the logits after every token of a seat's prompt are wanted."""
    return isinstance(seat.job, TokenSequence) and seat.job.prompt_logprobs is not None


def _may_go_on(seat: Seat) -> bool:
    return seat.job.finish_reason is None


def _came_true(seat: Seat, guess: Sequence[int], place: int) -> bool:
    """Whether a text goes on, and its newest token is the one guessed at a place."""
    return seat.job.finish_reason is None and [*guess[place : place + 1]] == seat.tokens
