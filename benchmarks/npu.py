"""Whether Qualcomm's provider runs `int8_static`, and whether it says the same as the CPU.

    pip install -e . onnx onnxruntime-qnn sympy
    python benchmarks/npu.py FOLDER

FOLDER holds a portable graph. On x86-64 the provider emulates the processor: slow, but it checks
every operator and computes as the processor does. Shapes have to be fixed: so many new tokens, so
many before them. (With 16 new tokens, version 2.7 emulates products of 16 rows wrongly, from the
third on; 1, 2, 32, 64 and 128 agree with the CPU.)
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import onnxruntime_qnn as qnn
from onnxruntime.tools.onnx_model_utils import make_dim_param_fixed

import pocketgpt

DEVICE = {"htp_arch": "75", "soc_model": "60", "offload_graph_io_quantization": "0"}


def fix_shapes(source: Path, target: Path, tokens: int, past: int) -> None:
    """Write the graph for one text of `past` tokens, of which `tokens` are new in every pass."""
    model = onnx.load(source)
    known = {"batch_size": 1, "sequence_length": tokens, "past_sequence_length": past}
    shapes = [value.type.tensor_type.shape for value in model.graph.input]
    for name in {dim.dim_param for shape in shapes for dim in shape.dim if dim.dim_param}:
        make_dim_param_fixed(model.graph, name, known.get(name, tokens + past))
    onnx.save(model, target, save_as_external_data=True, location=f"{target.name}_data")


def open_on_npu(path: Path) -> ort.InferenceSession:
    ort.register_execution_provider_library("QNN", qnn.get_library_path())
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.enable_profiling = True
    options.profile_file_prefix = str(path.with_suffix(""))
    devices = [device for device in ort.get_ep_devices() if device.ep_name == "QNN"]
    backend = {"backend_path": qnn.get_qnn_htp_path()}
    options.add_provider_for_devices(devices, backend | DEVICE)
    return ort.InferenceSession(path, options)


def feeds_of(session: ort.InferenceSession, token_ids: list[int], past: int) -> dict[str, Any]:
    """Return what the session takes for a text's first tokens: its past is masked, and zeros."""
    count = len(token_ids)
    feeds: dict[str, Any] = {
        "input_ids": np.array([token_ids]),
        "position_ids": np.arange(count)[None],
        "attention_mask": (np.arange(past + count) >= past).astype(np.int64)[None],
    }
    for value in session.get_inputs():
        if value.name not in feeds:
            feeds[value.name] = np.zeros(value.shape, np.float32)
    return feeds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tokens", type=int, default=32, help="new in every pass")
    parser.add_argument("--past", type=int, default=32, help="tokens before them")
    arguments = parser.parse_args()
    text = (arguments.folder / "evaluation.txt").read_text("utf-8")
    model = pocketgpt.load(arguments.folder, "int8_static")
    token_ids = model.tokenizer.encode(text)[: arguments.tokens]
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "fixed.onnx"
        source = arguments.folder / model.manifest.variants["int8_static"].files[0].path
        fix_shapes(source, path, arguments.tokens, arguments.past)
        cpu = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
        npu = open_on_npu(path)
        feeds = feeds_of(cpu, token_ids, arguments.past)
        (expected,), (found,) = (session.run(["logits"], feeds) for session in (cpu, npu))
        events = json.loads(Path(npu.end_profiling()).read_text("utf-8"))
    ran = Counter(
        f"{event['args']['provider']} {event['args']['op_name']}"
        for event in events
        if "provider" in event.get("args", {})
    )
    same = (found.argmax(-1) == expected.argmax(-1)).mean()
    print(f"nodes: {', '.join(f'{count} {name}' for name, count in ran.items())}")
    print(f"logits: at most {np.abs(found - expected).max():.3f} of {np.abs(expected).max():.1f}")
    print(f"the same likeliest token at {same:.1%} of {len(token_ids)} places")


if __name__ == "__main__":
    main()
