"""`pocketgpt quantize`: smaller variants, with what each one lost."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from ..errors import OptionError
from ..extras import needs_extra
from ..folder.manifest import read_manifest
from ..measure.plot import check_picture_path
from .console import print_json, progress_bars, progress_console, result_console, variants_table
from .options import JsonOption, LocalFolder


def quantize(
    folder: LocalFolder,
    variants: Annotated[
        list[str],
        typer.Argument(
            metavar="VARIANT...",
            help="Variants to make: int8, q4, q8, mixed, fp16, q4f16, int8_static.",
        ),
    ],
    eval_text: Annotated[
        Path | None,
        typer.Option(
            "--eval-text", help="Text to measure quality on.  [default: FOLDER/evaluation.txt]"
        ),
    ] = None,
    calibration_text: Annotated[
        Path | None,
        typer.Option(
            "--calibration-text",
            help="Text for the methods that look at one.  [default: FOLDER/calibration.txt]",
        ),
    ] = None,
    max_loss: Annotated[
        str | None,
        typer.Option(
            "--max-loss",
            metavar="SHARE",
            help="Rise of perplexity allowed, 1% or 0.01.  [default: each variant's own]",
        ),
    ] = None,
    accept_loss: Annotated[
        bool, typer.Option("--accept-loss", help="Install variants that lose more, too.")
    ] = False,
    block_size: Annotated[
        int | None,
        typer.Option(
            "--block-size",
            help="Weights of a layer that share a scale in int8, q4 and q4f16: 32, 64, 128 or 256. "
            "More are smaller and faster, and lose more.  [default: 32; of wide models the "
            "largest that cost little]",
            show_default=False,
        ),
    ] = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", help="Draw size against quality into this file.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Make smaller variants of a model folder, measure what each one lost, install those that hold.

    Exit code 1 if one lost more than allowed: it is not installed.
    """
    with needs_extra("quantize"):
        import pocketgpt_quantize
        from pocketgpt_quantize.observe.heap import keep_arrays_off_the_heap
    keep_arrays_off_the_heap()  # of this process, which is ours
    if plot is not None:
        check_picture_path(plot)
        from pocketgpt_quantize.plot import plot as draw
    with progress_bars() as progress:
        reports = pocketgpt_quantize.quantize(
            folder,
            variants,
            eval_text=eval_text,
            calibration_text=calibration_text,
            max_loss=None if max_loss is None else parse_share(max_loss),
            accept_loss=accept_loss,
            block_size=block_size,
            progress=progress,
        )
    manifest = read_manifest(folder)
    if plot is not None:
        draw({**manifest.variants, **{r.name: r.variant for r in reports}}, plot)
    if json:
        print_json(reports)
    else:
        shown = {report.name: report.variant for report in reports}
        fp32 = {"fp32": manifest.variants["fp32"]}
        result_console.print(variants_table(replace(manifest, variants=fp32 | shown)))
    for report in reports:
        progress_console.print(report.verdict, highlight=False, soft_wrap=True)
    if not all(report.installed for report in reports):
        raise typer.Exit(1)


def parse_share(text: str) -> float:
    """Read `1%` or `0.01`.

    Raises:
        OptionError: it is neither.
    """
    try:
        share = float(text[:-1]) / 100 if text.endswith("%") else float(text)
    except ValueError:
        share = math.nan
    if not math.isfinite(share):
        raise OptionError(f"--max-loss should look like 1% or 0.01, not {text!r}")
    return share
