"""`pocketgpt generate`: a prompt's continuation, streamed."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ..generation.stream import BatchStream, Stream
from .console import print_json, progress_console
from .generation_flags import with_generation_flags, without_effect
from .interrupt import INTERRUPTED, cancel_on_interrupt
from .loading import Loading, with_loading_flags
from .options import Folder, JsonOption
from .streams import read_standard_input


@with_loading_flags()
@with_generation_flags
def generate(
    folder: Folder,
    prompt: Annotated[
        str, typer.Argument(metavar="[PROMPT|-]", help="The prompt; - reads standard input.")
    ] = "-",
    json: JsonOption = False,
    *,
    loading: Loading,
    generation: dict[str, Any],
) -> None:
    """Continue a prompt. Prints the new text alone, as it is made.

    Ctrl-C ends the text with what was made; the exit code is then 130.
    """
    text = read_standard_input() if prompt == "-" else prompt
    model = loading.open(folder)
    stream: Stream | BatchStream = model.stream(text, adapter=loading.adapter, **generation)
    if (ignored := without_effect(generation)) and not json:
        progress_console.print(f"note: without --do-sample, {', '.join(ignored)} change nothing")
    with cancel_on_interrupt(stream.cancel) as interrupted:
        if isinstance(stream, BatchStream) or json:
            _print_whole(stream, json)
        else:
            _print_pieces(stream)
    if interrupted():
        raise typer.Exit(INTERRUPTED)


def _print_pieces(stream: Stream) -> None:
    try:
        for piece in stream:
            print(piece, end="", flush=True)
    finally:  # whatever happened: what was made stays, on a line of its own
        print()


def _print_whole(stream: Stream | BatchStream, json: bool) -> None:
    """Print what is not one stream of text once it is done: JSON, or several texts."""
    for _ in stream:
        pass
    assert stream.result is not None
    if json:
        print_json(stream.result)
    elif isinstance(stream.result, list):
        print("\n---\n".join(result.text for result in stream.result))
