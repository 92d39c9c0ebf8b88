"""`pocketgpt classify`: the labels of texts."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.box import SIMPLE
from rich.table import Table
from rich.text import Text

from ..errors import OptionError
from ..generation.generator import BATCH_SIZE
from ..tasks.classify import Classification
from .console import print_json, progress_bars, result_console
from .loading import Loading, with_loading_flags
from .options import Folder, JsonOption
from .streams import read_standard_input


@with_loading_flags("kv_cache", "prefill_variant", "adapter", "assistant")
def classify(
    folder: Folder,
    texts: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[TEXT...|-]",
            help="Texts; -, as without any, reads standard input, a text a line.",
        ),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option("--file", help="A UTF-8 file with a text a line; - for standard input."),
    ] = None,
    top_k: Annotated[
        int | None,
        typer.Option("--top-k", help="Labels to show, the likeliest.  [default: 1; --json: all]"),
    ] = None,
    truncation: Annotated[
        bool,
        typer.Option(
            "--truncation", help="Read the beginning of texts that are longer than the context."
        ),
    ] = False,
    batch_size: Annotated[
        int, typer.Option("--batch-size", help="Most texts in one pass.")
    ] = BATCH_SIZE,
    json: JsonOption = False,
    *,
    loading: Loading,
) -> None:
    """Label texts, by a folder whose checkpoint is a classifier.

    Probabilities are those of transformers' text-classification pipeline; a regression's are its
    values. --json prints a list, in the order of the texts.
    """
    given = _texts(texts, file)
    model = loading.open(folder)
    with progress_bars() as progress:
        found = model.classify(
            given,
            top_k=1 if top_k is None and not json else top_k,
            truncation=truncation,
            batch_size=batch_size,
            progress=partial(progress, "classifying"),
        )
    print_json(found) if json else _show(given, found)


def _texts(texts: list[str] | None, file: Path | None) -> list[str]:
    """Return the texts of a command line, of a file, or of standard input."""
    if texts and file is not None:
        raise OptionError("give texts or --file, not both")
    if texts and texts != ["-"]:
        return texts
    if file is None or str(file) == "-":
        content = read_standard_input()
    else:
        try:
            content = file.read_text("utf-8-sig")
        except (OSError, ValueError) as error:  # ValueError: no UTF-8, or no name for a file
            raise OptionError(f"{file} cannot be read: {error}") from None
    lines = content.removesuffix("\n").split("\n")
    return [line.removesuffix("\r") for line in lines]


def _show(texts: list[str], found: list[Classification]) -> None:
    """Print a row for each label that is to be shown; the text beside its first one."""
    table = Table(box=SIMPLE, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("text", no_wrap=True, overflow="ellipsis")
    table.add_column("label", no_wrap=True, overflow="ellipsis")
    table.add_column("probability", justify="right", no_wrap=True)
    for text, one in zip(texts, found, strict=True):
        shown = " ".join(text.split())
        for label, probability in one.probabilities.items():
            table.add_row(Text(shown), Text(label), f"{probability:.4f}")
            shown = ""
    result_console.print(table)
