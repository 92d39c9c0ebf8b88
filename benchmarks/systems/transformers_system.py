"""PyTorch by transformers in float32, with its own cache."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import GPT2LMHeadModel

RUNS_ON = ("transformers", "torch")


def prepare(checkpoint: Path, folder: Path, work: Path) -> None:
    """Link the checkpoint: it is run as it is."""
    (work / "checkpoint").unlink(missing_ok=True)
    (work / "checkpoint").symlink_to(checkpoint.resolve())


class Engine:
    """Greedy decoding by the model's own forward pass."""

    def __init__(self, checkpoint: Path, threads: int) -> None:
        torch.set_num_threads(threads)
        self._model = GPT2LMHeadModel.from_pretrained(checkpoint, dtype=torch.float32).eval()

    def run(self, texts: list[list[int]], count: int) -> list[list[int]]:
        ids, cache = torch.tensor(texts), None
        steps: list[list[int]] = []
        with torch.inference_mode():
            while len(steps) < count:
                out = self._model(ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
                ids, cache = out.logits[:, -1].argmax(-1, keepdim=True), out.past_key_values
                steps.append(ids[:, 0].tolist())
        return [list(tokens) for tokens in zip(*steps, strict=True)]

    def logits(self, ids: list[int]) -> NDArray[np.float32]:
        with torch.inference_mode():
            found: NDArray[np.float32] = self._model(torch.tensor([ids])).logits[0].numpy()
        return found


def open_engine(work: Path, folder: Path, kind: str, threads: int) -> Engine:
    """Load the checkpoint."""
    return Engine(work / "checkpoint", threads)


def files(work: Path, folder: Path, kind: str) -> list[Path]:
    """Return what lies on disk of a model."""
    return list((work / "checkpoint").glob("*.safetensors"))
