"""Text from ids as they come: never half a character, joined the same as decoded at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers

import pocketgpt
from pocketgpt.text.text_stream import TextStream
from pocketgpt.text.tokenizer import Tokenizer

REPLACEMENT = "\ufffd"
TEXTS = [
    "plain words",
    "naïve café",
    "👨‍👩‍👧‍👦 💃🏽",
    "灯台守は𠮷",
    "e\u0301\u0301",
    "\x00\x7f\x80",
]


def pieces_of(tokenizer: Tokenizer, ids: list[int]) -> tuple[list[str], str]:
    """What every push returned, and what `finish` did."""
    stream = TextStream(tokenizer)
    return [stream.push(token_id) for token_id in ids], stream.finish()


@pytest.mark.parametrize("text", TEXTS)
def test_characters_come_as_soon_as_they_are_whole(tiny: pocketgpt.Model, text: str) -> None:
    """Even where every byte is a token of its own."""
    byte_ids = {tiny.tokenizer.token_bytes(token_id): token_id for token_id in range(400)}
    ids = [byte_ids[bytes([byte])] for byte in text.encode("utf-8")]
    stream, shown, seen = TextStream(tiny.tokenizer), "", b""
    for token_id in ids:
        shown += stream.push(token_id)
        seen += tiny.tokenizer.token_bytes(token_id)
        assert shown == seen.decode("utf-8", errors="ignore")
    assert stream.finish() == ""
    assert shown == text


@pytest.mark.parametrize("seed", range(20))
def test_random_ids_joined_equal_decode(tiny: pocketgpt.Model, seed: int) -> None:
    """Most such sequences are no valid UTF-8."""
    ids = np.random.default_rng(seed).integers(0, 400, 200).tolist()
    pieces, last = pieces_of(tiny.tokenizer, ids)
    assert "".join(pieces) + last == tiny.tokenizer.decode(ids)


@pytest.mark.parametrize("seed", range(20))
def test_random_bytes_joined_equal_decode(tiny: pocketgpt.Model, seed: int) -> None:
    """Bytes of 0x80 and up alone: starts without an end, ends without a start, overlong forms."""
    byte_ids = {tiny.tokenizer.token_bytes(token_id): token_id for token_id in range(400)}
    found = np.random.default_rng(seed).integers(0x80, 0x100, 60)
    ids = [byte_ids[bytes([byte])] for byte in found]
    pieces, last = pieces_of(tiny.tokenizer, ids)
    whole = "".join(pieces) + last
    assert whole == tiny.tokenizer.decode(ids)
    assert REPLACEMENT in whole


def test_valid_text_never_shows_the_replacement_character(tiny: pocketgpt.Model) -> None:
    for text in TEXTS:
        pieces, last = pieces_of(tiny.tokenizer, tiny.tokenizer.encode(text))
        assert not any(REPLACEMENT in piece for piece in [*pieces, last])


def test_an_unfinished_character_comes_last(tiny: pocketgpt.Model) -> None:
    byte_ids = {tiny.tokenizer.token_bytes(token_id): token_id for token_id in range(400)}
    ids = [byte_ids[bytes([byte])] for byte in b"a\xf0\x9f\x92"]
    assert pieces_of(tiny.tokenizer, ids) == (["a", "", "", ""], REPLACEMENT)
    assert tiny.tokenizer.decode(ids) == "a" + REPLACEMENT


def test_special_tokens_do_not_break_a_character(tiny: pocketgpt.Model) -> None:
    byte_ids = {tiny.tokenizer.token_bytes(token_id): token_id for token_id in range(1, 400)}
    ids = [byte_ids[b"\xc3"], 0, byte_ids[b"\xa9"]]
    assert pieces_of(tiny.tokenizer, ids) == (["", "", "é"], "")
    assert tiny.tokenizer.decode(ids) == "é"


def test_added_tokens_are_text(tiny_folder: Path, tmp_path: Path) -> None:
    grown = tokenizers.Tokenizer.from_file(str(tiny_folder / "tokenizer.json"))
    grown.add_tokens(["[tool call é]"])
    grown.add_special_tokens(["<|user|>"])
    grown.save(str(tmp_path / "tokenizer.json"))
    tokenizer = Tokenizer(tmp_path / "tokenizer.json")
    ids = tokenizer.encode("a [tool call é]<|user|> b")
    assert {400, 401} <= set(ids)
    pieces, last = pieces_of(tokenizer, ids)
    assert "".join(pieces) + last == tokenizer.decode(ids) == "a [tool call é] b"


@pytest.mark.parametrize("seed", range(3))
def test_model_stream_equals_generate(tiny: pocketgpt.Model, seed: int) -> None:
    """A random model at a high temperature draws broken UTF-8 all the time."""
    options: dict[str, Any] = {
        "do_sample": True,
        "temperature": 50.0,
        "top_k": 0,
        "max_new_tokens": 60,
    }
    stream = tiny.stream("é", seed=seed, eos_token_id=None, **options)
    before = stream.result
    pieces = list(stream)
    assert before is None
    assert all(pieces)
    assert stream.result is not None
    assert "".join(pieces) == stream.result.text == tiny.tokenizer.decode(stream.result.token_ids)
    again = tiny.generate("é", seed=seed, eos_token_id=None, **options)
    assert (again.text, again.token_ids) == (stream.result.text, stream.result.token_ids)
