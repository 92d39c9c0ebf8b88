"""The verbs, put together."""

from __future__ import annotations

from typing import Annotated

import typer

from .. import __version__
from .bench import bench
from .chat import chat
from .choose import choose
from .classify import classify
from .devices import devices
from .evaluate import evaluate
from .export import export
from .generate import generate
from .inspect import inspect
from .map import map
from .package import package
from .push import push
from .quantize import quantize
from .score import score
from .serve import serve
from .verify import verify

app = typer.Typer(
    name="pocketgpt",
    help="Export GPT-2 models to ONNX once, quantize them, loss measured, and run them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"pocketgpt {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    pass


VERBS = (
    export,
    quantize,
    generate,
    chat,
    classify,
    choose,
    score,
    evaluate,
    map,
    serve,
    bench,
    devices,
    inspect,
    verify,
    package,
    push,
)
for verb in VERBS:
    app.command()(verb)
