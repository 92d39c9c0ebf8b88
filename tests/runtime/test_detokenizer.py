"""What tokens stand for, kind by kind, against tokenizers' own decoding of whole texts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models

from pocketgpt.text.detokenizer import Detokenizer

WORDS = [
    "[UNK]",
    "</s>",
    "a",
    "##b",
    "##.",
    ".",
    ",",
    "'",
    "n't",
    "猫",
    "▁",
    "▁a",
    "▁猫",
    "b▁c",
    "é",
]
DECODERS: dict[str, Any] = {
    "none": None,
    "WordPiece": decoders.WordPiece(),
    "WordPiece as it is": decoders.WordPiece(prefix="##", cleanup=False),
    "Metaspace": decoders.Metaspace(),
    "Metaspace, first": decoders.Metaspace(prepend_scheme="first"),
    "Metaspace, never": decoders.Metaspace(prepend_scheme="never"),
    "Llama's": decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    ),
    "Gemma's": decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    ),
}


def tokenizer_with(decoder: Any) -> Tokenizer:
    vocabulary = {word: number for number, word in enumerate(WORDS)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.add_special_tokens(["</s>"])
    tokenizer.add_tokens(["müde", "<tool>"])
    if decoder is not None:
        tokenizer.decoder = decoder
    return tokenizer


@pytest.mark.parametrize("kind", DECODERS)
@pytest.mark.parametrize("seed", range(10))
def test_tokens_join_to_the_decoded_text(kind: str, seed: int) -> None:
    tokenizer = tokenizer_with(DECODERS[kind])
    size = tokenizer.get_vocab_size() + 2  # ids beyond the last one, too
    ids = np.random.default_rng(seed).integers(0, size, 40).tolist()
    text = Detokenizer(tokenizer).text_bytes(ids).decode("utf-8")
    assert text == tokenizer.decode(ids, skip_special_tokens=True)


def test_bytes_of_a_character_are_joined() -> None:
    vocabulary = {"[UNK]": 0, "a": 1, "▁": 2, "<0xE6>": 3, "<0x98>": 4, "<0xA5>": 5}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.decoder = DECODERS["Llama's"]
    detokenizer = Detokenizer(tokenizer)
    assert [detokenizer.token_bytes(number) for number in (3, 4, 5)] == [b"\xe6", b"\x98", b"\xa5"]
    assert detokenizer.text_bytes([2, 3, 4, 5, 1]).decode("utf-8") == "春a"
    assert tokenizer.decode([2, 3, 4, 5, 1]) == "春a"


def test_a_special_token_before_the_first_changes_nothing() -> None:
    detokenizer = Detokenizer(tokenizer_with(DECODERS["Metaspace"]))
    assert detokenizer.text_bytes([1, 11, 11]) == b"a a"


@pytest.mark.parametrize(
    "decoder", [decoders.CTC(), decoders.BPEDecoder(), decoders.Sequence([decoders.BPEDecoder()])]
)
def test_other_decoders_are_refused_by_name(decoder: Any) -> None:
    with pytest.raises(ValueError, match=r"CTC|BPEDecoder"):
        Detokenizer(tokenizer_with(decoder))


def test_any_token_that_shows_is_enough() -> None:
    """Music's vocabularies, or one whose tokens all begin with a space."""
    for words, decoder in (
        (["[UNK]", "NOTE_ON=60", "BAR|"], None),
        (["▁", "▁x", "▁y"], decoders.Metaspace()),
    ):
        vocabulary = {word: number for number, word in enumerate(words)}
        tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=words[0]))
        if decoder is not None:
            tokenizer.decoder = decoder
        ids = [0, 2, 1, 1, 2]
        assert Detokenizer(tokenizer).text_bytes(ids).decode("utf-8") == tokenizer.decode(ids)


def test_a_vocabulary_that_never_shows_is_refused() -> None:
    tokenizer = Tokenizer(models.WordLevel({"▁": 0, "<0xE6>": 1}, unk_token="▁"))
    tokenizer.decoder = decoders.Metaspace()
    with pytest.raises(ValueError, match="no token that shows"):
        Detokenizer(tokenizer)
