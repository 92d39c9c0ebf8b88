"""The graph in a plain ONNX Runtime session: batches, padding, and what other runtimes feed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime as ort
import pytest
import torch
from numpy.typing import NDArray

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel

Int64s = NDArray[np.int64]
ROWS = [[17, 4, 250, 99, 3, 3, 8], [300], [5, 6, 7, 8], [0, 0, 120, 0]]


@pytest.fixture(scope="module", params=["fp32", "int8", "q4"])
def session(request: pytest.FixtureRequest, tiny_folder: Path) -> ort.InferenceSession:
    return open_plainly(tiny_folder, request.param)


@pytest.fixture(scope="module")
def fp32(tiny_folder: Path) -> ort.InferenceSession:
    return open_plainly(tiny_folder, "fp32")


def open_plainly(folder: Path, variant: str) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = 4  # the errors below are wanted
    name = "model.onnx" if variant == "fp32" else f"model_{variant}.onnx"
    return ort.InferenceSession(folder / "onnx" / name, options, ["CPUExecutionProvider"])


def feed(ids: Int64s, mask: Int64s, positions: Int64s, **more: Any) -> dict[str, Any]:
    """What a session takes for rows without a past."""
    empty = np.zeros((len(ids), 2, 0, 64), np.float32)
    past = {f"past_key_values.{i}.{side}": empty for i in range(2) for side in ("key", "value")}
    return {"input_ids": ids, "attention_mask": mask, "position_ids": positions, **past, **more}


def right_padded(rows: list[list[int]], pad: int) -> dict[str, Any]:
    length = max(map(len, rows))
    ids = np.array([row + [pad] * (length - len(row)) for row in rows], np.int64)
    mask = np.array([[1] * len(row) + [0] * (length - len(row)) for row in rows], np.int64)
    positions = np.tile(np.arange(length, dtype=np.int64), (len(rows), 1))
    return feed(ids, mask, positions)


def run(session: ort.InferenceSession, inputs: dict[str, Any]) -> NDArray[np.float32]:
    logits: NDArray[np.float32] = session.run(["logits"], inputs)[0]
    return logits


@pytest.mark.parametrize("pad", [0, 42])
def test_padded_rows_are_as_alone(session: ort.InferenceSession, pad: int) -> None:
    """Pads are known by length: the pad is an ordinary token of other rows, or of the same."""
    together = run(session, right_padded(ROWS, pad))
    assert together.shape == (4, 1, 400)
    for row, ids in enumerate(ROWS):
        alone = run(session, right_padded([ids], pad))
        np.testing.assert_allclose(together[row], alone[0], rtol=0, atol=1e-5)


def test_padded_rows_equal_pytorch(
    fp32: ort.InferenceSession, tiny_reference: GPT2LMHeadModel
) -> None:
    together = run(fp32, right_padded(ROWS, 42))
    for row, ids in enumerate(ROWS):
        with torch.inference_mode():
            expected = tiny_reference(torch.tensor([ids])).logits[0, -1].numpy()
        np.testing.assert_allclose(together[row, 0], expected, rtol=0, atol=1e-4)


def test_ragged_batch_goes_on_token_by_token(
    fp32: ort.InferenceSession, tiny_reference: GPT2LMHeadModel
) -> None:
    """With a past, every row's new token lands after its own last one."""
    inputs = right_padded(ROWS, 42)
    names = [output.name for output in fp32.get_outputs()]
    rows = [list(row) for row in ROWS]
    mask = inputs["attention_mask"]
    found = dict(zip(names, fp32.run(None, inputs), strict=True))
    for new in ([9, 10, 11, 12], [200, 201, 202, 203]):
        positions = mask.sum(1)
        mask = np.pad(mask, ((0, 0), (0, 1)))
        mask[np.arange(4), positions] = 1
        cache = {name.replace("present", "past_key_values"): found[name] for name in names[1:]}
        inputs = {
            "input_ids": np.array(new)[:, None],
            "attention_mask": mask,
            "position_ids": positions[:, None],
            **cache,
        }
        found = dict(zip(names, fp32.run(None, inputs), strict=True))
        for row, token_id in enumerate(new):
            rows[row].append(token_id)
            with torch.inference_mode():
                expected = tiny_reference(torch.tensor([rows[row]])).logits[0, -1].numpy()
            np.testing.assert_allclose(found["logits"][row, 0], expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    "mask",
    [
        [[0, 1, 1, 1]],
        [[0, 0, 0, 1]],
        [[1, 1, 1, 1], [0, 1, 1, 1]],
        [[0, 0, 1, 1], [1, 1, 1, 1]],
    ],
    ids=str,
)
def test_left_padded_mask_raises(session: ort.InferenceSession, mask: list[list[int]]) -> None:
    """As transformers pads for generation: positions count the ones, from 0."""
    given = np.array(mask, np.int64)
    positions = np.maximum(given.cumsum(1) - 1, 0)
    ids = np.full_like(given, 7)
    with pytest.raises(Exception, match="indices element out of data bounds"):
        run(session, feed(ids, given, positions))
    assert run(session, feed(ids, np.ones_like(given), positions)).shape[1] == 1


@pytest.mark.parametrize(("keep", "rows"), [(None, [6]), (1, [6]), (3, [4, 5, 6]), (0, range(7))])
def test_num_logits_to_keep(
    fp32: ort.InferenceSession,
    tiny_reference: GPT2LMHeadModel,
    keep: int | None,
    rows: list[int],
) -> None:
    """Nothing has to be fed; 0 gives all."""
    inputs = right_padded([ROWS[0]], 0)
    if keep is not None:
        inputs["num_logits_to_keep"] = np.array(keep, np.int64)
    with torch.inference_mode():
        expected = tiny_reference(torch.tensor([ROWS[0]])).logits[0].numpy()
    found = run(fp32, inputs)
    assert found.shape == (1, len(rows), 400)
    np.testing.assert_allclose(found[0], expected[list(rows)], rtol=0, atol=1e-4)


def test_mask_as_long_as_the_cache(
    fp32: ort.InferenceSession, tiny_reference: GPT2LMHeadModel
) -> None:
    """Zeros after the text, in a cache with room: how decoding binds one mask for many steps."""
    ids, capacity = ROWS[0], 16
    cache: list[NDArray[np.float32]] = fp32.run(None, right_padded([ids], 0))[1:]
    room = capacity - len(ids)
    names = [value.name for value in fp32.get_inputs() if value.name.startswith("past")]
    padded = [np.pad(side, ((0, 0), (0, 0), (0, room), (0, 0))) for side in cache]
    mask = np.zeros((1, capacity), np.int64)
    mask[0, : len(ids) + 1] = 1
    position = np.array([[len(ids)]], np.int64)
    found = run(
        fp32,
        {
            "input_ids": np.array([[33]], np.int64),
            "attention_mask": mask,
            "position_ids": position,
            **dict(zip(names, padded, strict=True)),
        },
    )
    with torch.inference_mode():
        expected = tiny_reference(torch.tensor([[*ids, 33]])).logits[0, -1].numpy()
    np.testing.assert_allclose(found[0, 0], expected, rtol=0, atol=1e-4)
