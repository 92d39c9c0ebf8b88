"""Checkpoints that cannot be exported: one line each, exit code 1, nothing left behind."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from pocketgpt import CheckpointError
from pocketgpt_export import export

from ..conftest import Cli

Tensors = dict[str, torch.Tensor]


def edit_config(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), **changes}), "utf-8")


def edit_weights(folder: Path, change: Callable[[Tensors], object]) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def remove(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).unlink(missing_ok=True)


def truncate(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])


def put_in(value: float) -> Callable[[Tensors], object]:
    return lambda tensors: tensors["transformer.h.1.mlp.c_fc.weight"][3, 5].fill_(value)


Damage = Callable[[Path], object]
CASES: dict[str, tuple[Damage, str]] = {
    "another model": (
        lambda folder: edit_config(folder, model_type="llama"),
        "checkpoint of type 'llama'; PocketGPT exports 'gpt2' alone",
    ),
    "no model type": (
        lambda folder: edit_config(folder, model_type=None, architectures=["OtherLMHeadModel"]),
        r'has no model_type.*add "model_type": "gpt2"',
    ),
    "cross-attention": (
        lambda folder: edit_config(folder, add_cross_attention=True),
        r"has cross-attention \(add_cross_attention\)",
    ),
    "no config": (lambda folder: remove(folder, "config.json"), r"has no config\.json"),
    "config no JSON": (
        lambda folder: truncate(folder / "config.json", 50),
        r"config\.json cannot be read",
    ),
    "config no object": (
        lambda folder: (folder / "config.json").write_text("[]", "utf-8"),
        r"config\.json cannot be read",
    ),
    "no tokenizer": (
        lambda folder: remove(folder, "tokenizer.json", "vocab.json", "merges.txt"),
        r"has no tokenizer: neither tokenizer\.json, nor .* vocab\.txt .*; copy them",
    ),
    "truncated tokenizer": (
        lambda folder: truncate(folder / "tokenizer.json", 500),
        "tokenizer cannot be read",
    ),
    "no weights": (
        lambda folder: remove(folder, "model.safetensors"),
        r"has no weights: none of model\.safetensors",
    ),
    "truncated weights": (
        lambda folder: truncate(folder / "model.safetensors", 100_000),
        r"model\.safetensors cannot be read",
    ),
    "truncated weights' header": (
        lambda folder: truncate(folder / "model.safetensors", 20),
        r"model\.safetensors cannot be read",
    ),
    "empty weights": (
        lambda folder: truncate(folder / "model.safetensors", 0),
        r"model\.safetensors cannot be read",
    ),
    "NaN": (
        lambda folder: edit_weights(folder, put_in(float("nan"))),
        r"weights hold NaN or infinity, in transformer\.h\.1\.mlp\.c_fc\.weight",
    ),
    "infinity": (
        lambda folder: edit_weights(folder, put_in(float("inf"))),
        "weights hold NaN or infinity",
    ),
    "missing key": (
        lambda folder: edit_weights(folder, lambda t: t.pop("transformer.h.0.ln_1.weight")),
        r"1 missing keys, the first transformer\.h\.0\.ln_1\.weight",
    ),
    "unknown key": (
        lambda folder: edit_weights(folder, lambda t: t.update(adapter=torch.zeros(3))),
        "1 unexpected keys, the first adapter",
    ),
    "more layers than weights": (
        lambda folder: edit_config(folder, n_layer=3),
        "12 missing keys",
    ),
    "fewer layers than weights": (
        lambda folder: edit_config(folder, n_layer=1),
        "12 unexpected keys",
    ),
    "another shape": (lambda folder: edit_config(folder, n_positions=80), "weights"),
    "heads that do not divide": (lambda folder: edit_config(folder, n_head=3), "weights|heads"),
    "an activation nobody knows": (
        lambda folder: edit_config(folder, activation_function="gelu_from_the_moon"),
        "gelu_from_the_moon",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_refused_in_one_line_and_nothing_left(
    checkpoint_copy: Path, tmp_path: Path, cli: Cli, case: str
) -> None:
    damage, says = CASES[case]
    damage(checkpoint_copy)
    target = tmp_path / "out" / "model"
    with pytest.raises(CheckpointError, match=says) as caught:
        export(checkpoint_copy, target)
    message = str(caught.value)
    assert "\n" not in message
    assert str(checkpoint_copy) in message
    assert list(target.parent.iterdir()) == []

    done = cli("export", checkpoint_copy, target)
    assert done.returncode == 1
    assert done.stdout == ""
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert lines[-1] == f"error: {message}"
    assert "Traceback" not in done.stderr
    assert list(target.parent.iterdir()) == []


@pytest.mark.parametrize(
    "source", ["./no-such-folder", "/no/such/folder", "a/b/c", "no-such-owner/no-such-model"]
)
def test_source_that_is_not_there(tmp_path: Path, source: str) -> None:
    with pytest.raises(
        CheckpointError, match=r"is not a checkpoint folder|is neither a folder nor"
    ):
        export(source, tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_file_instead_of_a_folder(tiny_checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is not a checkpoint folder"):
        export(tiny_checkpoint / "model.safetensors", tmp_path / "model")


def test_failure_leaves_a_folder_that_is_there(checkpoint_copy: Path, tiny_copy: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in tiny_copy.rglob("*")}
    remove(checkpoint_copy, "model.safetensors")
    with pytest.raises(CheckpointError, match="has no weights"):
        export(checkpoint_copy, tiny_copy, overwrite=True)
    assert {path: path.stat().st_mtime_ns for path in tiny_copy.rglob("*")} == before
