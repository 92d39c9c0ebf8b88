"""The graph with places for adapters against PyTorch: a random LoRA, added to its weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import GPT2LMHeadModel
from transformers.pytorch_utils import Conv1D

from pocketgpt.engine.adapters import LORA_A, LORA_B, Adapter
from pocketgpt.engine.ort_session import open_session
from pocketgpt.folder.config import ModelConfig

from .reference import Expected, Logits, ask

RANK = 2
# Of the size of what a product gives: a LoRA's is smaller, and random numbers as large as trained
# ones make a model in which float32's own roundings grow beyond what proves equality.
SIZE = 1 / 8


@dataclass(frozen=True)
class Adapted:
    """A random adapter's numbers by the graph's inputs, and all logits of PyTorch with it."""

    inputs: Mapping[str, NDArray[np.float32]]
    expected: Expected


def ask_adapted(model: GPT2LMHeadModel, ids: Sequence[int]) -> Adapted:
    """Add a random adapter to the weights of `model`, which is used up, and run PyTorch."""
    random = torch.Generator().manual_seed(0)
    inputs = {}
    for name, product in _products(model):
        width_in, width_out = product.weight.shape
        lora_a = torch.randn(width_in, RANK, generator=random)
        size = SIZE * product.weight.std() / RANK**0.5
        lora_b = size * torch.randn(RANK, width_out, generator=random)
        product.weight.data += lora_a @ lora_b
        inputs[f"{name}.{LORA_A}"], inputs[f"{name}.{LORA_B}"] = lora_a.numpy(), lora_b.numpy()
    return Adapted(inputs, ask(model, list(ids)))


def _products(model: nn.Module) -> Iterator[tuple[str, Conv1D]]:
    for name, module in model.named_modules():
        if isinstance(module, Conv1D) and isinstance(module.weight, Tensor):
            yield name, module


def adapted_difference(graph: Path, config: ModelConfig, reference: Adapted) -> float:
    """Return the largest difference of a logit, all ids in one pass through the graph."""
    logits = _logits(open_session(graph, sparing=True), config, reference)
    return float(np.abs(logits - reference.expected.logits).max())


def _logits(session: ort.InferenceSession, config: ModelConfig, reference: Adapted) -> Logits:
    ids = np.array([reference.expected.ids])
    binding = session.io_binding()
    binding.bind_cpu_input("input_ids", ids)
    binding.bind_cpu_input("position_ids", np.arange(ids.size)[None])
    binding.bind_cpu_input("attention_mask", np.ones_like(ids))
    empty = np.zeros((1, config.n_head, 0, config.head_dim), np.float32)
    for layer in range(config.n_layer):
        for side in ("key", "value"):
            binding.bind_cpu_input(f"past_key_values.{layer}.{side}", empty)
            binding.bind_output(f"present.{layer}.{side}")
    keep_all = np.array(0, np.int64)
    values = {**reference.inputs, "num_logits_to_keep": keep_all}
    Adapter({n: ort.OrtValue.ortvalue_from_numpy(v) for n, v in values.items()}).bind(binding)
    binding.bind_output("logits")
    session.run_with_iobinding(binding)
    logits: Logits = binding.get_outputs()[-1].numpy()[0]
    return logits
