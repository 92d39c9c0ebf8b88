"""The graph with places for LoRA adapters is proven, whatever the checkpoint's configuration."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx_ir as ir
import pytest

from pocketgpt import ProofError
from pocketgpt.folder.manifest import adapter_graph_path, record_adapter_graph, write_manifest
from pocketgpt_export import export, exporting, verify
from pocketgpt_export.graph import adapters

from .conftest import CHECKS

CONFIGURATIONS: tuple[dict[str, Any], ...] = (
    {},
    {"n_inner": 96, "activation_function": "gelu"},
    {"tie_word_embeddings": False, "activation_function": "relu"},
    {"scale_attn_by_inverse_layer_idx": True, "n_layer": 3},
)


@pytest.mark.parametrize("changes", CONFIGURATIONS, ids=str)
def test_the_proof_covers_it(
    changes: dict[str, Any], make_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    proof = export(make_checkpoint(**changes), tmp_path / "model", adapters=True).proof
    assert set(proof) == {*CHECKS, "adapter"}
    assert proof["adapter"] < 1e-4


def swap_places(path: Path) -> None:
    """Give the adapters of two equally shaped products each other's places."""
    model = ir.load(path)
    named = {value.name: value for value in model.graph.inputs}
    for half in ("lora_A", "lora_B"):
        first, second = (named[f"transformer.h.{i}.mlp.c_fc.{half}"] for i in range(2))
        first_users, second_users = list(first.uses()), list(second.uses())
        for node, place in first_users:
            node.replace_input_with(place, second)
        for node, place in second_users:
            node.replace_input_with(place, first)
    ir.save(model, path)


def test_verify_proves_it_again(tiny_checkpoint: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    exported = export(tiny_checkpoint, folder, adapters=True)
    found = verify(folder, tiny_checkpoint)
    assert (found.proof, found.failures) == (exported.proof, ())
    swap_places(folder / adapter_graph_path("fp32"))
    entry = replace(exported.variants["fp32"], adapter_graph=record_adapter_graph(folder, "fp32"))
    write_manifest(folder, exported.with_variant("fp32", entry))
    (failure,) = verify(folder, tiny_checkpoint).failures
    assert "in the check adapter" in failure


def test_a_misplaced_product_is_caught(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Adapters of equally shaped products in each other's places: only numbers can tell."""

    def swapped(source: Path, target: Path) -> None:
        adapters.write_adapter_graph(source, target)
        swap_places(target)

    monkeypatch.setattr(exporting, "write_adapter_graph", swapped)
    with pytest.raises(ProofError, match="in the check adapter"):
        export(tiny_checkpoint, tmp_path / "model", adapters=True)
    assert not (tmp_path / "model").exists()


def test_the_command(cli: Callable[..., Any], tiny_checkpoint: Path, tmp_path: Path) -> None:
    done = cli("export", tiny_checkpoint, tmp_path / "model", "--adapters")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "model" / adapter_graph_path("fp32")).is_file()
