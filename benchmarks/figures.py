"""What the runs come to: a figure's name, how it is shown, and which way it is better."""

from __future__ import annotations

from dataclasses import dataclass

from runs import MACHINE, Runs, Spread
from systems.catalog import PROMPTS, System


@dataclass(frozen=True)
class Figure:
    """A column of a table.

    Attributes:
        heading: what it is, with its unit.
        factor: what a measured value is multiplied with; a rate is first turned over.
        rate: whether seconds are measured and their inverse is shown: more is better.
        digits: after the point.
    """

    heading: str
    factor: float = 1
    rate: bool = False
    digits: int = 0

    def shown(self, value: float) -> float:
        """Return a measured value as it is shown."""
        return self.factor / value if self.rate else self.factor * value

    def written(self, value: float) -> str:
        """Return a shown value as text."""
        return f"{value:,.{self.digits}f}"


FOOTPRINT = {
    "start to first token": Figure("start to first token, s", digits=1),
    "peak": Figure("peak memory, MB", 1e-6),
    "anonymous": Figure("of it anonymous, MB", 1e-6),
    "idle": Figure("idle, % of a core", 100, digits=1),
    "disk": Figure("model on disk, MB", 1e-6, digits=1),
    "installed": Figure("installed, MB", 1e-6),
    "share": Figure("share of the bandwidth, %", 100),
    "perplexity": Figure("perplexity", digits=2),
}


def figure_of(key: str) -> Figure:
    """Return how a measured figure is shown."""
    if key in FOOTPRINT:
        return FOOTPRINT[key]
    if key.startswith("step of "):  # so many rows
        rows = int(key.split()[2])
        return Figure(f"{rows} texts, tok/s", rows, rate=True)
    if key.startswith("step "):
        return Figure(f"{key.removeprefix('step ')}, tok/s", rate=True)
    return Figure(f"{key}, ms", 1e3)


def figures_of(runs: Runs, checkpoint: str, system: System) -> dict[str, Spread]:
    """Return all figures of a system, as they are shown, in the order of measuring.

    A step that took no time was lost in the noise of the first token, and is left out.
    """
    measured: dict[str, list[float]] = {}
    for run in runs.of(checkpoint, system.label, "speed"):
        for key, seconds in run["seconds"].items():
            measured.setdefault(key, []).append(seconds)
    for run in runs.of(checkpoint, system.label, "memory"):
        for key in (key for key in FOOTPRINT if key in run):
            measured[key] = [run[key]]
    for run in runs.of(checkpoint, system.files_of or system.label, "quality"):
        measured["perplexity"] = [run["perplexity"]]
    if PROMPTS not in system.kind:  # its steps read one of its two files
        measured["share"] = shares(runs, measured)
    found = {}
    for key, values in measured.items():
        form = figure_of(key)
        usable = [form.shown(value) for value in values if value > 0 or not form.rate]
        if spread := Spread.of(usable):
            found[key] = spread
    return found


def shares(runs: Runs, measured: dict[str, list[float]]) -> list[float]:
    """Return which share of the machine's bandwidth reading all weights every step would take.

    Steps are the fastest there are: those after the shortest text.
    """
    bandwidth = Spread.of([run["bandwidth"] for run in runs.of("", MACHINE, "bandwidth")])
    steps = next((values for key, values in measured.items() if key.startswith("step after")), [])
    if not bandwidth or "disk" not in measured:
        return []
    return [measured["disk"][0] / step / bandwidth.median for step in steps if step > 0]
