"""Which variants suit which execution provider, and which pairs are known not to.

Providers go by ONNX Runtime's names. What is not listed here was not tried: it gets fp32.
"""

from __future__ import annotations

import platform
from collections.abc import Collection, Iterable

from ..processor import multiplies_bytes
from .manifest import GraphKind

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
# What is opened, where nothing is asked for, in this order. 8-bit weights are the fastest variants
# whose text is as good as fp32's; with dot products of bytes q8 is as fast as int8 for a token and
# several times as fast for many together (docs/benchmarks.md).
PREFERRED_VARIANTS = ("int8", "fp32")
PREFERRED_WITH_BYTE_PRODUCTS = ("q8", *PREFERRED_VARIANTS)
# The same in files that are read on other machines than the one that writes them.
PREFERRED_ANYWHERE = ("int8", "q8", "fp32")
# On CUDA the fused graph's attention takes half precision alone (DESIGN: GroupQueryAttention).
_ON_DEVICES: dict[tuple[str, GraphKind], tuple[str, ...]] = {
    (CUDA, "fused"): ("fp16", "q4f16"),
    ("DmlExecutionProvider", "fused"): ("fp16", "q4f16", "fp32"),
    ("QNNExecutionProvider", "portable"): ("int8_static", "fp32"),
}
_HALF = ("fp16", "q4f16")
_X86 = ("x86_64", "AMD64", "x86", "i686")


def suitable_variants(provider: str, graph: GraphKind) -> tuple[str, ...]:
    """Return the variants to open on a provider where none is asked for, the best first."""
    if provider == CPU:
        return PREFERRED_WITH_BYTE_PRODUCTS if multiplies_bytes() else PREFERRED_VARIANTS
    return _ON_DEVICES.get((provider, graph), ("fp32",))


def devices_of(graph: GraphKind) -> dict[str, tuple[str, ...]]:
    """Return the variants for each provider whose own are known, the best first."""
    return {provider: names for (provider, kind), names in _ON_DEVICES.items() if kind == graph}


def first_of(suitable: Iterable[str], there: Collection[str]) -> str | None:
    """Return the first of some variants that is there; None where none is."""
    return next((name for name in suitable if name in there), None)


def remark_on(provider: str, graph: GraphKind, variant: str, there: Collection[str]) -> str | None:
    """Return a line on a pair that is known to be slow; None where nothing is known against it.

    Args:
        provider: ONNX Runtime's name.
        graph: what kind of graphs the folder holds.
        variant: the one to open.
        there: the folder's variants.
    """
    if provider == CPU and variant in _HALF and platform.machine() in _X86:
        why = "x86 processors compute in half precision several times slower than in 32 bits"
    elif provider == CUDA and graph == "fused" and variant not in _HALF:
        why = "the fused graph's attention, and 8-bit products, run on the CPU with it"
    else:
        return None
    better = suitable_variants(provider, graph)
    known = [name for name in better if name in there]
    advice = f"{known[0]} suits it" if known else f"make one: pocketgpt quantize FOLDER {better[0]}"
    return f"{variant} is slow on {provider}: {why}; {advice}"
