"""The graph's contract: names, order, shapes and types of what goes in and what comes out.

    input_ids         int64 [batch_size, sequence_length]
    attention_mask    int64 [batch_size, total_sequence_length]      ones, then zeros
    position_ids      int64 [batch_size, sequence_length]
    past_key_values.{layer}.{side}  [batch_size, n_head, past_sequence_length, head_dim]
    num_logits_to_keep  int64 []    fused alone: an initializer of 1, 0 for all
    query_lengths     int32 [batch_size]     fused alone, where ragged.py added it: how many of each
                                             row's tokens are real, the others padding on the right
    {product}.lora_A    [in, rank]  with places for adapters alone, for every product of a layer:
    {product}.lora_B    [rank, out] initializers of rank 0, in the type of what the product reads
    {product}.lora_bias [rank]      where the product was folded
    ->
    logits            float32 [batch_size, 1, vocab_size]            portable: of every token given
                              a classifier's have num_labels in the place of vocab_size
    present.{layer}.{side}          [batch_size, n_head, total_sequence_length, head_dim]

`fused` appends to a cache in place where past and present are one buffer; `portable` returns a
new one. With a cache of int8, `fused` appends up to 16 tokens in place; of more, `present` has the
new tokens alone, [batch_size, n_head, sequence_length, head_dim]. The exporter writes graphs by
this module, the quantizer keeps to it, the runtime binds by it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from ..errors import InferenceError, ModelFolderError
from ..folder.config import ModelConfig
from ..folder.manifest import GraphKind

INPUT_IDS, ATTENTION_MASK, POSITION_IDS = "input_ids", "attention_mask", "position_ids"
NUM_LOGITS_TO_KEEP = "num_logits_to_keep"
QUERY_LENGTHS, BATCH_SIZE = "query_lengths", "batch_size"
LOGITS = "logits"
SIDES = ("key", "value")
LORA_A, LORA_B, LORA_BIAS = "lora_A", "lora_B", "lora_bias"
ATTENTION_IN, ATTENTION_OUT = "attn.c_attn", "attn.c_proj"
# A layer's products in the order in which it computes them, by transformers' names.
PRODUCTS = (ATTENTION_IN, ATTENTION_OUT, "mlp.c_fc", "mlp.c_proj")
SCORE_WEIGHT = "score.weight"  # a classifier's head, [num_labels, n_embd]
MOST_IN_PLACE = 16  # tokens of a row that an 8-bit cache takes in place
CONTEXT_PROPERTY = "pocketgpt.n_positions"  # of the .onnx file's metadata: no shape shows it

Array = NDArray[Any]

_IDS_TYPE, _LENGTHS_TYPE = "tensor(int64)", "tensor(int32)"
_LOGITS_TYPE = "tensor(float)"
_FLOAT_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
_CACHE_TYPES = {**_FLOAT_TYPES, "tensor(int8)": np.int8}


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


def product_names(n_layer: int) -> list[str]:
    """Return the products that adapters may change, in the order in which they are computed."""
    return [f"transformer.h.{layer}.{product}" for layer in range(n_layer) for product in PRODUCTS]


def text_feeds(token_ids: Sequence[int], begin: int) -> dict[str, Array]:
    """Return the feeds of one text's tokens from position `begin` on, but for the cache."""
    positions = np.arange(begin, begin + len(token_ids), dtype=np.int64)
    return {
        INPUT_IDS: np.array([token_ids], np.int64),
        ATTENTION_MASK: np.ones((1, begin + len(token_ids)), np.int64),
        POSITION_IDS: positions[None],
    }


def check_every(logits: Array, tokens: int) -> None:
    """Check that logits `[rows, tokens, vocab_size]` are those of every token.

    Raises:
        InferenceError: they are not: OpenVINO takes `num_logits_to_keep` for a constant.
    """
    if logits.shape[1] != tokens:
        raise InferenceError(
            f"the provider gives {logits.shape[1]} rows of logits where all {tokens} tokens' were "
            "asked for; export the model with --graph portable for it"
        )


@dataclass(frozen=True)
class Contract:
    """What a graph was found to be.

    Its kind, the type of its cache's numbers, and the shapes `(in, out)` of the products that
    adapters may change, by name: none without places for them. `ragged`: it takes `query_lengths`.
    """

    kind: GraphKind
    cache_dtype: np.dtype[Any]
    products: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    ragged: bool = False


def read_contract(
    session: ort.InferenceSession, config: ModelConfig, where: object, *, adapters: bool = False
) -> Contract:
    """Compare an open graph with the contract and with a folder's config.json.

    Args:
        session: the open graph.
        config: what its sizes have to be.
        where: what to call the graph in an error.
        adapters: whether it has places for adapters.

    Raises:
        ModelFolderError: a name, a type or a size is another one; the message names the first.
    """
    reader = _Reader({value.name: value for value in session.get_inputs()}, config, where)
    outputs = {value.name: value for value in session.get_outputs()}
    # Before lists as long as config.json's n_layer are made.
    ragged = QUERY_LENGTHS in reader.values
    inputs = len(reader.values) - ragged
    if inputs + len(outputs) != 4 + 4 * config.n_layer:
        raise reader.error(
            f"has {inputs} inputs and {len(outputs)} outputs, and {config.n_layer} "
            f"layers make {3 + 2 * config.n_layer} and {1 + 2 * config.n_layer}"
        )
    for name in (INPUT_IDS, ATTENTION_MASK, POSITION_IDS):
        reader.check(name, (None, None), {_IDS_TYPE})
    if ragged:
        reader.check(QUERY_LENGTHS, (None,), {_LENGTHS_TYPE})
    cache = (None, config.n_head, None, config.head_dim)
    cache_types = {reader.check(name, cache, _CACHE_TYPES) for name in past_names(config.n_layer)}
    reader.values = outputs
    reader.check(LOGITS, (None, None, config.n_logits), {_LOGITS_TYPE})
    cache_types |= {
        reader.check(name, (None, config.n_head, None, None), _CACHE_TYPES)
        for name in present_names(config.n_layer)
    }
    if len(cache_types) > 1:
        raise reader.error(f"has a cache of several types, {', '.join(sorted(cache_types))}")
    reader.check_context(session.get_modelmeta().custom_metadata_map)
    reader.values = {value.name: value for value in session.get_overridable_initializers()}
    products = _read_places(reader, config) if adapters else {}
    kind = _kind(set(reader.values), products, reader)
    return Contract(kind, np.dtype(_CACHE_TYPES[cache_types.pop()]), products, ragged)


def _kind(overridable: set[str], products: Iterable[str], reader: _Reader) -> GraphKind:
    places = {f"{product}.{half}" for product in products for half in (LORA_A, LORA_B, LORA_BIAS)}
    if others := overridable - {NUM_LOGITS_TO_KEEP} - places:
        raise reader.error(f"takes {', '.join(sorted(others)):.200}, which no graph of ours does")
    return "fused" if NUM_LOGITS_TO_KEEP in overridable else "portable"


def _read_places(reader: _Reader, config: ModelConfig) -> dict[str, tuple[int, int]]:
    """Check the inputs for adapters; return the shapes of the products they change."""
    width = config.n_embd
    # None: the MLP's inner width, which is in no field that the runtime reads.
    known: dict[str, tuple[int | None, int | None]] = {
        ATTENTION_IN: (width, 3 * width),
        ATTENTION_OUT: (width, width),
        "mlp.c_fc": (width, None),
        "mlp.c_proj": (None, width),
    }
    shapes = {}
    for product in product_names(config.n_layer):
        fed, given = known[product.split(".", 3)[3]]
        places = f"{product}.{LORA_A}", f"{product}.{LORA_B}", f"{product}.{LORA_BIAS}"
        types = {reader.check(places[0], (fed, None), _FLOAT_TYPES)}
        types.add(reader.check(places[1], (None, given), _FLOAT_TYPES))
        if places[2] in reader.values:
            types.add(reader.check(places[2], (None,), _FLOAT_TYPES))
        shape = reader.values[places[0]].shape[0], reader.values[places[1]].shape[1]
        if len(types) > 1 or not all(isinstance(size, int) for size in shape):
            raise reader.error(f"has places for adapters of no one type and shape, at {product}")
        shapes[product] = shape
    return shapes


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
