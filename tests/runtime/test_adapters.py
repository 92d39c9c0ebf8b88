"""Reading PEFT LoRA folders: what is refused, and the scaling, by hand."""

from __future__ import annotations

import json
import math
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

from pocketgpt import AdapterError, MissingExtraError
from pocketgpt.engine.adapters import Change, converted, read_adapter, read_changes, write_changes
from pocketgpt.engine.peft_lora import Update, read_updates

SHAPES = {"transformer.h.0.attn.c_attn": (4, 12), "transformer.h.0.mlp.c_fc": (4, 16)}
CONFIG = {
    "peft_type": "LORA",
    "r": 2,
    "lora_alpha": 6,
    "target_modules": ["c_attn"],
    "bias": "none",
}
ATTENTION = "base_model.model.transformer.h.0.attn.c_attn"
Tensors = dict[str, NDArray[Any]]


def tensors(product: str = ATTENTION, rank: int = 2, out: int = 12) -> Tensors:
    return {
        f"{product}.lora_A.weight": np.arange(rank * 4, dtype=np.float32).reshape(rank, 4),
        f"{product}.lora_B.weight": np.ones((out, rank), np.float32),
    }


def safetensors(content: Tensors) -> bytes:
    """Write the format by hand: a length, a JSON header, the bytes."""
    names = {"f": "F32", "i": "I32"}
    header: dict[str, Any] = {}
    end = 0
    for name, array in content.items():
        begin, end = end, end + array.nbytes
        kind = {"dtype": names[array.dtype.kind], "shape": array.shape}
        header[name] = {**kind, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + b"".join(a.tobytes() for a in content.values())


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Write an adapter's folder; keywords change its configuration."""

    def adapter(content: Tensors | None = None, **changes: Any) -> Path:
        (tmp_path / "adapter_config.json").write_text(json.dumps({**CONFIG, **changes}), "utf-8")
        made = safetensors(tensors() if content is None else content)
        (tmp_path / "adapter_model.safetensors").write_bytes(made)
        return tmp_path

    return adapter


@pytest.mark.parametrize(
    ("changes", "scaling"),
    [
        ({}, 6 / 2),
        ({"use_rslora": True}, 6 / math.sqrt(2)),
        ({"alpha_pattern": {"c_attn": 5}}, 5 / 2),
        ({"alpha_pattern": {r"h\.0\.attn\.c_attn": 5}}, 5 / 2),
        ({"alpha_pattern": {"^transformer.h.0.attn.c_attn": 5}}, 5 / 2),
        ({"alpha_pattern": {"^h.0.attn.c_attn": 5}}, 6 / 2),
        ({"alpha_pattern": {"attn": 5, "h.0.attn.c_attn": 7}}, 7 / 2),
        ({"r": 9, "rank_pattern": {"c_attn": 2}}, 6 / 2),
        ({"use_dora": False, "modules_to_save": None, "loftq_config": {}}, 6 / 2),
    ],
)
def test_scaling(write: Callable[..., Path], changes: dict[str, Any], scaling: float) -> None:
    (update,) = read_updates(write(**changes), SHAPES).values()
    np.testing.assert_array_equal(update.a, [[0, 4], [1, 5], [2, 6], [3, 7]])
    np.testing.assert_allclose(update.b, np.full((2, 12), scaling), rtol=1e-7)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"peft_type": "IA3"}, "of type 'IA3'; only LORA"),
        ({"use_dora": True}, "sets use_dora"),
        ({"modules_to_save": ["lm_head"]}, "sets modules_to_save"),
        ({"trainable_token_indices": [1]}, "sets trainable_token_indices"),
        ({"layer_replication": [[0, 1]]}, "sets layer_replication"),
        ({"lora_bias": True}, "sets lora_bias"),
        ({"of_the_future": {"x": 1}}, "sets of_the_future"),
        ({"bias": "lora_only"}, "bias='lora_only'"),
        ({"init_lora_weights": "pissa_niter_4"}, "began from 'pissa_niter_4'"),
        ({"init_lora_weights": "olora"}, "began from 'olora'"),
        ({"r": 0}, "r is 0, no number above 0"),
        ({"r": 2.5}, r"r is 2\.5"),
        ({"r": True}, "r is True"),
        ({"lora_alpha": "8"}, "lora_alpha is '8'"),
        ({"lora_alpha": float("nan")}, "lora_alpha is nan"),
        ({"lora_alpha": float("inf")}, "lora_alpha is inf"),
        ({"lora_alpha": None}, "lora_alpha is None"),
        ({"alpha_pattern": {"c_attn": -1}}, "'c_attn' gives -1"),
        ({"alpha_pattern": {"(": 1}}, r"pattern '\(' is no plain name"),
        ({"rank_pattern": {r"(\w+\w+)+x": 1}}, "is no plain name of a product: merge it"),
        ({"rank_pattern": {"h." * 200 + "c_attn": 1}}, "is no plain name of a product"),
        ({"r": 3}, r"c_attn\.lora_A is \(2, 4\), .* ask for \(3, 4\)"),
        ({"target_modules": ["c_attn", "c_fc"]}, r"lacks transformer\.h\.0\.mlp\.c_fc"),
    ],
)
def test_other_kinds_are_refused(
    write: Callable[..., Path], changes: dict[str, Any], says: str
) -> None:
    with pytest.raises(AdapterError, match=says) as caught:
        read_updates(write(**changes), SHAPES)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({}, "holds nothing"),
        (tensors(out=11), r"c_attn\.lora_B is \(11, 2\), .* ask for \(12, 2\)"),
        (tensors("base_model.model.transformer.h.7.attn.c_attn"), r"changes .*h\.7\.attn"),
        (tensors("base_model.model.transformer.wte"), r"changes .*wte\.lora_A"),
        (tensors("base_model.model.lm_head"), r"changes .*lm_head"),
        ({f"{ATTENTION}.lora_magnitude_vector": np.ones(12, np.float32)}, "magnitude_vector"),
        ({f"{ATTENTION}.lora_A.weight": np.ones((2, 4), np.float32)}, "lora_B is missing"),
        ({f"{ATTENTION}.lora_A.weight": np.ones((2, 4), np.int32)}, "as I32; save it as float32"),
        ({f"{ATTENTION}.lora_A.weight": np.full((2, 4), np.nan, np.float32)}, "NaN or infinity"),
    ],
)
def test_what_does_not_fit_is_refused(
    write: Callable[..., Path], content: Tensors, says: str
) -> None:
    with pytest.raises(AdapterError, match=says) as caught:
        read_updates(write(content), SHAPES)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("adapter_config.json", None, "has no adapter_config.json"),
        ("adapter_config.json", b"{", "cannot be read"),
        ("adapter_config.json", b"\xff", "cannot be read"),
        ("adapter_config.json", b"[" * 100_000, "cannot be read"),
        ("adapter_config.json", b"[]", "should hold a JSON object"),
        ("adapter_model.safetensors", None, "pickled weights are not read"),
        ("adapter_model.safetensors", b"", "cannot be read"),
        ("adapter_model.safetensors", struct.pack("<Q", 2**60), "cannot be read"),
    ],
)
def test_damaged_files(
    write: Callable[..., Path], name: str, content: bytes | None, says: str
) -> None:
    folder = write()
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_bytes(content)
    with pytest.raises(AdapterError, match=says) as caught:
        read_updates(folder, SHAPES)
    assert "\n" not in str(caught.value)


def test_a_graph_without_places(write: Callable[..., Path], tiny_folder: Path) -> None:
    session = ort.InferenceSession(tiny_folder / "onnx" / "model.onnx")
    with pytest.raises(AdapterError, match="no places for adapters: export"):
        read_adapter(write(), session)


def test_safetensors_is_an_extra(
    write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(MissingExtraError, match=r"pocketgpt\[adapters\]"):
        read_updates(write(), SHAPES)


def test_conversion_by_hand() -> None:
    """x = 3 * x' + 1, one channel: x * 2 * 5 / 4 is (x' * 6 + 2) * 1.25."""
    update = Update(np.array([[2.0]], np.float32), np.array([[5.0]], np.float32))
    scale, center, divisor = (np.array([n], np.float32) for n in (3, 1, 4))
    found = converted(update, Change(scale, center, divisor))
    assert {name: array.tolist() for name, array in found.items()} == {
        "lora_A": [[6.0]],
        "lora_B": [[1.25]],
        "lora_bias": [2.0],
    }
    assert set(converted(update, Change())) == {"lora_A", "lora_B"}


def test_changes_survive_the_metadata() -> None:
    change = Change(np.array([0.1, 3], np.float32), np.array([-1, 0], np.float32))
    found = read_changes(write_changes({"a": change, "b": Change()}))
    assert found["b"] == Change()
    assert found["a"].divisor is None
    for name in ("scale", "center"):
        np.testing.assert_array_equal(getattr(found["a"], name), getattr(change, name))


@pytest.mark.parametrize(
    "text", ["", "[]", '{"a": 1}', '{"a": {"scale": "?"}}', '{"a": {"b": ""}}']
)
def test_damaged_metadata(text: str) -> None:
    with pytest.raises(AdapterError, match="quantize the variant again"):
        read_changes(text)
