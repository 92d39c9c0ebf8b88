"""What the runtime's own work costs on top of ONNX Runtime's, decoding one text.

    python benchmarks/overhead.py FOLDER [--variant V]... [--tokens N] [--rounds N] [--threads N]

Every round runs, one after another, a bare ONNX Runtime loop (bindings made once, in place,
argmax), greedy decoding and sampling. *overhead* is what the calling thread does outside ONNX
Runtime's call, over what it does inside, in the same steps, in processor time, which other work on
the machine disturbs least. *speed* is the steps a second, over the bare loop's. Figures are medians
over the rounds. The table is Markdown. FOLDER has a `fused` graph; gpt2_shape.py makes one.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

import pocketgpt
from pocketgpt.folder.manifest import read_manifest

PROMPT = "Once upon a time, in a house by the sea,"
SAMPLING = {
    "do_sample": True,
    "temperature": 0.8,
    "top_k": 50,
    "top_p": 0.95,
    "repetition_penalty": 1.2,
}
MODES: dict[str, dict[str, Any]] = {
    "greedy": {},
    "temperature, top_k, top_p, repetition_penalty": SAMPLING,
    "temperature, top_p alone": {"do_sample": True, "temperature": 0.8, "top_k": 0, "top_p": 0.9},
    "plain draw": {"do_sample": True, "top_k": 0},
}


class TimedSession:
    """An ONNX Runtime session that notes when each step began and ended, in processor time."""

    def __init__(self, session: ort.InferenceSession) -> None:
        self._session = session
        self.laps: list[tuple[float, float]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def run_with_iobinding(self, binding: ort.IOBinding) -> None:
        begin = time.thread_time()
        self._session.run_with_iobinding(binding)
        self.laps.append((begin, time.thread_time()))


class BareLoop:
    """Greedy decoding with nothing around ONNX Runtime: one buffer a layer and side, bound once."""

    def __init__(self, session: ort.InferenceSession, config: Any, capacity: int) -> None:
        self.session = session
        shape = (1, config.n_head, capacity, config.head_dim)
        self.token = np.zeros((1, 1), np.int64)
        self.position = np.zeros((1, 1), np.int64)
        self.mask = np.zeros((1, capacity), np.int64)
        self.logits = np.zeros((1, 1, config.vocab_size), np.float32)
        self.binding = self.session.io_binding()
        self.binding.bind_cpu_input("input_ids", self.token)
        self.binding.bind_cpu_input("position_ids", self.position)
        self.binding.bind_cpu_input("attention_mask", self.mask)
        self._bind_output("logits", self.logits)
        self.caches = []
        for layer in range(config.n_layer):
            for side in ("key", "value"):
                cache = np.zeros(shape, np.float32)
                self.caches.append(cache)
                self.binding.bind_cpu_input(f"past_key_values.{layer}.{side}", cache)
                self._bind_output(f"present.{layer}.{side}", cache)

    def run(self, prompt: list[int], tokens: int) -> float:
        """Feed the prompt token by token, then decode; return the seconds of a decoding step."""
        self.mask[:] = 0
        token_id = prompt[0]
        begin = 0.0
        for position in range(len(prompt) + tokens):
            if position == len(prompt):
                begin = time.perf_counter()
            self.token[0, 0] = prompt[position] if position < len(prompt) else token_id
            self.position[0, 0] = position
            self.mask[0, position] = 1
            self.session.run_with_iobinding(self.binding)
            token_id = int(self.logits[0, 0].argmax())
        return (time.perf_counter() - begin) / tokens

    def _bind_output(self, name: str, array: NDArray[np.float32]) -> None:
        self.binding.bind_output(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)


def decode(
    model: pocketgpt.Model, session: TimedSession, tokens: int, options: dict[str, Any]
) -> tuple[float, float]:
    """Return the seconds of a decoding step, and its overhead."""
    session.laps.clear()
    result = model.generate(PROMPT, max_new_tokens=tokens + 1, eos_token_id=[], seed=1, **options)
    assert len(result.token_ids) == tokens + 1
    (_, prefilled), *steps = session.laps[-tokens - 1 :]
    inside = sum(end - begin for begin, end in steps)
    return result.timings.decode_seconds / tokens, (steps[-1][1] - prefilled) / inside - 1


def measure(folder: Path, variant: str, tokens: int, rounds: int, threads: int | None) -> None:
    """Print a variant's rows."""
    model = pocketgpt.load(folder, variant, threads=threads)
    prompt = model.tokenizer.encode(PROMPT)
    # The same session: another's weights lie elsewhere in memory, which alone can make a tenth.
    bare = BareLoop(model._session, model.config, len(prompt) + tokens)
    session = model._session = TimedSession(model._session)
    bare_steps: list[float] = []
    overheads: dict[str, list[float]] = {mode: [] for mode in MODES}
    speeds: dict[str, list[float]] = {mode: [] for mode in MODES}
    steps: dict[str, list[float]] = {mode: [] for mode in MODES}
    for number in range(rounds + 1):
        step = bare.run(prompt, tokens)
        found = {mode: decode(model, session, tokens, MODES[mode]) for mode in MODES}
        if number == 0:  # the first round allocates and warms up
            continue
        bare_steps.append(step)
        for mode, (seconds, overhead) in found.items():
            overheads[mode].append(overhead)
            speeds[mode].append(step / seconds)
            steps[mode].append(seconds)
    bare_step = statistics.median(bare_steps)
    print(f"| {variant} | bare loop | {bare_step * 1e3:.3f} | | 1.00 |")
    for mode in MODES:
        step, overhead = statistics.median(steps[mode]), statistics.median(overheads[mode])
        speed = statistics.median(speeds[mode])
        print(
            f"| {variant} | {mode} | {step * 1e3:.3f} | {overhead:.1%} | {speed:.2f} |", flush=True
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--variant", action="append", help="all of the folder's by default")
    parser.add_argument("--tokens", type=int, default=64, help="decoding steps a run")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, help="the physical cores by default")
    arguments = parser.parse_args()
    print("| variant | decoding | step, ms | overhead | speed over the bare loop |")
    print("|---|---|---|---|---|")
    for variant in arguments.variant or read_manifest(arguments.folder).variants:
        measure(arguments.folder, variant, arguments.tokens, arguments.rounds, arguments.threads)


if __name__ == "__main__":
    main()
