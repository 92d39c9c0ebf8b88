"""`pocketgpt score`: how well a model predicts text files."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from ..model import load
from .console import print_json, progress_bars, result_console
from .options import Folder, JsonOption, ProviderOption, ThreadsOption, VariantOption


def score(
    folder: Folder,
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="UTF-8 text files.")],
    variant: VariantOption = None,
    stride: Annotated[
        int | None,
        typer.Option(help="Tokens between two windows' starts.  [default: half the context]"),
    ] = None,
    provider: ProviderOption = "auto",
    threads: ThreadsOption = None,
    json: JsonOption = False,
) -> None:
    """Score text files of any size: perplexity and bits per byte."""
    model = load(folder, variant, provider=provider, threads=threads)
    with progress_bars() as progress:
        scores = [
            model.score_file(path, stride=stride, progress=partial(progress, str(path)))
            for path in files
        ]
    if json:
        print_json(scores)
        return
    table = Table("file")
    for heading in ("tokens", "bytes", "perplexity", "bits per byte"):
        table.add_column(heading, justify="right")
    for one in scores:
        figures = (f"{one.tokens:,}", f"{one.bytes:,}")
        table.add_row(one.path, *figures, f"{one.perplexity:.3f}", f"{one.bits_per_byte:.4f}")
    result_console.print(table)
