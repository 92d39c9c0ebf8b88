"""Optimum on ONNX Runtime: fp32, and INT8 by its dynamic quantization."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from optimum.onnxruntime import ORTModelForCausalLM, ORTQuantizer
from optimum.onnxruntime.configuration import AutoQuantizationConfig

RUNS_ON = ("optimum-onnx", "onnxruntime", "torch")


def prepare(checkpoint: Path, folder: Path, work: Path) -> None:
    """Export, and quantize what was exported."""
    ORTModelForCausalLM.from_pretrained(checkpoint, export=True).save_pretrained(work / "fp32")
    config = AutoQuantizationConfig.avx512_vnni(is_static=False, per_channel=True)
    quantizer = ORTQuantizer.from_pretrained(work / "fp32", file_name="model.onnx")
    quantizer.quantize(save_dir=work / "int8", quantization_config=config)


class Engine:
    """Greedy decoding by transformers' generate."""

    def __init__(self, path: Path, threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        torch.set_num_threads(threads)
        self._model = ORTModelForCausalLM.from_pretrained(path, session_options=options)

    def run(self, texts: list[list[int]], count: int) -> list[list[int]]:
        ids = torch.tensor(texts)
        made = self._model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=count,
            min_new_tokens=count,
            do_sample=False,
            pad_token_id=0,
        )
        new: list[list[int]] = made[:, ids.shape[1] :].tolist()
        return new

    def logits(self, ids: list[int]) -> NDArray[np.float32]:
        text = torch.tensor([ids])
        with torch.inference_mode():
            out = self._model(input_ids=text, attention_mask=torch.ones_like(text))
        found: NDArray[np.float32] = out.logits[0].numpy()
        return found


def open_engine(work: Path, folder: Path, kind: str, threads: int) -> Engine:
    """Load one of the models."""
    return Engine(work / kind, threads)


def files(work: Path, folder: Path, kind: str) -> list[Path]:
    """Return what lies on disk of a model."""
    return list((work / kind).glob("*.onnx*"))
