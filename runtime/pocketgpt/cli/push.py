"""`pocketgpt push`: a model folder goes to the Hugging Face hub."""

from __future__ import annotations

import json as json_library
from typing import Annotated

import typer

from ..folder.push import push as upload
from .console import result_console
from .options import JsonOption, LocalFolder


def push(
    folder: LocalFolder,
    repo: Annotated[str, typer.Argument(metavar="USER/REPO", help="Its name on the hub.")],
    variants: Annotated[
        list[str] | None,
        typer.Option("--variant", help="A variant to push; may be repeated.  [default: all]"),
    ] = None,
    private: Annotated[
        bool, typer.Option("--private", help="Make a new repository private.")
    ] = False,
    revision: Annotated[
        str | None,
        typer.Option("--revision", help="A branch, made where it is not there.  [default: main]"),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Upload what a model folder lists, with its model card, in one commit."""
    address = upload(folder, repo, variants=variants, private=private, revision=revision)
    if json:
        print(json_library.dumps({"commit_url": address}))
    else:
        result_console.print(address, highlight=False, soft_wrap=True)
