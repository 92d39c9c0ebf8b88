"""`pocketgpt map`: every row of a file, answered."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import OptionError
from ..generation.generator import BATCH_SIZE
from .console import print_json, progress_bars, progress_console
from .generation_flags import with_generation_flags, without_effect
from .interrupt import INTERRUPTED
from .loading import Loading, with_loading_flags
from .options import Folder, JsonOption


@with_loading_flags()
@with_generation_flags
def map(  # as the verb is called
    folder: Folder,
    source: Annotated[
        Path, typer.Argument(metavar="IN", help="Rows to answer: .jsonl or .parquet.")
    ],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="What to write, likewise.")],
    task: Annotated[
        str, typer.Option("--task", help="generate, score, classify or choose.")
    ] = "generate",
    column: Annotated[
        str | None,
        typer.Option(
            "--column", help="The column to read.  [default: prompt; score, classify: text]"
        ),
    ] = None,
    id_column: Annotated[
        str | None,
        typer.Option("--id", help="The column of ids.  [default: a row's number, from 0]"),
    ] = None,
    choice: Annotated[
        list[str] | None,
        typer.Option("--choice", help="What choose ranks, for all rows.  Repeat for more."),
    ] = None,
    choices_column: Annotated[
        str, typer.Option("--choices-column", help="The column of each row's own choices.")
    ] = "choices",
    normalization: Annotated[
        str | None, typer.Option("--normalization", help="choose: none, bytes or tokens.")
    ] = None,
    stride: Annotated[
        int | None, typer.Option("--stride", help="score: tokens between two windows' starts.")
    ] = None,
    truncation: Annotated[
        bool, typer.Option("--truncation", help="classify: read the beginning of long texts.")
    ] = False,
    batch_size: Annotated[
        int, typer.Option("--batch-size", help="Most texts to decode at once.")
    ] = BATCH_SIZE,
    prefix: Annotated[
        str, typer.Option("--prefix", help="What the names of new columns begin with.")
    ] = "",
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Replace OUT, and a run of other settings that stopped."),
    ] = False,
    json: JsonOption = False,
    *,
    loading: Loading,
    generation: dict[str, Any],
) -> None:
    """Answer every row of a file: its columns and new ones, in the same order.

    generate: completion, finish_reason, new_tokens. score: log_prob, scored_tokens, perplexity,
    bits_per_byte. classify: label, probability, probabilities, in the order of the labels. choose:
    choice, choice_index, scores. error: what is wrong with a row, which then has no answer; the
    others go on.

    Killed, it goes on where it was when it is called the same way again: what is answered lies in
    OUT.partial, and OUT appears at the end. --seed and a row's id make the row's own seed.
    """
    from ..bulk import Job, map_file  # later: no other verb reads rows

    own = {"normalization": normalization, "stride": stride, "truncation": truncation or None}
    base = generation.pop("seed", 0)
    options = {**generation, **{name: value for name, value in own.items() if value is not None}}
    if task == "generate" and (wrong := own.keys() & options.keys()):
        raise OptionError(f"the task generate has no option {', '.join(sorted(wrong))}")
    if ignored := without_effect(generation):
        progress_console.print(f"note: without --do-sample, {', '.join(ignored)} change nothing")
    job = Job(
        folder,
        task,  # type: ignore[arg-type]  # any string: the job refuses what it does not know
        column,
        id_column,
        options,
        tuple(choice or ()),
        choices_column,
        base,
        batch_size,
        prefix,
        loading.options,
        loading.adapter,
    )
    try:
        with progress_bars() as progress:
            done = map_file(
                job, source, target, overwrite=overwrite, progress=partial(progress, "answering")
            )
    except KeyboardInterrupt:
        progress_console.print(f"stopped; the same call goes on from {target}.partial")
        raise typer.Exit(INTERRUPTED) from None
    if json:
        print_json(done)
        return
    before = f", {done.resumed} of them before" if done.resumed else ""
    wrong_rows = f"; {done.errors} with an error, see its column" if done.errors else ""
    progress_console.print(f"{done.rows} rows{before}{wrong_rows}", highlight=False)
