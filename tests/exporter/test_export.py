"""`export`: proven or not written, and what it leaves of what was there."""

from __future__ import annotations

import importlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import GPT2LMHeadModel, PreTrainedTokenizerFast

import pocketgpt
from pocketgpt import OptionError, ProofError
from pocketgpt.engine.decoder import Decoder
from pocketgpt_export import export
from pocketgpt_export.proof.prove import TOLERANCE, prove
from pocketgpt_export.proof.ragged_batch import Batch
from pocketgpt_export.proof.reference import Reference, ask_reference, real_ids
from pocketgpt_export.source.checkpoint import load_checkpoint

from ..conftest import contents

# `pocketgpt_export.export` the name is the function; this is the module it lies in.
MODULE = importlib.import_module("pocketgpt_export.exporting")


@pytest.fixture
def quick_trace(monkeypatch: pytest.MonkeyPatch, tiny_folder: Path) -> None:
    """Copy the graph traced before, for tests of what happens around it."""

    def copy(_: GPT2LMHeadModel, path: Path) -> None:
        for name in (path.name, f"{path.name}_data"):
            shutil.copyfile(tiny_folder / "onnx" / name, path.parent / name)

    monkeypatch.setattr(MODULE, "trace", copy)


def nudge_a_weight(model: GPT2LMHeadModel) -> None:
    with torch.no_grad():
        model.get_parameter("transformer.h.1.mlp.c_fc.weight")[0, 0] += 0.5


def test_a_wrong_graph_is_caught_and_not_written(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One weight of the traced graph is not the checkpoint's."""
    trace = MODULE.__dict__["trace"]

    def trace_wrongly(model: GPT2LMHeadModel, path: Path) -> None:
        other = GPT2LMHeadModel(model.config)
        other.load_state_dict(model.state_dict())
        nudge_a_weight(other)
        trace(other.eval(), path)

    monkeypatch.setattr(MODULE, "trace", trace_wrongly)
    with pytest.raises(
        ProofError, match=r"differ by .* in the check one_shot, over 0\.0001"
    ) as caught:
        export(tiny_checkpoint, tmp_path / "model")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def asked(tiny_checkpoint: Path) -> tuple[Reference, PreTrainedTokenizerFast]:
    """What `prove` compares with: PyTorch's answers, and the checkpoint's tokenizer."""
    loaded = load_checkpoint(tiny_checkpoint)
    ids = real_ids(loaded.tokenizer, loaded.companions)
    return ask_reference(loaded.model, ids), loaded.tokenizer


@pytest.mark.parametrize(
    ("check", "owner", "method"),
    [
        ("one_shot", Decoder, "score"),
        ("cached", Decoder, "step"),
        ("chunked", Decoder, "score"),
        ("ragged_batch", Batch, "step"),
        ("eos_prompt", Decoder, "prefill"),
        ("context_end", Decoder, "step"),
    ],
)
@pytest.mark.parametrize("off_by", [2 * TOLERANCE, float("nan")])
def test_each_way_to_run_is_compared(
    tiny: pocketgpt.Model,
    asked: tuple[Reference, PreTrainedTokenizerFast],
    monkeypatch: pytest.MonkeyPatch,
    check: str,
    owner: type[Any],
    method: str,
    off_by: float,
) -> None:
    """A wrong number is caught, and so is what is no number."""
    found, failed = prove(tiny.graph, tiny.tokenizer, *asked)
    assert failed == []
    assert max(found.values()) <= TOLERANCE
    right: Callable[..., Any] = getattr(owner, method)
    monkeypatch.setattr(owner, method, lambda self, given: right(self, given) + off_by)
    _, failed = prove(tiny.graph, tiny.tokenizer, *asked)
    assert any(f"in the check {check}, over" in line for line in failed)


@pytest.mark.usefixtures("quick_trace")
def test_a_folder_that_is_there_is_left_alone(tiny_checkpoint: Path, tiny_copy: Path) -> None:
    before = contents(tiny_copy.parent)
    with pytest.raises(OptionError, match="holds a model already; --overwrite") as caught:
        export(tiny_checkpoint, tiny_copy)
    assert "\n" not in str(caught.value)
    assert contents(tiny_copy.parent) == before


@pytest.mark.usefixtures("quick_trace")
def test_overwrite_replaces_and_drops_the_old_variants(
    tiny_checkpoint: Path, tiny_copy: Path
) -> None:
    manifest = export(tiny_checkpoint, tiny_copy, overwrite=True)
    assert list(manifest.variants) == ["fp32"]
    assert sorted(path.name for path in (tiny_copy / "onnx").iterdir()) == [
        "model.onnx",
        "model.onnx_data",
    ]
    config = json.loads((tiny_copy / "config.json").read_text("utf-8"))
    external = config["transformers.js_config"]["use_external_data_format"]
    assert external == {"model.onnx": True}
    assert pocketgpt.load(tiny_copy, verify=True).variant == "fp32"
    assert [path.name for path in tiny_copy.parent.iterdir()] == [tiny_copy.name]


@pytest.mark.usefixtures("quick_trace")
@pytest.mark.parametrize("overwrite", [False, True])
def test_an_empty_folder_is_taken(tiny_checkpoint: Path, tmp_path: Path, overwrite: bool) -> None:
    (tmp_path / "new").mkdir()
    export(tiny_checkpoint, tmp_path / "new", overwrite=overwrite)
    assert pocketgpt.load(tmp_path / "new", verify=True).variant == "fp32"
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


@pytest.mark.usefixtures("quick_trace")
def test_parent_folders_are_made(tiny_checkpoint: Path, tmp_path: Path) -> None:
    export(tiny_checkpoint, tmp_path / "a" / "b")
    assert pocketgpt.load(tmp_path / "a" / "b").variant == "fp32"


@pytest.mark.parametrize("overwrite", [False, True])
def test_what_is_no_model_folder_is_never_overwritten(
    tiny_checkpoint: Path, tmp_path: Path, overwrite: bool
) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.txt").write_text("ten years of work", "utf-8")
    (tmp_path / "file").write_text("a file", "utf-8")
    before = contents(tmp_path)
    for name in ("thesis", "file"):
        with pytest.raises(OptionError, match="exists and is no model folder"):
            export(tiny_checkpoint, tmp_path / name, overwrite=overwrite)
    assert contents(tmp_path) == before


@pytest.mark.usefixtures("quick_trace")
def test_a_failed_overwrite_keeps_the_old_folder(
    tiny_checkpoint: Path, tiny_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ProofError("not the same")

    monkeypatch.setattr(MODULE, "prove", fail)
    before = contents(tiny_copy.parent)
    with pytest.raises(ProofError, match="not the same"):
        export(tiny_checkpoint, tiny_copy, overwrite=True)
    assert contents(tiny_copy.parent) == before


@pytest.mark.usefixtures("quick_trace")
@pytest.mark.parametrize("failing", ["moving the old aside", "putting the new in its place"])
def test_an_overwrite_that_cannot_be_installed_keeps_the_old_folder(
    tiny_checkpoint: Path, tiny_copy: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    """Its files are held open, say; the first try fails, going back does not."""
    rename, failed = Path.rename, False

    def fail_once(path: Path, target: Path) -> Path:
        nonlocal failed
        wanted = path if failing == "moving the old aside" else Path(target)
        if wanted == tiny_copy and not failed:
            failed = True
            raise OSError("held open")
        return rename(path, target)

    before = contents(tiny_copy.parent)
    monkeypatch.setattr("pocketgpt.folder.install.exchange", lambda *_: False)
    monkeypatch.setattr(Path, "rename", fail_once)
    with pytest.raises(pocketgpt.PocketGPTError, match="cannot be written: held open"):
        export(tiny_checkpoint, tiny_copy, overwrite=True)
    monkeypatch.undo()
    assert failed
    assert contents(tiny_copy.parent) == before


@pytest.mark.usefixtures("quick_trace")
def test_progress_starts_and_finishes_every_step(tiny_checkpoint: Path, tmp_path: Path) -> None:
    reports: list[tuple[str, int, int]] = []
    export(tiny_checkpoint, tmp_path / "new", progress=lambda *report: reports.append(report))
    steps = list(dict.fromkeys(name for name, _, _ in reports))
    assert steps == [
        "reading the checkpoint",
        "asking PyTorch",
        "tracing the graph",
        "proving it equals PyTorch",
    ]
    for name in steps:
        assert [(done, total) for step, done, total in reports if step == name] == [(0, 1), (1, 1)]
