"""The graph's contract: names, order, shapes and types of what goes in and what comes out.

    input_ids         int64 [batch_size, sequence_length]
    attention_mask    int64 [batch_size, total_sequence_length]      ones, then zeros
    position_ids      int64 [batch_size, sequence_length]
    past_key_values.{layer}.{side}  [batch_size, n_head, past_sequence_length, head_dim]
    num_logits_to_keep  int64 []    fused alone: an initializer of 1, 0 for all
    ->
    logits            float32 [batch_size, 1, vocab_size]            portable: of every token given
    present.{layer}.{side}          [batch_size, n_head, total_sequence_length, head_dim]

`fused` appends to a cache in place where past and present are one buffer; `portable` returns a
new one. The exporter writes graphs by this module, the quantizer keeps to it, the runtime binds by
it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from ..errors import ModelFolderError
from ..folder.config import ModelConfig

Kind = Literal["fused", "portable"]
KINDS: tuple[Kind, ...] = get_args(Kind)

INPUT_IDS, ATTENTION_MASK, POSITION_IDS = "input_ids", "attention_mask", "position_ids"
NUM_LOGITS_TO_KEEP = "num_logits_to_keep"
LOGITS = "logits"
SIDES = ("key", "value")
CONTEXT_PROPERTY = "pocketgpt.n_positions"  # of the .onnx file's metadata: no shape shows it

Array = NDArray[Any]

_IDS_TYPE = "tensor(int64)"
_LOGITS_TYPE = "tensor(float)"
_CACHE_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16}


def past_name(layer: int, side: str) -> str:
    """Return the input that takes a layer's keys or values."""
    return f"past_key_values.{layer}.{side}"


def present_name(layer: int, side: str) -> str:
    """Return the output that gives a layer's keys or values back, the new ones appended."""
    return f"present.{layer}.{side}"


def past_names(n_layer: int) -> list[str]:
    """Return the cache's inputs in the graph's order: layer by layer, keys before values."""
    return [past_name(layer, side) for layer in range(n_layer) for side in SIDES]


def present_names(n_layer: int) -> list[str]:
    """Return the cache's outputs in the same order."""
    return [present_name(layer, side) for layer in range(n_layer) for side in SIDES]


def input_names(n_layer: int) -> list[str]:
    """Return every input that has to be fed, in the graph's order."""
    return [INPUT_IDS, ATTENTION_MASK, POSITION_IDS, *past_names(n_layer)]


def output_names(n_layer: int) -> list[str]:
    """Return every output, in the graph's order."""
    return [LOGITS, *present_names(n_layer)]


def text_feeds(token_ids: Sequence[int], begin: int) -> dict[str, Array]:
    """Return the feeds of one text's tokens from position `begin` on, but for the cache."""
    positions = np.arange(begin, begin + len(token_ids), dtype=np.int64)
    return {
        INPUT_IDS: np.array([token_ids], np.int64),
        ATTENTION_MASK: np.ones((1, begin + len(token_ids)), np.int64),
        POSITION_IDS: positions[None],
    }


@dataclass(frozen=True)
class Contract:
    """What a graph was found to be: its kind, and the type of its cache's numbers."""

    kind: Kind
    cache_dtype: np.dtype[Any]


def read_contract(session: ort.InferenceSession, config: ModelConfig, where: object) -> Contract:
    """Compare an open graph with the contract and with a folder's config.json.

    Args:
        session: the open graph.
        config: what its sizes have to be.
        where: what to call the graph in an error.

    Raises:
        ModelFolderError: a name, a type or a size is another one; the message names the first.
    """
    reader = _Reader({value.name: value for value in session.get_inputs()}, config, where)
    outputs = {value.name: value for value in session.get_outputs()}
    # Before lists as long as config.json's n_layer are made.
    if len(reader.values) + len(outputs) != 4 + 4 * config.n_layer:
        raise reader.error(
            f"has {len(reader.values)} inputs and {len(outputs)} outputs, and {config.n_layer} "
            f"layers make {3 + 2 * config.n_layer} and {1 + 2 * config.n_layer}"
        )
    for name in (INPUT_IDS, ATTENTION_MASK, POSITION_IDS):
        reader.check(name, (None, None), {_IDS_TYPE})
    cache = (None, config.n_head, None, config.head_dim)
    cache_types = {reader.check(name, cache, _CACHE_TYPES) for name in past_names(config.n_layer)}
    reader.values = outputs
    reader.check(LOGITS, (None, None, config.vocab_size), {_LOGITS_TYPE})
    cache_types |= {
        reader.check(name, (None, config.n_head, None, None), _CACHE_TYPES)
        for name in present_names(config.n_layer)
    }
    if len(cache_types) > 1:
        raise reader.error(f"has a cache of several types, {', '.join(sorted(cache_types))}")
    reader.check_context(session.get_modelmeta().custom_metadata_map)
    kind = _kind({value.name for value in session.get_overridable_initializers()}, reader)
    return Contract(kind, np.dtype(_CACHE_TYPES[cache_types.pop()]))


def _kind(overridable: set[str], reader: _Reader) -> Kind:
    if overridable - {NUM_LOGITS_TO_KEEP}:
        raise reader.error(f"takes {', '.join(sorted(overridable))}, which no graph of ours does")
    return "fused" if overridable else "portable"


class _Reader:
    """Compares declared values; every refusal is one line that names the graph and the value."""

    def __init__(self, values: dict[str, ort.NodeArg], config: ModelConfig, where: object) -> None:
        self.values = values
        self._config = config
        self._where = where

    def check(
        self, name: str, shape: Sequence[int | None], types: set[str] | dict[str, Any]
    ) -> str:
        """Return a value's type; `shape` has None where any size may stand."""
        value = self.values.get(name)
        if value is None:
            raise self.error(f"lacks {name!r}")
        declared = list(value.shape)
        fits = len(declared) == len(shape) and all(
            size is None or not isinstance(dimension, int) or dimension == size
            for size, dimension in zip(shape, declared, strict=True)
        )
        if not fits:
            wanted = ", ".join("any" if size is None else str(size) for size in shape)
            raise self.error(
                f"has {name!r} of shape {declared}, and config.json makes it [{wanted}]"
            )
        if value.type not in types:
            raise self.error(f"has {name!r} of {value.type}, not {' or '.join(sorted(types))}")
        return str(value.type)

    def check_context(self, metadata: dict[str, str]) -> None:
        """Compare the number of positions where the graph says it."""
        said = metadata.get(CONTEXT_PROPERTY)
        if said is not None and said != str(self._config.n_positions):
            raise self.error(
                f"has {said!a} positions, and config.json's n_positions is "
                f"{self._config.n_positions}"
            )

    def error(self, what: str) -> ModelFolderError:
        """Return the error of a graph that is not what the folder says."""
        return ModelFolderError(f"{self._where} {what}; export the model again")
