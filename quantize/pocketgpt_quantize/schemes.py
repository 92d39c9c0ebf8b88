"""What each variant is made of and how much it may lose."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pocketgpt import QuantizationError

from .blockwise import Format

Kind = Literal["layer", "embedding", "positions"]
Method = Literal["rtn", "gptq"]


@dataclass(frozen=True)
class Scheme:
    """A variant's formats, by kind of weight; its method; its gate, a rise of perplexity.

    The embedding's format is the head's too: they share their bytes.
    """

    layer: Format
    embedding: Format
    positions: Format
    method: Method
    max_loss: float

    def format_of(self, kind: Kind) -> Format:
        """Return the format of one kind of weight."""
        return {"layer": self.layer, "embedding": self.embedding, "positions": self.positions}[kind]

    @property
    def calibrated(self) -> bool:
        """Whether it needs a calibration text."""
        return self.method != "rtn"

    @property
    def block_size(self) -> int | None:
        """The weights that share a scale, where all weights have the same number."""
        sizes = {self.layer.block_size, self.embedding.block_size, self.positions.block_size}
        return sizes.pop() if len(sizes) == 1 else None


_EIGHT = Format(bits=8, block_size=64)
_FOUR = Format(bits=4, block_size=64, symmetric=False)
_FOUR_FINE = Format(bits=4, block_size=32, symmetric=False)

SCHEMES = {
    "int8": Scheme(_EIGHT, _EIGHT, _EIGHT, method="rtn", max_loss=0.005),
    "q4": Scheme(_FOUR, _FOUR_FINE, _EIGHT, method="gptq", max_loss=0.05),
}


def scheme_of(variant: str) -> Scheme:
    """Return the scheme of a variant.

    Raises:
        QuantizationError: there is no variant of this name.
    """
    if variant not in SCHEMES:
        raise QuantizationError(f"no variant is called {variant!r}; there are {', '.join(SCHEMES)}")
    return SCHEMES[variant]
