"""Peak memory, for a model whose weights outweigh everything else."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pocketgpt_quantize.recipes.registry import RECIPES

SHAPE = {"vocab_size": 24_000, "n_embd": 1024, "n_head": 16, "n_layer": 14, "n_positions": 128}
SHARE = 1.3  # of the fp32 weights' bytes
GRAPHS = ("fused", "portable")

# What the libraries take before any weight is read is not the quantizer's.
MEASURE = """
import json, resource, sys
from pocketgpt_quantize import quantize
from pocketgpt_quantize.observe.heap import keep_arrays_off_the_heap

keep_arrays_off_the_heap()  # as the command line does

def peak():
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

before = peak()
(report,) = quantize(sys.argv[1], [sys.argv[2]], accept_loss=True)
print(json.dumps({"peak": peak() - before, "loss": report.loss}))
"""


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the older tracer's own
@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in kB on Linux only")
@pytest.mark.parametrize("graph", GRAPHS)
def test_peak_memory(folder_of_shape: Callable[..., Path], graph: str) -> None:
    if graph == "portable":
        pytest.importorskip("optimum.exporters.onnx")
    folder = folder_of_shape(graph, **SHAPE)
    weights = (folder / "onnx" / "model.onnx_data").stat().st_size
    shares = {}
    for variant in (name for name, recipe in RECIPES.items() if recipe.graph == graph):
        command = [sys.executable, "-c", MEASURE, str(folder), variant]
        run = subprocess.run(command, check=True, capture_output=True, text=True)
        shares[variant] = json.loads(run.stdout)["peak"] / weights
    assert max(shares.values()) <= SHARE, shares
