"""The graph with places for adapters against PyTorch: a random LoRA, added to its weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from pocketgpt.engine.contract import (
    LOGITS,
    LORA_A,
    LORA_B,
    NUM_LOGITS_TO_KEEP,
    past_names,
    text_feeds,
)
from pocketgpt.engine.graph import Graph, open_graph
from pocketgpt.folder.config import ModelConfig
from pocketgpt.folder.files import StoredFile

from ..source.classifier import GPT2
from .prove import failures, tolerance_up_to
from .reference import Expected, ask

RANK = 2
# Of the size of what a product gives: a LoRA's is smaller, and random numbers as large as trained
# ones make a model in which float32's own roundings grow beyond what proves equality.
SIZE = 1 / 8


@dataclass(frozen=True)
class Adapted:
    """A random adapter's numbers by the graph's inputs, and all logits of PyTorch with it."""

    inputs: Mapping[str, NDArray[np.float32]]
    expected: Expected


def ask_adapted(model: GPT2, ids: Sequence[int]) -> Adapted:
    """Add a random adapter to the weights of `model`, which is used up, and run PyTorch."""
    random = torch.Generator().manual_seed(0)
    inputs = {}
    for name, product in _products(model):
        width_in, width_out = product.weight.shape
        lora_a = torch.randn(width_in, RANK, generator=random)
        size = SIZE * product.weight.float().std() / RANK**0.5
        lora_b = size * torch.randn(RANK, width_out, generator=random)
        product.weight.data += lora_a @ lora_b
        inputs[f"{name}.{LORA_A}"], inputs[f"{name}.{LORA_B}"] = lora_a.numpy(), lora_b.numpy()
    return Adapted(inputs, ask(model, list(ids)))


def _products(model: nn.Module) -> Iterator[tuple[str, Conv1D]]:
    for name, module in model.named_modules():
        if isinstance(module, Conv1D) and isinstance(module.weight, Tensor):
            yield name, module


def prove_adapters(
    path: Path | StoredFile,
    config: ModelConfig,
    reference: Adapted,
    float32_error: float = 0.0,
    *,
    weights: StoredFile | None = None,
) -> tuple[dict[str, float], list[str]]:
    """Run an exported fp32 graph with the adapter, all ids in one pass.

    Args:
        path: the graph with places for adapters.
        config: its shape.
        reference: what PyTorch said.
        float32_error: what PyTorch's float32 is off that by, where it is in float64.
        weights: the file of its weights; None for the one beside it.

    Returns:
        What was found, the worst absolute difference of a logit under `adapter`; and a line if it
        does not hold.
    """
    graph = open_graph(path, config, weights=weights, sparing=True, adapters=True)
    found = {"adapter": _worst(graph, reference)}
    largest = float(np.abs(reference.expected.logits).max())
    return found, failures(found, tolerance_up_to(largest, float32_error))


def _worst(graph: Graph, reference: Adapted) -> float:
    config = graph.config
    empty = np.zeros((1, config.n_head, 0, config.head_dim), np.float32)
    feeds = {
        **text_feeds(reference.expected.ids, 0),
        **dict.fromkeys(past_names(config.n_layer), empty),
        **reference.inputs,
        NUM_LOGITS_TO_KEEP: np.array(0, np.int64),
    }
    (logits,) = graph.run([LOGITS], feeds)
    return float(np.abs(logits[0] - reference.expected.logits).max())
