"""Reading a LoRA adapter as PEFT saves it: what it adds to which products, checked.

A LoRA adds `x @ A.T @ B.T * alpha / r` to a product (https://arxiv.org/abs/2106.09685), a
rank-stabilized one `alpha / sqrt(r)` (https://arxiv.org/abs/2312.03732).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import AdapterError
from ..extras import needs_extra
from ..folder.json_file import read_json_object

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
EXTRA = "adapters"
_PREFIX = "base_model.model."
_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2"}
# Fields that change nothing in what a trained LoRA computes, or that are read here. A field which
# is set and not among them belongs to a kind of LoRA that this does not compute.
_KNOWN = {
    *("peft_type", "peft_version", "task_type", "base_model_name_or_path", "revision"),
    *("r", "lora_alpha", "use_rslora", "rank_pattern", "alpha_pattern", "bias"),
    *("target_modules", "exclude_modules", "layers_to_transform", "layers_pattern"),
    *("init_lora_weights", "lora_dropout", "fan_in_fan_out", "inference_mode", "auto_mapping"),
    *("megatron_core", "qalora_group_size", "ephemeral_gpu_offload"),
}
# Other ways to begin change the base's weights too, and need them when the adapter is loaded.
_PLAIN_INITS = (True, False, None, "gaussian", "orthogonal", "eva")

# A key of rank_pattern or alpha_pattern: a product's name or its end, dots escaped or not.
_NAME = re.compile(r"\^?\w+(\\?\.\w+)*", re.ASCII)
_LONGEST_NAME = 200

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Update:
    """What an adapter adds to a product that reads x: `x @ a @ b`.

    `a` is `[in, rank]`, `b` `[rank, out]`, the scaling in it.
    """

    a: Floats
    b: Floats


def read_updates(folder: Path, shapes: Mapping[str, tuple[int, int]]) -> dict[str, Update]:
    """Read a PEFT LoRA folder: what it adds, by product.

    Args:
        folder: what PEFT's `save_pretrained` wrote.
        shapes: the products that may be changed, by transformers' names: `(in, out)`.

    Raises:
        AdapterError: a file is missing or damaged, it is no plain LoRA, or does not fit the model.
        MissingExtraError: safetensors is not installed.
    """
    fields = _read_config(folder)
    _check_kind(folder, fields)
    halves: dict[str, dict[str, Floats]] = {}
    for name, tensor in _read_tensors(folder):
        product, _, half = name.removeprefix(_PREFIX).removesuffix(".weight").rpartition(".")
        if half not in ("lora_A", "lora_B") or product not in shapes:
            raise AdapterError(
                f"{folder} changes {name}, and this model takes lora_A and lora_B of its layers' "
                "products (c_attn, c_proj, c_fc) alone: merge it, export --base"
            )
        if not np.isfinite(tensor).all():
            raise AdapterError(f"{folder} holds NaN or infinity, in {name}; train it again")
        halves.setdefault(product, {})[half] = tensor
    _check_targets(folder, fields, halves, shapes)
    return {
        product: _update(folder, fields, product, pair, shapes[product])
        for product, pair in halves.items()
    }


def _update(
    folder: Path,
    fields: Mapping[str, Any],
    product: str,
    pair: Mapping[str, Floats],
    shape: tuple[int, int],
) -> Update:
    rank = _of_pattern(fields.get("rank_pattern"), product, fields["r"])
    alpha = _of_pattern(fields.get("alpha_pattern"), product, fields["lora_alpha"])
    expected = {"lora_A": (rank, shape[0]), "lora_B": (shape[1], rank)}
    for half, wanted in expected.items():
        found = pair[half].shape if half in pair else None
        if found != wanted:
            raise AdapterError(
                f"{folder}: {product}.{half} is {found or 'missing'}, and the model and the "
                f"adapter's rank ask for {wanted}; is it another model's?"
            )
    scaling = alpha / (math.sqrt(rank) if fields.get("use_rslora") else rank)
    return Update(pair["lora_A"].T, pair["lora_B"].T * np.float32(scaling))


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    if not path.exists():
        raise AdapterError(
            f"{folder} has no {CONFIG}: an adapter is a folder that PEFT's save_pretrained wrote"
        )
    return read_json_object(path, AdapterError, remedy="save the adapter again")


def _check_kind(folder: Path, fields: Mapping[str, Any]) -> None:
    """Refuse what is no LoRA, or computes something else than a LoRA does."""
    if fields.get("peft_type") != "LORA":
        kind = fields.get("peft_type")
        raise AdapterError(f"{folder} is a PEFT adapter of type {kind!r}; only LORA can be used")
    begun = fields.get("init_lora_weights")
    if not any(begun is plain or begun == plain for plain in _PLAIN_INITS):
        raise AdapterError(
            f"{folder} began from {begun!r}, which changes the base's weights too: convert it to a "
            "plain LoRA (PEFT: save_pretrained's path_initial_model_for_weight_conversion)"
        )
    if fields.get("bias") not in (None, "none"):
        raise AdapterError(
            f"{folder} trained biases too (bias={fields['bias']!r}): merge it, export --base"
        )
    other = next((name for name, value in fields.items() if value and name not in _KNOWN), None)
    if other is not None:
        raise AdapterError(
            f"{folder} sets {other}, which is more than a LoRA's products: merge it, export --base"
        )
    for name in ("r", "lora_alpha"):
        value = fields.get(name)
        if not _is_positive(value) or (name == "r" and not isinstance(value, int)):
            raise AdapterError(f"{folder / CONFIG}: {name} is {value!r}, no number above 0")


def _is_positive(value: object) -> bool:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return False
    return 0 < value <= float(np.finfo(np.float32).max)


def _of_pattern(patterns: object, product: str, default: Any) -> Any:
    """Return the first pattern's number that matches a product's name, as PEFT looks it up.

    PEFT takes any regular expression, of which a stranger's may never end: names alone are taken.
    """
    for pattern, value in patterns.items() if isinstance(patterns, dict) else ():
        if len(pattern) > _LONGEST_NAME or not _NAME.fullmatch(pattern):
            raise AdapterError(
                f"the adapter's pattern {pattern!a:.80} is no plain name of a product: merge it, "
                "export --base"
            )
        if re.match(rf"(.*\.)?({pattern})$", product):
            if not _is_positive(value):
                raise AdapterError(f"the adapter's pattern {pattern!r} gives {value!r}")
            return value
    return default


def _check_targets(
    folder: Path,
    fields: Mapping[str, Any],
    halves: Mapping[str, object],
    shapes: Mapping[str, object],
) -> None:
    """Refuse an adapter that is empty, or lacks a product that its configuration names."""
    if not halves:
        raise AdapterError(f"{folder / WEIGHTS} holds nothing; train it again")
    targets = fields.get("target_modules")
    restricted = fields.get("layers_to_transform") is not None or fields.get("exclude_modules")
    names = targets if isinstance(targets, list) and not restricted else []
    for product in shapes:
        wanted = any(f".{product}".endswith(f".{name}") for name in names)
        if wanted and product not in halves:
            raise AdapterError(f"{folder / WEIGHTS} lacks {product}, which {CONFIG} says it adapts")


def _read_tensors(folder: Path) -> Iterator[tuple[str, Floats]]:
    """Yield the tensors of the adapter's file, as float32, by name."""
    with needs_extra(EXTRA):
        from safetensors import SafetensorError, deserialize
    path = folder / WEIGHTS
    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for
            raise OSError("it is no file")
        tensors = sorted(deserialize(path.read_bytes()), key=itemgetter(0))
    except FileNotFoundError:
        raise AdapterError(
            f"{folder} has no {WEIGHTS}: save it again with safe_serialization=True (pickled "
            "weights are not read)"
        ) from None
    except (OSError, SafetensorError) as error:
        raise AdapterError(f"{path} cannot be read: {error}") from None
    for name, tensor in tensors:
        dtype, shape = tensor["dtype"], tensor["shape"]
        if dtype == "BF16":  # the upper half of a float32
            bits = np.frombuffer(tensor["data"], "<u2").astype(np.uint32) << 16
            yield name, bits.view(np.float32).reshape(shape)
        elif dtype in _DTYPES:
            array = np.frombuffer(tensor["data"], _DTYPES[dtype])
            with np.errstate(over="ignore"):  # infinity is refused by name
                yield name, array.astype(np.float32).reshape(shape)
        else:
            raise AdapterError(f"{path} holds {name} as {dtype}; save it as float32")
