"""`verify` and `inspect`: a folder against its hashes, its checkpoint and another one."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

import pocketgpt
from pocketgpt import ModelFolderError, OptionError
from pocketgpt.folder.manifest import read_manifest, write_manifest
from pocketgpt.text.tokenizer import Tokenizer as RuntimeTokenizer
from pocketgpt_export import verify
from pocketgpt_export.proof.prove import TOLERANCE, prove, tolerance
from pocketgpt_export.proof.reference import Expected, Reference, ask_reference
from pocketgpt_export.proof.tokenizer import CORPUS, tokenizer_failures
from pocketgpt_export.source.checkpoint import load_checkpoint

from ..conftest import Cli


@pytest.fixture
def exported(exported_once: tuple[Path, Path], tmp_path: Path) -> tuple[Path, Path]:
    """Copies of `exported_once` to change; the manifest still names the original."""
    for folder in exported_once:
        shutil.copytree(folder, tmp_path / folder.name)
    return tmp_path / "checkpoint", tmp_path / "exported"


def test_verify(exported: tuple[Path, Path], tmp_path: Path) -> None:
    """One folder through everything that can be found, cheapest to export once."""
    checkpoint, folder = exported
    found = verify(folder)
    assert found.failures == ()
    assert found.unproven is None
    assert found.tolerance == TOLERANCE
    assert max(found.proof.values()) < TOLERANCE
    assert found.variants == {
        "fp32": sum(path.stat().st_size for path in (folder / "onnx").iterdir())
    }

    other = tmp_path / "other"
    shutil.copytree(checkpoint, other)
    tensors = load_file(other / "model.safetensors")
    tensors["transformer.ln_f.bias"][3] += 0.5
    save_file(tensors, other / "model.safetensors", {"format": "pt"})
    failed = verify(folder, other).failures
    assert len(failed) == 6  # every check of logits; the tokenizer is the same
    assert all("the graph is not the checkpoint" in line for line in failed)

    config = json.loads((other / "config.json").read_text("utf-8"))
    (other / "config.json").write_text(json.dumps(config | {"n_head": 2}), "utf-8")
    (line,) = verify(folder, other).failures
    assert line.endswith("is another checkpoint: its n_head is 2, the folder's 4")

    manifest = dataclasses.replace(read_manifest(folder), source=str(tmp_path / "gone"))
    write_manifest(folder, manifest)
    gone = verify(folder)
    assert gone.failures == ()
    assert gone.proof == {}
    assert gone.unproven is not None
    assert "--checkpoint" in gone.unproven

    weights = folder / "onnx" / "model.onnx_data"
    content = bytearray(weights.read_bytes())
    content[1000] ^= 1
    weights.write_bytes(content)
    (line,) = verify(folder).failures
    assert "model.onnx_data was altered" in line
    with pytest.raises(ModelFolderError):
        verify(tmp_path / "nothing")


def test_command_line(exported: tuple[Path, Path], cli: Cli) -> None:
    _, folder = exported
    code, out, _ = cli("verify", folder, "--json")
    assert code == 0
    proof = json.loads(out)["proof"]
    assert set(proof) == set(json.loads((folder / "pocketgpt.json").read_text("utf-8"))["proof"])

    code, out, _ = cli("inspect", folder)
    assert code == 0
    manifest = read_manifest(folder)
    for record in manifest.variants["fp32"].files:
        assert f"{record.sha256}  {record.bytes:>13,}  {record.path}" in out
    for part in (manifest.source, f"{manifest.parameters:,}", "opset 21", "ONNX Runtime 1.23"):
        assert part in out

    (folder / "onnx" / "model.onnx").write_bytes(b"")
    code, out, err = cli("verify", folder)
    assert code == 1
    assert "has 0 bytes, the manifest says" in err
    code, _, err = cli("verify", folder.parent / "nothing")
    assert code == 1
    assert "is not a folder" in err


def test_parameters_are_the_checkpoints(exported_once: tuple[Path, Path]) -> None:
    """Embedding, positions, a layer (4 + 3 weights of matrices, biases, norms), the last norm."""
    _, folder = exported_once
    layer = 12 * 32 * 32 + (3 + 1 + 4 + 1) * 32 + 4 * 32
    expected = 320 * 32 + 64 * 32 + layer + 2 * 32
    assert read_manifest(folder).parameters == expected


def test_every_check_can_fail(exported_once: tuple[Path, Path]) -> None:
    """A reference with one wrong logit in each of its parts fails the checks that read the part."""
    checkpoint, folder = exported_once
    loaded = load_checkpoint(checkpoint)
    right = ask_reference(loaded.model, [5, 6, 7])
    model = pocketgpt.load(folder, "fp32")

    def spoiled(case: Expected) -> Expected:
        logits = case.logits.copy()
        logits[-1, 7] += 1
        return Expected(case.ids, logits)

    def failing(**parts: Any) -> set[str]:
        reference = dataclasses.replace(right, **parts)
        found, _ = prove(model.graph, model.tokenizer, reference, loaded.tokenizer)
        return {check for check, worst in found.items() if worst > 0.5}

    first, second = right.whole
    assert failing() == set()
    for whole in ((spoiled(first), second), (first, spoiled(second))):
        assert failing(whole=whole) >= {"one_shot", "cached", "chunked"}
    assert failing(with_eos=spoiled(right.with_eos)) == {"eos_prompt"}
    assert failing(context=(right.context[0], spoiled(right.context[1]))) == {"context_end"}
    prompt_end = spoiled(Expected(first.ids, first.logits[: len(first.ids) - 3])).logits
    batch = Expected(first.ids, np.concatenate([prompt_end, first.logits[-3:]]))
    assert "ragged_batch" in failing(whole=(batch, second))


def test_what_the_reference_asks(exported_once: tuple[Path, Path]) -> None:
    checkpoint, _ = exported_once
    reference = ask_reference(load_checkpoint(checkpoint).model, [5, 6, 7])
    prompt = reference.with_eos.ids[: reference.prompt_tokens]
    assert prompt[-1] == 0
    assert 0 in prompt[:-1]
    assert reference.whole[1].ids[:5] == [5, 6, 7, 5, 6]
    for case in reference.context:
        assert len(case.ids) == 64
        assert case.logits.shape == (8, 320)
    assert tolerance(reference) == TOLERANCE


def test_tolerance_follows_float32_beyond_logits_of_100() -> None:
    case = Expected([1], np.array([[-300.0, 2.0]], np.float32))
    reference = Reference((case,), case, 1, (case,), 0)
    assert tolerance(reference) == pytest.approx(3e-4)


def test_another_tokenizer_is_found(exported_once: tuple[Path, Path], tmp_path: Path) -> None:
    checkpoint, folder = exported_once
    own = load_checkpoint(checkpoint).tokenizer
    assert tokenizer_failures(pocketgpt.load(folder).tokenizer, own) == []
    other = Tokenizer.from_file(str(folder / "tokenizer.json"))
    other.pre_tokenizer.add_prefix_space = True
    other.save(str(tmp_path / "tokenizer.json"))
    failed = tokenizer_failures(RuntimeTokenizer(tmp_path / "tokenizer.json"), own)
    assert len(failed) > len(CORPUS) / 2
    assert all(line.startswith("the tokenizer encodes ") for line in failed)


def test_round_trip_and_lone_surrogate(exported_once: tuple[Path, Path]) -> None:
    tokenizer = pocketgpt.load(exported_once[1]).tokenizer
    for text in CORPUS:
        assert tokenizer.decode(tokenizer.encode(text)) == text
    with pytest.raises(OptionError, match=r"lone surrogate \(U\+D800\) at character 1"):
        tokenizer.encode("a\ud800b")


def test_unlike_dtype_is_proven_in_float32(make_checkpoint: Callable[..., Path]) -> None:
    model = load_checkpoint(make_checkpoint(dtype=torch.bfloat16)).model
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
