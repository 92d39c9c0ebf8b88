"""The embedding stands once in memory: what a session allocates beside the mapped weights file."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import GPT2LMHeadModel

from pocketgpt_export import export
from pocketgpt_quantize import quantize

VOCABULARY, WIDTH = 32_000, 256

# Kernels repack weights for speed; with that off, the rest shows what the graph holds twice.
MEASURE = """
import re, sys
import onnxruntime as ort

def allocated():
    return 1024 * int(re.search(r"RssAnon:\\s+(\\d+)", open("/proc/self/status").read())[1])

options = ort.SessionOptions()
options.add_session_config_entry("session.disable_prepacking", "1")
options.log_severity_level = 3
before = allocated()
session = ort.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
print(allocated() - before)
"""


@pytest.fixture(scope="module")
def wide_folder(
    tmp_path_factory: pytest.TempPathFactory,
    make_gpt2: Callable[..., GPT2LMHeadModel],
    tiny_checkpoint: Path,
) -> Path:
    """A model folder that is nearly all embedding."""
    from transformers import GPT2TokenizerFast

    checkpoint = tmp_path_factory.mktemp("wide") / "checkpoint"
    make_gpt2(vocab_size=VOCABULARY, n_embd=WIDTH, n_head=4, n_layer=1).save_pretrained(checkpoint)
    GPT2TokenizerFast.from_pretrained(tiny_checkpoint).save_pretrained(checkpoint)
    folder = checkpoint.with_name("folder")
    export(checkpoint, folder)
    texts = {kind: tiny_checkpoint / f"{kind}.txt" for kind in ("evaluation", "calibration")}
    quantize(
        folder,
        ["int8", "q4"],
        eval_text=texts["evaluation"],
        calibration_text=texts["calibration"],
        accept_loss=True,  # random weights round badly
    )
    return folder


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    ("graph", "bits"), [("model.onnx", 32), ("model_int8.onnx", 8), ("model_q4.onnx", 4)]
)
def test_loading_allocates_no_second_embedding(wide_folder: Path, graph: str, bits: int) -> None:
    embedding = VOCABULARY * WIDTH * bits // 8
    command = [sys.executable, "-c", MEASURE, str(wide_folder / "onnx" / graph)]
    allocated = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    offsets = 4 * VOCABULARY  # the head's, widened when they are loaded
    assert allocated < embedding / 2 + offsets + 2_000_000
