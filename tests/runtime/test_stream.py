"""Streams: cancelled, closed, awaited and left, from any thread, in the middle of a step."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import pocketgpt
from pocketgpt import GenerationResult, OptionError, Stream, Timings

LONG: dict[str, Any] = {"max_new_tokens": 50, "eos_token_id": []}
PROMPT = "The quick brown fox"
PATIENCE = 30  # seconds: a test that waits so long hangs


class Gate:
    """A step that stops in its middle until the test lets it go on.

    Attributes:
        entered: set once the step with number `at` has begun; it then waits for `released`.
    """

    def __init__(self, at: int = 3) -> None:
        self.entered, self.released = threading.Event(), threading.Event()
        self.steps = 0
        self._at = at

    def step(self) -> str:
        self.steps += 1
        if self.steps == self._at:
            self.entered.set()
            assert self.released.wait(PATIENCE)
        return f"{self.steps} "


def result_of(text: str, reason: Any) -> GenerationResult:
    return GenerationResult(text, [], reason, Timings(1, 0, 0.0, 0.0))


def gated(gate: Gate, steps: int = 50) -> Stream:
    """A stream of numbers whose steps the gate takes."""

    def pieces(
        cancelled: Callable[[], bool], done: Callable[[GenerationResult], None]
    ) -> Iterator[str]:
        text = ""
        try:
            while gate.steps < steps and not cancelled():
                text += (piece := gate.step())
                yield piece
        finally:
            done(result_of(text, "cancelled" if cancelled() else "length"))

    return Stream(pieces)


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.released.set()


def test_another_thread_cancels_in_the_middle(model: pocketgpt.Model) -> None:
    """One thread iterates; another cancels once it has seen a piece, and does not wait."""
    whole = model.generate(PROMPT, **LONG)
    stream = model.stream(PROMPT, **LONG)
    seen, cancelled = threading.Event(), threading.Event()
    pieces: list[str] = []

    def iterate() -> None:
        for piece in stream:
            pieces.append(piece)
            seen.set()
            assert cancelled.wait(PATIENCE)

    reader = threading.Thread(target=iterate)
    reader.start()
    assert seen.wait(PATIENCE)
    stream.cancel()
    cancelled.set()
    reader.join(PATIENCE)
    assert not reader.is_alive()
    result = stream.result
    assert result is not None
    assert result.finish_reason == "cancelled"
    assert 1 <= len(result.token_ids) <= 6  # tokens up to the first whole character, and one step
    assert result.token_ids == whole.token_ids[: len(result.token_ids)]
    assert "".join(pieces) == result.text == model.tokenizer.decode(result.token_ids)


def test_cancelling_in_a_step_ends_with_that_step(gate: Gate) -> None:
    stream = gated(gate)
    with ThreadPoolExecutor(1) as pool:
        pieces = pool.submit(list, stream)
        assert gate.entered.wait(PATIENCE)
        stream.cancel()
        gate.released.set()
        assert pieces.result(PATIENCE) == ["1 ", "2 ", "3 "]
    assert stream.result is not None
    assert (stream.result.text, stream.result.finish_reason) == ("1 2 3 ", "cancelled")


def test_closing_from_another_thread_waits_for_the_step(gate: Gate) -> None:
    stream = gated(gate)
    with ThreadPoolExecutor(2) as pool:
        pieces = pool.submit(list, stream)
        assert gate.entered.wait(PATIENCE)
        closing = pool.submit(stream.close)
        before = stream.result
        assert not closing.done()
        gate.released.set()
        closing.result(PATIENCE)
        assert before is None
        assert stream.result is not None
        assert pieces.result(PATIENCE) == ["1 ", "2 ", "3 "]
    assert stream.result.finish_reason == "cancelled"
    assert list(stream) == []


def test_several_threads_share_the_pieces(model: pocketgpt.Model) -> None:
    whole = list(model.stream(PROMPT, **LONG))
    stream = model.stream(PROMPT, **LONG)
    together = threading.Barrier(4)

    def iterate() -> list[str]:
        together.wait(PATIENCE)
        return list(stream)

    with ThreadPoolExecutor(4) as pool:
        shares = [share.result(PATIENCE) for share in [pool.submit(iterate) for _ in range(4)]]
    assert sorted(piece for share in shares for piece in share) == sorted(whole)
    assert stream.result is not None
    assert stream.result.text == "".join(whole)


def test_a_step_cannot_ask_for_the_next_one_and_may_close() -> None:
    """What a signal handler or a callback of the step does in its own thread."""
    refusals: list[OptionError] = []

    def pieces(
        cancelled: Callable[[], bool], done: Callable[[GenerationResult], None]
    ) -> Iterator[str]:
        try:
            next(stream)
        except OptionError as error:
            refusals.append(error)
        stream.close()
        yield "first"
        done(result_of("first", "cancelled" if cancelled() else "length"))

    stream = Stream(pieces)
    assert list(stream) == ["first"]
    assert str(refusals[0]) == "a stream cannot be iterated from within its own step"
    assert stream.result is not None
    assert stream.result.finish_reason == "cancelled"


def test_closing_and_leaving_end_a_stream(model: pocketgpt.Model) -> None:
    stream = model.stream(["A", "B", "C"], max_new_tokens=40, eos_token_id=[], batch_size=2)
    next(stream)
    stream.close()
    assert stream.result is not None
    assert [result.finish_reason for result in stream.result] == ["cancelled"] * 3
    assert stream.result[2].token_ids == []
    assert list(stream) == []
    unused = model.stream("A")
    unused.close()
    assert unused.result is not None
    assert unused.result.token_ids == []


def test_with_closes(model: pocketgpt.Model) -> None:
    with model.stream("A", **LONG) as stream:
        next(stream)
    assert stream.result is not None
    assert stream.result.finish_reason == "cancelled"


def test_async_iteration_gives_the_same_pieces(model: pocketgpt.Model) -> None:
    async def collect(prompt: str) -> list[str]:
        return [piece async for piece in model.stream(prompt, max_new_tokens=12)]

    async def both() -> list[list[str]]:
        return list(await asyncio.gather(collect("A"), collect("B")))

    assert asyncio.run(both()) == [list(model.stream(p, max_new_tokens=12)) for p in "AB"]


def test_leaving_an_async_iteration_cancels(model: pocketgpt.Model) -> None:
    stream = model.stream("A", max_new_tokens=50, eos_token_id=[])

    async def first() -> None:
        pieces = stream.__aiter__()
        await pieces.__anext__()
        await pieces.aclose()  # type: ignore[attr-defined]

    asyncio.run(first())
    rest = list(stream)
    assert stream.result is not None
    assert stream.result.finish_reason == "cancelled"
    assert len(rest) <= 1


def test_a_cancelled_task_leaves_a_result(gate: Gate) -> None:
    """Cancelled in the middle of a step, which no thread can be stopped in."""
    stream = gated(gate)
    seen: list[str] = []

    async def read() -> None:
        async for piece in stream:
            seen.append(piece)  # noqa: PERF401  # cancelled, a comprehension would lose them

    async def main() -> None:
        task = asyncio.create_task(read())
        await asyncio.to_thread(gate.entered.wait, PATIENCE)
        task.cancel()
        await asyncio.sleep(0)  # the task now waits for the step
        assert stream.result is None
        gate.released.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert stream.result is not None

    asyncio.run(main())
    assert stream.result is not None
    assert (stream.result.text, stream.result.finish_reason) == ("1 2 3 ", "cancelled")
    assert seen == ["1 ", "2 "]
    stream.close()
    assert list(stream) == []


def test_a_task_cancelled_twice_does_not_wait_and_still_ends_the_stream(gate: Gate) -> None:
    stream = gated(gate)

    async def read() -> None:
        async for _ in stream:
            pass

    async def main() -> None:
        task = asyncio.create_task(read())
        await asyncio.to_thread(gate.entered.wait, PATIENCE)
        for _ in range(2):
            task.cancel()
            await asyncio.sleep(0)
        with pytest.raises(asyncio.CancelledError):
            await task
        assert stream.result is None
        gate.released.set()

    asyncio.run(main())  # which waits for its threads
    assert stream.result is not None
    assert stream.result.finish_reason == "cancelled"


def test_a_timeout_ends_a_generation_in_its_middle(model: pocketgpt.Model) -> None:
    """The real thing, at whatever moment the cancellation hits."""

    async def read(stream: Stream, moment: int) -> None:
        async for _ in stream:
            moment -= 1
            if moment == 0:
                current = asyncio.current_task()
                assert current is not None
                asyncio.get_running_loop().call_soon(current.cancel)

    async def main() -> None:
        for moment in range(1, 8):
            stream = model.stream(PROMPT, **LONG)
            with pytest.raises(asyncio.CancelledError):
                await read_in_task(stream, moment)
            assert stream.result is not None
            assert stream.result.finish_reason == "cancelled"
            stream.close()

    async def read_in_task(stream: Stream, moment: int) -> None:
        await asyncio.create_task(read(stream, moment))

    asyncio.run(main())


@pytest.mark.parametrize("leave", ["break", "error"])
def test_leaving_an_async_loop_ends_the_stream(model: pocketgpt.Model, leave: str) -> None:
    stream = model.stream(PROMPT, **LONG)

    async def first() -> None:
        async for _ in stream:
            if leave == "break":
                break
            raise KeyError

    if leave == "break":
        asyncio.run(first())
    else:
        with pytest.raises(KeyError):
            asyncio.run(first())
    assert stream.result is not None
    assert stream.result.finish_reason == "cancelled"
    assert list(stream) == []


def test_async_with_closes(model: pocketgpt.Model) -> None:
    async def first() -> Stream:
        stream: Stream = model.stream(PROMPT, **LONG)
        async with stream:
            async for _ in stream:
                break
        return stream

    result = asyncio.run(first()).result
    assert result is not None
    assert result.finish_reason == "cancelled"


def test_no_speed_without_a_tick_of_the_clock() -> None:
    assert Timings(1, 5, 0.0, 0.0).tokens_per_second is None
    assert Timings(1, 5, 0.0, 2.0).tokens_per_second == 2.0
