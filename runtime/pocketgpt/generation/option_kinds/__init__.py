"""What kinds of value an option takes: how each is checked, kept, and read from a flag's text.

A kind's `read` returns the value as options keep it, plain and immutable, and so hashable; its
`flag` is what the command line takes (a list: a flag that may be given several times), and `parse`
turns that into what `read` takes.
"""

from .base import FrozenMapping, Kind
from .plain import Callables, Choice, Decay, Json, LongText, Number, Switch, Text, Texts, Whole
from .tokens import SequenceBias, TokenBias, TokenId, TokenIds, TokenSequences

__all__ = [
    "Callables",
    "Choice",
    "Decay",
    "FrozenMapping",
    "Json",
    "Kind",
    "LongText",
    "Number",
    "SequenceBias",
    "Switch",
    "Text",
    "Texts",
    "TokenBias",
    "TokenId",
    "TokenIds",
    "TokenSequences",
    "Whole",
]
