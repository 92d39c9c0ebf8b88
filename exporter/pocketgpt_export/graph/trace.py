"""From the modules of graph.py to an ONNX file with its weights beside it."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from transformers import GPT2Config

from pocketgpt import __version__
from pocketgpt.engine import contract

from ..source.classifier import GPT2
from .gpt2 import FusedGPT2

OPSET = 21
MIN_ONNXRUNTIME = "1.23"
_SAMPLE_BATCH, _SAMPLE_TOKENS, _SAMPLE_PAST = 2, 3, 4


def trace(model: GPT2, path: Path) -> None:
    """Trace `model` into the fused graph; write `path` and its weights, `path` + `_data`.

    The model has to be in evaluation mode and float32.
    """
    config = model.config
    n_layer = config.n_layer
    fused = FusedGPT2(model).eval()
    with _quiet():
        program = torch.onnx.export(
            fused,
            _sample(config),
            dynamo=True,
            dynamic_shapes=_dynamic_shapes(config),
            input_names=[*contract.input_names(n_layer), contract.NUM_LOGITS_TO_KEEP],
            output_names=contract.output_names(n_layer),
            opset_version=OPSET,
            verbose=False,
        )
    assert program is not None
    _finish(program.model, config, len(fused.head_weight))
    ir.save(program.model, path, external_data=f"{path.name}_data")


def _sample(config: GPT2Config) -> tuple[Any, ...]:
    ids = torch.zeros(_SAMPLE_BATCH, _SAMPLE_TOKENS, dtype=torch.int64)
    mask = torch.ones(_SAMPLE_BATCH, _SAMPLE_PAST + _SAMPLE_TOKENS, dtype=torch.int64)
    head_dim = config.n_embd // config.n_head
    past = torch.zeros(_SAMPLE_BATCH, config.n_head, _SAMPLE_PAST, head_dim)
    layers = [(past.clone(), past.clone()) for _ in range(config.n_layer)]
    return ids, mask, ids + _SAMPLE_PAST, layers, torch.tensor(1)


def _dynamic_shapes(config: GPT2Config) -> tuple[Any, ...]:
    tokens = {0: "batch_size", 1: "sequence_length"}
    mask = {0: "batch_size", 1: "total_sequence_length"}
    past = {0: "batch_size", 2: "past_sequence_length"}
    return tokens, mask, tokens, [(past, past)] * config.n_layer, None


def _finish(model: ir.Model, config: GPT2Config, n_logits: int) -> None:
    """Settle what a trace cannot say: an input's default, the logits' shape, a clean header."""
    graph = model.graph
    model.producer_name, model.producer_version = "pocketgpt", __version__
    model.metadata_props[contract.CONTEXT_PROPERTY] = str(config.n_positions)
    _forget_intermediate_shapes(graph)
    # GenAI allocates from the declared shape; asking for more rows overrides it at run time.
    graph.outputs[0].shape = ir.Shape(["batch_size", 1, n_logits])
    # An input that is also an initializer: others see nothing to feed, the runtime may override.
    keep = graph.inputs[-1]
    keep.const_value = ir.tensor(np.array(1, np.int64), name=keep.name)
    graph.initializers.add(keep)


def _forget_intermediate_shapes(graph: ir.Graph) -> None:
    """Drop the tracer's annotations: this machine's source lines, shapes keep_last declared."""
    kept = set(graph.outputs)
    for node in graph:
        node.metadata_props.clear()
        node.doc_string = None
        for value in node.outputs:
            value.metadata_props.clear()
            if value not in kept:
                value.shape = value.type = None
    for value in (*graph.inputs, *graph.initializers.values()):
        value.metadata_props.clear()
    graph.metadata_props.clear()


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the tracer's remarks about torchvision and shared dimension names off the screen."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="# The axis name", category=UserWarning)
            warnings.filterwarnings("ignore", message=".*LeafSpec", category=FutureWarning)
            yield
    finally:
        logger.setLevel(level)
