"""What threads that wait for work cost and bring, by how long they wait before they sleep.

    python benchmarks/spin.py FOLDER [--variant V]... [--rounds N] [--threads N]

A step's time and processor time without a pause, then with 5 ms between steps in which the process
sleeps, as an app does that shows a token; and the processor time of a second of rest. Settings take
turns; figures are medians over the rounds. The table is Markdown.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import onnxruntime as ort

import pocketgpt

WAITS = (0, 50, 200, 1000, 20_000, None)  # microseconds; None for ONNX Runtime's own
STEPS, PAUSE = 32, 0.005


class WaitingOptions(ort.SessionOptions):  # type: ignore[misc]
    """A session's options with a wait, which takes ONNX Runtime 1.31."""

    wait: int | None = None

    def __init__(self) -> None:
        super().__init__()
        if self.wait is not None:
            self.add_session_config_entry("session.intra_op.spin_duration_us", str(self.wait))


def timed(decoder: pocketgpt.Decoder, pause: float) -> tuple[float, float]:
    """Return the milliseconds that a step takes ONNX Runtime, and all of the processor's time."""
    engine, processor = decoder.engine_seconds, time.process_time()
    for _ in range(STEPS):
        decoder.step(0)
        if pause:
            time.sleep(pause)
    spent = decoder.engine_seconds - engine, time.process_time() - processor
    return spent[0] / STEPS * 1e3, spent[1] / STEPS * 1e3


def measured(model: pocketgpt.Model) -> list[float]:
    """Return one round's figures, in the table's order."""
    decoder = model.new_decoder()
    decoder.reserve(32 + 3 * STEPS)
    decoder.prefill([0] * 32)
    timed(decoder, 0)
    found = [*timed(decoder, 0), *timed(decoder, PAUSE)]
    begin = time.process_time()
    time.sleep(1)
    return [*found, 100 * (time.process_time() - begin)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--variant", action="append", help="int8 and q4 by default")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, help="the physical cores by default")
    arguments = parser.parse_args()
    ort.SessionOptions = WaitingOptions
    print("| variant | wait, us | step, ms | processor | with pauses | processor | at rest, % |")
    print("|---|---|---|---|---|---|---|")
    for variant in arguments.variant or ("int8", "q4"):
        models = {}
        for wait in WAITS:
            WaitingOptions.wait = wait
            models[wait] = pocketgpt.load(arguments.folder, variant, threads=arguments.threads)
        rounds = [{wait: measured(models[wait]) for wait in WAITS} for _ in range(arguments.rounds)]
        for wait in WAITS:
            columns = zip(*(one[wait] for one in rounds), strict=True)
            figures = " | ".join(f"{statistics.median(column):.2f}" for column in columns)
            print(f"| {variant} | {'its own' if wait is None else wait} | {figures} |", flush=True)


if __name__ == "__main__":
    main()
