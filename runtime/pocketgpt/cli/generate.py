"""`pocketgpt generate`: a prompt's continuation, streamed."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from ..errors import OptionError
from ..model import load
from .console import print_json, progress_console
from .options import Folder, JsonOption, ProviderOption, ThreadsOption, VariantOption


def generate(
    folder: Folder,
    prompt: Annotated[
        str, typer.Argument(metavar="[PROMPT|-]", help="The prompt; - reads standard input.")
    ] = "-",
    variant: VariantOption = None,
    max_new_tokens: Annotated[
        int | None, typer.Option(help="Most tokens to generate.  [default: 20]")
    ] = None,
    max_length: Annotated[
        int | None, typer.Option(help="Most tokens, the prompt's included.")
    ] = None,
    do_sample: Annotated[
        bool | None,
        typer.Option(
            "--do-sample/--no-do-sample", help="Draw tokens at random.", show_default=False
        ),
    ] = None,
    temperature: Annotated[
        float | None, typer.Option(help="Divides logits before drawing.  [default: 1]")
    ] = None,
    top_k: Annotated[
        int | None, typer.Option(help="Draw among the likeliest k; 0 for all.  [default: 50]")
    ] = None,
    top_p: Annotated[
        float | None, typer.Option(help="Draw among the likeliest that reach p.  [default: 1]")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Makes the draws repeatable.")] = None,
    provider: ProviderOption = "auto",
    threads: ThreadsOption = None,
    json: JsonOption = False,
) -> None:
    """Continue a prompt. Prints the new text alone, as it is made."""
    options: dict[str, Any] = {
        "max_new_tokens": max_new_tokens,
        "max_length": max_length,
        "do_sample": do_sample,
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "seed": seed,
    }
    options = {name: value for name, value in options.items() if value is not None}
    text = _read_standard_input() if prompt == "-" else prompt
    model = load(folder, variant, provider=provider, threads=threads)
    if json:
        print_json(model.generate(text, **options))
        return
    stream = model.stream(text, **options)
    ignored = sorted({"temperature", "top_k", "top_p", "seed"} & set(options))
    if ignored and not do_sample:
        progress_console.print(f"note: without --do-sample, {', '.join(ignored)} change nothing")
    try:
        for piece in stream:
            print(piece, end="", flush=True)
    finally:  # also after Ctrl-C: what was made stays, on a line of its own
        print()


def _read_standard_input() -> str:
    try:
        return sys.stdin.buffer.read().decode("utf-8")
    except UnicodeDecodeError as error:
        raise OptionError(f"the prompt on standard input is not UTF-8: {error}") from None
