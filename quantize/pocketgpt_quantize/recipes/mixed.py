"""`mixed`: 8 bits for the weights where 4 would cost most, as many as the allowed loss asks for.

A weight's sensitivity is what the model's divergence from fp32 rises by when that weight alone has
4 bits and all others 8. The weights that lose most for each byte saved get 8 bits first; how many
do is found by bisection. Both are measured on the end of the calibration text, which takes no part
in the rounding; the evaluation text is left for the gate.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_ir as ir

from pocketgpt.folder.manifest import Variant

from ..graph.fold import basis_of
from ..graph.rewrite import halve_vectors, load_graph, products_of, save
from ..job import Job
from ..measure.loading import open_sparingly
from ..measure.quality import Reference
from ..rounding.format import BlockwiseWeight, Floats, Format
from ..rounding.scheme import INT8, Q4, Kind, Scheme
from .held_out import HeldOut
from .int8_q4 import Calibrated, rounded_model

PROBED = 6_144  # characters: enough to compare weights by


def make_mixed(job: Job) -> Variant:
    """Make the smallest model whose perplexity should rise by no more than `job.max_loss`.

    Raises:
        QuantizationError: the calibration text is too short for a part of it to be measured on.
    """
    mixer = Mixer(job)
    order = mixer.ranked()
    step, trials = job.step("searching the smallest"), math.ceil(math.log2(len(order) + 1))

    def holds(count: int, trial: int) -> bool:
        step(trial, trials)
        return mixer.expected_loss(order[:count]) <= job.max_loss

    count = fewest(len(order), holds)
    model, bits = mixer.model(mixed_scheme(order[:count]))
    job.save(model)
    bits = {**job.opened.record.bits, **bits}
    return job.made(bits, method="gptq", basis=basis_of(model.graph))


def fewest(most: int, holds: Callable[[int, int], bool]) -> int:
    """Return the smallest count for which something holds that keeps holding beyond; else `most`.

    `holds` is called with a count and how many were tried before.
    """
    low, high, tried = 0, most, 0
    while low < high:
        middle = (low + high) // 2
        if holds(middle, tried):
            high = middle
        else:
            low = middle + 1
        tried += 1
    return low


def mixed_scheme(fine: Sequence[str]) -> Scheme:
    """Return q4's scheme with int8's format for the weights named."""
    return replace(Q4, own=dict.fromkeys(fine, INT8.layer))


class Mixer:
    """Makes models of 4-bit and 8-bit weights and measures them; every weight is rounded once."""

    def __init__(self, job: Job) -> None:
        """Split the calibration text and record what fp32 says about the part to measure on.

        Raises:
            QuantizationError: that part is too short.
        """
        self._job = job
        held_out = HeldOut(job)
        self._calibrated = Calibrated(job.source, job.config, held_out.token_ids)
        self._probe = held_out.reference("probe", PROBED)
        self._reference = held_out.reference("reference")

    def ranked(self) -> list[str]:
        """Return the weights' names, those that lose most for each byte saved first."""
        names = [product.weight for product in products_of(load_graph(self._job.source).graph)]
        step = self._job.step("measuring the weights of")
        self._calibrated.record_first()
        base, most = self._divergence(names)
        gains = {}
        for done, name in enumerate(names):
            found, size = self._divergence([other for other in names if other != name])
            gains[name] = (found - base) / (most - size)
            step(done + 1, len(names))
        return sorted(names, key=lambda name: -gains[name])

    def _divergence(self, fine: Sequence[str]) -> tuple[float, int]:
        figures, size = self._measure(fine, self._probe)
        return figures["kl_mean"], size

    def expected_loss(self, fine: Sequence[str]) -> float:
        """Return the rise of perplexity to expect with 8 bits for some weights.

        Where a model is right about its text on average, the divergence is the logarithm of that
        rise; it varies less from text to text, and the larger of both counts.
        """
        figures, _ = self._measure(fine, self._reference)
        return max(figures["loss"], math.expm1(figures["kl_mean"]))

    def _measure(self, fine: Sequence[str], reference: Reference) -> tuple[dict[str, float], int]:
        job = self._job
        bits = self.write(mixed_scheme(fine), job.target)
        figures = reference.figures(job.name, open_sparingly(job.target, job.config, bits))
        weights = job.target.with_name(f"{job.target.name}_data")
        return figures, job.target.stat().st_size + weights.stat().st_size

    def model(self, scheme: Scheme) -> tuple[ir.Model, dict[str, int]]:
        """Return the model of a scheme, and the bits of its weights, by name."""
        model, bits = rounded_model(self._job, self._calibrated, scheme, self._rounded)
        halve_vectors(model.graph)
        return model, bits

    def write(self, scheme: Scheme, target: Path) -> dict[str, int]:
        """Write the model of a scheme; return the bits of its weights, by name."""
        model, bits = self.model(scheme)
        save(model, target)
        return bits

    def _rounded(self, name: str, kind: Kind, weight: Floats, form: Format) -> BlockwiseWeight:
        path = self._job.scratch.path(f"{name} in {form.bits} bits").with_suffix(".npz")
        if not path.exists():
            made = self._calibrated.quantize(name, kind, weight, form)
            zeros = np.empty(0, np.uint8) if made.zero_points is None else made.zero_points
            np.savez(path, packed=made.packed, scales=made.scales, zeros=zeros)
        with np.load(path) as stored:
            zeros = stored["zeros"]
            return BlockwiseWeight(
                stored["packed"], stored["scales"], zeros if zeros.size else None, form
            )
