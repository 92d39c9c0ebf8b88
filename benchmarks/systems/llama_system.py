"""llama.cpp through llama-cpp-python, converted and quantized by its own tools."""

from __future__ import annotations

from pathlib import Path

import llama_cpp
import numpy as np
from numpy.typing import NDArray
from systems.catalog import EIGHT_BIT_CACHE

RUNS_ON = ("llama-cpp-python",)
KINDS = ("Q8_0", "Q4_0", "Q4_K_M")
AT_ONCE = 512  # tokens computed together


def prepare(checkpoint: Path, folder: Path, work: Path) -> None:
    """Write a GGUF in float32, and of it those in fewer bits."""
    from systems.gguf_of_gpt2 import write_gguf  # brings PyTorch, which running does without

    write_gguf(checkpoint, work / "F32.gguf")
    for kind in KINDS:
        options = llama_cpp.llama_model_quantize_default_params()
        options.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{kind}")
        source, target = bytes(work / "F32.gguf"), bytes(work / f"{kind}.gguf")
        if llama_cpp.llama_model_quantize(source, target, options):
            raise RuntimeError("llama_model_quantize failed")


class Engine:
    """One text by its Python class, several as sequences of one batch of its C interface."""

    def __init__(self, path: Path, threads: int, eight_bit_cache: bool) -> None:
        self._threads = threads
        self._cache = {}
        if eight_bit_cache:
            kind = llama_cpp.GGML_TYPE_Q8_0
            self._cache = {"type_k": kind, "type_v": kind, "flash_attn": True}
        self._path = path
        self._model = self._open(logits_all=False)

    def _open(self, logits_all: bool) -> llama_cpp.Llama:
        return llama_cpp.Llama(
            str(self._path),
            n_ctx=0,
            n_batch=AT_ONCE,
            n_threads=self._threads,
            n_threads_batch=self._threads,
            logits_all=logits_all,
            verbose=False,
            **self._cache,
        )

    def run(self, texts: list[list[int]], count: int) -> list[list[int]]:
        if len(texts) > 1:
            return Sequences(self._model, len(texts), self._cache).run(texts, count)
        self._model.reset()
        made = [self._eval(texts[0])]
        while len(made) < count:
            made.append(self._eval(made[-1:]))
        return [made]

    def _eval(self, ids: list[int]) -> int:
        self._model.eval(ids)
        return likeliest(self._model.ctx, -1, self._model.n_vocab())

    def logits(self, ids: list[int]) -> NDArray[np.float32]:
        if not self._model._logits_all:
            self._model = self._open(logits_all=True)
        self._model.reset()
        self._model.eval(ids)
        found: NDArray[np.float32] = self._model.scores[: len(ids)]
        return found


class Sequences:
    """Several texts of one length in one context."""

    def __init__(self, model: llama_cpp.Llama, rows: int, cache: dict[str, object]) -> None:
        self._vocabulary, self._model, self._rows = model.n_vocab(), model, rows
        self._cache = cache

    def run(self, texts: list[list[int]], count: int) -> list[list[int]]:
        length = len(texts[0])
        context = self._open(length + count)
        batch = llama_cpp.llama_batch_init(self._rows * length, 0, 1)
        try:
            steps = [self._decode(context, batch, texts, 0)]
            for number in range(1, count):
                last = [[token] for token in steps[-1]]
                steps.append(self._decode(context, batch, last, length + number - 1))
        finally:
            llama_cpp.llama_batch_free(batch)
            llama_cpp.llama_free(context)
        return [list(tokens) for tokens in zip(*steps, strict=True)]

    def _open(self, tokens: int) -> llama_cpp.llama_context_p:
        options = llama_cpp.llama_context_default_params()
        options.n_ctx, options.n_seq_max = self._rows * max(tokens, 256), self._rows
        options.n_batch, options.n_ubatch = options.n_ctx, AT_ONCE
        options.n_threads = options.n_threads_batch = self._model.n_threads
        if self._cache:
            options.type_k = options.type_v = llama_cpp.GGML_TYPE_Q8_0
            options.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_ENABLED
        context = llama_cpp.llama_init_from_model(self._model.model, options)
        if context is None:
            raise RuntimeError(f"llama.cpp opens no context for {self._rows} sequences")
        return context

    def _decode(
        self,
        context: llama_cpp.llama_context_p,
        batch: llama_cpp.llama_batch,
        texts: list[list[int]],
        position: int,
    ) -> list[int]:
        """Append a piece to every row; return each row's likeliest next token."""
        ends, place = [], 0
        for row, text in enumerate(texts):
            for offset, token in enumerate(text):
                batch.token[place], batch.pos[place] = token, position + offset
                batch.n_seq_id[place], batch.seq_id[place][0] = 1, row
                batch.logits[place] = offset == len(text) - 1
                place += 1
            ends.append(place - 1)
        batch.n_tokens = place
        if code := llama_cpp.llama_decode(context, batch):
            raise RuntimeError(f"llama_decode failed with {code}")
        return [likeliest(context, end, self._vocabulary) for end in ends]


def likeliest(context: llama_cpp.llama_context_p, place: int, vocabulary: int) -> int:
    """Return the likeliest token after a place of the last batch."""
    logits = llama_cpp.llama_get_logits_ith(context, place)
    return int(np.ctypeslib.as_array(logits, shape=(vocabulary,)).argmax())


def open_engine(work: Path, folder: Path, kind: str, threads: int) -> Engine:
    """Load one of the files."""
    eight_bit_cache = kind.endswith(EIGHT_BIT_CACHE)
    return Engine(files(work, folder, kind)[0], threads, eight_bit_cache)


def files(work: Path, folder: Path, kind: str) -> list[Path]:
    """Return what lies on disk of a model."""
    return [work / f"{kind.removesuffix(EIGHT_BIT_CACHE)}.gguf"]
