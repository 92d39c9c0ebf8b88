"""`pocketgpt evaluate`: how close a model's answers come to reference answers."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from ..generation.generator import BATCH_SIZE
from .console import print_json, progress_bars, result_console
from .generation_flags import with_generation_flags
from .loading import Loading, with_loading_flags
from .options import Folder, JsonOption


@with_loading_flags()
@with_generation_flags
def evaluate(
    folder: Folder,
    pairs: Annotated[
        Path,
        typer.Argument(metavar="PAIRS.jsonl", help="Prompts and answers, see above."),
    ],
    metric: Annotated[str, typer.Option("--metric", help="bleu, rouge, exact or choice.")] = "bleu",
    batch_size: Annotated[
        int, typer.Option("--batch-size", help="Most texts to decode at once.")
    ] = BATCH_SIZE,
    json: JsonOption = False,
    *,
    loading: Loading,
    generation: dict[str, Any],
) -> None:
    """Generate for the prompts of a file and score the new texts, or answer its questions.

    Each line of PAIRS.jsonl is a JSON object: "prompt", a string, and either "reference", a string,
    or "references", a list of strings of which the closest counts. Other keys are passed over.

    bleu: sacrebleu's corpus BLEU, 0 to 100. rouge: rouge-score's ROUGE-1, -2 and -L, mean F1.
    exact: the share of texts equal to a reference but for space around them.

    choice: nothing is generated. Each line has "prompt", "choices", a list of strings as they
    follow the prompt, and "answer", the index or the text of the right one. acc: the share of
    questions whose right choice has the largest log-probability; acc_bytes: the same for each byte.
    """
    model = loading.open(folder)
    with progress_bars() as progress:
        found = model.evaluate(
            pairs,
            metric,
            batch_size=batch_size,
            adapter=loading.adapter,
            progress=partial(progress, "choosing" if metric == "choice" else "generating"),
            **generation,
        )
    if json:
        print_json(found)
        return
    table = Table("metric")
    table.add_column("score", justify="right")
    for name, score in found.scores.items():
        table.add_row(name, f"{score:.2f}" if name == "bleu" else f"{score:.4f}")
    result_console.print(table)
    result_console.print(f"{found.pairs} prompts; {found.signature}", highlight=False)
