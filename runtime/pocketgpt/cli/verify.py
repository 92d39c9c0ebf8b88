"""`pocketgpt verify`: is a model folder what was exported."""

from __future__ import annotations

import dataclasses
from importlib.util import find_spec
from typing import Annotated

import typer

from ..errors import ProofError
from ..extras import needs_extra
from ..folder.verification import Verification, verify_files
from .console import checks_table, print_json, progress_bars, result_console
from .options import Folder, JsonOption


def verify(
    folder: Folder,
    checkpoint: Annotated[
        str | None,
        typer.Option(
            "--checkpoint",
            help="What it was exported from.  [default: its source, if that is still here]",
        ),
    ] = None,
    revision: Annotated[
        str | None, typer.Option("--revision", help="A hub branch, tag or commit.")
    ] = None,
    tokenizer: Annotated[
        str | None, typer.Option("--tokenizer", help="Where the tokenizer came from.")
    ] = None,
    base: Annotated[
        str | None, typer.Option("--base", help="What an adapter was merged into.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Check a folder's files, and its graph against PyTorch where the checkpoint is at hand."""
    with progress_bars() as progress:
        if checkpoint is None and not (find_spec("torch") and find_spec("transformers")):
            found = dataclasses.replace(
                verify_files(folder, progress), unproven="it needs pip install 'pocketgpt[export]'"
            )
        else:
            with needs_extra("export"):
                import pocketgpt_export
            found = pocketgpt_export.verify(
                folder,
                checkpoint,
                revision=revision,
                tokenizer=tokenizer,
                base=base,
                progress=progress,
            )
    if json:
        print_json(found)
    else:
        _show(found)
    if found.failures:
        raise ProofError("; ".join(found.failures))


def _show(found: Verification) -> None:
    damaged = found.failures and not found.proof
    files = "FAILED" if damaged else "ok"
    result_console.print(f"sha256 of {', '.join(found.variants)}: {files}", soft_wrap=True)
    if found.proof:
        result_console.print(checks_table(found.proof, found.tolerance or 0))
    if found.unproven:
        result_console.print(f"not proven against PyTorch: {found.unproven}", soft_wrap=True)
