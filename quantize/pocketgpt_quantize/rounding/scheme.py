"""What the blockwise variants are made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

from .format import Format

Kind = Literal["layer", "embedding", "positions"]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True)
class Scheme:
    """A variant's formats, by kind of weight.

    The embedding's format is the head's too: they share their bytes. `own` gives single weights
    another one, by name.
    """

    layer: Format
    embedding: Format
    positions: Format
    own: Mapping[str, Format] = field(default_factory=dict)

    def format_of(self, name: str, kind: Kind) -> Format:
        """Return the format of one weight."""
        by_kind = {"layer": self.layer, "embedding": self.embedding, "positions": self.positions}
        return self.own.get(name, by_kind[kind])

    def with_blocks(self, size: int | None) -> Scheme:
        """Return a copy with layers in blocks of `size`, the embedding's as much finer as here."""
        if size is None:
            return self
        layer, embedding = self.layer, self.embedding
        finer = layer.block_size // embedding.block_size
        return replace(
            self,
            layer=replace(layer, block_size=size),
            embedding=replace(embedding, block_size=size // finer),
        )


EIGHT = Format(bits=8, block_size=32, scale_bits=16)
FOUR = Format(bits=4, block_size=32, symmetric=False, scale_bits=16)
FOUR_FINE = Format(bits=4, block_size=16, symmetric=False, scale_bits=16)

INT8 = Scheme(EIGHT, EIGHT, EIGHT)
Q4 = Scheme(FOUR, FOUR_FINE, EIGHT)
