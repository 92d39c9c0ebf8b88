"""Choosing a token from logits: in the graph, by ONNX Runtime's operators, or outside, by NumPy.

    python benchmarks/head.py [--vocabulary N] [--count K] [--threads N]

Microseconds of one row, medians. Logits need no copy to come out: ONNX Runtime writes them where
NumPy reads them. The table is Markdown.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import onnxruntime as ort
from onnx import ModelProto, TensorProto, helper

RUNS = 500


def graph(operator: str, vocabulary: int, count: int) -> ModelProto:
    """Return a graph of one operator over a row of logits."""
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 1, vocabulary])
    outputs, kinds = ["ids"], {"ids": TensorProto.INT64}
    inputs, constants = ["logits"], []
    if operator == "TopK":
        inputs, outputs = ["logits", "count"], ["scores", "ids"]
        kinds["scores"] = TensorProto.FLOAT
        constants = [helper.make_tensor("count", TensorProto.INT64, [1], [count])]
    made = [helper.make_tensor_value_info(name, kinds[name], None) for name in outputs]
    node = helper.make_node(operator, inputs, outputs, axis=-1)
    whole = helper.make_graph([node], operator, [logits], made, constants)
    opset = helper.make_opsetid("", 17)
    return helper.make_model(whole, opset_imports=[opset], ir_version=8)


def bound(operator: str, logits: np.ndarray, count: int, threads: int) -> Callable[[], object]:
    """Return what runs the operator, its input and outputs bound once."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    content = graph(operator, logits.shape[-1], count).SerializeToString()
    session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    binding.bind_cpu_input("logits", logits)
    for output in session.get_outputs():
        binding.bind_output(output.name)
    return lambda: session.run_with_iobinding(binding)


def microseconds(run: Callable[[], object]) -> float:
    """Return the median time of a call."""
    times = []
    for _ in range(RUNS):
        begun = time.perf_counter()
        run()
        times.append(time.perf_counter() - begun)
    return 1e6 * statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--vocabulary", type=int, default=50257)
    parser.add_argument("--count", type=int, default=50, help="of the likeliest tokens")
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    shape = (1, 1, given.vocabulary)
    logits = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    ways: dict[str, Callable[[], object]] = {
        "the likeliest, NumPy's argmax": logits.argmax,
        "the likeliest, ArgMax": bound("ArgMax", logits, given.count, given.threads),
        f"{given.count}, NumPy's argpartition": lambda: np.argpartition(logits, -given.count),
        f"{given.count}, TopK": bound("TopK", logits, given.count, given.threads),
    }
    print("| way | microseconds |\n|---|---|")
    for name, run in ways.items():
        print(f"| {name} | {microseconds(run):.0f} |")


if __name__ == "__main__":
    main()
