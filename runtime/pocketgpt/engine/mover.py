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

from .contract import Array
from .onnx_proto import (
    BOOL,
    FLOAT,
    FLOAT16,
    GRAPH_INPUT,
    GRAPH_NAME,
    GRAPH_NODE,
    GRAPH_OUTPUT,
    INT64,
    MODEL_GRAPH,
    MODEL_IR,
    MODEL_OPSET,
    OPSET_VERSION,
    node_of,
    number_attribute,
    value_info,
)
from .ort_session import open_session, run_bound
from .placement import CAPTURE_OPTIONS, Placement
from .protobuf import field, number_field
from .providers import CPU, Provider

Value: TypeAlias = Array | Any  # an array, or an OrtValue

_IR_VERSION, _OPSET = 8, 17
_KINDS = {np.dtype(np.float32): FLOAT, np.dtype(np.float16): FLOAT16}


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
    shape = ["slots", "n_head", "tokens", "head_dim"]
    inputs = [
        value_info("source", kind, [f"source_{name}" for name in shape]),
        value_info("base", kind, [f"base_{name}" for name in shape]),
        value_info("rows", INT64, ["slots"]),
        value_info("times", INT64, ["tokens"]),
        value_info("mask", BOOL, [f"mask_{name}" for name in shape]),
    ]
    nodes = [
        node_of("Gather", ["source", "rows"], ["taken"], [number_attribute("axis", 0)]),
        node_of("Gather", ["taken", "times"], ["wanted"], [number_attribute("axis", 2)]),
        node_of("Where", ["mask", "wanted", "base"], ["moved"]),
    ]
    graph = [
        *(field(GRAPH_NODE, node) for node in nodes),
        field(GRAPH_NAME, b"move"),
        *(field(GRAPH_INPUT, one) for one in inputs),
        field(GRAPH_OUTPUT, value_info("moved", kind, shape)),
    ]
    return (
        number_field(MODEL_IR, _IR_VERSION)
        + field(MODEL_GRAPH, b"".join(graph))
        + field(MODEL_OPSET, number_field(OPSET_VERSION, _OPSET))
    )


def _uncaptured(provider: Provider) -> Provider:
    """Return a provider without the options that let it record what it runs."""
    if isinstance(provider, str):
        name, _, written = provider.partition(":")
        kept = [one for one in written.split(",") if one.split("=")[0] not in CAPTURE_OPTIONS]
        return f"{name}:{','.join(kept)}" if any(kept) else name
    name, options = provider
    return name, {key: value for key, value in options.items() if key not in CAPTURE_OPTIONS}
