"""How fast this machine runs a model folder: each variant in a process of its own."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import onnxruntime as ort

from .. import validate
from .._version import __version__
from ..engine.providers import Provider, find_provider
from ..engine.threads import physical_cores
from ..errors import PocketGPTError
from ..folder.manifest import read_manifest
from . import machine


@dataclass(frozen=True)
class VariantSpeed:
    """One variant's figures.

    Attributes:
        variant: its name.
        load_seconds: how long `load` took.
        first_token_seconds: from the call to the first new token, by the prompt's tokens.
        decode_tokens_per_second: new tokens after the first ones, of all texts together, by how
            many texts were decoded at once.
        peak_memory_bytes: most memory that the process had resident; None where nobody counts.
        step_bytes: what a step of one text reads: the weights file and the filled cache.
        bandwidth_share: `step_bytes` for every token a second, over the machine's bandwidth. Above
            1 where the weights fit a cache.
        speculative_tokens_per_second: new tokens a second of one text behind a prompt that repeats
            itself, guessed ahead; None unless that was asked for.
        accepted_share: how many of the guessed tokens came true; None where none was guessed.
    """

    variant: str
    load_seconds: float
    first_token_seconds: Mapping[int, float]
    decode_tokens_per_second: Mapping[int, float]
    peak_memory_bytes: int | None
    step_bytes: int
    bandwidth_share: float
    speculative_tokens_per_second: float | None = None
    accepted_share: float | None = None


@dataclass(frozen=True)
class Benchmark:
    """What `bench` measured, where and with what.

    `bandwidth` is the bytes a second that `threads` threads read from this machine's memory,
    measured in the same run.
    """

    machine: str
    pocketgpt: str
    onnxruntime: str
    provider: str
    threads: int
    bandwidth: float
    variants: tuple[VariantSpeed, ...]


def bench(
    folder: str | os.PathLike[str],
    variants: Sequence[str] | None = None,
    *,
    provider: Provider = "auto",
    strict: bool = False,
    selftest: bool = True,
    threads: int | None = None,
    prompt_lookup_num_tokens: int | None = None,
    assistant: str | os.PathLike[str] | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Benchmark:
    """Measure how fast this machine runs variants of a model folder.

    Prompts are random tokens: 32, 512 and as many as the context holds. Decoding is greedy, for one
    text and for eight, after prompts of 32 tokens. Of several runs the median counts. Guessing
    ahead, where it is asked for, is measured behind a prompt that says the same three times: by
    prompt lookup on a text that goes on so, whatever the model would say, by an assistant on what
    it says.

    Args:
        folder: what `pocketgpt export` wrote.
        variants: their names; None for all that are there.
        provider: as for `load`.
        strict: as for `load`.
        selftest: as for `load`.
        threads: as for `load`.
        prompt_lookup_num_tokens: as for `generate`, to measure guessing ahead.
        assistant: the folder of a model that guesses ahead, as for `load`.
        progress: called with (what is done now, variants done, variants in all).

    Raises:
        ModelFolderError: the folder is missing, damaged, or has no such variant.
        ProviderError: the provider is not in this ONNX Runtime, or did not become active.
        OptionError: `threads` or `prompt_lookup_num_tokens` is no whole number above 0, or the
            provider cannot be read.

    Example:
        >>> pocketgpt.bench("models/gpt2", ["int8"]).variants[0].decode_tokens_per_second[1]
    """
    validate.whole("threads", threads, at_least=1, optional=True)
    lookup = prompt_lookup_num_tokens
    validate.whole("prompt_lookup_num_tokens", lookup, at_least=1, optional=True)
    name = find_provider(provider).name
    manifest = read_manifest(folder)
    names = list(manifest.variants) if variants is None else list(variants)
    for variant in names:
        manifest.variant(variant)
    threads = threads or physical_cores()
    bandwidth = machine.read_bandwidth(threads)
    speeds = []
    for done, variant in enumerate(names):
        if progress:
            progress("measuring", done, len(names))
        found = _in_own_process(
            folder=os.fspath(folder),
            variant=variant,
            provider=provider,
            strict=strict,
            selftest=selftest,
            threads=threads,
            prompt_lookup_num_tokens=lookup,
            assistant=None if assistant is None else os.fspath(assistant),
        )
        speeds.append(_speed(variant, found, bandwidth))
    if progress:
        progress("measuring", len(names), len(names))
    return Benchmark(
        machine=machine.describe(),
        pocketgpt=__version__,
        onnxruntime=ort.__version__,
        provider=name,
        threads=threads,
        bandwidth=bandwidth,
        variants=tuple(speeds),
    )


def _in_own_process(**arguments: Any) -> dict[str, Any]:
    """Run benchmark_worker.py, so that a variant's peak of memory is its own."""
    import subprocess

    search_path = os.pathsep.join(path for path in sys.path if path)
    done = subprocess.run(
        [sys.executable, "-m", "pocketgpt.measure.bench_worker", json.dumps(arguments)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": search_path},
        encoding="utf-8",
    )
    lines = done.stdout.splitlines()
    found: dict[str, Any] = json.loads(lines[-1]) if lines else {}
    if done.returncode or "error" in found:
        reason = found.get("error", f"its process ended with exit code {done.returncode}")
        raise PocketGPTError(f"{arguments['variant']} could not be measured: {reason}")
    return found


def _speed(variant: str, found: Mapping[str, Any], bandwidth: float) -> VariantSpeed:
    decoded = {int(rows): speed for rows, speed in found["decode_tokens_per_second"].items()}
    return VariantSpeed(
        variant=variant,
        load_seconds=found["load_seconds"],
        first_token_seconds={int(n): time for n, time in found["first_token_seconds"].items()},
        decode_tokens_per_second=decoded,
        peak_memory_bytes=found["peak_memory_bytes"],
        step_bytes=found["step_bytes"],
        bandwidth_share=found["step_bytes"] * decoded[1] / bandwidth,
        speculative_tokens_per_second=found["speculative_tokens_per_second"],
        accepted_share=found["accepted_share"],
    )
