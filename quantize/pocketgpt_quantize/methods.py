"""The ways to round a variant's weights, by name: each makes a quantizer for the rewriting."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pocketgpt.config import ModelConfig
from pocketgpt.manifest import Variant, read_manifest

from .blockwise import BlockwiseWeight, Floats, quantize_weight
from .calibration import Recorder
from .gptq import DAMPING, EMBEDDING_DAMPING, gptq
from .grid import round_to_nearest
from .job import FP32, Job
from .rewrite import Quantizer, load_graph, products_of, write_blockwise
from .schemes import Kind, Scheme

MOMENTS_SHARE = 0.1  # of the fp32 weights' size: what second moments may take at once
MOMENTS_BYTES = 64 * 2**20  # and what they always may: a small model's text runs only once


def make_blockwise(scheme: Scheme, job: Job) -> Variant:
    """Make the variant of a scheme."""
    quantizer = quantizer_of(scheme, job.source, job.config, job.token_ids)
    bits = write_blockwise(job.source, job.target, quantizer, job.step("quantizing to"))
    return job.made(
        {**read_manifest(job.folder).variant(FP32).bits, **bits},
        block_size=scheme.block_size,
        method=scheme.method,
    )


def quantizer_of(
    scheme: Scheme, source: Path, config: ModelConfig, token_ids: Sequence[int]
) -> Quantizer:
    """Return what rounds the weights of the fp32 graph `source` by a scheme.

    Args:
        scheme: formats and method.
        source: the fp32 .onnx file.
        config: the model's shape.
        token_ids: the calibration text, empty for a method that needs none.
    """
    if scheme.method == "rtn":
        return lambda name, kind, weight: quantize_weight(
            weight, scheme.format_of(kind), round_to_nearest
        )
    moments = Moments(source, config, token_ids)

    def quantizer(name: str, kind: Kind, weight: Floats) -> BlockwiseWeight:
        form = scheme.format_of(kind)
        if kind == "positions":  # looked up, never multiplied
            return quantize_weight(weight, form, round_to_nearest)
        damping = EMBEDDING_DAMPING if kind == "embedding" else DAMPING
        return quantize_weight(weight, form, gptq(moments.of(name), damping))

    return quantizer


class Moments:
    """Second moments of every product's inputs: a few products' at a time, in the graph's order."""

    def __init__(self, source: Path, config: ModelConfig, token_ids: Sequence[int]) -> None:
        """Prepare; the text runs through the model when the first are asked for."""
        self._products = products_of(load_graph(source).graph)
        self._recorder = Recorder(source, config, token_ids, self._products)
        weights_bytes = source.with_name(f"{source.name}_data").stat().st_size
        self._budget = max(MOMENTS_SHARE * weights_bytes, MOMENTS_BYTES)
        self._at_hand: dict[str, NDArray[np.float64]] = {}

    def of(self, name: str) -> NDArray[np.float64]:
        """Return the moments `[in, in]` of one weight's inputs."""
        if name not in self._at_hand:
            self._at_hand = {}  # the old ones go before the new ones come
            self._at_hand = self._recorder.second_moments(self._group_from(name))
        return self._at_hand[name]

    def _group_from(self, name: str) -> list[str]:
        """Return the weights from `name` on whose moments fit into the budget, at least it."""
        names = [product.weight for product in self._products]
        group, size = [name], 0
        for product in self._products[names.index(name) + 1 :]:
            size += 8 * product.width**2
            if size > self._budget:
                break
            group.append(product.weight)
        return group
