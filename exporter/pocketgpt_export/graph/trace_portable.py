"""The graph in standard ONNX operators alone, through Optimum, its embedding stored once."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from transformers import GPT2Config, GPT2LMHeadModel

from pocketgpt import CheckpointError, MissingExtraError, __version__
from pocketgpt.engine.contract import CONTEXT_PROPERTY, SCORE_WEIGHT
from pocketgpt.errors import one_line
from pocketgpt.folder.config import HEAD_MULTIPLE

from ..source.classifier import GPT2, as_language_model
from ..source.names import HEAD
from ..source.quiet import quiet_transformers

PORTABLE_OPSET = 18
SAMPLE_TOKENS = 16
MIN_POSITIONS = 4
TASK = "text-generation-with-past"


def trace_portable(model: GPT2, path: Path) -> None:
    """Export `model` through Optimum; write `path` and its weights, `path` + `_data`.

    Optimum's graph holds a tied embedding twice, once transposed for the head: here the head reads
    the one there is as it lies.

    Raises:
        MissingExtraError: optimum-onnx is not installed, or not for this transformers.
        CheckpointError: Optimum cannot export it.
    """
    _check_config(model.config)
    try:
        from optimum.exporters.onnx import onnx_export_from_model
    except ImportError as error:
        raise MissingExtraError(
            "the portable graph needs optimum-onnx, which takes transformers below 4.58: "
            "pip install 'pocketgpt[portable]' in an environment of its own"
        ) from error
    with TemporaryDirectory(dir=path.parent) as scratch:
        level, name = logging.root.manager.disable, model.config._name_or_path
        logging.disable(logging.WARNING)
        # Optimum looks there for a tokenizer, and asks the hub where there is no such folder.
        model.config._name_or_path = scratch
        try:
            with quiet_transformers(), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the tracer's, about values it takes as constant
                onnx_export_from_model(
                    as_language_model(model),
                    Path(scratch),
                    opset=PORTABLE_OPSET,
                    task=TASK,
                    do_validation=False,
                    no_post_process=True,
                    # Its sample: so many tokens after a past of as many.
                    sequence_length=min(SAMPLE_TOKENS, model.config.n_positions // 2),
                )
        except Exception as error:  # torch's tracer and Optimum raise any kind
            raise CheckpointError(
                f"Optimum cannot export this checkpoint: {one_line(error)}"
            ) from error
        finally:
            logging.disable(level)
            model.config._name_or_path = name
        program = ir.load(Path(scratch) / "model.onnx")
        program.producer_name, program.producer_version = "pocketgpt", __version__
        program.metadata_props[CONTEXT_PROPERTY] = str(model.config.n_positions)
        _tie_head(program.graph, HEAD if isinstance(model, GPT2LMHeadModel) else SCORE_WEIGHT)
        ir.save(program, path, external_data=f"{path.name}_data")


def _check_config(config: GPT2Config) -> None:
    """Refuse by name the two configurations that Optimum's tracer is known to fail on."""
    fits = config.n_embd // config.n_head % HEAD_MULTIPLE == 0
    fused = "use the fused one, --graph fused (graph='fused')"
    way_out = fused if fits else "the fused one does not take its heads, so none does"
    if config.n_positions < MIN_POSITIONS:
        raise CheckpointError(
            "the portable graph is traced with two tokens after two, which a context of "
            f"{config.n_positions} has no room for; {way_out}"
        )
    if config.activation_function == "xielu":  # its numbers are bfloat16 in transformers
        raise CheckpointError(
            "the activation xielu computes in bfloat16, which the portable graph's operators do "
            f"not; {way_out}"
        )


def _tie_head(graph: ir.Graph, own_name: str) -> None:
    """Turn the head's product with the transposed embedding into a Gemm with the embedding.

    A head that is not the embedding gets `own_name`.
    """
    logits = graph.outputs[0]
    product = logits.producer()
    table = graph.initializers.get("transformer.wte.weight")
    if product is None or product.op_type != "MatMul" or table is None:
        return
    hidden, head = product.inputs
    assert hidden is not None
    assert head is not None
    if not head.is_initializer() or not np.array_equal(_array(head), _array(table).T):
        head.name = own_name  # the tracer gave it a number
        return
    name, width = logits.name, _array(table).shape[1]
    flat = ir.node("Reshape", [hidden, _constant(graph, "head.flat", [-1, width])])
    gemm = ir.node("Gemm", [flat.outputs[0], table], {"transB": 1})
    shape = ir.node("Shape", [hidden], {"start": 0, "end": 2})
    vocabulary = _constant(graph, "head.vocabulary", [_array(table).shape[0]])
    whole = ir.node("Concat", [shape.outputs[0], vocabulary], {"axis": 0})
    deep = ir.node("Reshape", [gemm.outputs[0], whole.outputs[0]])
    new = deep.outputs[0]
    new.shape, new.type = logits.shape, logits.type
    ir.convenience.replace_nodes_and_values(
        graph, product, [product], [flat, gemm, shape, whole, deep], [logits], [new]
    )
    new.name = name
    assert head.name is not None
    graph.initializers.pop(head.name)


def _array(value: ir.Value) -> NDArray[np.generic]:
    assert value.const_value is not None
    return value.const_value.numpy()


def _constant(graph: ir.Graph, name: str, numbers: list[int]) -> ir.Value:
    tensor = ir.tensor(np.array(numbers, np.int64), name=name)
    value = ir.Value(
        name=name,
        shape=ir.Shape([len(numbers)]),
        type=ir.TensorType(ir.DataType.INT64),
        const_value=tensor,
    )
    graph.initializers.add(value)
    return value
