"""Every variant there is: what makes it, from which graph, and how much it may lose."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

from pocketgpt import OptionError
from pocketgpt.folder.manifest import Variant

from ..job import Job
from ..rounding.scheme import INT8, Q4
from .blocks import make_in_best_blocks
from .fp16 import make_fp16, make_q4f16
from .int8_q4 import make_blockwise
from .int8_static import make_int8_static
from .mixed import make_mixed
from .q8 import make_q8


@dataclass(frozen=True)
class Recipe:
    """How a variant is made.

    `make` writes its two files and returns its manifest entry, without figures; `max_loss` is its
    gate, a relative rise of perplexity; `calibrated` says whether it looks at a calibration text,
    `needs_text` whether it cannot do without, `graph` which kind of fp32 graph it starts from,
    `classifiers` whether it takes those, `block_sizes` how many weights of a layer may share a
    scale, where that can be chosen.
    """

    make: Callable[[Job], Variant]
    max_loss: float
    calibrated: bool = False
    needs_text: bool = True
    graph: Literal["fused", "portable"] = "fused"
    classifiers: bool = True
    block_sizes: tuple[int, ...] = ()


BLOCK_SIZES = (32, 64, 128, 256)  # of those that MatMulNBits takes, embeddings' half as many too

RECIPES = {
    "int8": Recipe(
        partial(make_in_best_blocks, make_blockwise, INT8),
        0.005,
        calibrated=True,
        needs_text=False,
        block_sizes=BLOCK_SIZES,
    ),
    "q4": Recipe(
        partial(make_in_best_blocks, make_blockwise, Q4),
        0.05,
        calibrated=True,
        block_sizes=BLOCK_SIZES,
    ),
    "mixed": Recipe(make_mixed, 0.01, calibrated=True, classifiers=False),
    "q8": Recipe(make_q8, 0.01, calibrated=True),
    "fp16": Recipe(make_fp16, 0.001, calibrated=True),
    "q4f16": Recipe(
        partial(make_in_best_blocks, make_q4f16, Q4),
        0.05,
        calibrated=True,
        block_sizes=BLOCK_SIZES,
    ),
    "int8_static": Recipe(make_int8_static, 0.02, calibrated=True, graph="portable"),
}


def recipe_of(variant: str) -> Recipe:
    """Return the recipe of a variant.

    Raises:
        OptionError: there is no variant of this name.
    """
    if variant not in RECIPES:
        raise OptionError(f"no variant is called {variant!r}; there are {', '.join(RECIPES)}")
    return RECIPES[variant]
