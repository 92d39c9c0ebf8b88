"""CTranslate2, converted and quantized by its own tool."""

from __future__ import annotations

import json
from pathlib import Path

import ctranslate2
import numpy as np
from numpy.typing import NDArray

RUNS_ON = ("ctranslate2",)
KINDS = ("float32", "int8")


def prepare(checkpoint: Path, folder: Path, work: Path) -> None:
    """Convert once for each kind."""
    from ctranslate2.converters import TransformersConverter

    for kind in KINDS:
        converter = TransformersConverter(str(checkpoint))
        converter.convert(str(work / kind), quantization=kind, force=True)


class Engine:
    """Greedy decoding by its generator, which takes tokens by their names."""

    def __init__(self, path: Path, kind: str, threads: int) -> None:
        self._generator = ctranslate2.Generator(
            str(path), compute_type=kind, intra_threads=threads, inter_threads=1
        )
        self._names = json.loads((path / "vocabulary.json").read_text("utf-8"))

    def run(self, texts: list[list[int]], count: int) -> list[list[int]]:
        results = self._generator.generate_batch(
            [[self._names[token] for token in text] for text in texts],
            max_length=count,
            min_length=count,
            sampling_topk=1,
            include_prompt_in_result=False,
        )
        return [result.sequences_ids[0] for result in results]

    def logits(self, ids: list[int]) -> NDArray[np.float32]:
        found: NDArray[np.float32] = np.array(self._generator.forward_batch([ids]), np.float32)[0]
        return found


def open_engine(work: Path, folder: Path, kind: str, threads: int) -> Engine:
    """Load one of the models."""
    return Engine(work / kind, kind, threads)


def files(work: Path, folder: Path, kind: str) -> list[Path]:
    """Return what lies on disk of a model."""
    return [work / kind / "model.bin"]
