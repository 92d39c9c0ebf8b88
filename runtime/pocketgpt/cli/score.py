"""`pocketgpt score`: how well a model predicts text files."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from ..errors import OptionError
from ..measure.score import checked_stride
from ..measure.score_file import FileScore
from .console import print_json, progress_bars, progress_console, result_console
from .loading import Loading, with_loading_flags
from .options import Folder, JsonOption
from .streams import standard_input


@with_loading_flags("prefill_variant", "assistant")
def score(
    folder: Folder,
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE...", help="UTF-8 text files; - for standard input."),
    ],
    stride: Annotated[
        int | None,
        typer.Option(help="Tokens between two windows' starts.  [default: half the context]"),
    ] = None,
    json: JsonOption = False,
    *,
    loading: Loading,
) -> None:
    """Score text files of any size: perplexity and bits per byte.

    A file may be a pipe; - reads standard input. One that cannot be scored is named on standard
    error and the others get their figures; the exit code is then 1, or 2 if there is no other.
    """
    model = loading.open(folder)
    checked_stride(stride, model.config.n_positions)
    scores: list[FileScore] = []
    refusals: list[str] = []
    with progress_bars() as progress:
        for path in files:
            try:
                file = standard_input() if str(path) == "-" else path
                report = partial(progress, str(path))
                found = model.score_file(
                    file, stride=stride, adapter=loading.adapter, progress=report
                )
                scores.append(found)
            except OptionError as error:
                refusals.append(f"error: {error}")
    if scores:
        print_json(scores) if json else _show(scores)
    for refusal in refusals:
        progress_console.print(refusal, highlight=False, markup=False, soft_wrap=True)
    if refusals:
        raise typer.Exit(1 if scores else 2)


def _show(scores: list[FileScore]) -> None:
    table = Table("file")
    for heading in ("tokens", "bytes", "perplexity", "bits per byte"):
        table.add_column(heading, justify="right")
    for one in scores:
        figures = (f"{one.tokens:,}", f"{one.bytes:,}")
        table.add_row(one.path, *figures, f"{one.perplexity:.3f}", f"{one.bits_per_byte:.4f}")
    result_console.print(table)
