"""The pictures of the report: ours in colour, the others in grey, names beside the lines."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tables import Row

COLOURS = {32: "#7b3294", 8: "#0868ac", 4: "#d95f0e"}  # ours, by the bits of the weights
MUTED, INK = "#9a9a9a", "#333333"
# Others' that stay out of the lines, so that names have room: they are in the tables.
LEFT_OUT = ("8-bit cache", "default", "Optimum fp32", "float32", "F32", "Q4_0")
GAP = 0.042  # between names, of an axis


def draw_speed(rows: Sequence[Row], path: Path) -> None:
    """Draw decoding speed by cache length, and the first token's time by prompt length."""
    figure, (left, right) = _panels(2, (11.5, 5.2))
    shown = [row for row in rows if _is_drawn(row)]
    _lines(left, shown, "step after ")
    left.set(xlabel="tokens in the cache", ylabel="tokens a second", ylim=(0, None))
    left.set_title("decoding: higher is better", loc="left", color=INK)
    _lines(right, shown, "first token of ")
    right.set(xlabel="tokens of the prompt", ylabel="milliseconds", ylim=(0, None))
    right.set_title("first token: lower is better", loc="left", color=INK)
    _save(figure, path)


def draw_quality(rows: Sequence[Row], key: str, path: Path) -> None:
    """Draw speed against perplexity: best is low and to the right."""
    figure, (axes,) = _panels(1, (8.5, 5.4))
    shown = [row for row in rows if key in row.figures and "perplexity" in row.figures]
    places = []
    for row in shown:
        x, y = row.figures[key].median, row.figures["perplexity"].median
        axes.plot(x, y, "o", color=_colour(row), markersize=8 if row.system.ours else 5)
        places.append((x, y))
    axes.set(xlabel="tokens a second, decoding", ylabel="perplexity (lower is better)")
    axes.set_title("speed against perplexity: best is below, to the right", loc="left", color=INK)
    axes.margins(0.12)
    figure.canvas.draw()
    _name_points(axes, shown, places)
    _save(figure, path)


def _panels(count: int, size: tuple[float, float]) -> tuple[Any, Sequence[Any]]:
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    pyplot.rcParams.update({"font.size": 9.5, "svg.hashsalt": "pocketgpt", "axes.edgecolor": INK})
    figure, axes = pyplot.subplots(1, count, figsize=size, layout="constrained", squeeze=False)
    for one in axes[0]:
        one.spines[["top", "right"]].set_visible(False)
        one.grid(color="#e6e6e6", linewidth=0.8)
        one.set_axisbelow(True)
    return figure, axes[0]


def _save(figure: Any, path: Path) -> None:
    from matplotlib import pyplot

    figure.savefig(path, facecolor="white", metadata={"Date": None})
    pyplot.close(figure)


def _is_drawn(row: Row) -> bool:
    return not row.system.label.endswith(LEFT_OUT) and not (
        row.system.files_of and row.system.bits == 32
    )


def _colour(row: Row) -> str:
    return COLOURS[row.system.bits] if row.system.ours else MUTED


def _lines(axes: Any, rows: Sequence[Row], prefix: str) -> None:
    """Draw a line for each row that has such figures, its name at the right end."""
    ends: list[tuple[float, Row]] = []
    for row in rows:
        points = {
            int(key.removeprefix(prefix)): spread.median
            for key, spread in row.figures.items()
            if key.startswith(prefix)
        }
        if points:
            width, order = (2.4, 3) if row.system.ours else (1.1, 2)
            axes.plot(
                *zip(*sorted(points.items()), strict=True),
                color=_colour(row),
                linewidth=width,
                zorder=order,
                marker="o",
                markersize=width + 1.6,
            )
            ends.append((points[max(points)], row))
    if not ends:
        return
    low, high = 0.0, axes.get_ylim()[1]
    places = spread_out([(value - low) / (high - low) for value, _ in ends], GAP)
    for place, (value, row) in zip(places, ends, strict=True):
        axes.annotate(
            row.system.label,
            xy=(1, (value - low) / (high - low)),
            xytext=(1.03, place),
            xycoords="axes fraction",
            textcoords="axes fraction",
            va="center",
            fontsize=8.5,
            color=_colour(row) if row.system.ours else "#6b6b6b",
            fontweight="bold" if row.system.ours else "normal",
            annotation_clip=False,
        )


def _name_points(axes: Any, rows: Sequence[Row], points: Sequence[tuple[float, float]]) -> None:
    """Write names to the right of points, apart from each other."""
    inverse = axes.transAxes.inverted()
    shares = [tuple(inverse.transform(axes.transData.transform(point))) for point in points]
    heights = spread_out([height for _, height in shares], GAP * 0.8)
    for row, share, height in zip(rows, shares, heights, strict=True):
        axes.annotate(
            row.system.label,
            xy=share,
            xytext=(share[0] + 0.015, height),
            xycoords="axes fraction",
            textcoords="axes fraction",
            va="center",
            fontsize=8,
            color=_colour(row) if row.system.ours else "#6b6b6b",
            fontweight="bold" if row.system.ours else "normal",
        )


def spread_out(values: Sequence[float], gap: float) -> list[float]:
    """Return values moved as little as keeps each two of them a gap apart, in the same order."""
    order = sorted(range(len(values)), key=values.__getitem__)
    groups: list[list[int]] = []  # indices that stand together, and their middles
    for index in order:
        groups.append([index])
        while len(groups) > 1 and _top(groups[-2], values, gap) > _bottom(groups[-1], values, gap):
            groups[-2:] = [groups[-2] + groups[-1]]
    placed = list(values)
    for group in groups:
        start = _bottom(group, values, gap) + gap / 2
        for number, index in enumerate(group):
            placed[index] = start + number * gap
    return placed


def _middle(group: Sequence[int], values: Sequence[float]) -> float:
    return sum(values[index] for index in group) / len(group)


def _bottom(group: Sequence[int], values: Sequence[float], gap: float) -> float:
    return _middle(group, values) - len(group) * gap / 2


def _top(group: Sequence[int], values: Sequence[float], gap: float) -> float:
    return _middle(group, values) + len(group) * gap / 2
