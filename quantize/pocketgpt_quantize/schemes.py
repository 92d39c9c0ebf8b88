"""What the blockwise variants are made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .blockwise import Format

Kind = Literal["layer", "embedding", "positions"]
Method = Literal["rtn", "gptq"]


@dataclass(frozen=True)
class Scheme:
    """A variant's formats, by kind of weight, and its method.

    The embedding's format is the head's too: they share their bytes.
    """

    layer: Format
    embedding: Format
    positions: Format
    method: Method

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

INT8 = Scheme(_EIGHT, _EIGHT, _EIGHT, method="rtn")
Q4 = Scheme(_FOUR, _FOUR_FINE, _EIGHT, method="gptq")
