"""OpenVINO GenAI, converted and compressed by optimum-intel."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import openvino as ov
import openvino_genai
from numpy.typing import NDArray

RUNS_ON = ("openvino-genai", "openvino")
KINDS = ("int8", "int4")


def prepare(checkpoint: Path, folder: Path, work: Path) -> None:
    """Convert by `optimum-cli export openvino` once for each width of the weights."""
    for kind in KINDS:
        tool = Path(sys.executable).with_name("optimum-cli")
        command = [tool, "export", "openvino", "--model", checkpoint, "--weight-format", kind]
        command += ["--task", "text-generation-with-past", work / kind]
        subprocess.run(list(map(str, command)), check=True)


class Engine:
    """Greedy decoding by its pipeline, which takes token ids as a tensor."""

    def __init__(self, path: Path, threads: int) -> None:
        self._path, self._options = path, {"INFERENCE_NUM_THREADS": threads}
        self._pipeline = openvino_genai.LLMPipeline(str(path), "CPU", **self._options)
        self._bare: ov.InferRequest | None = None

    def run(self, texts: list[list[int]], count: int) -> list[list[int]]:
        config = openvino_genai.GenerationConfig(
            max_new_tokens=count, min_new_tokens=count, ignore_eos=True, do_sample=False
        )
        ids = np.array(texts, np.int64)
        inputs = openvino_genai.TokenizedInputs(ov.Tensor(ids), ov.Tensor(np.ones_like(ids)))
        return [list(tokens) for tokens in self._pipeline.generate(inputs, config).tokens]

    def logits(self, ids: list[int]) -> NDArray[np.float32]:
        """Run the pipeline's model without it, for it gives no logits."""
        if self._bare is None:
            model = ov.Core().compile_model(self._path / "openvino_model.xml", "CPU", self._options)
            self._bare = model.create_infer_request()
        self._bare.reset_state()
        inputs = {
            "input_ids": np.array([ids], np.int64),
            "attention_mask": np.ones((1, len(ids)), np.int64),
            "position_ids": np.arange(len(ids), dtype=np.int64)[None],
            "beam_idx": np.zeros(1, np.int32),
        }
        found: NDArray[np.float32] = self._bare.infer(inputs)["logits"][0]
        return found


def open_engine(work: Path, folder: Path, kind: str, threads: int) -> Engine:
    """Load one of the models."""
    return Engine(work / kind, threads)


def files(work: Path, folder: Path, kind: str) -> list[Path]:
    """Return what lies on disk of a model."""
    return [work / kind / f"openvino_model.{ending}" for ending in ("xml", "bin")]
