"""The graph against PyTorch: the same ids through both, and the worst difference of a logit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import GPT2LMHeadModel

from pocketgpt import Model, ProofError

TOLERANCE = 1e-4  # absolute, on float32 logits
PROOF_TOKENS = 48


def prove(model: Model, reference: GPT2LMHeadModel) -> dict[str, float]:
    """Compare an exported fp32 variant with its checkpoint; return the worst difference by check.

    The reference runs in float32 with transformers' eager attention. `one_shot` gives all logits of
    one pass, `cached` those of the same ids fed one at a time.

    Raises:
        ProofError: a difference exceeds 1e-4, or is not a number.
    """
    vocab_size, n_positions = reference.config.vocab_size, reference.config.n_positions
    random = np.random.default_rng(0)
    ids = random.integers(0, vocab_size, min(PROOF_TOKENS, n_positions)).tolist()
    expected = reference_logits(reference, ids)
    decoder = model.new_decoder()
    found = {
        "one_shot": _worst(model.new_decoder().score(ids), expected),
        "cached": _worst(np.concatenate([decoder.step(i).copy() for i in ids]), expected),
    }
    for check, worst in found.items():
        if not worst <= TOLERANCE:
            raise ProofError(
                f"the exported graph is not the checkpoint: logits {check} differ by {worst:.2g}, "
                f"over {TOLERANCE:g}; please report this checkpoint's config.json"
            )
    return found


def reference_logits(reference: GPT2LMHeadModel, ids: Sequence[int]) -> NDArray[np.float32]:
    """Return PyTorch's logits `[len(ids), vocab_size]`."""
    with torch.inference_mode():
        logits: torch.Tensor = reference(torch.tensor([ids])).logits[0]
    return logits.numpy()


def _worst(found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    return float(np.abs(found - expected).max())
