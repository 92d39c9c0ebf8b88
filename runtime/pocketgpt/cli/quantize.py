"""`pocketgpt quantize`: smaller variants, with what each one lost."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .console import print_json, progress_bars, result_console, variants_table
from .extras import needs_extra
from .options import Folder, JsonOption


def quantize(
    folder: Folder,
    variants: Annotated[
        list[str], typer.Argument(metavar="VARIANT...", help="Variants to make: int8, q4.")
    ],
    eval_text: Annotated[
        Path | None,
        typer.Option(
            "--eval-text", help="Text to measure quality on.  [default: FOLDER/evaluation.txt]"
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Make smaller variants of a model folder and measure what each one lost."""
    with needs_extra("quantize"):
        import pocketgpt_quantize
    with progress_bars() as progress:
        manifest = pocketgpt_quantize.quantize(
            folder, variants, eval_text=eval_text, progress=progress
        )
    if json:
        print_json(manifest)
    else:
        result_console.print(variants_table(manifest))
