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
from pocketgpt.engine.cache import KeyValueCache
from pocketgpt.folder.config import ModelConfig

from ..graph.fold import Fold
from ..graph.rewrite import Product
from ..rounding.format import Floats
from .heap import trim_heap

MAX_TOKENS = 32_768
CHUNK = 128  # tokens; every product's inputs for these are in memory at once

EVERY_ROW = ort.OrtValue.ortvalue_from_numpy(np.array(0, np.int64))  # num_logits_to_keep
PAST, PRESENT = "past_key_values", "present"

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
        cache = KeyValueCache(self._config, np.float32)
        cache.reserve(min(context, len(self._token_ids)))
        for start in range(0, len(self._token_ids), context):
            window = self._token_ids[start : start + context]
            for begin in range(0, len(window), CHUNK):
                binding = _bind(session, names, window[begin : begin + CHUNK], begin, cache)
                session.run_with_iobinding(binding)
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


def feeds_of(token_ids: Sequence[int], begin: int) -> dict[str, NDArray[np.generic]]:
    """Return what a graph takes for a text's tokens from `begin` on, but for the cache."""
    positions = np.arange(begin, begin + len(token_ids), dtype=np.int64)
    return {
        "input_ids": np.array([token_ids], np.int64),
        "position_ids": positions[None],
        "attention_mask": np.ones((1, begin + len(token_ids)), np.int64),
    }


def _bind(
    session: ort.InferenceSession,
    names: Sequence[str],
    token_ids: Sequence[int],
    begin: int,
    cache: KeyValueCache,
) -> ort.IOBinding:
    """Bind a chunk's inputs, the outputs `names` first, and the caches in place."""
    sides = (("key", cache.keys), ("value", cache.values))
    caches = {f"{i}.{side}": buffer for side, buffers in sides for i, buffer in enumerate(buffers)}
    given = feeds_of(token_ids, begin) | {f"{PAST}.{n}": buffer for n, buffer in caches.items()}
    binding = session.io_binding()
    for value in session.get_inputs():
        binding.bind_cpu_input(value.name, given[value.name])
    for value in session.get_overridable_initializers():
        binding.bind_ortvalue_input(value.name, EVERY_ROW)
    for name in names:
        binding.bind_output(name)
    for value in session.get_outputs()[len(names) :]:
        buffer = caches[value.name.removeprefix(f"{PRESENT}.")]
        at = buffer.ctypes.data
        binding.bind_output(value.name, "cpu", 0, buffer.dtype, buffer.shape, at)
    return binding


def open_sparingly(model: ir.Model, folder: Path) -> ort.InferenceSession:
    """Open a graph whose weights lie in a file in `folder`, and stay there."""
    trim_heap()
    options = ort.SessionOptions()
    options.log_severity_level = 3
    key = "session.model_external_initializers_file_folder_path"
    options.add_session_config_entry(key, str(folder))
    options.add_session_config_entry("session.disable_prepacking", "1")  # no second copy of weights
    options.enable_cpu_mem_arena = False  # which keeps more than it needs
    # As nodes are listed: the default runs what is asked for late, and keeps all values until then.
    options.execution_order = ort.ExecutionOrder.PRIORITY_BASED
    content = ir.to_proto(model).SerializeToString()
    return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def _cut(model: ir.Model, names: Sequence[str]) -> ir.Model:
    """Make a graph's outputs the values of some names, and drop what those need not.

    Layers behind them are neither read nor computed; the others' caches stay outputs.
    """
    graph = model.graph
    values = {value.name: value for node in graph for value in node.outputs}
    caches = [value for value in graph.outputs if str(value.name).startswith(PRESENT)]
    for name in names:
        values[name].type = ir.TensorType(ir.DataType.FLOAT)
    graph.outputs[:] = [values[name] for name in names]
    RemoveUnusedNodesPass()(model)
    left = set(graph)
    graph.outputs.extend(cache for cache in caches if cache.producer() in left)
    graph.inputs[:] = [value for value in graph.inputs if value.uses()]
    return model
