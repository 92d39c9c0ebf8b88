"""The portable graph, and both graphs in Optimum: run where optimum-onnx is installed."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx_ir as ir
import pytest
import torch
from transformers import GPT2LMHeadModel

import pocketgpt
from pocketgpt import MissingExtraError
from pocketgpt_export import export, verify

CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "heads_of_12": {"n_embd": 36, "n_head": 3},
    "flags": {
        "scale_attn_weights": False,
        "scale_attn_by_inverse_layer_idx": True,
        "reorder_and_upcast_attn": True,
        "activation_function": "relu",
        "n_inner": 40,
    },
    "untied": {"tie_word_embeddings": False, "activation_function": "gelu"},
    "short_context": {"n_positions": 7},
}
GRAPHS = ("fused", "portable")


def needs_optimum() -> None:
    pytest.importorskip("optimum.exporters.onnx")


@pytest.mark.filterwarnings("ignore")  # the older tracer's own
@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_portable(name: str, make_checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    needs_optimum()
    checkpoint = make_checkpoint(**CONFIGURATIONS[name])
    folder = tmp_path / "exported"
    manifest = export(checkpoint, folder, graph=None if name == "heads_of_12" else "portable")
    assert manifest.graph == "portable"
    assert max(manifest.proof.values()) < 1e-4
    assert verify(folder).failures == ()
    program = ir.load(folder / "onnx" / "model.onnx")
    assert {node.domain for node in program.graph} == {""}
    weights = 4 * (manifest.parameters or 0)
    assert manifest.variants["fp32"].files[1].bytes <= 1.01 * weights + 4096
    reference = GPT2LMHeadModel.from_pretrained(checkpoint, attn_implementation="eager").eval()
    text = "the cat"
    model = pocketgpt.load(folder)
    ids = model.tokenizer.encode(text)
    with torch.inference_mode():
        found = reference.generate(
            torch.tensor([ids]), max_length=reference.config.n_positions, do_sample=False
        )
    result = model.generate(text, max_length=reference.config.n_positions)
    assert ids + result.token_ids == found[0].tolist()


def test_portable_without_optimum(
    make_checkpoint: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "optimum.exporters.onnx", None)
    with pytest.raises(MissingExtraError, match=r"transformers below 4\.58.*pocketgpt\[portable\]"):
        export(make_checkpoint(), tmp_path / "exported", graph="portable")
    assert not (tmp_path / "exported").exists()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("graph", GRAPHS)
def test_optimum_runs_the_folder(
    graph: str, make_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    """Greedy tokens are PyTorch's; a left-padded batch is right, or fails."""
    needs_optimum()
    from optimum.onnxruntime import ORTModelForCausalLM

    checkpoint = make_checkpoint(eos_token_id=None)
    export(checkpoint, tmp_path / "exported", graph=graph)
    model = ORTModelForCausalLM.from_pretrained(
        tmp_path / "exported", subfolder="onnx", file_name="model.onnx"
    )
    reference = GPT2LMHeadModel.from_pretrained(checkpoint, attn_implementation="eager").eval()
    options = {"max_new_tokens": 26, "do_sample": False, "pad_token_id": 0}
    prompt = torch.tensor([[5, 6, 7, 8]])
    expected = reference.generate(prompt, **options)
    assert model.generate(prompt, **options).tolist() == expected.tolist()

    rows = torch.tensor([[0, 0, 9, 10], [5, 6, 7, 8]])
    mask = torch.tensor([[0, 0, 1, 1], [1, 1, 1, 1]])
    batch = {"input_ids": rows, "attention_mask": mask}
    if graph == "portable":
        expected = reference.generate(**batch, **options)
        assert model.generate(**batch, **options).tolist() == expected.tolist()
    else:
        with pytest.raises(Exception, match="indices element out of data bounds"):
            model.generate(**batch, **options)
