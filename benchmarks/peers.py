"""What other tools' 8-bit and 4-bit forms of the same checkpoint lose on the same text.

    python benchmarks/peers.py CHECKPOINT FOLDER OUT.json

CHECKPOINT is the Hugging Face one, FOLDER its model folder. Every peer quantizes the checkpoint
with its own tool and runs it with its own runtime. Figures are those of `pocketgpt quantize`; sizes
are of weights, and of graphs where they lie in files. A peer that cannot be installed or run is
listed with the reason.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import pocketgpt
from pocketgpt_quantize.measure.quality import Passage, Reference

Logits = NDArray[np.float32]
Forward = Callable[[list[int]], Logits]
"""From token ids to logits `[tokens, vocab_size]`."""


@dataclass
class Peer:
    """Another tool's model, in the shape of a graph that `Reference` takes."""

    forward: Forward
    config: Any

    def decoder(self) -> Any:
        """Start a text."""
        return PeerDecoder(self.forward)


@dataclass
class PeerDecoder:
    """Appends tokens to a text by computing all of it again."""

    forward: Forward
    token_ids: list[int] = field(default_factory=list)

    def reserve(self, tokens: int) -> None:
        """There is no cache."""

    def prefill(self, token_ids: Sequence[int]) -> Logits:
        self.token_ids += token_ids
        return np.empty((0, 0), np.float32)  # nobody reads it

    def score(self, token_ids: Sequence[int]) -> Logits:
        self.token_ids += token_ids
        return self.forward(self.token_ids)[-len(token_ids) :]


def size_of(path: Path, *endings: str) -> int:
    """Return the bytes of the files in a folder with one of the endings."""
    return sum(file.stat().st_size for file in path.rglob("*") if file.suffix in endings)


def load_torch(checkpoint: Path) -> Any:
    import torch
    from transformers import GPT2LMHeadModel

    return GPT2LMHeadModel.from_pretrained(
        checkpoint, dtype=torch.float32, attn_implementation="eager"
    ).eval()


def ctranslate2_int8(checkpoint: Path, scratch: Path) -> tuple[Forward, int]:
    import ctranslate2
    from ctranslate2.converters import TransformersConverter

    TransformersConverter(str(checkpoint)).convert(str(scratch / "out"), quantization="int8")
    generator = ctranslate2.Generator(str(scratch / "out"), compute_type="int8")

    def forward(token_ids: list[int]) -> Logits:
        logits: Logits = np.array(generator.forward_batch([token_ids]), np.float32)[0]
        return logits

    return forward, size_of(scratch / "out", ".bin")


def openvino(bits: int, checkpoint: Path, scratch: Path) -> tuple[Forward, int]:
    import nncf
    import openvino as ov
    import torch

    class WithoutCache(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = load_torch(checkpoint)

        def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = self.model(input_ids, use_cache=False).logits
            return logits

    module = WithoutCache()
    length = module.model.config.n_positions  # fixed: what follows a token changes nothing
    example = torch.zeros((1, length), dtype=torch.int64)
    graph = ov.convert_model(torch.export.export(module, (example,)))
    mode = {8: nncf.CompressWeightsMode.INT8_ASYM, 4: nncf.CompressWeightsMode.INT4_ASYM}[bits]
    options = {"group_size": 64, "ratio": 1.0} if bits == 4 else {}
    ov.save_model(nncf.compress_weights(graph, mode=mode, **options), scratch / "out.xml")
    compiled = ov.compile_model(scratch / "out.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def forward(token_ids: list[int]) -> Logits:
        padded = np.zeros((1, length), np.int64)
        padded[0, : len(token_ids)] = token_ids
        logits: Logits = compiled([padded])[0][0]
        return logits[: len(token_ids)]

    return forward, size_of(scratch, ".bin", ".xml")


def optimum_dynamic(checkpoint: Path, scratch: Path) -> tuple[Forward, int]:
    import torch
    from optimum.onnxruntime import ORTModelForCausalLM, ORTQuantizer
    from optimum.onnxruntime.configuration import AutoQuantizationConfig

    ORTModelForCausalLM.from_pretrained(checkpoint, export=True).save_pretrained(scratch / "fp32")
    config = AutoQuantizationConfig.avx2(is_static=False, per_channel=True)
    quantizer = ORTQuantizer.from_pretrained(scratch / "fp32", file_name="model.onnx")
    quantizer.quantize(save_dir=scratch / "out", quantization_config=config)
    model = ORTModelForCausalLM.from_pretrained(scratch / "out")

    def forward(token_ids: list[int]) -> Logits:
        with torch.inference_mode():
            logits: Logits = (
                model(
                    input_ids=torch.tensor([token_ids]),
                    attention_mask=torch.ones(1, len(token_ids)),
                )
                .logits[0]
                .numpy()
            )
        return logits

    return forward, size_of(scratch / "out", ".onnx", ".onnx_data")


def llama(kind: str, checkpoint: Path, scratch: Path) -> tuple[Forward, int]:
    import gguf
    import llama_cpp
    from systems.gguf_of_gpt2 import write_gguf

    exact, path = scratch / "f32.gguf", scratch / "out.gguf"
    write_gguf(checkpoint, exact)
    options = llama_cpp.llama_model_quantize_default_params()
    options.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{kind}")
    if llama_cpp.llama_model_quantize(bytes(exact), bytes(path), options):
        raise RuntimeError("llama_model_quantize failed")
    model = llama_cpp.Llama(str(path), n_ctx=0, n_batch=512, logits_all=True, verbose=False)

    def forward(token_ids: list[int]) -> Logits:
        model.reset()
        model.eval(token_ids)
        logits: Logits = model.scores[: len(token_ids)].copy()
        return logits

    return forward, sum(int(tensor.n_bytes) for tensor in gguf.GGUFReader(path).tensors)


PEERS: dict[str, Callable[[Path, Path], tuple[Forward, int]]] = {
    "llama.cpp Q8_0": partial(llama, "Q8_0"),
    "llama.cpp Q4_0": partial(llama, "Q4_0"),
    "llama.cpp Q4_K_M": partial(llama, "Q4_K_M"),
    "CTranslate2 int8": ctranslate2_int8,
    "OpenVINO int8": partial(openvino, 8),
    "OpenVINO int4, 64": partial(openvino, 4),
    "Optimum dynamic int8": optimum_dynamic,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    fp32 = pocketgpt.load(arguments.folder, "fp32")
    text = (arguments.folder / "evaluation.txt").read_text("utf-8")
    rows: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as kept:
        passage = Passage.of(text, fp32.tokenizer, fp32.config, 2**40)
        reference = Reference(fp32.graph, passage, Path(kept), continuations=False)
        for label, make in PEERS.items():
            with tempfile.TemporaryDirectory() as scratch:
                try:
                    forward, size = make(arguments.checkpoint, Path(scratch))
                    peer = Peer(forward, fp32.config)
                    quality = reference.figures(label, peer)  # type: ignore[arg-type]
                    rows[label] = {"bytes": size, "quality": quality}
                except Exception as error:  # whatever another tool raises: it is a row that says so
                    traceback.print_exc()
                    rows[label] = {"error": f"{type(error).__name__}: {error}".splitlines()[0]}
            print(label, rows[label], flush=True)
    arguments.out.write_text(json.dumps(rows, indent=2), "utf-8")


if __name__ == "__main__":
    main()
