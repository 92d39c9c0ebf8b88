"""`pocketgpt export`: a checkpoint becomes a model folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .console import print_json, progress_bars, result_console
from .extras import needs_extra
from .options import JsonOption


def export(
    checkpoint: Annotated[
        str, typer.Argument(metavar="CHECKPOINT", help="A checkpoint folder or a hub id.")
    ],
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where to write.")],
    revision: Annotated[
        str | None, typer.Option("--revision", help="A hub branch, tag or commit.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a model folder, its variants included.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Export a GPT-2 checkpoint to a model folder, proven equal to PyTorch."""
    with needs_extra("export"):
        import pocketgpt_export
    with progress_bars() as progress:
        manifest = pocketgpt_export.export(
            checkpoint, folder, revision=revision, overwrite=overwrite, progress=progress
        )
    if json:
        print_json(manifest)
        return
    worst = max(manifest.proof.values())
    size = manifest.variants["fp32"].bytes / 1e6
    result_console.print(
        f"{folder}: fp32, {size:.1f} MB; logits within {worst:.1e} of PyTorch's", highlight=False
    )
