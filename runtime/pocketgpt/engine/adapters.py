"""LoRA adapters at run time: a PEFT folder becomes inputs of a graph that has places for them.

Such a graph adds `x @ lora_A @ lora_B` to what each product of a layer gives. `lora_A [in, rank]`
and `lora_B [rank, out]` are inputs whose defaults have rank 0, so that without an adapter nothing
is added. A quantized graph's products may read `(x - center) / scale` where the model's read x, and
its values be divided: what of that concerns adapters is in the graph's metadata, and an adapter is
converted once, when it is placed.

ONNX Runtime's own LoraAdapter and RunOptions.add_active_adapter set the same inputs, but `run`
alone heeds them; 1.32's `run_with_iobinding` passes over them. So they are bound.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from ..errors import AdapterError, OptionError
from .contract import LORA_A, LORA_B, LORA_BIAS
from .peft_lora import Update, read_updates

CHANGES = "pocketgpt.adapter_changes"  # the key in the graph's metadata
_DTYPES: dict[str, type[np.floating[Any]]] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
}

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Change:
    """How a product of a quantized graph differs from the model's, in what adapters see of it.

    It reads `(x - center) / scale`, both `[in]`, and gives `y / divisor [out]`, where the model's
    product reads x and gives y; None where nothing changed.
    """

    scale: Floats | None = None
    center: Floats | None = None
    divisor: Floats | None = None


class Adapter:
    """A LoRA adapter in the form that one graph takes.

    Attributes:
        values: the graph's inputs by name.
    """

    def __init__(self, values: Mapping[str, ort.OrtValue]) -> None:
        """Hold the inputs; `read_adapter` makes them."""
        self.values = dict(values)

    @property
    def bytes(self) -> int:
        """Memory that its numbers take."""
        return sum(value.tensor_size_in_bytes() for value in self.values.values())

    @cached_property
    def sha256(self) -> str:
        """A hash of the inputs: what tells this adapter from others of the same graph."""
        import hashlib  # as in folder's `sha256`

        digest = hashlib.sha256()
        for name, value in sorted(self.values.items()):
            array = value.numpy()
            digest.update(f"{name} {array.dtype} {array.shape}\n".encode())
            digest.update(array.tobytes())
        return digest.hexdigest()

    def bind(self, binding: ort.IOBinding) -> None:
        """Switch the adapter on in the runs of a binding; all rows of a run share it."""
        for name, value in self.values.items():
            binding.bind_ortvalue_input(name, value)


def read_adapter(folder: Path, session: ort.InferenceSession) -> Adapter:
    """Read a PEFT LoRA folder for a session whose graph has places for adapters.

    Args:
        folder: what PEFT's `save_pretrained` wrote.
        session: of a graph that the exporter or the quantizer wrote for adapters.

    Raises:
        AdapterError: the folder is damaged, of another kind, or does not fit the model; or the
            graph has no places for adapters.
        MissingExtraError: safetensors is not installed.
    """
    inputs = {i.name: i for i in session.get_overridable_initializers()}
    products = [
        product
        for product in (name.removesuffix(f".{LORA_A}") for name in inputs)
        if {f"{product}.{LORA_A}", f"{product}.{LORA_B}"} <= inputs.keys()
    ]
    if not products:
        raise AdapterError("the graph has no places for adapters: export the model for them")
    shapes = {
        name: (inputs[f"{name}.{LORA_A}"].shape[0], inputs[f"{name}.{LORA_B}"].shape[1])
        for name in products
    }
    changes = read_changes(session.get_modelmeta().custom_metadata_map.get(CHANGES, "{}"))
    values = {}
    for product, update in read_updates(folder, shapes).items():
        try:
            for half, array in converted(update, changes.get(product, Change())).items():
                name = f"{product}.{half}"
                values[name] = _typed(array, _DTYPES[inputs[name].type])
        except (KeyError, ValueError):  # vectors of other lengths, inputs that are missing
            raise AdapterError(
                f"the graph's {CHANGES} do not fit {product}: quantize the variant again"
            ) from None
        except OverflowError:
            raise AdapterError(
                f"{folder} overflows half precision, in {product}: use another variant"
            ) from None
    return Adapter(values)


def _typed(array: Floats, dtype: type[np.floating[Any]]) -> ort.OrtValue:
    with np.errstate(over="ignore"):
        typed = np.ascontiguousarray(array, dtype)
    if not np.isfinite(typed).all():
        raise OverflowError
    return ort.OrtValue.ortvalue_from_numpy(typed)


def converted(update: Update, change: Change) -> dict[str, Floats]:
    """Return an update as the inputs that give it in a changed product, by their last name.

    The product is given `x' = (x - center) / scale` and has to add `x @ a @ b / divisor`:
    `(x' @ (scale * a) + center @ a) @ (b / divisor)`.
    """
    a, b = update.a, update.b
    if change.divisor is not None:
        b = b / change.divisor
    if change.scale is None or change.center is None:
        return {LORA_A: a, LORA_B: b}
    return {LORA_A: a * change.scale[:, None], LORA_B: b, LORA_BIAS: change.center @ a}


def write_changes(changes: Mapping[str, Change]) -> str:
    """Return the text that goes into a graph's metadata: vectors as base64 of float32."""
    return json.dumps(
        {
            product: {
                name: base64.b64encode(np.asarray(vector, "<f4").tobytes()).decode("ascii")
                for name, vector in vars(change).items()
                if vector is not None
            }
            for product, change in changes.items()
        }
    )


def read_changes(text: str) -> dict[str, Change]:
    """Read what `write_changes` wrote.

    Raises:
        AdapterError: the graph's metadata is damaged.
    """
    try:
        return {
            product: Change(
                **{
                    name: np.frombuffer(base64.b64decode(vector, validate=True), "<f4")
                    for name, vector in vectors.items()
                }
            )
            for product, vectors in json.loads(text).items()
        }
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise AdapterError(
            f"the graph's {CHANGES} cannot be read ({type(error).__name__}): "
            "quantize the variant again"
        ) from None


def adapter_paths(adapters: object) -> dict[str, Path]:
    """Return the folders of adapters by their names.

    Raises:
        OptionError: it is no mapping of names to folders.
    """
    if adapters is None:
        return {}
    if not isinstance(adapters, Mapping) or not all(
        isinstance(name, str) and isinstance(path, (str, os.PathLike))
        for name, path in adapters.items()
    ):
        raise OptionError('adapters should name folders, as {"name": "path/of/an/adapter"}')
    return {name: Path(path) for name, path in adapters.items()}
