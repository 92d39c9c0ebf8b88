"""`pocketgpt export`: a checkpoint becomes a model folder."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer

from ..extras import needs_extra
from .console import (
    checks_table,
    print_json,
    progress_bars,
    progress_console,
    result_console,
)
from .options import JsonOption


def export(
    checkpoint: Annotated[
        str,
        typer.Argument(
            metavar="CHECKPOINT", help="A checkpoint folder, a hub id, or nanoGPT's ckpt.pt."
        ),
    ],
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where to write.")],
    revision: Annotated[
        str | None, typer.Option("--revision", help="A hub branch, tag or commit.")
    ] = None,
    tokenizer: Annotated[
        str | None,
        typer.Option("--tokenizer", help="Take the tokenizer from this folder or hub id."),
    ] = None,
    base: Annotated[
        str | None, typer.Option("--base", help="Merge the LoRA adapter CHECKPOINT into this.")
    ] = None,
    graph: Annotated[
        str | None,
        typer.Option(
            "--graph",
            help="fused, or portable: standard operators.  [default: fused where heads fit]",
        ),
    ] = None,
    adapters: Annotated[
        bool, typer.Option("--adapters", help="Write a graph that takes LoRA adapters, too.")
    ] = False,
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
            checkpoint,
            folder,
            revision=revision,
            tokenizer=tokenizer,
            base=base,
            graph=graph,
            adapters=adapters,
            overwrite=overwrite,
            progress=progress,
        )
    for remark in manifest.remarks:
        progress_console.print(f"note: {remark}", highlight=False, markup=False, soft_wrap=True)
    if json:
        print_json(manifest)
        return
    result_console.print(checks_table(manifest.proof, math.inf))  # one that fails ends in an error
    size = manifest.variants["fp32"].bytes / 1e6
    result_console.print(
        f"{folder}: fp32, {manifest.graph} graph, {size:.1f} MB, equal to PyTorch",
        highlight=False,
        soft_wrap=True,
    )
