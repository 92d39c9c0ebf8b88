"""Checkpoints for which float32 itself is coarser than the proof's tolerance."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import GPT2LMHeadModel, PreTrainedTokenizerFast

from pocketgpt import ProofError
from pocketgpt_export import export, verify
from pocketgpt_export.proof.prove import TOLERANCE

from .conftest import tiny_config

MODULE = importlib.import_module("pocketgpt_export.exporting")


@pytest.fixture
def coarse(tmp_path: Path, tiny_tokenizer: PreTrainedTokenizerFast) -> Path:
    """A checkpoint of random weights so large that float32 loses more than the tolerance."""
    torch.manual_seed(2)
    model = GPT2LMHeadModel(tiny_config(n_layer=6, n_embd=64, initializer_range=0.8)).eval()
    model.save_pretrained(tmp_path / "coarse")
    tiny_tokenizer.save_pretrained(tmp_path / "coarse")
    ids = torch.tensor([np.random.default_rng(3).integers(0, 320, 48).tolist()])
    with torch.inference_mode():
        single = model(ids).logits
        error = float((single - model.double()(ids).logits).abs().max())
    assert error > TOLERANCE
    return tmp_path / "coarse"


def test_float32_is_not_the_graphs_fault(coarse: Path, tmp_path: Path) -> None:
    manifest = export(coarse, tmp_path / "model")
    worst = max(manifest.proof.values())
    assert worst > TOLERANCE
    (remark,) = manifest.remarks
    assert "compared with float64" in remark
    found = verify(tmp_path / "model")
    assert found.failures == ()
    assert found.tolerance is not None
    assert TOLERANCE < worst <= found.tolerance


def test_a_wrong_graph_is_caught_all_the_same(
    coarse: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace = MODULE.__dict__["trace"]

    def trace_wrongly(model: GPT2LMHeadModel, path: Path) -> None:
        other = GPT2LMHeadModel(model.config)
        other.load_state_dict(model.state_dict())
        with torch.no_grad():
            other.get_parameter("transformer.h.1.mlp.c_fc.weight")[0, 0] += 0.5
        trace(other.eval(), path)

    monkeypatch.setattr(MODULE, "trace", trace_wrongly)
    with pytest.raises(ProofError, match="the graph is not the checkpoint"):
        export(coarse, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_with_places_for_adapters(coarse: Path, tmp_path: Path) -> None:
    manifest = export(coarse, tmp_path / "model", adapters=True)
    assert "adapter" in manifest.proof
    assert "compared with float64" in manifest.remarks[0]
