"""A benchmark as a picture."""

from __future__ import annotations

import os
from collections.abc import Callable

from .bench import Benchmark
from .plot import check_picture_path


def benchmark_plotter(path: str | os.PathLike[str]) -> Callable[[Benchmark], None]:
    """Return what draws a benchmark into a file; refuse the file before any work.

    Left, the tokens a second of every variant; right, the time to the first token against the
    prompt's length.

    Raises:
        OptionError: the file's ending is none of a picture format's.
        MissingExtraError: matplotlib is not installed.
    """
    check_picture_path(path)
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4), layout="constrained")

    def draw(found: Benchmark) -> None:
        names = [speed.variant for speed in found.variants]
        speeds = figure.add_subplot(1, 2, 1, ylabel="decoded tokens a second")
        batches = sorted(found.variants[0].decode_tokens_per_second)
        for place, batch in enumerate(batches):
            heights = [speed.decode_tokens_per_second[batch] for speed in found.variants]
            at = [number + 0.4 * place for number in range(len(names))]
            speeds.bar(at, heights, 0.4, label=f"batch of {batch}")
        speeds.set_xticks([n + 0.2 * (len(batches) - 1) for n in range(len(names))], names)
        speeds.legend()
        firsts = figure.add_subplot(
            1, 2, 2, xlabel="tokens of the prompt", ylabel="time to the first token, ms"
        )
        for speed in found.variants:
            times = speed.first_token_seconds
            firsts.plot(list(times), [t * 1e3 for t in times.values()], "o-", label=speed.variant)
        firsts.legend()
        firsts.grid(alpha=0.3)
        figure.suptitle(f"{found.machine}, {found.threads} threads", fontsize="small")
        figure.savefig(path)

    return draw
