"""ONNX Runtime GenAI on our model folder: the same files, and a genai_config.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime_genai as og

RUNS_ON = ("onnxruntime-genai", "onnxruntime")
FILES = {"fp32": "model", "int8": "model_int8", "q8": "model_quantized", "q4": "model_q4"}


def prepare(checkpoint: Path, folder: Path, work: Path) -> None:
    """Write a configuration for each variant, beside a link to the folder's graphs."""
    config = json.loads((folder / "config.json").read_text("utf-8"))
    for kind, name in FILES.items():
        target = work / kind
        target.mkdir(parents=True, exist_ok=True)
        (target / "onnx").unlink(missing_ok=True)
        (target / "onnx").symlink_to((folder / "onnx").resolve())
        described = json.dumps(_describe(config, f"onnx/{name}.onnx"), indent=2)
        (target / "genai_config.json").write_text(described, "utf-8")


def _describe(config: dict[str, Any], graph: str) -> dict[str, Any]:
    decoder = {
        "session_options": {"log_id": "genai", "provider_options": []},
        "filename": graph,
        "head_size": config["n_embd"] // config["n_head"],
        "hidden_size": config["n_embd"],
        "num_attention_heads": config["n_head"],
        "num_key_value_heads": config["n_head"],
        "num_hidden_layers": config["n_layer"],
        "inputs": {
            "input_ids": "input_ids",
            "attention_mask": "attention_mask",
            "position_ids": "position_ids",
            "past_key_names": "past_key_values.%d.key",
            "past_value_names": "past_key_values.%d.value",
        },
        "outputs": {
            "logits": "logits",
            "present_key_names": "present.%d.key",
            "present_value_names": "present.%d.value",
        },
    }
    model = {
        "type": "phi",
        "context_length": config["n_positions"],
        "vocab_size": config["vocab_size"],
        "bos_token_id": config["bos_token_id"],
        "eos_token_id": config["eos_token_id"],
        "pad_token_id": config["eos_token_id"],
        "decoder": decoder,
    }
    search = {"max_length": config["n_positions"], "past_present_share_buffer": True}
    return {"model": model, "search": search}


class Engine:
    """Greedy decoding by its generator."""

    def __init__(self, path: Path, threads: int) -> None:
        config = og.Config(str(path))
        options = {"session_options": {"intra_op_num_threads": threads}}
        config.overlay(json.dumps({"model": {"decoder": options}}))
        self._model = og.Model(config)

    def run(self, texts: list[list[int]], count: int) -> list[list[int]]:
        length = len(texts[0]) + count
        params = og.GeneratorParams(self._model)
        params.set_search_options(
            batch_size=len(texts), max_length=length, min_length=length, do_sample=False
        )
        generator = og.Generator(self._model, params)
        generator.append_tokens(np.array(texts, np.int32))
        for _ in range(count):
            generator.generate_next_token()
        rows = (generator.get_sequence(row) for row in range(len(texts)))
        return [[int(token) for token in row[len(texts[0]) :]] for row in rows]


def open_engine(work: Path, folder: Path, kind: str, threads: int) -> Engine:
    """Load one of the variants."""
    return Engine(work / kind, threads)


def files(work: Path, folder: Path, kind: str) -> list[Path]:
    """Return what lies on disk of a model."""
    onnx = work / kind / "onnx"
    return [onnx / f"{FILES[kind]}.onnx", onnx / f"{FILES[kind]}.onnx_data"]
