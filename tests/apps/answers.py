"""Greedy tokens that an app has to find, and where another one is allowed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

Logits = NDArray[np.float32]
FP32_TOLERANCE = 1e-4  # of logits up to about 20, added up in another order


def unpacked_greedy(folder: Path, prompt: Sequence[int], tokens: int) -> tuple[list[int], Logits]:
    """Return the greedy tokens of a page's model, computed by ONNX Runtime here, and their logits.

    Its graph unpacks its weights when it is opened, as in the browser, and multiplies in 32 bits.
    """
    config = json.loads((folder / "config.json").read_text("utf-8"))
    options = ort.SessionOptions()
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    options.log_severity_level = 3
    session = ort.InferenceSession(
        str(folder / "onnx" / "model_q4.onnx"), options, providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in session.get_outputs()]
    shape = (1, config["n_head"], 0, config["n_embd"] // config["n_head"])
    pasts = [value.name for value in session.get_inputs() if value.name.startswith("past")]
    cache: dict[str, Any] = {name: np.zeros(shape, np.float32) for name in pasts}
    ids, held, logits = list(prompt), 0, []
    for _ in range(tokens):
        feeds = {
            "input_ids": np.array([ids[held:]], np.int64),
            "position_ids": np.arange(held, len(ids))[None],
            "attention_mask": np.ones((1, len(ids)), np.int64),
        }
        outputs = dict(zip(names, session.run(None, feeds | cache), strict=True))
        cache = {name: outputs[name.replace("past_key_values", "present")] for name in pasts}
        held = len(ids)
        logits.append(outputs["logits"][0, -1])
        ids.append(int(logits[-1].argmax()))
    return ids[len(prompt) :], np.stack(logits)


def check_tokens(found: Sequence[int], expected: Sequence[int], logits: Logits, by: float) -> int:
    """Check that tokens are those expected; return how many are.

    The first that is not has to be as likely but for `by`, in logits (log-probabilities do as
    well); what follows it is another text.
    """
    assert len(found) == len(expected)
    pairs = enumerate(zip(found, expected, strict=True))
    at = next((place for place, (one, other) in pairs if one != other), None)
    if at is None:
        return len(expected)
    margin = float(logits[at][expected[at]] - logits[at][found[at]])
    assert margin <= by, f"token {at} is {found[at]}, not {expected[at]}, by {margin:.4f}"
    return at
