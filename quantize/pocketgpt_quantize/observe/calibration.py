"""What the products' inputs look like on real text: their spread and their largest values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
from numpy.typing import NDArray
from onnx_ir.passes.common import RemoveUnusedNodesPass

from pocketgpt import QuantizationError
from pocketgpt.engine.contract import Array, past_names, present_names, text_feeds
from pocketgpt.engine.fused import every_token
from pocketgpt.engine.heap import trim_heap
from pocketgpt.engine.ort_session import open_session, run_bound
from pocketgpt.folder.config import ModelConfig

from ..graph.fold import Fold
from ..graph.rewrite import Product
from ..rounding.format import Floats

MAX_TOKENS = 32_768
CHUNK = 128  # tokens; every product's inputs for these are in memory at once


Activations = dict[str, Floats]


@dataclass(frozen=True)
class Spread:
    """A product's inputs on real text: the mean `[in]`, and the variance `[in]` or covariance."""

    mean: Floats
    variance: Floats

    @classmethod
    def of(cls, shift: Floats, mean: Floats, square: Floats) -> Spread:
        """Make one of the mean and mean square of what is left after taking `shift` away.

        `square` becomes the variance, in place.
        """
        square -= np.outer(mean, mean) if square.ndim == 2 else np.square(mean)
        return cls(shift + mean, square)

    @property
    def moments(self) -> Floats:
        """The second moments `[in, in]`, where the whole covariance is known."""
        return self.variance + np.outer(self.mean, self.mean)

    def folded(self, fold: Fold | None) -> Spread:
        """Return the spread after a fold; without one the mean stays."""
        if fold is None:
            return self
        scale = np.outer(fold.scale, fold.scale) if self.variance.ndim == 2 else fold.scale**2
        return Spread((self.mean - fold.center) / fold.scale, self.variance / scale)


class Recorder:
    """Runs the fp32 graph over a text and hands out what goes into its products.

    Weights stay in the memory-mapped file.
    """

    def __init__(
        self,
        source: Path,
        config: ModelConfig,
        token_ids: Sequence[int],
        products: Sequence[Product],
    ) -> None:
        """Prepare `source`, the fp32 graph, over at most 32,768 of `token_ids`.

        Args:
            source: the .onnx file.
            config: the model's shape.
            token_ids: the calibration text.
            products: the products whose inputs to record.

        Raises:
            QuantizationError: the text has fewer than 128 tokens.
        """
        check_length(token_ids)
        self._inputs = {product.weight: product.input for product in products}
        self._source = source
        self._config = config
        self._token_ids = token_ids[:MAX_TOKENS]

    def activations(self, weights: Sequence[str]) -> Iterator[Activations]:
        """Yield, chunk after chunk, what each weight multiplies, `[tokens, in]`, by weight."""
        context = self._config.n_positions
        names = [self._inputs[weight] for weight in weights]
        # It lives as long as this run.
        session = open_sparingly(_cut(ir.load(self._source), names), self._source.parent)
        shape = (1, self._config.n_head, min(context, len(self._token_ids)), self._config.head_dim)
        cache = {n: np.zeros(shape, np.float32) for n in past_names(self._config.n_layer)}
        for start in range(0, len(self._token_ids), context):
            window = self._token_ids[start : start + context]
            for begin in range(0, len(window), CHUNK):
                binding = _bind(session, names, window[begin : begin + CHUNK], begin, cache)
                run_bound(session, binding)
                outputs = binding.get_outputs()[: len(names)]
                yield {w: o.numpy()[0] for w, o in zip(weights, outputs, strict=True)}

    def spreads(self, weights: Sequence[str], *, whole: bool = False) -> dict[str, Spread]:
        """Return the mean and the variance, or the whole covariance, of each weight's inputs."""
        shifts: Activations = {}  # the first chunk's means: float32 holds what is left
        sums: Activations = {}
        squares: Activations = {}
        count = np.float32(0)
        for chunk in self.activations(weights):
            for weight, rows in chunk.items():
                shift = shifts.setdefault(weight, rows.mean(axis=0))
                rows = rows - shift
                square = rows.T @ rows if whole else np.square(rows).sum(axis=0)
                if weight in sums:
                    sums[weight] += rows.sum(axis=0)
                    squares[weight] += square
                else:
                    sums[weight], squares[weight] = rows.sum(axis=0), square
                del square  # before the next one is made
            count += len(rows)
        for square in squares.values():
            square /= count
        return {w: Spread.of(shifts[w], sums[w] / count, squares[w]) for w in weights}

    def largest(self, weights: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        """Return each input channel's largest absolute value, `[in]`, by weight."""
        found: dict[str, NDArray[np.float32]] = {}
        for chunk in self.activations(weights):
            for weight, rows in chunk.items():
                most = np.abs(rows).max(axis=0)
                found[weight] = np.maximum(found[weight], most) if weight in found else most
        return found


def check_length(token_ids: Sequence[int]) -> None:
    """Refuse a calibration text of fewer than 128 tokens.

    Raises:
        QuantizationError: it has fewer.
    """
    if len(token_ids) < CHUNK:
        raise QuantizationError(
            f"a calibration text of {len(token_ids)} tokens is too short; give one of {CHUNK} "
            "tokens or more, better of 10,000"
        )


def _bind(
    session: ort.InferenceSession,
    names: Sequence[str],
    token_ids: Sequence[int],
    begin: int,
    cache: dict[str, Array],
) -> ort.IOBinding:
    """Bind a chunk's inputs, the outputs `names` first, and the caches in place."""
    given = text_feeds(token_ids, begin) | cache
    binding = session.io_binding()
    for value in session.get_inputs():
        binding.bind_cpu_input(value.name, given[value.name])
    for value in session.get_overridable_initializers():
        binding.bind_ortvalue_input(value.name, every_token())
    for name in names:
        binding.bind_output(name)
    outputs = {value.name for value in session.get_outputs()}
    for past, present in zip(cache, present_names(len(cache) // 2), strict=True):
        if present in outputs:
            at = cache[past].ctypes.data
            binding.bind_output(present, "cpu", 0, cache[past].dtype, cache[past].shape, at)
    return binding


def open_sparingly(model: ir.Model, folder: Path) -> ort.InferenceSession:
    """Open a graph whose weights lie in a file in `folder`, and stay there."""
    trim_heap()
    content = ir.to_proto(model).SerializeToString()
    return open_session(content, sparing=True, weights_folder=folder)


def _cut(model: ir.Model, names: Sequence[str]) -> ir.Model:
    """Make a graph's outputs the values of some names, and drop what those need not.

    Layers behind them are neither read nor computed; the others' caches stay outputs.
    """
    graph = model.graph
    values = {value.name: value for node in graph for value in node.outputs}
    caches = graph.outputs[1:]  # all but the logits
    for name in names:
        values[name].type = ir.TensorType(ir.DataType.FLOAT)
    graph.outputs[:] = [values[name] for name in names]
    RemoveUnusedNodesPass()(model)
    left = set(graph)
    graph.outputs.extend(cache for cache in caches if cache.producer() in left)
    graph.inputs[:] = [value for value in graph.inputs if value.uses()]
    return model
