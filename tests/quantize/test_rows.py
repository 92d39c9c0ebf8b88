"""Rows of a batch keep apart in a quantized graph, opened in plain ONNX Runtime from its files."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from pocketgpt.folder.manifest import variant_path
from pocketgpt_quantize import quantize

VARIANTS = ["int8", "q4", "q8", "fp16", "q4f16"]


@pytest.fixture(scope="module")
def quantized(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = Path(shutil.copytree(exported, tmp_path_factory.mktemp("rows") / "model"))
    quantize(folder, VARIANTS, accept_loss=True)
    return folder


def logits(folder: Path, variant: str, ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return all logits `[batch, tokens, vocab]` of one pass from an empty cache."""
    session = ort.InferenceSession(folder / variant_path(variant))
    feeds: dict[str, Any] = {
        "input_ids": ids,
        "attention_mask": mask,
        "position_ids": np.broadcast_to(np.arange(ids.shape[1]), ids.shape).astype(np.int64),
        "num_logits_to_keep": np.array(0, np.int64),
    }
    for value in session.get_inputs():
        if value.name.startswith("past_key_values"):
            heads, width = value.shape[1], value.shape[3]
            half = value.type == "tensor(float16)"
            feeds[value.name] = np.zeros(
                (len(ids), heads, 0, width), np.float16 if half else np.float32
            )
    found: np.ndarray = session.run(["logits"], feeds)[0]
    return found


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_row_does_not_see_its_neighbour(quantized: Path, variant: str) -> None:
    ids = np.random.default_rng(0).integers(0, 256, (3, 20))
    changed = ids.copy()
    changed[1] = changed[1, ::-1]
    found = [logits(quantized, variant, rows, np.ones_like(ids)) for rows in (ids, changed)]
    np.testing.assert_array_equal(found[0][[0, 2]], found[1][[0, 2]])
    assert (found[0][1] != found[1][1]).any()


@pytest.mark.parametrize("variant", VARIANTS)
def test_padding_on_the_left_is_refused(quantized: Path, variant: str) -> None:
    ids = np.random.default_rng(0).integers(0, 256, (2, 8))
    mask = np.ones_like(ids)
    mask[1, :2] = 0
    with pytest.raises(Exception, match=r"(?i)ind(ex|ices)"):
        logits(quantized, variant, ids, mask)
