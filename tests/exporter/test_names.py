"""Tensors' names behind wrappers, and tied pairs of which a file kept either."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file, save_model
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from pocketgpt import CheckpointError
from pocketgpt_export.source.checkpoint import load_checkpoint
from pocketgpt_export.source.names import plain_names

from .conftest import tiny_model
from .test_foreign_configs import assert_same, edit_config
from .test_sources import logits, save_nanogpt

Renamed = Callable[[str], str]


def rewrite(folder: Path, change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> None:
    tensors = change(load_file(folder / "model.safetensors"))
    whole = {name: tensor.clone() for name, tensor in tensors.items()}
    save_file(whole, folder / "model.safetensors", {"format": "pt"})


def within(wrapper: str) -> Renamed:
    return lambda name: name.replace(".attn.", f".{wrapper}.attn.").replace(
        "ln_f", f"{wrapper}.ln_f"
    )


RENAMED: dict[str, Renamed] = {
    "compiled": lambda name: f"_orig_mod.{name}",
    "parallel": lambda name: f"module.{name}",
    "private": lambda name: f"_module.{name}",
    "three at once": lambda name: f"model._orig_mod.module.{name}",
    "a trainer's field": lambda name: f"base_model.backbone.{name}",
    "a field for the body": lambda name: f"model.{name.replace('transformer.', 'backbone.')}",
    "the body wrapped": lambda name: name.replace("transformer.", "transformer._orig_mod."),
    "no transformer": lambda name: name.replace("transformer.", "module."),
    "some without transformer": lambda name: name.replace("transformer.h.1", "h.1"),
    "sharded": within("_fsdp_wrapped_module"),
    "checkpointed": within("_checkpoint_wrapped_module"),
}


@pytest.mark.parametrize("case", RENAMED)
def test_folder(case: str, make_checkpoint: Callable[..., Path]) -> None:
    folder = make_checkpoint()
    rewrite(folder, lambda t: {RENAMED[case](name): tensor for name, tensor in t.items()})
    assert_same(load_checkpoint(folder).model, tiny_model())


def test_what_wrapping_modules_are_saved_as(
    make_checkpoint: Callable[..., Path],
) -> None:
    """The names PyTorch itself gives: compiled, in DataParallel, both."""
    folder = make_checkpoint()
    (folder / "model.safetensors").unlink()
    wrapped: nn.Module = torch.compile(tiny_model(), backend="eager")  # type: ignore[assignment]
    torch.save(nn.DataParallel(wrapped).state_dict(), folder / "pytorch_model.bin")
    assert_same(load_checkpoint(folder).model, tiny_model())


def test_average_of_models(make_checkpoint: Callable[..., Path]) -> None:
    """PyTorch's AveragedModel counts how many it averaged, among the weights."""
    folder = make_checkpoint()
    (folder / "model.safetensors").unlink()
    averaged = torch.optim.swa_utils.AveragedModel(tiny_model())
    torch.save(averaged.state_dict(), folder / "pytorch_model.bin")
    assert_same(load_checkpoint(folder).model, tiny_model())


@pytest.mark.parametrize("path", [("net",), ("model", "state_dict"), ("state_dict", "model")])
def test_state_within_states(path: tuple[str, ...], make_checkpoint: Callable[..., Path]) -> None:
    folder = make_checkpoint()
    (folder / "model.safetensors").unlink()
    content: dict[str, Any] = tiny_model().state_dict()
    for name in reversed(path):
        content = {"epoch": 3, name: content}
    torch.save(content, folder / "pytorch_model.bin")
    assert_same(load_checkpoint(folder).model, tiny_model())


def test_state_beside_a_trainers(make_checkpoint: Callable[..., Path]) -> None:
    folder = make_checkpoint()
    (folder / "model.safetensors").unlink()
    state = {f"model.{name}": tensor for name, tensor in tiny_model().state_dict().items()}
    content = {"state_dict": state, "epoch": 3, "global_step": 70}
    torch.save(content, folder / "pytorch_model.bin")
    assert_same(load_checkpoint(folder).model, tiny_model())


@pytest.mark.parametrize("prefix", ["module.", "module._orig_mod.", "model."])
def test_nanogpt(prefix: str, tmp_path: Path, tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    reference = save_nanogpt(tmp_path / "ckpt.pt", bias=False, prefix=prefix)
    tiny_tokenizer.save_pretrained(tmp_path / "tokenizer")
    loaded = load_checkpoint(tmp_path / "ckpt.pt", tokenizer=tmp_path / "tokenizer")
    ids = [3, 90, 17, 256, 4]
    torch.testing.assert_close(logits(loaded.model, ids), logits(reference, ids), rtol=0, atol=1e-5)


def test_two_models_in_one_file_are_refused(make_checkpoint: Callable[..., Path]) -> None:
    folder = make_checkpoint()
    both: Callable[[dict[str, Tensor]], dict[str, Tensor]] = lambda t: {  # noqa: E731
        **{f"student.{name}": tensor for name, tensor in t.items()},
        **{f"teacher.{name}": tensor + 1 for name, tensor in t.items()},
    }
    rewrite(folder, both)
    with pytest.raises(CheckpointError, match=r"student\..* and teacher\..*two models in one file"):
        load_checkpoint(folder)


def test_names_that_are_no_wrappers_stay() -> None:
    names = ["h.0.attn.c_attn.lora_A.weight", "score.weight", "adapter"]
    tensors = {f"model.transformer.{names[0]}": torch.zeros(1)}
    tensors |= {f"model.{names[1]}": torch.ones(1), names[2]: torch.ones(2)}
    assert list(plain_names(tensors, "it")) == names


def test_safetensors_kept_the_head(make_checkpoint: Callable[..., Path]) -> None:
    """`save_model` keeps one name of a tied pair, and its metadata has the other."""
    folder = make_checkpoint()
    save_model(tiny_model(), str(folder / "model.safetensors"), metadata={"format": "pt"})
    kept = load_file(folder / "model.safetensors")
    assert ("lm_head.weight" in kept) != ("transformer.wte.weight" in kept)
    assert_same(load_checkpoint(folder).model, tiny_model())


@pytest.mark.parametrize("kept", ["lm_head.weight", "transformer.wte.weight"])
def test_either_of_a_tied_pair(kept: str, make_checkpoint: Callable[..., Path]) -> None:
    folder = make_checkpoint()
    table = tiny_model().transformer.wte.weight.detach()
    others: Any = ("lm_head.weight", "transformer.wte.weight")
    rewrite(folder, lambda t: {**{n: v for n, v in t.items() if n not in others}, kept: table})
    assert_same(load_checkpoint(folder).model, tiny_model())


def test_aliases_of_an_untied_configuration(make_checkpoint: Callable[..., Path]) -> None:
    """The file says that both names are one tensor, whatever config.json says of tying."""
    folder = make_checkpoint()
    tensors = load_file(folder / "model.safetensors")
    table = tensors.pop("transformer.wte.weight")
    tensors["lm_head.weight"] = table
    metadata = {"format": "pt", "transformer.wte.weight": "lm_head.weight"}
    save_file(tensors, folder / "model.safetensors", metadata)
    edit_config(folder, tie_word_embeddings=False)
    assert json.loads((folder / "config.json").read_text("utf-8"))["tie_word_embeddings"] is False
    assert_same(load_checkpoint(folder).model, tiny_model())
