"""PEFT LoRA adapters, merged into their base."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch

from pocketgpt import CheckpointError, MissingExtraError
from pocketgpt.folder.json_file import read_json_object

from .assemble import quiet_transformers
from .classifier import GPT2
from .locate import one_line

CONFIG = "adapter_config.json"


def is_adapter(folder: Path) -> bool:
    """Return whether the folder holds an adapter and no model of its own."""
    return (folder / CONFIG).is_file() and not (folder / "config.json").is_file()


def check_adapter(folder: Path, base: object) -> None:
    """Check that the folder's adapter is a LoRA and its base was given.

    Raises:
        CheckpointError: it is not.
    """
    fields = read_json_object(folder / CONFIG, CheckpointError, remedy="copy the adapter again")
    kind, base_name = fields.get("peft_type"), fields.get("base_model_name_or_path")
    if kind != "LORA":
        raise CheckpointError(f"{folder} is a PEFT adapter of type {kind}; PocketGPT merges LORA")
    if base is None:
        raise CheckpointError(
            f"{folder} is a LoRA adapter without its base: add --base CHECKPOINT (base=...)"
            + (f"; it was trained on {base_name}" if base_name else "")
        )


def merge_adapter(model: GPT2, folder: Path) -> GPT2:
    """Return `model` with the adapter's products added to its weights; `model` is used up.

    Raises:
        MissingExtraError: peft is not installed.
        CheckpointError: the adapter is damaged or does not fit the model.
    """
    try:
        from peft import PeftModel
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"merging a LoRA adapter needs {error.name}: pip install 'pocketgpt[lora]'"
        ) from error
    try:
        with quiet_transformers(), warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            adapted = PeftModel.from_pretrained(model, str(folder))
            merged: GPT2 = adapted.merge_and_unload(safe_merge=True)
    except Exception as error:  # peft raises many kinds
        raise CheckpointError(f"{folder} cannot be merged: {one_line(error)}") from error
    missing = next((str(w.message) for w in caught if "missing adapter keys" in str(w.message)), "")
    if missing:
        raise CheckpointError(f"{folder} cannot be merged: {one_line(ValueError(missing))}")
    for name, parameter in merged.named_parameters():
        if not torch.isfinite(parameter).all():
            raise CheckpointError(f"{folder} merged gives NaN or infinity, in {name}")
    merged.requires_grad_(False)
    merged.train(False)
    return merged
