"""vocab.json and merges.txt: GPT-2's tokenizer as it was written before there was tokenizer.json.

C#'s Microsoft.ML.Tokenizers and others read this pair. It can say byte-level BPE alone, and no
added tokens: those stay in tokenizer.json, where their users find the ids.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

VOCAB, MERGES = "vocab.json", "merges.txt"
_HEADER = "#version: 0.2\n"  # as GPT-2's begins: readers skip the first line


def bpe_files(tokenizer: Mapping[str, Any]) -> dict[str, str]:
    """Return the two files' texts by name; nothing where the tokenizer is no byte-level BPE.

    Args:
        tokenizer: what tokenizer.json says.
    """
    model, decoder = tokenizer.get("model"), tokenizer.get("decoder")
    if not (isinstance(model, Mapping) and isinstance(decoder, Mapping)):
        return {}
    vocab, merges = model.get("vocab"), model.get("merges")
    byte_level = model.get("type", "BPE") == "BPE" and decoder.get("type") == "ByteLevel"
    if not (byte_level and isinstance(vocab, Mapping) and isinstance(merges, list)):
        return {}
    pairs = [pair.split(" ") if isinstance(pair, str) else pair for pair in merges]
    if not all(map(_can_be_a_line, pairs)):
        return {}
    lines = "".join(f"{left} {right}\n" for left, right in pairs)
    return {VOCAB: json.dumps(vocab, ensure_ascii=False), MERGES: f"{_HEADER}{lines}"}


def _can_be_a_line(pair: Any) -> bool:
    """Whether a merge is two parts without white space, which the file has between them."""
    return (
        isinstance(pair, list)
        and len(pair) == 2
        and all(isinstance(part, str) and len(part.split()) == 1 for part in pair)
    )
