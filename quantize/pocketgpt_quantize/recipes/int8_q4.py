"""Blockwise variants: from the fp32 graph and a scheme to a graph of rounded weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import onnx_ir as ir

from pocketgpt.folder.config import ModelConfig
from pocketgpt.folder.manifest import Variant

from ..graph.fold import Fold, balanced, basis_of, fold
from ..graph.rewrite import halve_vectors, load_graph, products_of, quantize_blockwise
from ..job import Job
from ..observe.calibration import Recorder, Spread
from ..rounding.format import BlockwiseWeight, Floats, Format, quantize_weight
from ..rounding.gptq import gptq
from ..rounding.grid import round_to_nearest
from ..rounding.refine import refined
from ..rounding.scheme import Kind, Scheme

MOMENTS_SHARE = 0.15  # of the fp32 weights' size: what covariances may take at once
MOMENTS_BYTES = 64 * 2**20  # and what they always may: a small model's text runs only once
DAMPING = 0.01  # of H's mean diagonal: the GPTQ paper's
EMBEDDING_DAMPING = 0.3  # more, for the head's weights are looked up as well, as they are
ROUNDS = 3  # of refinement; 8 bits gain nothing by it

Progress = Callable[[int, int], None]


def make_blockwise(scheme: Scheme, job: Job) -> Variant:
    """Make the variant of a scheme; without a calibration text by rounding to nearest."""
    scheme = scheme.with_blocks(job.block_size)
    model, bits = blockwise_model(scheme, job)
    halve_vectors(model.graph)
    job.save(model)
    return job.made(
        {**job.opened.record.bits, **bits},
        method=method_of(job),
        block_size=scheme.layer.block_size,
        basis=basis_of(model.graph),
    )


def method_of(job: Job) -> str:
    """Return how weights are rounded, as the manifest names it."""
    return "rtn" if job.calibration is None else "gptq"


def blockwise_model(scheme: Scheme, job: Job) -> tuple[ir.Model, dict[str, int]]:
    """Return the graph with its weights rounded, and the bits of each, by name."""
    progress = job.step("quantizing to")
    if job.calibration is None:
        model = load_graph(job.source)

        def nearest(name: str, kind: Kind, weight: Floats) -> BlockwiseWeight:
            return quantize_weight(weight, scheme.format_of(name, kind), round_to_nearest)

        return model, quantize_blockwise(model.graph, nearest, progress, scratch=job.scratch)
    calibrated = Calibrated(job.source, job.config, job.token_ids)
    calibrated.record_first()
    return rounded_model(job, calibrated, scheme, calibrated.quantize, progress)


def rounded_model(
    job: Job,
    calibrated: Calibrated,
    scheme: Scheme,
    quantize: Callable[[str, Kind, Floats, Format], BlockwiseWeight],
    progress: Progress | None = None,
) -> tuple[ir.Model, dict[str, int]]:
    """Return the fp32 graph folded and rounded, and the bits of its weights, by name.

    Args:
        job: what the variant is made from.
        calibrated: what to fold and to correct by.
        scheme: the formats.
        quantize: from a weight's name, kind, values `[out, in]` and format to what is stored.
        progress: called with (weights done, weights in all).
    """
    model = load_graph(job.source)
    calibrated.fold(model.graph)

    def quantizer(name: str, kind: Kind, weight: Floats) -> BlockwiseWeight:
        return quantize(name, kind, weight, scheme.format_of(name, kind))

    bits = quantize_blockwise(model.graph, quantizer, progress, calibrated.means, job.scratch)
    return model, bits


class Calibrated:
    """Rounds weights by what their inputs look like on a text.

    Attributes:
        folds: what was folded into the graph, by weight.
        means: of what the other products read.
    """

    def __init__(self, source: Path, config: ModelConfig, token_ids: Sequence[int]) -> None:
        """Prepare; the text runs through the model when it is needed."""
        self._products = products_of(load_graph(source).graph)
        self._recorder = Recorder(source, config, token_ids, self._products)
        weights_bytes = source.with_name(f"{source.name}_data").stat().st_size
        self._budget = max(MOMENTS_SHARE * weights_bytes, MOMENTS_BYTES)
        self._at_hand: dict[str, Spread] = {}
        self.folds: dict[str, Fold] = {}
        self.means: dict[str, Floats] = {}

    def record_first(self) -> None:
        """Run the text for the first weight, the embedding, before its values are in memory."""
        self.spread(self._products[0].weight)

    def fold(self, graph: ir.Graph) -> None:
        """Balance the inputs of every product that allows it."""

        def choose(name: str, weight: Floats) -> Fold:
            spread = self._spreads[name]
            diagonal = spread.variance if spread.variance.ndim == 1 else spread.variance.diagonal()
            return balanced(spread.mean, np.sqrt(np.maximum(diagonal, 0)), weight)

        self.folds = fold(graph, choose)
        self.means = {n: s.mean for n, s in self._spreads.items() if n not in self.folds}

    @cached_property
    def _spreads(self) -> dict[str, Spread]:
        names = [product.weight for product in self._products]
        if self._group_from(names[0]) == names:  # one run serves this and the rounding
            self.spread(names[0])
            return self._at_hand
        return self._recorder.spreads(names)

    def quantize(self, name: str, kind: Kind, weight: Floats, form: Format) -> BlockwiseWeight:
        """Round one weight of the folded graph, `[out, in]`."""
        if kind == "positions":  # looked up, never multiplied
            return quantize_weight(weight, form, round_to_nearest)
        damping = EMBEDDING_DAMPING if kind == "embedding" else DAMPING
        spread = self.spread(name).folded(self.folds.get(name))
        centered = name in self.folds or name in self.means
        moments = spread.variance if centered else spread.moments
        if form.bits == 8:
            return quantize_weight(weight, form, gptq(moments, damping))
        return quantize_weight(weight, form, refined(moments, damping, ROUNDS))

    def spread(self, name: str) -> Spread:
        """Return the mean and covariance of one weight's inputs."""
        if name not in self._at_hand:
            self._at_hand = {}  # the old ones go before the new ones come
            self._at_hand = self._recorder.spreads(self._group_from(name), whole=True)
        return self._at_hand[name]

    def _group_from(self, name: str) -> list[str]:
        """Return the weights from `name` on whose covariances fit the budget, at least it."""
        names = [product.weight for product in self._products]
        group, size = [name], 4 * self._products[names.index(name)].width ** 2
        for product in self._products[names.index(name) + 1 :]:
            size += 4 * product.width**2
            if size > self._budget:
                break
            group.append(product.weight)
        return group
