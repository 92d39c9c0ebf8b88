"""PEFT LoRA adapters: at work in their base as peft runs them, and merged into it."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import GPT2LMHeadModel

from pocketgpt import CheckpointError, MissingExtraError
from pocketgpt.errors import one_line
from pocketgpt.folder.config import SIZES
from pocketgpt.folder.json_file import read_json_object

from .adapter_rows import fit_rows
from .classifier import GPT2
from .formats import check_no_pointer
from .names import unwrapped
from .quiet import quiet_transformers
from .weights import has_weights, read_pickle

CONFIG = "adapter_config.json"
WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
_SAVED = "modules_to_save."
_IDS = ("bos_token_id", "eos_token_id", "pad_token_id")


@dataclass(frozen=True)
class Adapter:
    """An adapter at work: peft's model, and the GPT-2 in it that has peft's layers."""

    peft_model: Any
    model: GPT2


def is_adapter(folder: Path, base: object = None) -> bool:
    """Return whether the folder's adapter is meant: it has one, and a base or no whole model.

    Some tools leave a config.json beside an adapter; weights are what makes a model whole.
    """
    return (folder / CONFIG).is_file() and (base is not None or not has_weights(folder))


def check_adapter(folder: Path, base: object) -> None:
    """Check that the folder's adapter is a LoRA and its base was given.

    Raises:
        CheckpointError: it is not.
    """
    check_no_pointer(folder / CONFIG)
    fields = read_json_object(folder / CONFIG, CheckpointError, remedy="copy the adapter again")
    kind, base_name = fields.get("peft_type"), fields.get("base_model_name_or_path")
    if kind != "LORA":
        raise CheckpointError(f"{folder} is a PEFT adapter of type {kind}; PocketGPT merges LORA")
    if base is None:
        raise CheckpointError(
            f"{folder} is a LoRA adapter without its base: add --base CHECKPOINT (base=...)"
            + (f"; it was trained on {base_name}" if base_name else "")
        )


def adapt(model: GPT2, folder: Path) -> Adapter:
    """Put an adapter to work in `model`, which is used up: unmerged, as peft runs it.

    The embedding gets as many rows as the adapter holds, and token ids come from the config.json
    beside it, if there is one.

    Raises:
        MissingExtraError: peft is not installed.
        CheckpointError: the adapter is damaged or does not fit the model.
    """
    try:
        from peft import PeftModel, set_peft_model_state_dict
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"merging a LoRA adapter needs {error.name}: pip install 'pocketgpt[lora]'"
        ) from error
    stored = read_tensors(folder)
    tensors = unwrapped(stored)
    with quiet_transformers():
        fit_rows(model, tensors, folder)
    _take_config(model, folder)
    try:
        with quiet_transformers(), warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            with _as_peft_reads_it(folder, stored, tensors) as place:
                adapted: Any = PeftModel.from_pretrained(model, str(place))
            loaded: Any = set_peft_model_state_dict(adapted, dict(tensors))
    except KeyError as error:  # of a module that it should hold whole
        raise CheckpointError(
            f"{folder} cannot be merged: it lacks {one_line(error)}, which its {CONFIG} promises; "
            "save the adapter again"
        ) from error
    except Exception as error:  # peft raises many kinds
        raise CheckpointError(f"{folder} cannot be merged: {one_line(error)}") from error
    missing = next((str(w.message) for w in caught if "missing adapter keys" in str(w.message)), "")
    if missing:
        raise CheckpointError(f"{folder} cannot be merged: {one_line(ValueError(missing))}")
    # peft saves a whole module that was trained under two names, and reads the shorter.
    twice = {n for n in tensors if _SAVED in n and n.replace(_SAVED, "") in tensors}
    unused = min({*loaded.unexpected_keys} - twice, default=None)
    if unused is not None:
        raise CheckpointError(
            f"{folder} cannot be merged: it holds {unused}, which the base has no place "
            "for; is it another model's?"
        )
    adapted.requires_grad_(False).eval()
    return Adapter(adapted, adapted.get_base_model())


@contextmanager
def _as_peft_reads_it(
    folder: Path, stored: Mapping[str, Tensor], tensors: Mapping[str, Tensor]
) -> Iterator[Path]:
    """Give a folder with `tensors`: the adapter's own, where they are `stored` so, or a copy."""
    if tensors.keys() == stored.keys():
        yield folder
        return
    with TemporaryDirectory() as scratch:
        shutil.copyfile(folder / CONFIG, Path(scratch) / CONFIG)
        save_file({n: t.contiguous() for n, t in tensors.items()}, Path(scratch) / WEIGHTS[0])
        yield Path(scratch)


def merge_adapter(adapter: Adapter, where: str) -> GPT2:
    """Return the model with what the adapter adds in its weights; the adapter is used up.

    The head is tied to the embedding afterwards where the two are equal, and only there.

    Raises:
        CheckpointError: what it adds is not finite, or peft cannot merge it.
    """
    if isinstance(adapter.model, GPT2LMHeadModel):
        _untie_changed(adapter.model)
    try:
        with quiet_transformers(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            merged: GPT2 = adapter.peft_model.merge_and_unload(safe_merge=True)
    except Exception as error:  # peft raises many kinds
        raise CheckpointError(f"{where} cannot be merged: {one_line(error)}") from error
    if isinstance(merged, GPT2LMHeadModel):
        _tie_equal(merged)
    for name, parameter in merged.named_parameters():
        if not torch.isfinite(parameter).all():
            raise CheckpointError(f"{where} merged gives NaN or infinity, in {name}")
    merged.requires_grad_(False)
    merged.train(False)
    return merged


def _tie_equal(model: GPT2LMHeadModel) -> None:
    head, table = model.lm_head, model.transformer.wte
    tied = head.weight.shape == table.weight.shape and torch.equal(head.weight, table.weight)
    if tied:
        head.weight = table.weight
    model.config.tie_word_embeddings = tied


def _untie_changed(model: GPT2LMHeadModel) -> None:
    """Give the head numbers of its own where a LoRA is on it or on the embedding it is tied to.

    A LoRA at work changes the one of the two that it is on; merged, it would change both. So do
    trained tokens of the head, but where peft ties them to the embedding's.
    """
    head: Any = model.lm_head
    table: Any = model.transformer.wte
    on_one = any(hasattr(module, "lora_A") for module in (head, table))
    on_one |= hasattr(head, "token_adapter") and not head.token_adapter.tied_adapter
    own, shared = map(_innermost, (head, table))
    if on_one and own.weight is shared.weight:
        own.weight = nn.Parameter(own.weight.detach().clone(), requires_grad=False)


def _innermost(module: Any) -> Any:
    """Return the layer that peft's are around."""
    module = getattr(module, "token_adapter", module)
    return getattr(module, "base_layer", module)


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """Read an adapter's tensors.

    Raises:
        CheckpointError: there are none, or the file is damaged.
    """
    for path in (folder / name for name in WEIGHTS):
        check_no_pointer(path)
        if path.is_file() and path.suffix == ".bin":
            return read_pickle(path)
        if path.is_file():
            try:
                return load_file(path)
            except Exception as error:  # safetensors' own error is not an OSError, torch's vary
                raise CheckpointError(f"{path} cannot be read: {one_line(error)}") from error
    raise CheckpointError(f"{folder} has no weights: none of {', '.join(WEIGHTS)}")


def _take_config(model: GPT2, folder: Path) -> None:
    """Take the token ids of a config.json beside the adapter; refuse one of another shape."""
    path = folder / "config.json"
    if not path.is_file():
        return
    check_no_pointer(path)
    fields: Mapping[str, Any] = read_json_object(path, CheckpointError, remedy="take it away")
    for name in SIZES:
        found, wanted = fields.get(name), getattr(model.config, name)
        if name == "vocab_size" and isinstance(found, int) and found < wanted:
            continue  # written before the embedding was resized
        if found not in (None, wanted):
            raise CheckpointError(
                f"{path} gives {name} as {found!r}, and the base with the adapter's embedding has "
                f"{wanted}: it describes another model; give its base, or take the file away"
            )
    for name in _IDS:
        if fields.get(name) is not None:
            setattr(model.config, name, fields[name])
