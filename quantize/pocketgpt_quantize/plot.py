"""Size against quality as a picture."""

from __future__ import annotations

import os

from matplotlib.figure import Figure

from pocketgpt.folder.manifest import Variant


def plot(variants: dict[str, Variant], path: str | os.PathLike[str]) -> None:
    """Draw measured variants: bytes on disk against the rise of perplexity and against KL.

    Args:
        variants: by name; fp32, which loses nothing, and those not measured are left out.
        path: a .png, .svg or .pdf file.
    """
    shown = {n: v for n, v in variants.items() if v.quality and v.quality["kl_mean"] > 0}
    figure = Figure(figsize=(9, 4), layout="constrained")
    panels = {"loss": "rise of perplexity, %", "kl_mean": "KL divergence from fp32, nats (mean)"}
    for place, (figure_name, label) in enumerate(panels.items()):
        axes = figure.add_subplot(1, 2, place + 1, xlabel="size on disk, MB", ylabel=label)
        factor = 100 if figure_name == "loss" else 1
        for name, variant in shown.items():
            at = variant.bytes / 1e6, variant.quality[figure_name] * factor
            axes.plot(*at, "o")
            axes.annotate(name, at, xytext=(5, 5), textcoords="offset points")
        if figure_name == "kl_mean":
            axes.set_yscale("log")
        axes.grid(alpha=0.3)
    figure.savefig(path)
