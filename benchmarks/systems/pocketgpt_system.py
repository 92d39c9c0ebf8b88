"""PocketGPT: variants of the model folder, also with an 8-bit cache, and what it picks itself."""

from __future__ import annotations

import compileall
import json
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from systems.catalog import EIGHT_BIT_CACHE, PROMPTS

import pocketgpt

RUNS_ON = ("pocketgpt", "onnxruntime", "numpy", "tokenizers")
FOLDERS = (Path(pocketgpt.__file__).parent,)  # an editable installation lists no files
CHUNK = 64  # tokens that read the cache of those before


def prepare(checkpoint: Path, folder: Path, work: Path) -> None:
    """Compile the package, as pip does but of a checkout; the folder is there already."""
    compileall.compile_dir(Path(pocketgpt.__file__).parent, quiet=1)


class Engine:
    """One text by a session, several by the bare decoder: both take token ids."""

    def __init__(self, folder: Path, kind: str, threads: int) -> None:
        if kind == "default":
            self._model = pocketgpt.load(folder, threads=threads)
            return
        rest = kind.removesuffix(EIGHT_BIT_CACHE)
        cache: Literal["float", "int8"] = "float" if kind == rest else "int8"
        variant = rest.removesuffix(PROMPTS)
        self._model = pocketgpt.load(
            folder,
            variant,
            threads=threads,
            kv_cache=cache,
            prefill_variant=None if variant == rest else "q8",
        )

    def run(self, texts: list[list[int]], count: int) -> list[list[int]]:
        return [self._one(texts[0], count)] if len(texts) == 1 else self._several(texts, count)

    def _one(self, ids: list[int], count: int) -> list[int]:
        session = self._model.session()
        session.append(ids)
        return session.generate(max_new_tokens=count, eos_token_id=[]).token_ids

    def _several(self, texts: list[list[int]], count: int) -> list[list[int]]:
        decoder = self._model.new_decoder(len(texts))
        decoder.reserve(len(texts[0]) + count)
        steps = [decoder.fill(texts).argmax(-1).tolist()]
        while len(steps) < count:
            steps.append(decoder.step(steps[-1]).argmax(-1).tolist())
        return [list(tokens) for tokens in zip(*steps, strict=True)]

    def logits(self, ids: list[int]) -> NDArray[np.float32]:
        decoder = self._model.new_decoder(1)
        chunks = (ids[start : start + CHUNK] for start in range(0, len(ids), CHUNK))
        return np.concatenate([decoder.score(chunk) for chunk in chunks])


def open_engine(work: Path, folder: Path, kind: str, threads: int) -> Engine:
    """Load a variant."""
    return Engine(folder, kind, threads)


def files(work: Path, folder: Path, kind: str) -> list[Path]:
    """Return what lies on disk of a variant; an 8-bit cache's graph takes kilobytes more."""
    chosen = kind.removesuffix(EIGHT_BIT_CACHE).removesuffix(PROMPTS)
    variants = [pocketgpt.load(folder).variant if chosen == "default" else chosen]
    variants += ["q8"] * (PROMPTS in kind)
    manifest = json.loads((folder / "pocketgpt.json").read_text("utf-8"))
    records = [file for variant in variants for file in manifest["variants"][variant]["files"]]
    return [folder / file["path"] for file in records]
