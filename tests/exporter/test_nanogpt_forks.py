"""What nanoGPT's forks save beside the weights, and its character-level models."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import PreTrainedTokenizerFast

from pocketgpt import CheckpointError
from pocketgpt_export.source.checkpoint import load_checkpoint
from pocketgpt_export.source.weights import read_pickle

from .test_sources import logits, save_nanogpt


def change(path: Path, **fields: Any) -> None:
    torch.save({**torch.load(path, weights_only=True), **fields}, path)


NUMBERS: dict[str, Any] = {
    "a float": np.float64(1.25),
    "a small float": np.float32(0.5),
    "a whole number": np.int64(7),
    "a truth value": np.bool_(True),
    "an array": np.arange(6, dtype=np.float32).reshape(2, 3),
    "a list of them": [np.float32(3.0), np.float64(2.0)],
}


@pytest.mark.parametrize("case", NUMBERS)
def test_numbers_of_numpy_are_read(
    case: str, tmp_path: Path, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    reference = save_nanogpt(tmp_path / "ckpt.pt", bias=True)
    change(tmp_path / "ckpt.pt", best_val_loss=NUMBERS[case])
    np.testing.assert_array_equal(read_pickle(tmp_path / "ckpt.pt")["best_val_loss"], NUMBERS[case])
    tiny_tokenizer.save_pretrained(tmp_path / "tokenizer")
    loaded = load_checkpoint(tmp_path / "ckpt.pt", tokenizer=tmp_path / "tokenizer")
    ids = [9, 8, 300]
    torch.testing.assert_close(logits(loaded.model, ids), logits(reference, ids), rtol=0, atol=1e-5)


def test_sizes_that_are_numbers_of_numpy(
    tmp_path: Path, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    save_nanogpt(tmp_path / "ckpt.pt", bias=True)
    sizes = torch.load(tmp_path / "ckpt.pt", weights_only=True)["model_args"]
    change(tmp_path / "ckpt.pt", model_args={**sizes, "vocab_size": np.int32(384)})
    tiny_tokenizer.save_pretrained(tmp_path / "tokenizer")
    loaded = load_checkpoint(tmp_path / "ckpt.pt", tokenizer=tmp_path / "tokenizer")
    assert loaded.model.config.vocab_size == 384


@pytest.mark.parametrize("module", ["numpy.core", "numpy._core"])
def test_numbers_pickled_by_either_numpy(module: str, tmp_path: Path) -> None:
    """NumPy 2 renamed the module that a pickle names."""
    torch.save({"loss": np.float64(2.5)}, tmp_path / "it.pt", _use_new_zipfile_serialization=False)
    content = (tmp_path / "it.pt").read_bytes()
    for other in (b"numpy.core.multiarray", b"numpy._core.multiarray"):
        content = content.replace(other, f"{module}.multiarray".encode())
    (tmp_path / "it.pt").write_bytes(content)
    assert read_pickle(tmp_path / "it.pt")["loss"] == 2.5


def test_arrays_of_objects_are_not_read(tmp_path: Path) -> None:
    torch.save({"losses": np.array([{"a": 1}, None], dtype=object)}, tmp_path / "it.pt")
    with pytest.raises(CheckpointError, match=r"it\.pt"):
        read_pickle(tmp_path / "it.pt")


class Trap:
    """Pickles as a call of `open` for writing."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str, str]]:
        return open, (str(self.path), "w")


@pytest.mark.parametrize(
    ("vocab_size", "dataset", "meta"),
    [(65, "shakespeare", False), (384, "shakespeare_char", False), (384, "poems", True)],
)
def test_characters(
    vocab_size: int,
    dataset: str,
    meta: bool,
    tmp_path: Path,
    tiny_tokenizer: PreTrainedTokenizerFast,
) -> None:
    """Told before a tokenizer is looked for, and by what does not fit; meta.pkl stays closed."""
    file = tmp_path / "ckpt.pt"
    save_nanogpt(file, bias=True)
    content = torch.load(file, weights_only=True)
    change(file, config={"dataset": dataset})
    if vocab_size != 384:
        change(file, model_args={**content["model_args"], "vocab_size": vocab_size})
    if meta:
        (tmp_path / "meta.pkl").write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
    with pytest.raises(CheckpointError, match=r"character-level nanoGPT.*GPT-2's tokens"):
        load_checkpoint(file)
    tiny_tokenizer.save_pretrained(tmp_path / "tokenizer")
    if vocab_size < 320:
        with pytest.raises(CheckpointError, match="character-level"):
            load_checkpoint(file, tokenizer=tmp_path / "tokenizer")
    else:  # it fits, and who gives one knows
        assert load_checkpoint(file, tokenizer=tmp_path / "tokenizer").model
    assert not (tmp_path / "sprung").exists()


def test_a_head_of_its_own(tmp_path: Path, tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    """Of forks that do not tie it; and the tokenizer beside the file is the file's."""
    reference = save_nanogpt(tmp_path / "ckpt.pt", bias=True)
    content = torch.load(tmp_path / "ckpt.pt", weights_only=True)
    table = content["model"]["transformer.wte.weight"]
    head = torch.randn_like(table)
    content["model"]["lm_head.weight"] = head
    torch.save(content, tmp_path / "ckpt.pt")
    tiny_tokenizer.save_pretrained(tmp_path)
    reference.lm_head.weight = torch.nn.Parameter(head)
    for source in (tmp_path, tmp_path / "ckpt.pt"):
        loaded = load_checkpoint(source)
        assert loaded.tokenizer.get_vocab() == tiny_tokenizer.get_vocab()
        ids = [3, 90, 17, 256, 4]
        torch.testing.assert_close(
            logits(loaded.model, ids), logits(reference, ids), rtol=0, atol=1e-4
        )
