"""Where ONNX Runtime put a graph's nodes: on the provider asked for, or back on the CPU."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import onnxruntime as ort

from ..errors import ProviderError
from .contract import PRODUCTS
from .providers import CPU

RECORD = "session.record_ep_graph_assignment_info"
NO_CPU = "session.disable_cpu_ep_fallback"


@dataclass(frozen=True)
class Assignment:
    """How many nodes run where, by ONNX Runtime's names; of those on the CPU operator and name.

    Of what a built-in provider took, some versions tell nothing; what fell to the CPU they tell.
    """

    nodes: Mapping[str, int]
    cpu_nodes: tuple[str, ...]

    def __str__(self) -> str:
        """Say it in a line."""
        counted = Counter(node.split()[0] for node in self.cpu_nodes)
        kinds = ", ".join(f"{count} {operator}" for operator, count in counted.most_common())
        among = f" of {sum(self.nodes.values())}" if self.nodes.keys() - {CPU} else ""
        fell = f"{len(self.cpu_nodes)}{among} nodes run on the CPU"
        return f"{fell}: {kinds}" if kinds else fell


def read_assignment(session: ort.InferenceSession) -> Assignment | None:
    """Return where an open session's nodes are; None on the CPU, or where ONNX Runtime is too old.

    A provider that compiles takes several nodes as one; they are counted as the graph has them.
    """
    if session.get_providers() == [CPU] or not hasattr(
        session, "get_provider_graph_assignment_info"
    ):
        return None
    nodes: Counter[str] = Counter()
    cpu_nodes = []
    for subgraph in session.get_provider_graph_assignment_info():
        for node in subgraph.get_nodes():
            nodes[subgraph.ep_name] += 1
            if subgraph.ep_name == CPU:
                cpu_nodes.append(f"{node.op_type} {node.name}")
    return Assignment(dict(nodes), tuple(cpu_nodes))


def check_used(assignment: Assignment | None, provider: str, n_layer: int, where: object) -> None:
    """Check that a provider computes something: that not all of the layers' products fell back.

    Raises:
        ProviderError: they did.
    """
    if assignment is None:
        return
    operators = [node.split()[0] for node in assignment.cpu_nodes]
    products = [name for name in operators if "MatMul" in name or "Gemm" in name]
    if len(products) >= n_layer * len(PRODUCTS):
        raise ProviderError(
            f"provider {provider!r} leaves the products of {where} to the CPU: {assignment}; a "
            "portable graph may suit it (export --graph portable)"
        )
