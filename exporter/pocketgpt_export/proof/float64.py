"""Where float32 itself is too coarse for the proof's tolerance: the same in float64.

PyTorch's float32 logits are off its float64 ones by its own roundings, usually by some millionths.
With very large weights they may be off by more than the tolerance; a graph that is off by as much
is not wrong. So a proof that fails is made again against float64, within a few times what float32
loses; that reads the checkpoint again, as its weights were let go.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from transformers import GPT2ForSequenceClassification

from ..source.checkpoint import Checkpoint
from ..source.classifier import GPT2
from .adapter import Adapted, ask_adapted
from .pooled import Pooled, ask_pooled
from .prove import tolerance
from .reference import Expected, Reference, ask

Found = tuple[dict[str, float], list[str]]


@dataclass(frozen=True)
class Asked:
    """What PyTorch said: to the proof's sequences, and with a random adapter if that is proven."""

    reference: Reference
    adapted: Adapted | None


@dataclass(frozen=True)
class Proven:
    """What a proof found, by check; a line for each that does not hold; what was allowed.

    `remarks` has a line where it was made against float64.
    """

    found: dict[str, float]
    failed: list[str]
    tolerance: float
    remarks: tuple[str, ...] = ()


def prove_beyond_float32(
    run: Callable[[Asked], Found], asked: Asked, load: Callable[[], Checkpoint]
) -> Proven:
    """Prove a graph against float32, and where that fails and float32 is why, against float64.

    Args:
        run: makes the proof.
        asked: PyTorch's answers in float32.
        load: reads the checkpoint again.
    """
    found, failed = run(asked)
    allowed = tolerance(asked.reference)
    worst = max((value for check, value in found.items() if check != "tokenizer"), default=0.0)
    if worst <= allowed:
        return Proven(found, failed, allowed)
    exact = _ask_in_float64(asked, load())
    wider = tolerance(exact.reference)
    if wider <= allowed:  # float32 is not why
        return Proven(found, failed, allowed)
    found, failed = run(exact)
    remark = (
        f"PyTorch's float32 is off its own float64 by {exact.reference.float32_error:.1e} in this "
        f"checkpoint's logits: the graph was compared with float64, within {wider:.1e}"
    )
    return Proven(found, failed, wider, () if failed else (remark,))


def _ask_in_float64(asked: Asked, loaded: Checkpoint) -> Asked:
    """Ask the same again; `loaded` is used up."""
    model = loaded.model.double()

    def again(case: Expected) -> Expected:
        return ask(model, case.ids, len(case.logits))

    before = asked.reference
    exact = replace(
        before,
        whole=tuple(map(again, before.whole)),
        with_eos=again(before.with_eos),
        context=tuple(map(again, before.context)),
        pooled=_pooled_again(model, before.pooled),
    )
    adapted = None
    if asked.adapted is not None:
        adapted = ask_adapted(loaded.merged().double(), asked.adapted.expected.ids)
    error = max(_differences(asked, Asked(exact, adapted)))
    return Asked(replace(exact, float32_error=error), adapted)


def _pooled_again(model: GPT2, before: Pooled | None) -> Pooled | None:
    if before is None or not isinstance(model, GPT2ForSequenceClassification):
        return None
    return ask_pooled(model, max(before.texts, key=len))


def _differences(asked: Asked, exact: Asked) -> Iterator[float]:
    pairs = list(zip(asked.reference.cases, exact.reference.cases, strict=True))
    if asked.adapted is not None and exact.adapted is not None:
        pairs.append((asked.adapted.expected, exact.adapted.expected))
    for one, other in pairs:
        yield float(np.abs(one.logits - other.logits).max())
