"""Peak memory, for a model whose weights outweigh everything else."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import GPT2LMHeadModel, GPT2TokenizerFast

from pocketgpt_export import export

SHAPE = {"vocab_size": 24_000, "n_embd": 1024, "n_head": 16, "n_layer": 14, "n_positions": 128}
SHARE = 1.3  # of the fp32 weights' bytes

# What the libraries take before any weight is read is not the quantizer's.
MEASURE = """
import json, resource, sys
from pocketgpt_quantize import quantize

def peak():
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

before = peak()
(report,) = quantize(sys.argv[1], [sys.argv[2]], accept_loss=True)
print(json.dumps({"peak": peak() - before, "loss": report.loss}))
"""


@pytest.fixture(scope="module")
def wide_folder(
    tmp_path_factory: pytest.TempPathFactory,
    make_gpt2: Callable[..., GPT2LMHeadModel],
    tiny_checkpoint: Path,
) -> Path:
    checkpoint = tmp_path_factory.mktemp("wide") / "checkpoint"
    make_gpt2(**SHAPE, initializer_range=0.02).save_pretrained(checkpoint)
    GPT2TokenizerFast.from_pretrained(tiny_checkpoint).save_pretrained(checkpoint)
    for text in ("evaluation.txt", "calibration.txt"):
        shutil.copyfile(tiny_checkpoint / text, checkpoint / text)
    export(checkpoint, checkpoint.with_name("folder"))
    return checkpoint.with_name("folder")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in kB on Linux only")
@pytest.mark.parametrize("variant", ["int8"])
def test_peak_memory(wide_folder: Path, variant: str) -> None:
    command = [sys.executable, "-c", MEASURE, str(wide_folder), variant]
    run = subprocess.run(command, check=True, capture_output=True, text=True)
    found = json.loads(run.stdout)
    weights = (wide_folder / "onnx" / "model.onnx_data").stat().st_size
    assert found["peak"] <= SHARE * weights
