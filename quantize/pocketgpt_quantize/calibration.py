"""What the products' inputs look like on real text: their spread and their largest values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
from numpy.typing import NDArray

from pocketgpt import QuantizationError
from pocketgpt.config import ModelConfig

from .blockwise import Floats
from .fold import Fold
from .rewrite import Product

MAX_TOKENS = 32_768
CHUNK = 128  # tokens; every product's inputs for these are in memory at once

Activations = dict[str, Floats]
Range = tuple[float, float]
"""The least and the largest number."""


@dataclass(frozen=True)
class Spread:
    """A product's inputs on real text: the mean `[in]`, and the variance `[in]` or covariance."""

    mean: Floats
    variance: Floats

    @classmethod
    def of(cls, shift: Floats, mean: Floats, square: Floats) -> Spread:
        """Make one of the mean and mean square of what is left after taking `shift` away."""
        own = np.outer(mean, mean) if square.ndim == 2 else np.square(mean)
        return cls(shift + mean, square - own)

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
        if len(token_ids) < CHUNK:
            raise QuantizationError(
                f"a calibration text of {len(token_ids)} tokens is too short; give one of {CHUNK} "
                "tokens or more, better of 10,000"
            )
        self._inputs = {product.weight: product.input for product in products}
        self._source = source
        self._config = config
        self._token_ids = token_ids[:MAX_TOKENS]

    def activations(self, weights: Sequence[str]) -> Iterator[Activations]:
        """Yield, chunk after chunk, what each weight multiplies, `[tokens, in]`, by weight."""
        for chunk in self._chunks(weights):
            yield {weight: array[0] for weight, array in chunk.items()}

    def ranges(self, weights: Sequence[str], *, above: float) -> dict[str, Range]:
        """Return each input's least and largest number, of those larger than `above`."""
        found: dict[str, Range] = {}
        for chunk in self._chunks(weights):
            for weight, array in chunk.items():
                low, high = found.get(weight, (np.inf, -np.inf))
                usual = array[array > above]
                found[weight] = (
                    float(usual.min(initial=low)),
                    float(usual.max(initial=high)),
                )
        return found

    def _chunks(self, weights: Sequence[str]) -> Iterator[Activations]:
        """Yield, chunk after chunk, the arrays that each weight multiplies, by weight."""
        context = self._config.n_positions
        session = _open(self._source, set(self._inputs.values()))  # lives as long as this run
        known = [value.name for value in session.get_inputs()]
        known += [value.name for value in session.get_overridable_initializers()]
        for start in range(0, len(self._token_ids), context):
            cache = self._empty_cache()
            window = self._token_ids[start : start + context]
            for begin in range(0, len(window), CHUNK):
                chunk = window[begin : begin + CHUNK]
                names = [*(self._inputs[weight] for weight in weights), *_presents(cache)]
                feeds = _feeds(chunk, begin) | cache
                feeds = {name: feeds[name] for name in known if name in feeds}
                outputs = session.run(names, feeds)
                yield dict(zip(weights, outputs[: len(weights)], strict=True))
                cache = dict(zip(cache, outputs[len(weights) :], strict=True))

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
            count += len(rows)
        return {w: Spread.of(shifts[w], sums[w] / count, squares.pop(w) / count) for w in weights}

    def largest(self, weights: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        """Return each input channel's largest absolute value, `[in]`, by weight."""
        found: dict[str, NDArray[np.float32]] = {}
        for chunk in self.activations(weights):
            for weight, rows in chunk.items():
                most = np.abs(rows).max(axis=0)
                found[weight] = np.maximum(found[weight], most) if weight in found else most
        return found

    def _empty_cache(self) -> Activations:
        config = self._config
        empty = np.zeros((1, config.n_head, 0, config.head_dim), np.float32)
        sides = ((i, side) for i in range(config.n_layer) for side in ("key", "value"))
        return {f"past_key_values.{layer}.{side}": empty for layer, side in sides}


def _presents(cache: Activations) -> list[str]:
    return [name.replace("past_key_values", "present") for name in cache]


def _feeds(token_ids: Sequence[int], begin: int) -> dict[str, NDArray[np.int64]]:
    positions = np.arange(begin, begin + len(token_ids), dtype=np.int64)
    return {
        "input_ids": np.array([token_ids], np.int64),
        "position_ids": positions[None],
        "attention_mask": np.ones((1, begin + len(token_ids)), np.int64),
        "num_logits_to_keep": np.array(0, np.int64),
    }


def _open(source: Path, names: set[str]) -> ort.InferenceSession:
    """Open the graph with further outputs, its weights still in their file."""
    model = ir.load(source)
    for node in list(model.graph):
        for value in node.outputs:
            if value.name in names and not value.is_graph_output():
                value.type = ir.TensorType(ir.DataType.FLOAT)
                model.graph.outputs.append(value)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    folder = str(source.parent)
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", folder)
    options.add_session_config_entry("session.disable_prepacking", "1")  # no second copy of weights
    content = ir.to_proto(model).SerializeToString()
    return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
