"""Whether a provider that is built into ONNX Runtime becomes active here, asked by a graph."""

from __future__ import annotations

import onnxruntime as ort

from .native_log import said_while
from .ort_errors import reason

# An ONNX file of one node, Identity, over one float: ir_version 8, opset 13.
_ONE_NODE = bytes.fromhex(
    "08083a370a100a017812017922084964656e746974791201675a0f0a0178120a0a08080112040a02"
    "0801620f0a0179120a0a08080112040a02080142040a00100d"
)


def why_inactive(name: str) -> str | None:
    """Return why a provider does not become active; None where it does.

    A wheel has its providers on every machine, and the drivers and libraries that they need not.
    """
    active: list[str] = []
    raised: list[str] = []

    def open_graph() -> None:
        try:
            session = ort.InferenceSession(_ONE_NODE, providers=[name], enable_fallback=0)
        except Exception as error:  # ONNX Runtime's exceptions share no base of their own
            raised.append(reason(error))
        else:
            active.extend(session.get_providers())

    said = said_while(open_graph)
    if name in active:
        return None
    return next(iter(raised), said or "it does not become active, and ONNX Runtime says not why")
