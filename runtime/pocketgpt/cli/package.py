"""`pocketgpt package`: what an app needs of a model, in a smaller folder or one file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from ..errors import OptionError
from ..folder.packaging import package as write
from .console import print_json, progress_bars, result_console
from .options import Folder, JsonOption

PASSWORD = "POCKETGPT_KEY_PASSWORD"


def package(
    folder: Folder,
    out: Annotated[
        Path,
        typer.Argument(
            metavar="OUT", help="Where to write: one file if it ends with .pocketgpt, or a folder."
        ),
    ],
    variant: Annotated[
        list[str] | None,
        typer.Option(
            "--variant",
            help="A variant; repeat for more.  [default: the first there is of int8, q8 and fp32, "
            "which run well on any CPU; or the only one]",
        ),
    ] = None,
    texts: Annotated[
        bool, typer.Option("--texts", help="Take evaluation.txt and calibration.txt too.")
    ] = False,
    sign: Annotated[
        Path | None,
        typer.Option(
            "--sign",
            metavar="KEY",
            help="Sign it by this private elliptic key in PEM; a password is taken from the "
            f"environment, {PASSWORD}.",
        ),
    ] = None,
    certificate: Annotated[
        list[Path] | None,
        typer.Option(
            "--certificate",
            help="The key's certificate in PEM; repeat for those that lead to the root.",
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a folder or a package that is there.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Write what an app needs of a model: a smaller folder, or one file.

    Every file is checked as it is copied. The same input makes the same file, byte for byte.
    """
    if certificate and sign is None:
        raise OptionError("--certificate needs --sign")
    with progress_bars() as progress:
        made = write(
            folder,
            out,
            variant or None,
            texts=texts,
            sign=sign,
            certificates=certificate or (),
            password=os.environ.get(PASSWORD) if sign else None,
            overwrite=overwrite,
            progress=progress,
        )
    if json:
        print_json(made)
        return
    lines = [f"{made.path}: {', '.join(made.variants)}, {made.bytes / 1e6:.1f} MB"]
    if made.sha256:
        lines.append(f"sha256 {made.sha256}")
    if made.signature:
        lines.append(f"signature {made.signature}")
    for line in lines:
        result_console.print(line, highlight=False, soft_wrap=True)
