"""PocketGPT, every variant of the model folder."""

from __future__ import annotations

from pathlib import Path

import pocketgpt


def prepare(checkpoint: Path, folder: Path, work: Path) -> None:
    """The folder is there already."""


class Engine:
    """One text by a session, several by the bare decoder: both take token ids."""

    def __init__(self, folder: Path, variant: str, threads: int) -> None:
        self._model = pocketgpt.load(folder, variant, threads=threads)

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


def open_engine(work: Path, folder: Path, kind: str, threads: int) -> Engine:
    """Load a variant."""
    return Engine(folder, kind, threads)
