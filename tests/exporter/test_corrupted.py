"""Two hundred corrupted checkpoints in one process: each one clear line, nothing left behind."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from pocketgpt import CheckpointError
from pocketgpt_export import export

Corruption = Callable[[Path], None]


def weights_cut_at(size: int) -> Corruption:
    def corrupt(folder: Path) -> None:
        path = folder / "model.safetensors"
        path.write_bytes(path.read_bytes()[:size])

    return corrupt


def weights_flipped_at(byte: int, bit: int) -> Corruption:
    def corrupt(folder: Path) -> None:
        path = folder / "model.safetensors"
        content = bytearray(path.read_bytes())
        content[byte] ^= 1 << bit
        path.write_bytes(content)

    return corrupt


def tensor_changed(name: str, change: Callable[[torch.Tensor], torch.Tensor]) -> Corruption:
    def corrupt(folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        tensors[name] = change(tensors[name]).contiguous()
        save_file(tensors, folder / "model.safetensors")

    return corrupt


def tensor_renamed(name: str, new: str | None) -> Corruption:
    def corrupt(folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        tensor = tensors.pop(name)
        if new is not None:
            tensors[new] = tensor
        save_file(tensors, folder / "model.safetensors")

    return corrupt


def tensor_added(name: str) -> Corruption:
    def corrupt(folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        save_file({**tensors, name: torch.zeros(3)}, folder / "model.safetensors")

    return corrupt


def config_changed(**fields: Any) -> Corruption:
    def corrupt(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | fields), "utf-8")

    return corrupt


def text_cut(name: str, share: float) -> Corruption:
    def corrupt(folder: Path) -> None:
        path = folder / name
        content = path.read_bytes()
        path.write_bytes(content[: int(len(content) * share)])

    return corrupt


def pickle_cut(share: float) -> Corruption:
    def corrupt(folder: Path) -> None:
        torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
        (folder / "model.safetensors").unlink()
        text_cut("pytorch_model.bin", share)(folder)

    return corrupt


def pickle_repeats(folder: Path) -> None:
    """A tensor that claims a huge size and stores one number."""
    tensors = load_file(folder / "model.safetensors")
    tensors["transformer.wte.weight"] = torch.zeros(1, 1).expand(10**9, 10**6)
    torch.save(tensors, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    config_changed(vocab_size=10**9)(folder)


def index_names(*names: str) -> Corruption:
    def corrupt(folder: Path) -> None:
        (folder / "model.safetensors").unlink()
        weight_map = {f"tensor.{rank}": name for rank, name in enumerate(names)}
        index = folder / "model.safetensors.index.json"
        index.write_text(json.dumps({"weight_map": weight_map}), "utf-8")

    return corrupt


def spoiled(value: float) -> Callable[[torch.Tensor], torch.Tensor]:
    def change(tensor: torch.Tensor) -> torch.Tensor:
        tensor.view(-1)[-1] = value
        return tensor

    return change


def corruptions(checkpoint: Path) -> Iterator[tuple[str, Corruption]]:
    """Yield each one's name and what does it."""
    random = np.random.default_rng(0)
    content = (checkpoint / "model.safetensors").read_bytes()
    header = 8 + int.from_bytes(content[:8], "little")
    names = sorted(load_file(checkpoint / "model.safetensors"))
    for size in random.integers(0, len(content), 50):
        yield f"cut at {size}", weights_cut_at(int(size))
    # Spaces pad the header's end, where a flip may be another kind of space.
    for byte in random.integers(0, header - 8, 60):
        yield f"flip in byte {byte}", weights_flipped_at(int(byte), int(random.integers(8)))
    for name in names[::3]:
        yield f"{name} as int32", tensor_changed(name, lambda tensor: tensor.int())
        yield f"{name} cut", tensor_changed(name, lambda tensor: tensor[:-1])
        yield f"{name} with another axis", tensor_changed(name, lambda tensor: tensor[None])
        yield f"{name} with NaN", tensor_changed(name, spoiled(float("nan")))
        yield f"{name} with infinity", tensor_changed(name, spoiled(float("inf")))
        yield f"{name} missing", tensor_renamed(name, None)
        yield f"{name} renamed", tensor_renamed(name, name.replace("weight", "w") + "x")
    for name in ("score.weight", "transformer.h.9.ln_1.weight", "lm_head.bias", "", "ü"):
        yield f"unknown {name!r}", tensor_added(name)
    sizes = ("n_layer", "n_head", "n_embd", "n_positions", "vocab_size")
    for size in sizes:
        for value in (0, -1, 10**9, 10**18, 3.5, "many", None, [2], True):
            yield f"{size} {value!r}", config_changed(**{size: value})
    for value in (-1, 10**18, 33):
        yield f"n_inner {value}", config_changed(n_inner=value)
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        for share in (0.0, 0.3, 0.9):
            yield f"{name} cut at {share}", text_cut(name, share)
    for share in (0.0, 0.2, 0.5, 0.9, 0.99):
        yield f"pickle cut at {share}", pickle_cut(share)
    yield "pickle that repeats", pickle_repeats
    yield "index without files", index_names("model-1.safetensors")
    yield "index outside", index_names("../model.safetensors")
    yield "index empty", index_names()


def test_corrupted_checkpoints(make_checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    checkpoint = make_checkpoint()
    # Without metadata, which may be changed and stay harmless.
    save_file(load_file(checkpoint / "model.safetensors"), checkpoint / "model.safetensors")
    workplace = tmp_path / "workplace"
    cases = list(corruptions(checkpoint))
    assert len(cases) >= 200
    wrong = []
    for name, corrupt in cases:
        shutil.copytree(checkpoint, workplace / "checkpoint")
        corrupt(workplace / "checkpoint")
        try:
            export(workplace / "checkpoint", workplace / "exported")
            wrong.append((name, "was exported"))
        except CheckpointError as error:
            message = str(error)
            if "\n" in message or not 20 < len(message) < 600:
                wrong.append((name, message))
        except Exception as error:
            wrong.append((name, repr(error)))
        if [path.name for path in workplace.iterdir()] != ["checkpoint"]:
            wrong.append((name, "left something behind"))
        shutil.rmtree(workplace)
    assert wrong == []
