"""The pictures of the report: ours in colour, the others in grey, names beside the lines."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from figures import figure_of
from tables import Row, best

COLOURS = {32: "#7b3294", 8: "#0868ac", 4: "#d95f0e"}  # ours, by the bits of the weights
MUTED, INK = "#9a9a9a", "#333333"
# Others' that stay out of the lines, so that names have room: they are in the tables.
LEFT_OUT = ("default", "Optimum fp32", "float32", "F32")
CACHED = ", 8-bit cache"
GAP = 0.042  # between names, of an axis
LEADER = {"arrowstyle": "-", "color": "#cccccc", "linewidth": 0.7, "shrinkB": 5}  # name to point


def draw_speed(rows: Sequence[Row], path: Path) -> None:
    """Draw decoding speed by cache length, and the first token's time by prompt length."""
    figure, (left, right) = _panels(2, (11.5, 5.2))
    shown = [row for row in _one_cache_each(rows) if _is_drawn(row)]
    _lines(left, shown, "step after ")
    left.set(xlabel="tokens in the cache", ylabel="tokens a second", ylim=(0, None))
    left.set_title("decoding: higher is better", loc="left", color=INK)
    _lines(right, shown, "first token of ")
    right.set(xlabel="tokens of the prompt", ylabel="milliseconds", ylim=(0, None))
    right.set_title("first token: lower is better", loc="left", color=INK)
    _save(figure, path)


def draw_quality(rows: Sequence[Row], key: str, path: Path) -> None:
    """Draw speed against what rounding costs in perplexity, of systems with 8 and 4 bits.

    The cost is the rise over the least perplexity in 32 bits; what is below a ten-thousandth of
    it is noise, and stands at that.
    """
    from matplotlib.ticker import LogLocator

    exact = best([row for row in rows if row.system.bits == 32], "perplexity")
    if exact is None:
        return
    figure, (axes,) = _panels(1, (9, 5.6))
    least = exact.figures["perplexity"].median
    points: list[tuple[float, float]] = []
    shown = [
        row
        for row in rows
        if row.system.bits < 32 and {key, "perplexity"} <= row.figures.keys() and _is_drawn(row)
    ]
    for row in shown:
        rise = 100 * (row.figures["perplexity"].median / least - 1)
        points.append((row.figures[key].median, max(rise, 0.01)))
        axes.plot(*points[-1], "o", color=_colour(row), markersize=8 if row.system.ours else 5)
    axes.set(xscale="log", yscale="log", xlabel=f"decoding {figure_of(key).heading}")
    axes.set(ylabel="rise of perplexity over 32 bits, %")
    axes.set_title("speed against quality: best is below, to the right", loc="left", color=INK)
    axes.margins(0.14)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_locator(LogLocator(subs=(2, 3, 5)))
    axes.xaxis.set_minor_formatter("{x:g}")
    _name_points(figure, axes, shown, points)
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


def _one_cache_each(rows: Sequence[Row]) -> list[Row]:
    """Leave out ours where the same with an 8-bit cache ran, which `load` takes, and others' so."""
    cached = {row.system.label for row in rows if row.system.ours and row.figures}
    return [
        row
        for row in rows
        if f"{row.system.label}{CACHED}" not in cached
        and (row.system.ours or CACHED not in row.system.label)
    ]


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
    high = axes.get_ylim()[1]
    places = spread_out([value / high for value, _ in ends], GAP)
    for place, (value, row) in zip(places, ends, strict=True):
        axes.annotate(
            row.system.label,
            xy=(max(points), value),
            xytext=(1.05, place),
            textcoords="axes fraction",
            va="center",
            annotation_clip=False,
            arrowprops={**LEADER, "relpos": (0, 0.5), "shrinkA": 0},
            **_lettering(row),
        )


def _lettering(row: Row) -> dict[str, Any]:
    if row.system.ours:
        return {"fontsize": 8.5, "color": _colour(row), "fontweight": "bold"}
    return {"fontsize": 8.5, "color": "#666666"}


def _name_points(
    figure: Any, axes: Any, rows: Sequence[Row], points: Sequence[tuple[float, float]]
) -> None:
    """Write names beside points, each at the nearest place where no other name or point is."""
    figure.canvas.draw()
    dots = [axes.transData.transform(point) for point in points]
    taken = [Box(x - 5, y - 5, x + 5, y + 5) for x, y in dots]
    frame = Box(*axes.get_window_extent().extents)
    for row, point in zip(rows, points, strict=True):
        name = axes.annotate(
            row.system.label,
            xy=point,
            xytext=(0, 0),
            textcoords="offset points",
            va="center",
            zorder=1,
            arrowprops=LEADER,
            **_lettering(row),
        )
        extent = name.get_window_extent()
        middle = axes.transData.transform(point)
        offset = free_place(tuple(middle), extent.width, extent.height, taken, frame)
        taken.append(Box.around(middle[0] + offset[0], middle[1] + offset[1], extent))
        name.set_ha("center")
        name.set_position(tuple(72 / figure.dpi * share for share in offset))


class Box(NamedTuple):
    """A rectangle of the picture."""

    left: float
    bottom: float
    right: float
    top: float

    @classmethod
    def around(cls, x: float, y: float, size: Any) -> Box:
        """Return the one of a size whose middle is there."""
        wide, high = size.width / 2, size.height / 2
        return cls(x - wide, y - high, x + wide, y + high)

    def meets(self, other: Box) -> bool:
        """Say whether they overlap."""
        beside = self.right < other.left or other.right < self.left
        return not (beside or self.top < other.bottom or other.top < self.bottom)

    def inside(self, other: Box) -> bool:
        """Say whether all of it lies in the other."""
        wide = other.left <= self.left and self.right <= other.right
        return wide and other.bottom <= self.bottom and self.top <= other.top


def free_place(
    point: tuple[float, float], width: float, height: float, taken: Sequence[Box], frame: Box
) -> tuple[float, float]:
    """Return how far from a point a name's middle goes: right of it, or where there is room."""
    places = []
    for ring in range(1, 12):
        for side in (1.0, -1.0, 0.0):
            for level in {0.0, ring - 1.0, 1.0 - ring}:
                x, y = side * (width / 2 + 8), level * height * 0.7
                if side == 0:
                    y = (height + 3) * ring * (1 if level >= 0 else -1)
                places.append((x, y))
    places.sort(key=lambda place: abs(place[0]) * 0.1 + abs(place[1]) - place[0] * 0.05)
    for x, y in places:
        left, bottom = point[0] + x - width / 2, point[1] + y - height / 2
        box = Box(left, bottom, left + width, bottom + height)
        if box.inside(frame) and not any(box.meets(other) for other in taken):
            return x, y
    return places[0]


def spread_out(values: Sequence[float], gap: float) -> list[float]:
    """Return values moved as little as keeps them a gap apart, between 0 and 1, in their order."""
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


def _bottom(group: Sequence[int], values: Sequence[float], gap: float) -> float:
    middle, half = sum(values[index] for index in group) / len(group), len(group) * gap / 2
    return min(max(middle - half, 0), max(1 - 2 * half, 0))


def _top(group: Sequence[int], values: Sequence[float], gap: float) -> float:
    return _bottom(group, values, gap) + len(group) * gap
