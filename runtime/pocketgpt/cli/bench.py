"""`pocketgpt bench`: how fast this machine runs a model folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.box import SIMPLE
from rich.table import Table

from ..measure.bench import Benchmark, VariantSpeed
from ..measure.bench import bench as measure
from ..measure.bench_plot import benchmark_plotter
from .console import print_json, progress_bars, result_console
from .options import (
    AssistantOption,
    Folder,
    JsonOption,
    ProviderOption,
    SelftestOption,
    StrictOption,
    ThreadsOption,
)


def bench(
    folder: Folder,
    variant: Annotated[
        list[str] | None,
        typer.Option("--variant", help="A variant; repeat for more.  [default: all]"),
    ] = None,
    provider: ProviderOption = "auto",
    strict: StrictOption = False,
    selftest: SelftestOption = True,
    threads: ThreadsOption = None,
    prompt_lookup_num_tokens: Annotated[
        int | None,
        typer.Option(help="Measure guessing ahead by prompt lookup, at most so many tokens."),
    ] = None,
    assistant: AssistantOption = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", help="Draw the figures into this .png, .svg or .pdf.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Measure speed and memory, each variant in a process of its own.

    Load time; time to the first token of prompts of 32 tokens, 512, and as many as the context
    holds; decoded tokens a second of one text and of eight; peak memory; and "bandwidth", the share
    of this machine's memory bandwidth that decoding one text reaches: the bytes of the weights file
    and the filled cache, times tokens a second, over the bytes a second that as many threads read
    from a buffer of 256 MB in the same run. It passes 100% where the weights fit a cache.
    With --prompt-lookup-num-tokens also "ahead", the tokens a second of a text that is made to
    repeat itself, guessed ahead, and how many of the guesses came true; with --assistant the same
    of what the model says.
    """
    draw = benchmark_plotter(plot) if plot else None
    with progress_bars() as progress:
        found = measure(
            folder,
            variant or None,
            provider=provider,
            strict=strict,
            selftest=selftest,
            threads=threads,
            prompt_lookup_num_tokens=prompt_lookup_num_tokens,
            assistant=assistant,
            progress=progress,
        )
    if draw:
        draw(found)
    if json:
        print_json(found)
        return
    result_console.print(_table(found))
    result_console.print(
        f"{found.machine}; {found.threads} threads, {found.provider}, memory "
        f"{found.bandwidth / 1e9:.1f} GB/s; PocketGPT {found.pocketgpt}, "
        f"ONNX Runtime {found.onnxruntime}",
        highlight=False,
        soft_wrap=True,
    )


def _table(found: Benchmark) -> Table:
    """Return the figures as a table that fits a terminal of 80 columns."""
    table = Table(box=SIMPLE, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("variant", no_wrap=True)
    lengths = found.variants[0].first_token_seconds
    batches = found.variants[0].decode_tokens_per_second
    for heading in (
        "load\ns",
        *(f"first of\n{length}, ms" for length in lengths),
        *(f"tok/s\nof {rows}" for rows in batches),
        "peak\nMB",
        "band-\nwidth",
        *(("ahead\ntok/s", "came\ntrue") if _guessed(found) else ()),
    ):
        table.add_column(heading, justify="right", no_wrap=True)
    for speed in found.variants:
        table.add_row(*_cells(speed), *(_guesses(speed) if _guessed(found) else ()))
    return table


def _guessed(found: Benchmark) -> bool:
    return found.variants[0].speculative_tokens_per_second is not None


def _guesses(speed: VariantSpeed) -> list[str]:
    share = speed.accepted_share
    return [
        f"{speed.speculative_tokens_per_second:.0f}",
        "none" if share is None else f"{share:.0%}",
    ]


def _cells(speed: VariantSpeed) -> list[str]:
    peak = speed.peak_memory_bytes
    return [
        speed.variant,
        f"{speed.load_seconds:.2f}",
        *(f"{seconds * 1e3:.0f}" for seconds in speed.first_token_seconds.values()),
        *(f"{tokens:.0f}" for tokens in speed.decode_tokens_per_second.values()),
        "" if peak is None else f"{peak / 1e6:.0f}",
        f"{speed.bandwidth_share:.0%}",
    ]
