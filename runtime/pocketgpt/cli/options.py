"""Options that several verbs take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="A model folder.")]
VariantOption = Annotated[
    str | None,
    typer.Option(
        "--variant", help="fp32, int8, q4, ...  [default: int8 if it is there, else fp32]"
    ),
]
ProviderOption = Annotated[
    str,
    typer.Option(
        "--provider",
        help="auto, cpu, or an ONNX Runtime provider, as CUDAExecutionProvider:device_id=1.",
    ),
]
ThreadsOption = Annotated[
    int | None,
    typer.Option("--threads", help="Threads to compute with.  [default: the physical cores]"),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
