"""What each variant is made of: bits and block size, for the layers and for the embedding."""

from __future__ import annotations

from dataclasses import dataclass

from pocketgpt import QuantizationError


@dataclass(frozen=True)
class Scheme:
    """Bits of the layers' matrices, bits of the embedding and head, and the block size of both."""

    layer_bits: int
    embedding_bits: int
    block_size: int


SCHEMES = {
    "int8": Scheme(layer_bits=8, embedding_bits=8, block_size=64),
    "q4": Scheme(layer_bits=4, embedding_bits=4, block_size=32),
}


def scheme_of(variant: str) -> Scheme:
    """Return the scheme of a variant.

    Raises:
        QuantizationError: there is no variant of this name.
    """
    if variant not in SCHEMES:
        raise QuantizationError(f"no variant is called {variant!r}; there are {', '.join(SCHEMES)}")
    return SCHEMES[variant]
