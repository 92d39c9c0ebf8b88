"""Where ONNX Runtime's time goes: by operator, for a prompt and for the steps after it."""

from __future__ import annotations

import json
import os
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..engine.graph import open_graph
from ..engine.providers import Provider
from ..errors import OptionError
from ..folder.hub import located
from ..folder.opening import open_folder, pick_variant

PROMPT_TOKENS = 512
STEPS = 32

Event = dict[str, Any]


@dataclass(frozen=True)
class OperatorTime:
    """What the nodes of one operator took together, by how many calls."""

    operator: str
    calls: int
    seconds: float


@dataclass(frozen=True)
class Phase:
    """A prompt, or the steps after it: ONNX Runtime's whole time, and of it each operator's."""

    tokens: int
    seconds: float
    operators: tuple[OperatorTime, ...]


@dataclass(frozen=True)
class Profile:
    """What `profile` measured. Measuring every node slows a step; shares are what it shows."""

    variant: str
    prefill: Phase
    decode: Phase


def profile(
    folder: str | os.PathLike[str],
    variant: str | None = None,
    *,
    provider: Provider = "auto",
    threads: int | None = None,
) -> Profile:
    """Run a prompt of 512 random tokens and 32 steps, or as many as the context holds.

    Args:
        folder: what `pocketgpt export` wrote.
        variant: as for `load`.
        provider: as for `load`.
        threads: as for `load`.

    Raises:
        ModelFolderError: the folder is missing, damaged, or has no such variant.
        ProviderError: the provider is not in this ONNX Runtime, or did not become active.
        OptionError: `threads` is no whole number above 0, the provider cannot be read, or the
            context has no room for a prompt and a step.

    Example:
        >>> pocketgpt.profile("models/gpt2", "int8").decode.operators[0].operator
    """
    import tempfile

    folder = located(folder, lambda known: [pick_variant(known, variant)])
    opened = open_folder(folder, variant, kv_cache="auto")
    config = opened.config
    if config.n_positions < 2:
        raise OptionError("a context of 1 token has no room for a step after a prompt")
    steps = min(STEPS, config.n_positions // 2)
    prompt = min(PROMPT_TOKENS, config.n_positions - steps)
    random_ids = np.random.default_rng(0).integers(0, config.vocab_size, prompt).tolist()
    with tempfile.TemporaryDirectory() as scratch:
        graph = open_graph(
            opened.graph,
            config,
            weights=opened.weights,
            provider=provider,
            threads=threads,
            profile=Path(scratch) / "profile",
            tuned=True,
        )
        for _ in range(2):  # the first time allocates: only the second counts
            decoder = graph.decoder()
            decoder.prefill(random_ids)
            for _ in range(steps):
                decoder.step(random_ids[0])
        events = json.loads(graph.end_profiling().read_text("utf-8"))
    runs = sorted(
        (event for event in events if event["name"] == "model_run"), key=lambda run: run["ts"]
    )
    counted = runs[len(runs) // 2 :]
    return Profile(
        opened.variant,
        _phase(events, counted[:-steps], prompt),
        _phase(events, counted[-steps:], steps),
    )


def _phase(events: Sequence[Event], runs: Sequence[Event], tokens: int) -> Phase:
    """Add up the nodes that ran within `runs`, which are in order; times are microseconds."""
    begins = [run["ts"] for run in runs]
    microseconds: Counter[str] = Counter()
    calls: Counter[str] = Counter()
    for event in events:
        if event["cat"] != "Node" or "op_name" not in event.get("args", {}):
            continue
        number = bisect_right(begins, event["ts"]) - 1
        if number < 0 or event["ts"] >= begins[number] + runs[number]["dur"]:
            continue
        operator = event["args"]["op_name"]
        if operator == "If":  # the nodes of its branch have events of their own
            continue
        microseconds[operator] += event["dur"]
        calls[operator] += 1
    whole = sum(run["dur"] for run in runs) / 1e6
    by_time = tuple(
        OperatorTime(name, calls[name], time / 1e6) for name, time in microseconds.most_common()
    )
    return Phase(tokens, whole, by_time)
