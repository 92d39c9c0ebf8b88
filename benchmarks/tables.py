"""Figures as Markdown: the systems side by side, and ours against the best of the others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from figures import figure_of
from runs import Spread
from systems.catalog import OURS, System

WIDTHS = (32, 8, 4)


@dataclass(frozen=True)
class Row:
    """A system and what it did.

    Attributes:
        system: which.
        figures: by key, as they are shown.
        error: why there are none.
        agreement: the share of its tokens that are PyTorch's, up to each text's first difference.
        repeats: whether it makes the same tokens of the same text every time.
        rounds: in how many its speed was measured.
    """

    system: System
    figures: Mapping[str, Spread]
    error: str | None = None
    agreement: float | None = None
    repeats: bool = True
    rounds: int = 0


def markdown(headings: Iterable[str], lines: Iterable[Sequence[str]]) -> str:
    """Return a table; the first column is text, all others are numbers."""
    heads = list(headings)
    rules = ["---", *["---:"] * (len(heads) - 1)]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (heads, rules, *lines))


def keys_of(rows: Iterable[Row], wanted: Callable[[str], bool]) -> list[str]:
    """Return the keys that any row has, in their order."""
    return list(dict.fromkeys(key for row in rows for key in row.figures if wanted(key)))


def side_by_side(rows: Sequence[Row], keys: Sequence[str], tokens: bool = False) -> str:
    """Return a table of all rows: medians, beneath them the least and the greatest.

    The best of each width is bold, and our names are. Rows that failed say why.

    Args:
        rows: in their order.
        keys: of the figures to show.
        tokens: whether to show how far tokens are PyTorch's.
    """
    headings = ["", *(figure_of(key).heading for key in keys)]
    if tokens:
        headings.append("tokens as PyTorch's")
    lines = []
    for row in rows:
        name = f"**{row.system.label}**" if row.system.ours else row.system.label
        if not row.figures:
            reason = (row.error or "not run").replace("|", "/")
            lines.append([name, f"not run: {reason}", *[""] * (len(headings) - 2)])
            continue
        cells = [name, *(cell(row, key, rows) for key in keys)]
        lines.append([*cells, agreement_cell(row)] if tokens else cells)
    return markdown(headings, lines)


def cell(row: Row, key: str, rows: Sequence[Row]) -> str:
    """Return a figure with its spread; bold where it is the best of its width."""
    spread, form = row.figures.get(key), figure_of(key)
    if spread is None:
        return ""
    text = form.written(spread.median)
    of_width = [other for other in rows if other.system.bits == row.system.bits]
    if (winner := best(of_width, key)) and winner.system == row.system:
        text = f"**{text}**"
    if spread.least < spread.greatest:
        text += f"<br><sub>{form.written(spread.least)}-{form.written(spread.greatest)}</sub>"
    return text


def agreement_cell(row: Row) -> str:
    """Return how far its tokens are PyTorch's, and whether they are always the same."""
    share = "" if row.agreement is None else f"{row.agreement:.0%}"
    return share if row.repeats else f"{share}, not always the same"


def best(rows: Iterable[Row], key: str) -> Row | None:
    """Return the row with the best median of a figure."""
    known = [row for row in rows if key in row.figures]
    if not known:
        return None
    pick = max if figure_of(key).rate or key == "share" else min
    return pick(known, key=lambda row: row.figures[key].median)


def rivals(rows: Sequence[Row], bits: int, key: str) -> tuple[Row | None, Row | None]:
    """Return our best and the others' best of a width."""
    of_width = [row for row in rows if row.system.bits == bits]
    ours = best((row for row in of_width if row.system.ours), key)
    theirs = best((row for row in of_width if not row.system.ours), key)
    return ours, theirs


def ratio(ours: Row, theirs: Row, key: str) -> float | None:
    """Return how many times as good ours is: above 1 is better, whichever way that is."""
    mine, other = ours.figures[key].median, theirs.figures[key].median
    above, below = (mine, other) if figure_of(key).rate else (other, mine)
    return above / below if below else None


def ratios(rows: Sequence[Row], keys: Sequence[str]) -> str:
    """Return our best over the others' best, by figure and width, with the names of both."""
    headings = ["", *(f"{bits} bits" for bits in WIDTHS)]
    lines = []
    for key in keys:
        cells = [figure_of(key).heading.rpartition(", ")[0]]
        for bits in WIDTHS:
            ours, theirs = rivals(rows, bits, key)
            quotient = ratio(ours, theirs, key) if ours and theirs else None
            if not ours or not theirs or quotient is None:
                cells.append("")
                continue
            cells.append(f"**{quotient:.2f}** {short(ours)} / {short(theirs)}")
        lines.append(cells)
    return markdown(headings, lines)


def short(row: Row) -> str:
    """Return a row's name, of ours the variant alone."""
    return row.system.label.removeprefix(f"{OURS} ")
