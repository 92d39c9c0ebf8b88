"""What the verbs share on the screen: progress, tables, JSON."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from ..folder.json_file import finite
from ..folder.manifest import Manifest

_FIGURES = (
    ("perplexity", "perplexity", "{:.3f}"),
    ("change", "loss", "{:+.2%}"),
    ("KL mean", "kl_mean", "{:.5f}"),
    ("KL 99%", "kl_p99", "{:.4f}"),
    ("top-1", "top1_agreement", "{:.1%}"),
    ("top-5", "top5_agreement", "{:.1%}"),
    ("greedy", "greedy_agreement", "{:.0%}"),
)

_LABEL_FIGURES = (
    ("texts", "texts", "{:,.0f}"),
    ("labels", "label_agreement", "{:.1%}"),
    ("R2", "r2", "{:.4f}"),
    ("change", "loss", "{:+.2%}"),
    ("KL mean", "kl_mean", "{:.5f}"),
    ("KL 99%", "kl_p99", "{:.4f}"),
)

# Names of files and labels are no markup: "notes [draft].txt" is to be read as it is.
progress_console = Console(stderr=True, markup=False, emoji=False)
result_console = Console(markup=False, emoji=False)


@contextmanager
def progress_bars() -> Iterator[Callable[[str, int, int], None]]:
    """Yield a function to call with (what is done now, units done, units in all).

    Every new description gets a bar of its own on standard error.
    """
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=progress_console) as progress:
        bars: dict[str, TaskID] = {}

        def report(description: str, done: int, total: int) -> None:
            if description not in bars:
                bars[description] = progress.add_task(description, total=total)
            progress.update(bars[description], completed=done, total=total)

        yield report


def print_json(result: Any) -> None:
    """Print a result dataclass, or a list of them; field names are the keys.

    JSON has no infinity and no NaN: a number that is none is null.
    """
    several = isinstance(result, list)
    fields = [dataclasses.asdict(one) for one in result] if several else dataclasses.asdict(result)
    print(json.dumps(finite(fields), ensure_ascii=False, indent=2, allow_nan=False))


def variants_table(manifest: Manifest) -> Table:
    """Return a table of a folder's variants: size and, where measured, quality.

    Narrow enough for a terminal of 80 columns. A classifier's figures are those of its labels.
    """
    known = {key for variant in manifest.variants.values() for key in variant.quality}
    of_labels = [figure for figure in _LABEL_FIGURES if figure[1] in known]
    shown = of_labels if "texts" in known else _FIGURES
    table = Table(box=SIMPLE, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("variant", no_wrap=True)
    for heading in ("MB", *(heading for heading, _, _ in shown)):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, variant in manifest.variants.items():
        figures = [
            form.format(variant.quality[key]) if key in variant.quality else ""
            for _, key, form in shown
        ]
        table.add_row(name, f"{variant.bytes / 1e6:.1f}", *figures)
    return table


def checks_table(proof: Mapping[str, float], allowed: float) -> Table:
    """Return a table of a proof: every check with its worst difference from PyTorch.

    Args:
        proof: by check; under `tokenizer` a number of texts.
        allowed: the largest difference of a logit that holds.
    """
    table = Table("check", "")
    table.add_column("worst difference", justify="right")
    for check, worst in proof.items():
        if check == "tokenizer":
            table.add_row(check, "FAILED" if worst else "ok", f"{worst:.0f} texts")
        else:
            table.add_row(f"logits {check}", "ok" if worst <= allowed else "FAILED", f"{worst:.1e}")
    return table
