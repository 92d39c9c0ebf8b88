"""q8: products of 8-bit numbers, against the same arithmetic written out in NumPy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest

from pocketgpt_quantize import quantize
from pocketgpt_quantize.recipes.q8 import Columns, multiply_rowwise, quantize_columns
from pocketgpt_quantize.rounding.format import Floats
from pocketgpt_quantize.rounding.grid import round_to_nearest

FLOAT = ir.DataType.FLOAT


def product(columns: Columns, zero: int, bias: Floats | None) -> ort.InferenceSession:
    """Return a session that multiplies `x` by the columns, and adds the bias."""
    inputs, outputs = columns.numbers.shape
    x = ir.Value(name="x", type=ir.TensorType(FLOAT), shape=ir.Shape(["rows", inputs]))
    constants = [ir.tensor(np.zeros((inputs, outputs), np.float32), name="weight")]
    constants += [] if bias is None else [ir.tensor(bias, name="bias")]
    values = [
        ir.Value(
            name=t.name, type=ir.TensorType(FLOAT), shape=ir.Shape(t.numpy().shape), const_value=t
        )
        for t in constants
    ]
    nodes = [ir.node("MatMul", [x, values[0]])]
    if bias is not None:
        nodes.append(ir.node("Add", [nodes[0].outputs[0], values[1]]))
    last = nodes[-1].outputs[0]
    last.name, last.type, last.shape = "y", ir.TensorType(FLOAT), ir.Shape(["rows", outputs])
    opsets = {"": 21, "com.microsoft": 1}
    graph = ir.Graph([x], [last], nodes=nodes, initializers=values, opset_imports=opsets, name="g")
    multiply_rowwise(graph, nodes[0], columns, zero)
    graph.initializers.pop("weight")
    content = ir.to_proto(ir.Model(graph, ir_version=10)).SerializeToString()
    return ort.InferenceSession(content, providers=["CPUExecutionProvider"])


def by_hand(x: Floats, columns: Columns, zero: int) -> np.ndarray:
    scale = np.maximum(x.max(axis=1) / (255 - zero), -x.min(axis=1) / zero)[:, None]
    stored = np.clip(np.rint(x / scale) + zero, 0, 255)
    sums = (stored - zero) @ columns.numbers.astype(np.float64)
    result: np.ndarray = sums * scale * columns.scales
    return result


@pytest.mark.parametrize("zero", [128, 16])
@pytest.mark.parametrize("biased", [True, False])
def test_a_product_is_that_of_its_stored_numbers(zero: int, biased: bool) -> None:
    """The largest possible sums included: none overflows, on any processor."""
    random = np.random.default_rng(zero)
    x = random.normal(size=(5, 96)).astype(np.float32)
    x[1] = 3.0
    x[2] *= 1e4
    numbers = random.integers(-64, 64, (96, 40)).astype(np.int8)
    numbers[:, 0], numbers[:, 1] = -64, 63
    columns = Columns(numbers, random.uniform(-0.1, 0.1, 40).astype(np.float32))
    bias = random.normal(size=40).astype(np.float32) if biased else None
    (found,) = product(columns, zero, bias).run(None, {"x": x})
    expected = by_hand(x, columns, zero) + (0 if bias is None else bias)
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-5 * np.abs(expected).max())


def test_a_row_of_zeros() -> None:
    columns = Columns(np.ones((8, 3), np.int8), np.ones(3, np.float32))
    (found,) = product(columns, 128, None).run(None, {"x": np.zeros((2, 8), np.float32)})
    assert found.tolist() == [[0, 0, 0]] * 2


def test_a_row_is_the_same_alone_and_among_others() -> None:
    """Bit for bit, and however large the others are."""
    random = np.random.default_rng(1)
    x = random.normal(size=(33, 64)).astype(np.float32) * np.logspace(-3, 3, 33)[:, None]
    x = x.astype(np.float32)
    numbers = random.integers(-64, 64, (64, 48)).astype(np.int8)
    session = product(Columns(numbers, np.full(48, 0.01, np.float32)), 128, None)
    (together,) = session.run(None, {"x": x})
    alone = np.concatenate([session.run(None, {"x": row[None]})[0] for row in x])
    np.testing.assert_array_equal(together, alone)


def test_columns_by_hand() -> None:
    """Each output's number of largest magnitude becomes -64."""
    weight = np.array([[-6.4, 3.2, 0.14], [0.0, 1.28, -0.03]], np.float32)
    columns = quantize_columns(weight, round_to_nearest)
    assert columns.numbers.T.tolist() == [[-64, 32, 1], [0, -64, 2]]  # 1.5 rounds to even
    np.testing.assert_allclose(columns.scales, [0.1, -0.02], rtol=1e-6)


def test_q8_in_a_folder(model_folder: Path) -> None:
    (report,) = quantize(model_folder, ["q8"])
    assert report.installed
    variant = report.variant
    assert [file.path for file in variant.files] == [
        "onnx/model_quantized.onnx",
        "onnx/model_quantized.onnx_data",
    ]
    assert set(variant.bits.values()) == {8}
    assert variant.calibration_sha256 is not None
    graph = ir.load(model_folder / "onnx" / "model_quantized.onnx").graph
    kinds = [node.op_type for node in graph]
    assert kinds.count("MatMulIntegerToFloat") == 4 * 2
    assert kinds.count("MatMulNBits") == 1  # the head, on the embedding's bytes
    assert {"MatMul", "FusedMatMul", "DynamicQuantizeLinear"} & set(kinds) == set()
