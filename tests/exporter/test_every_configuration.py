"""Every configuration GPT-2 has: exported, proven, and compared with transformers once more."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import GPT2LMHeadModel
from transformers.activations import ACT2CLS

import pocketgpt
from pocketgpt import CheckpointError
from pocketgpt_export import export, verify

from .conftest import CHECKS

CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "n_inner": {"n_inner": 40},
    "unscaled": {"scale_attn_weights": False},
    "by_layer": {"scale_attn_by_inverse_layer_idx": True, "n_layer": 3},
    "unscaled_by_layer": {
        "scale_attn_weights": False,
        "scale_attn_by_inverse_layer_idx": True,
        "n_layer": 3,
    },
    "upcast": {"reorder_and_upcast_attn": True, "scale_attn_by_inverse_layer_idx": True},
    "epsilon": {"layer_norm_epsilon": 0.1},
    "untied": {"tie_word_embeddings": False},
    "large_vocabulary": {"vocab_size": 1003},
    "one_head": {"n_head": 1, "n_embd": 24},
    "heads_of_16": {"n_embd": 48, "n_head": 3},
    "heads_of_64": {"n_embd": 128, "n_head": 2},
    "long_context": {"n_positions": 300},
    "short_context": {"n_positions": 7},
    "one_position": {"n_positions": 1},
    "three_positions": {"n_positions": 3},
    "no_eos": {"eos_token_id": None, "bos_token_id": None},
}
ACTIVATIONS = {
    name: {"activation_function": name, "n_layer": 1} for name in ACT2CLS if name != "gelu_new"
}
RARE = ACTIVATIONS.keys() - {"gelu", "relu", "silu", "tanh", "quick_gelu"}


NOT_PORTABLE = {
    "one_position": "a context of 1 has no room",
    "three_positions": "a context of 3 has no room",
    "xielu": "xielu computes in bfloat16",
}
TABLE = [
    pytest.param(
        fields,
        graph,
        id=f"{name}-{graph}",
        # An activation is a few standard operators: those GPT-2s have are enough for every day.
        marks=[pytest.mark.slow]
        if name in RARE or (name in ACTIVATIONS and graph == "portable")
        else [],
    )
    for name, fields in {**CONFIGURATIONS, **ACTIVATIONS}.items()
    for graph in ("fused", "portable")
    if graph == "fused" or name not in NOT_PORTABLE
]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Optimum's tracer, by torch
@pytest.mark.parametrize(("fields", "graph"), TABLE)
def test_configuration(
    fields: dict[str, Any], graph: str, make_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    if graph == "portable":
        pytest.importorskip("optimum.exporters.onnx")
    checkpoint = make_checkpoint(**fields)
    manifest = export(checkpoint, tmp_path / "exported", graph=graph)
    assert manifest.graph == graph
    assert set(manifest.proof) == CHECKS
    assert max(manifest.proof.values()) < 1e-4
    weights = 4 * (manifest.parameters or 0)
    assert manifest.variants["fp32"].files[1].bytes <= 1.01 * weights + 4096
    reference = GPT2LMHeadModel.from_pretrained(checkpoint, attn_implementation="eager").eval()
    ids = list(range(5, 5 + min(40, reference.config.n_positions)))
    with torch.inference_mode():
        expected = reference(torch.tensor([ids])).logits[0].numpy()
    found = pocketgpt.load(tmp_path / "exported").new_decoder().score(ids)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("saved", "name"),
    [
        ({"dtype": torch.float16}, "model.safetensors"),
        ({"dtype": torch.bfloat16}, "model.safetensors"),
        ({"max_shard_size": "60KB"}, "model.safetensors.index.json"),
    ],
    ids=["fp16", "bf16", "sharded"],
)
def test_stored_otherwise(
    saved: dict[str, Any], name: str, make_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    checkpoint = make_checkpoint(**saved)
    assert (checkpoint / name).is_file()
    assert max(export(checkpoint, tmp_path / "exported").proof.values()) < 1e-4
    assert verify(tmp_path / "exported").failures == ()


@pytest.mark.parametrize("sharded", [False, True])
def test_pytorch_files(sharded: bool, make_checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    """`.bin` as OpenAI's GPT-2 has it on the hub: no `transformer.`, with the mask buffers."""
    checkpoint = make_checkpoint()
    tensors = GPT2LMHeadModel.from_pretrained(checkpoint).transformer.state_dict()
    tensors["h.0.attn.bias"] = torch.ones(1, 1, 64, 64)
    tensors["h.0.attn.masked_bias"] = torch.tensor(-1e4)
    (checkpoint / "model.safetensors").unlink()
    if sharded:
        names = sorted(tensors)
        files = {name: f"pytorch_model-{i % 2 + 1}.bin" for i, name in enumerate(names)}
        for file in set(files.values()):
            part = {name: tensors[name] for name in names if files[name] == file}
            torch.save(part, checkpoint / file)
        index = checkpoint / "pytorch_model.bin.index.json"
        index.write_text(json.dumps({"weight_map": files}), "utf-8")
    else:
        torch.save(tensors, checkpoint / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    assert max(export(checkpoint, tmp_path / "exported").proof.values()) < 1e-4


def test_odd_heads_are_refused(make_checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    checkpoint = make_checkpoint(n_embd=36, n_head=3)
    with pytest.raises(CheckpointError, match=r"heads of 12.*multiples of 8.*--graph portable"):
        export(checkpoint, tmp_path / "exported", graph="fused")
    assert not (tmp_path / "exported").exists()


@pytest.mark.parametrize("name", NOT_PORTABLE)
def test_what_portable_refuses(
    name: str, make_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    pytest.importorskip("optimum.exporters.onnx")
    checkpoint = make_checkpoint(**{**CONFIGURATIONS, **ACTIVATIONS}[name])
    with pytest.raises(CheckpointError, match=f"{NOT_PORTABLE[name]}.*--graph fused"):
        export(checkpoint, tmp_path / "exported", graph="portable")
    assert not (tmp_path / "exported").exists()
