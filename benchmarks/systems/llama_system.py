"""llama.cpp through llama-cpp-python, converted and quantized by its own tools."""

from __future__ import annotations

from pathlib import Path

import llama_cpp
import numpy as np
from systems.gguf_of_gpt2 import write_gguf

KINDS = ("Q8_0", "Q4_0", "Q4_K_M")


def prepare(checkpoint: Path, folder: Path, work: Path) -> None:
    """Write a GGUF in float32, and of it those in fewer bits."""
    write_gguf(checkpoint, work / "F32.gguf")
    for kind in KINDS:
        options = llama_cpp.llama_model_quantize_default_params()
        options.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{kind}")
        source, target = bytes(work / "F32.gguf"), bytes(work / f"{kind}.gguf")
        if llama_cpp.llama_model_quantize(source, target, options):
            raise RuntimeError("llama_model_quantize failed")


class Engine:
    """One text at a time."""

    batches = False

    def __init__(self, path: Path, threads: int) -> None:
        self._model = llama_cpp.Llama(
            str(path),
            n_ctx=0,
            n_batch=512,
            n_threads=threads,
            n_threads_batch=threads,
            verbose=False,
        )

    def run(self, texts: list[list[int]], count: int) -> list[list[int]]:
        self._model.reset()
        made = [self._eval(texts[0])]
        while len(made) < count:
            made.append(self._eval(made[-1:]))
        return [made]

    def _eval(self, ids: list[int]) -> int:
        self._model.eval(ids)
        logits = llama_cpp.llama_get_logits_ith(self._model.ctx, -1)
        return int(np.ctypeslib.as_array(logits, shape=(self._model.n_vocab(),)).argmax())


def open_engine(work: Path, folder: Path, kind: str, threads: int) -> Engine:
    """Load one of the files."""
    return Engine(work / f"{kind}.gguf", threads)
