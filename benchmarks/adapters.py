"""What places for LoRA adapters cost, unused and used.

    python benchmarks/adapters.py FOLDER [--variant V]... [--rank R]... [--rounds N]

Every round runs a variant's plain graph, its graph with places for adapters without one, and with
random ones of each rank for every product of every layer, one after another: a step of one row and
of 16 rows after 128 tokens, and a chunk of 128 tokens. The figures are medians over the rounds of
the time over the plain graph's, in the calling thread's processor time, with one thread. The table
is Markdown. FOLDER was exported with `--adapters`; gpt2_shape.py makes one.
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

PAST = 128
# name: rows, tokens that each has behind it, tokens it is given
CASES = {"step, 1 row": (1, PAST, 1), "step, 16 rows": (16, PAST, 1), "128 tokens": (1, 0, 128)}
RANKS = (8, 16, 64)


def open_graph(path: Path) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return ort.InferenceSession(path, options, ["CPUExecutionProvider"])


def random_adapter(session: ort.InferenceSession, rank: int) -> dict[str, ort.OrtValue]:
    """Return all inputs of an adapter that changes every product."""
    random = np.random.default_rng(rank)
    values = {}
    for place in session.get_overridable_initializers():
        if ".lora_" in place.name:
            shape = [size if isinstance(size, int) else rank for size in place.shape]
            numbers = 0.01 * random.standard_normal(shape, np.float32)
            values[place.name] = ort.OrtValue.ortvalue_from_numpy(numbers)
    return values


class Call:
    """A run of some rows, bound once, with or without an adapter."""

    def __init__(
        self,
        session: ort.InferenceSession,
        model: pocketgpt.Model,
        case: tuple[int, int, int],
        adapter: dict[str, ort.OrtValue],
    ) -> None:
        (rows, past, new), config = case, model.config
        self._session, self._binding = session, session.io_binding()
        self._kept: list[NDArray[Any]] = []
        random = np.random.default_rng(0)
        self._read("input_ids", random.integers(0, config.vocab_size, (rows, new)))
        self._read("position_ids", np.tile(np.arange(past, past + new), (rows, 1)))
        self._read("attention_mask", np.ones((rows, past + new), np.int64))
        for layer in range(config.n_layer):
            for side in ("key", "value"):
                shape = (rows, config.n_head, past + new, config.head_dim)
                cache = random.standard_normal(shape, np.float32)
                self._read(f"past_key_values.{layer}.{side}", cache)
                self._write(f"present.{layer}.{side}", cache)
        self._write("logits", np.zeros((rows, 1, config.vocab_size), np.float32))
        for name, value in adapter.items():
            self._binding.bind_ortvalue_input(name, value)

    def seconds(self) -> float:
        begin = time.thread_time()
        self._session.run_with_iobinding(self._binding)
        return time.thread_time() - begin

    def _read(self, name: str, array: NDArray[Any]) -> None:
        self._binding.bind_cpu_input(name, array)
        self._kept.append(array)

    def _write(self, name: str, array: NDArray[Any]) -> None:
        self._binding.bind_output(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
        self._kept.append(array)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--variant", action="append", help="all of the folder's by default")
    parser.add_argument("--rank", action="append", type=int, help=f"{RANKS} by default")
    parser.add_argument("--rounds", type=int, default=21)
    arguments = parser.parse_args()
    ranks, model = arguments.rank or RANKS, pocketgpt.load(arguments.folder, "fp32")
    print("| variant | | plain, ms | no adapter | " + " | ".join(f"rank {r}" for r in ranks) + " |")
    print("|---|---|---|---|" + "---|" * len(ranks))
    for variant in arguments.variant or model.manifest.variants:
        entry = model.manifest.variant(variant)
        if entry.adapter_graph is None:
            parser.error(f"{arguments.folder} was not exported with --adapters")
        plain = open_graph(arguments.folder / entry.files[0].path)
        session = open_graph(arguments.folder / entry.adapter_graph.path)
        adapters = [{}, *(random_adapter(session, rank) for rank in ranks)]
        for label, case in CASES.items():
            calls = [Call(plain, model, case, {})]
            calls += [Call(session, model, case, adapter) for adapter in adapters]
            rounds = [[call.seconds() for call in calls] for _ in range(arguments.rounds + 1)][1:]
            milliseconds = statistics.median(times[0] for times in rounds) * 1e3
            figures = " | ".join(
                f"{statistics.median(times[i] / times[0] for times in rounds):.3f}"
                for i in range(1, len(calls))
            )
            print(f"| {variant} | {label} | {milliseconds:.1f} | {figures} |", flush=True)


if __name__ == "__main__":
    main()
