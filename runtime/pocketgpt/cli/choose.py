"""`pocketgpt choose`: which of several texts goes on best after a prompt."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.box import SIMPLE
from rich.table import Table
from rich.text import Text

from ..tasks.choose import Choices
from .console import print_json, result_console
from .loading import Loading, with_loading_flags
from .options import Folder, JsonOption
from .streams import read_standard_input


@with_loading_flags("prefill_variant", "assistant")
def choose(
    folder: Folder,
    prompt: Annotated[
        str, typer.Argument(metavar="PROMPT|-", help="The prompt; - reads standard input.")
    ],
    choices: Annotated[
        list[str],
        typer.Argument(metavar="CHOICE...", help="Texts as they follow the prompt: ' Paris'."),
    ],
    normalization: Annotated[
        str,
        typer.Option(
            "--normalization",
            help="Compare log-probabilities as they are (none), for each byte (bytes) or for each "
            "token (tokens).",
        ),
    ] = "none",
    json: JsonOption = False,
    *,
    loading: Loading,
) -> None:
    """Rank continuations of a prompt by log-probability, the best first."""
    text = read_standard_input() if prompt == "-" else prompt
    model = loading.open(folder)
    compared_by: Any = normalization  # any string: choose refuses what it does not know
    found = model.choose(text, choices, normalization=compared_by, adapter=loading.adapter)
    print_json(found) if json else _show(found)


def _show(found: Choices) -> None:
    table = Table(box=SIMPLE, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("choice", no_wrap=True, overflow="ellipsis")
    for heading in ("log-probability", "tokens", "a byte"):
        table.add_column(heading, justify="right", no_wrap=True)
    for one in found.ranked:
        by_byte = f"{one.log_prob / one.bytes:.4f}"
        shown = Text(" ".join(one.text.split()))
        table.add_row(shown, f"{one.log_prob:.4f}", f"{one.tokens}", by_byte)
    result_console.print(table)
