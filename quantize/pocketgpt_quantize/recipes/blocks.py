"""How many weights share a scale: as many as cost little, for larger blocks are read faster.

By docs/benchmarks.md 4-bit weights of GPT-2's shape decode 1.9 times as fast in blocks of 128 as in
blocks of 32. What larger blocks lose depends on the model, mostly on its width, so they are tried
on the end of the calibration text.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from pocketgpt import QuantizationError
from pocketgpt.folder.manifest import Variant

from ..graph.rewrite import halve_vectors, save
from ..job import Job
from ..measure.loading import open_sparingly
from ..rounding.scheme import Scheme
from .held_out import HeldOut
from .int8_q4 import Calibrated, rounded_model

WIDE = 512  # n_embd; at 256 blocks of 64 lose half as much again as those of 32: not worth trying
TRIED = (128, 64)
# Of perplexity in all, by the bits of a layer's weights; told by the divergence from fp32, which
# varies less from text to text.
MOST_LOST = {4: 0.008, 8: 0.0005}


def make_in_best_blocks(
    make: Callable[[Scheme, Job], Variant], scheme: Scheme, job: Job
) -> Variant:
    """Make a scheme's variant in the blocks that the job asks for, or else in the best."""
    return make(scheme if job.block_size else best_blocks(scheme, job), job)


def best_blocks(scheme: Scheme, job: Job) -> Scheme:
    """Return a scheme with the largest blocks with which it should lose no more than `MOST_LOST`.

    Narrow models and classifiers keep the scheme's, and those whose calibration text is too short
    to tell.
    """
    if job.calibration is None or job.config.n_embd < WIDE or job.config.labels is not None:
        return scheme
    held_out = HeldOut(job)
    try:
        reference = held_out.reference(f"blocks for {job.name}")
    except QuantizationError:
        return scheme
    calibrated = Calibrated(job.source, job.config, held_out.token_ids)
    calibrated.record_first()
    for size in TRIED:
        tried = scheme.with_blocks(size)
        progress = job.step(f"trying blocks of {size} for")
        model, bits = rounded_model(job, calibrated, tried, calibrated.quantize, progress)
        halve_vectors(model.graph)
        save(model, job.target)
        del model
        graph = open_sparingly(job.target, job.config, bits)
        divergence = reference.figures(job.name, graph)["kl_mean"]
        if math.expm1(divergence) <= MOST_LOST[scheme.layer.bits]:
            return tried
    return scheme
