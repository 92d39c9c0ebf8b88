"""What lies where weights should be: placeholders, other programs' formats, other names."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from pocketgpt import CheckpointError
from pocketgpt_export import export
from pocketgpt_export.source.checkpoint import load_checkpoint

POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'4' * 64}\nsize 497774208\n"


@pytest.mark.parametrize(
    "name",
    [
        "model.safetensors",
        "pytorch_model.bin",
        "pytorch_model.bin.index.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "config.json",
        "generation_config.json",
        "evaluation.txt",
    ],
)
def test_placeholders_of_git_lfs(
    name: str, make_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    folder = make_checkpoint(n_layer=1)
    if name.startswith("pytorch_model"):
        (folder / "model.safetensors").unlink()
    (folder / name).write_text(POINTER, "utf-8")
    with pytest.raises(CheckpointError, match=rf"{name} is a placeholder of git-lfs.*git lfs pull"):
        export(folder, tmp_path / "model")


def test_placeholder_of_nanogpt(tmp_path: Path) -> None:
    (tmp_path / "ckpt.pt").write_text(POINTER, "utf-8")
    with pytest.raises(CheckpointError, match="placeholder of git-lfs"):
        load_checkpoint(tmp_path)


def test_placeholder_of_a_sentencepiece(make_checkpoint: Callable[..., Path]) -> None:
    folder = make_checkpoint(n_layer=1)
    (folder / "tokenizer.json").unlink()
    (folder / "spiece.model").write_text(POINTER, "utf-8")
    with pytest.raises(CheckpointError, match=r"spiece\.model is a placeholder of git-lfs"):
        load_checkpoint(folder)


def test_placeholder_of_a_file_that_is_not_read(make_checkpoint: Callable[..., Path]) -> None:
    folder = make_checkpoint(n_layer=1)
    (folder / "tf_model.h5").write_text(POINTER, "utf-8")
    assert load_checkpoint(folder).model.config.n_layer == 1


FORMATS = {
    "tf_model.h5": r"tf_model\.h5 is in TensorFlow's format: convert it: .*from_tf=True",
    "model.ckpt.index": r"model\.ckpt\.index is in TensorFlow's format: .*transformers-cli",
    "flax_model.msgpack": r"Flax's format: .*from_flax=True",
    "tiny.Q8_0.gguf": r"llama\.cpp's format: .*gguf_file='tiny\.Q8_0\.gguf'",
    "rust_model.ot": "rust-bert's format: export the PyTorch checkpoint",
    "onnx/model.onnx": r"onnx/model\.onnx is in ONNX's format: export the checkpoint it was made",
    "openvino_model.xml": "OpenVINO's format",
    "model.fp16.safetensors": r"model\.fp16\.safetensors has another name: .* model\.safetensors",
    "consolidated.safetensors": "copy it to model.safetensors",
    "weights.pth": r"weights\.pth has another name: .*copy it to pytorch_model\.bin",
    "model-00002-of-00003.safetensors": "one of several, and the index that names them is missing",
    "checkpoint-500/model.safetensors": "checkpoint-500 has some: export that",
}


@pytest.mark.parametrize("name", FORMATS)
def test_other_formats(name: str, make_checkpoint: Callable[..., Path]) -> None:
    folder = make_checkpoint(n_layer=1)
    (folder / "model.safetensors").unlink()
    (folder / "training_args.bin").write_bytes(b"not a model's")
    with pytest.raises(CheckpointError, match=r"has no weights: [^;]*bin\.index\.json$"):
        load_checkpoint(folder)
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(b"anything")
    with pytest.raises(CheckpointError, match=FORMATS[name]) as caught:
        load_checkpoint(folder)
    assert "\n" not in str(caught.value)


def test_folder_without_config_says_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "gpt2.gguf").write_bytes(b"GGUF")
    with pytest.raises(CheckpointError, match=r"no config\.json.*gpt2\.gguf is in llama\.cpp's"):
        load_checkpoint(tmp_path)
    with pytest.raises(CheckpointError, match=r"it is in llama\.cpp's format"):
        load_checkpoint(tmp_path / "gpt2.gguf")


def test_weights_given_by_themselves(make_checkpoint: Callable[..., Path]) -> None:
    folder = make_checkpoint(n_layer=1)
    with pytest.raises(CheckpointError, match=f"give the folder it lies in, {folder}"):
        load_checkpoint(folder / "model.safetensors")


def test_what_is_refused_in_a_pickle_is_named(
    tmp_path: Path, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    """A fork's own class beside the weights."""
    tiny_tokenizer.save_pretrained(tmp_path / "tokenizer")
    shutil.copy(tmp_path / "tokenizer" / "tokenizer.json", tmp_path / "other.json")
    torch.save({"model": {}, "model_args": Path("x")}, tmp_path / "ckpt.pt")
    with pytest.raises(
        CheckpointError, match=r"holds a pathlib\.\w+, which is code.*plain numbers"
    ):
        load_checkpoint(tmp_path / "ckpt.pt", tokenizer=tmp_path / "tokenizer")
