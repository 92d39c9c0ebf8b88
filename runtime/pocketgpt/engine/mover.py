"""Moving keys and values within a device's memory: by a graph of three nodes, run there.

    moved = Where(mask, Gather(Gather(source, rows, axis 0), times, axis 2), base)

`[slots, n_head, tokens, head_dim]` as all buffers are; `rows` and `times` say which slots and which
tokens of `source`, `mask [slots or 1, 1, tokens or 1, 1]` where they are wanted; elsewhere is
`base`. A new buffer, a longer one, a copied row, rows taken out and put back, what goes in from
arrays and comes out as one: each is one run. ONNX Runtime's Python has no other way to most of
this that holds for every provider, and what it allocates itself is of the right kind.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from . import protobuf
from .contract import Array
from .ort_session import open_session, run_bound
from .placement import CAPTURE_OPTIONS, Placement
from .providers import CPU, Provider

Value: TypeAlias = Array | Any  # an array, or an OrtValue

_IR_VERSION, _OPSET = 8, 17
# Numbers of fields in onnx.proto, and of its TensorProto.DataType.
_MODEL_IR, _MODEL_GRAPH, _MODEL_OPSET, _OPSET_VERSION = 1, 7, 8, 2
_NODE, _NAME, _INPUT, _OUTPUT = 1, 2, 11, 12
_NODE_INPUT, _NODE_OUTPUT, _NODE_OP, _NODE_ATTRIBUTE = 1, 2, 4, 5
_ATTRIBUTE_NAME, _ATTRIBUTE_I, _ATTRIBUTE_TYPE, _TYPE_INT = 1, 3, 20, 2
_FLOAT, _INT64, _BOOL, _FLOAT16 = 1, 7, 9, 10
_KINDS = {np.dtype(np.float32): _FLOAT, np.dtype(np.float16): _FLOAT16}


class Mover:
    """Runs the graph on the provider that a model's session has, over buffers of one type."""

    def __init__(
        self, dtype: np.dtype[Any], placement: Placement, provider: Provider = CPU
    ) -> None:
        """Open the graph.

        Args:
            dtype: of keys and values, float32 or float16.
            placement: where the buffers are to be.
            provider: the one that reaches them, as `open_session` takes it.
        """
        self._placement = placement
        self._session = open_session(moving_graph(dtype), provider=_uncaptured(provider), threads=1)
        self._nothing = np.zeros((1, 1, 1, 1), dtype)

    def move(
        self,
        sources: Sequence[Value],
        rows: NDArray[np.int64],
        times: NDArray[np.int64],
        mask: NDArray[np.bool_] | None = None,
        bases: Sequence[Value] | None = None,
        into: Sequence[ort.OrtValue] | None = None,
        *,
        on_host: bool = False,
    ) -> list[ort.OrtValue]:
        """Return buffers on the device, one for each of `sources`.

        Args:
            sources: what is moved, on the device or arrays.
            rows: which slots of it, one for each slot of the result.
            times: which tokens, likewise.
            mask: where it is wanted; None for everywhere.
            bases: what is elsewhere, shaped as the result; None for zeros.
            into: what to write to; None for new ones. It may be `bases`, where a provider lets a
                node write what it reads, place by place: CUDA and the CPU do.
            on_host: whether new ones are to be in the host's memory.

        Raises:
            InferenceError: ONNX Runtime could not, most likely for want of memory.
        """
        everywhere = np.ones((1, 1, 1, 1), np.bool_)
        made = []
        for index, source in enumerate(sources):
            binding = self._session.io_binding()  # a new one: what it gave changes with its runs
            binding.bind_cpu_input("rows", rows)
            binding.bind_cpu_input("times", times)
            binding.bind_cpu_input("mask", everywhere if mask is None else mask)
            bind_input(binding, "source", source)
            bind_input(binding, "base", self._nothing if bases is None else bases[index])
            if into is not None:
                binding.bind_ortvalue_output("moved", into[index])
            elif on_host:
                binding.bind_output("moved")
            else:
                binding.bind_output("moved", self._placement.device, self._placement.number)
            run_bound(self._session, binding)
            made.extend(binding.get_outputs())
        return made

    def fetch(
        self, sources: Sequence[Value], rows: NDArray[np.int64], times: NDArray[np.int64]
    ) -> list[Array]:
        """Return the chosen slots' chosen tokens of each of `sources` as arrays."""
        return [value.numpy() for value in self.move(sources, rows, times, on_host=True)]


def bind_input(binding: ort.IOBinding, name: str, value: Value) -> None:
    """Bind an array, which is copied to where the session wants it, or a value as it is."""
    if isinstance(value, np.ndarray):
        binding.bind_cpu_input(name, np.ascontiguousarray(value))
    else:
        binding.bind_ortvalue_input(name, value)


def moving_graph(dtype: np.dtype[Any]) -> bytes:
    """Return the graph as an .onnx file's content."""
    kind = _KINDS[dtype]
    field, value = protobuf.field, protobuf.value_info
    shape = ["slots", "n_head", "tokens", "head_dim"]
    inputs = [
        value("source", kind, [f"source_{name}" for name in shape]),
        value("base", kind, [f"base_{name}" for name in shape]),
        value("rows", _INT64, ["slots"]),
        value("times", _INT64, ["tokens"]),
        value("mask", _BOOL, [f"mask_{name}" for name in shape]),
    ]
    nodes = [
        _node("Gather", ["source", "rows"], "taken", axis=0),
        _node("Gather", ["taken", "times"], "wanted", axis=2),
        _node("Where", ["mask", "wanted", "base"], "moved"),
    ]
    graph = [
        *(field(_NODE, node) for node in nodes),
        field(_NAME, b"move"),
        *(field(_INPUT, one) for one in inputs),
        field(_OUTPUT, value("moved", kind, shape)),
    ]
    return (
        protobuf.number_field(_MODEL_IR, _IR_VERSION)
        + field(_MODEL_GRAPH, b"".join(graph))
        + field(_MODEL_OPSET, protobuf.number_field(_OPSET_VERSION, _OPSET))
    )


def _node(operator: str, inputs: Sequence[str], output: str, axis: int | None = None) -> bytes:
    field, number = protobuf.field, protobuf.number_field
    parts = [*(field(_NODE_INPUT, name.encode()) for name in inputs)]
    parts += [field(_NODE_OUTPUT, output.encode()), field(_NODE_OP, operator.encode())]
    if axis is not None:
        attribute = field(_ATTRIBUTE_NAME, b"axis") + number(_ATTRIBUTE_I, axis)
        parts.append(field(_NODE_ATTRIBUTE, attribute + number(_ATTRIBUTE_TYPE, _TYPE_INT)))
    return b"".join(parts)


def _uncaptured(provider: Provider) -> Provider:
    """Return a provider without the options that let it record what it runs."""
    if isinstance(provider, str):
        name, _, written = provider.partition(":")
        kept = [one for one in written.split(",") if one.split("=")[0] not in CAPTURE_OPTIONS]
        return f"{name}:{','.join(kept)}" if any(kept) else name
    name, options = provider
    return name, {key: value for key, value in options.items() if key not in CAPTURE_OPTIONS}
