"""Testing a provider on demand: does it compute what the CPU does."""

from __future__ import annotations

import os

from ..engine.graph import open_variant
from ..engine.providers import Provider, find_provider
from ..engine.running import Running
from ..engine.selftest import Progress
from ..engine.trust import run_selftest
from ..engine.verdicts import SelfTest
from ..folder.hub import located
from ..folder.opening import open_folder, pick_variant


def selftest(
    folder: str | os.PathLike[str],
    variant: str | None = None,
    *,
    provider: Provider = "auto",
    threads: int | None = None,
    strict: bool = False,
    progress: Progress | None = None,
) -> SelfTest:
    """Run a few prompts on a provider, and compare with what the manifest says the CPU answered.

    In one pass, a token at a time, in chunks, and as a ragged batch. What is found is remembered,
    for `load` and `devices`; it does not raise an error.

    Args:
        folder: what `pocketgpt export` wrote.
        variant: as for `load`.
        provider: as for `load`; the CPU may be tested too.
        threads: as for `load`.
        strict: as for `load`.
        progress: called with (what is done now, checks done, checks in all).

    Raises:
        ModelFolderError: the folder is missing, damaged, has no such variant, or no fingerprint.
        ProviderError: the provider is not in this ONNX Runtime, or did not become active.
        OptionError: `threads` is no whole number above 0, or the provider cannot be read.
        InferenceError: the graph could not be run.

    Example:
        >>> pocketgpt.selftest("models/gpt2", "fp16", provider="cuda").failed
        ()
    """
    found = find_provider(provider)
    folder = located(folder, lambda known: [pick_variant(known, variant, found.name)])
    opened = open_folder(folder, variant, provider=found.name)
    running = Running(provider, threads, strict=strict, selftest=False)
    graph = open_variant(opened, running)
    opened.check_unchanged()
    return run_selftest(opened, found, graph.decoder, graph.assignment, progress)
