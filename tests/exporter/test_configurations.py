"""GPT-2s of other configurations against PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from pocketgpt.config import ModelConfig
from pocketgpt.decoder import Decoder
from pocketgpt.session import open_session
from pocketgpt_export.trace import trace

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel


@pytest.mark.parametrize(
    "changes",
    [
        {"scale_attn_by_inverse_layer_idx": True, "activation_function": "relu", "n_inner": 96},
        {"scale_attn_weights": False, "n_head": 4, "n_layer": 1, "layer_norm_epsilon": 1e-2},
    ],
    ids=str,
)
def test_logits_equal_pytorchs(
    make_gpt2: Callable[..., GPT2LMHeadModel], tmp_path: Path, changes: dict[str, object]
) -> None:
    model = make_gpt2(**{"initializer_range": 0.05, **changes})
    trace(model, tmp_path / "model.onnx")
    names = ModelConfig.__annotations__
    config = ModelConfig(**{name: getattr(model.config, name) for name in names})
    ids = np.random.default_rng(0).integers(0, 400, 40).tolist()
    decoder = Decoder(open_session(tmp_path / "model.onnx"), config)
    with torch.inference_mode():
        expected = model(torch.tensor([ids])).logits[0].numpy()
    np.testing.assert_allclose(decoder.score(ids[:30]), expected[:30], rtol=0, atol=1e-4)
    for position in range(30, 40):
        found = decoder.step(ids[position])[0]
        np.testing.assert_allclose(found, expected[position], rtol=0, atol=1e-4)
