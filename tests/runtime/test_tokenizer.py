"""Ids and text against transformers' GPT2TokenizerFast."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from transformers import GPT2TokenizerFast

import pocketgpt
from pocketgpt import ModelFolderError, OptionError
from pocketgpt.text.tokenizer import Tokenizer

PLAIN = {
    "empty": "",
    "space": " ",
    "words": "Hello, world! It's the lighthouse keeper's 42nd evening.",
    "emoji": "We danced 💃🕺🏽 all night 🌙!",
    "zwj": "👨‍👩‍👧‍👦 🐕‍🦺 🏳️‍🌈 👩🏿‍🚀",
    "flags": "🇩🇰🇯🇵🇰🇷",
    "cjk": "灯台守は夕方に帰ってくる船を数えた。漢字𠮷野家",
    "korean": "등대지기는 한글 저녁마다",
    "combining": "e\u0301 a\u030a n\u0303 Z\u0351\u036b\u0343\u036a",
    "arabic": "منارة \u200fright to left\u200e",
    "controls": "\x00\x01\x07\x08\x1b[31m\x7f\x80\x9f",
    "blanks": "a" + " " * 100 + "b\t\t\t\t\n\n\n\r\n\u00a0\u2003\u3000\u200b\ufeff",
    "trailing": "ends in spaces   ",
    "replacement": "already \ufffd broken \ufffd\ufffd",
    "planes": "\U0001d54f\U000e0041\U0010ffff\ue000\ufffe",
    "contractions": "I'll he'd we're they've it's don't I'M \u2019twas",
    "digits": "1234567890 3.14159 1e-05 ٣٤٥ ②",
    "code": "def f(x):\n\treturn {'a': [x, ~x]}  # ünïcödé\n",
}
SPECIAL = {
    "special": "one<|endoftext|>two",
    "only special": "<|endoftext|>",
    "specials": "<|endoftext|><|endoftext|> x <|endoftext|>",
    "almost special": "<|endoftext| > <|endoftex|> <|ENDOFTEXT|>",
}


@pytest.fixture(scope="module")
def reference(tiny_checkpoint: Path) -> GPT2TokenizerFast:
    tokenizer: GPT2TokenizerFast = GPT2TokenizerFast.from_pretrained(tiny_checkpoint)
    return tokenizer


@pytest.mark.parametrize("name", [*PLAIN, *SPECIAL])
def test_ids_equal_transformers(
    tiny: pocketgpt.Model, reference: GPT2TokenizerFast, name: str
) -> None:
    text = (PLAIN | SPECIAL)[name]
    ids = tiny.tokenizer.encode(text)
    assert ids == reference.encode(text)
    assert tiny.tokenizer.decode(ids) == reference.decode(ids, skip_special_tokens=True)


@pytest.mark.parametrize("name", [*PLAIN, "almost special"])
def test_decode_gives_the_text_back(tiny: pocketgpt.Model, name: str) -> None:
    text = (PLAIN | SPECIAL)[name]
    assert tiny.tokenizer.decode(tiny.tokenizer.encode(text)) == text


def test_random_characters(tiny: pocketgpt.Model, reference: GPT2TokenizerFast) -> None:
    random = np.random.default_rng(0)
    for top in (0x80, 0x800, 0x10000, 0x110000):
        points = random.integers(0, top, 500)
        text = "".join(chr(p) for p in points if not 0xD800 <= p < 0xE000)
        ids = tiny.tokenizer.encode(text)
        assert ids == reference.encode(text)
        assert tiny.tokenizer.decode(ids) == text


def test_random_ids_decode_as_transformers(
    tiny: pocketgpt.Model, reference: GPT2TokenizerFast
) -> None:
    random = np.random.default_rng(1)
    for _ in range(50):
        ids = random.integers(0, 400, 40).tolist()
        expected = reference.decode(
            ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        assert tiny.tokenizer.decode(ids) == expected


def test_special_tokens_leave_no_text(tiny: pocketgpt.Model) -> None:
    ids = tiny.tokenizer.encode("one<|endoftext|>two")
    assert 0 in ids
    assert tiny.tokenizer.decode(ids) == "onetwo"


def test_token_bytes_are_the_texts_bytes(tiny: pocketgpt.Model) -> None:
    for text in PLAIN.values():
        ids = tiny.tokenizer.encode(text)
        assert b"".join(map(tiny.tokenizer.token_bytes, ids)) == text.encode("utf-8")


@pytest.mark.parametrize("token_id", [0, 400, 10**6])
def test_special_and_unknown_ids_have_no_bytes(tiny: pocketgpt.Model, token_id: int) -> None:
    assert tiny.tokenizer.token_bytes(token_id) == b""


@pytest.mark.parametrize("text", ["\ud800", "before \udfff after", "\udc00\ud800"])
def test_lone_surrogate_is_refused(tiny: pocketgpt.Model, text: str) -> None:
    with pytest.raises(OptionError, match=r"lone surrogate \(U\+D[8-F]") as caught:
        tiny.tokenizer.encode(text)
    assert "\n" not in str(caught.value)
    with pytest.raises(OptionError, match="lone surrogate"):
        tiny.generate(text)


@pytest.mark.parametrize("content", [None, "", "{}", "not JSON"])
def test_unreadable_tokenizer(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "tokenizer.json"
    if content is not None:
        path.write_text(content, "utf-8")
    with pytest.raises(ModelFolderError, match=r"tokenizer\.json cannot be read"):
        Tokenizer(path)


def test_padding_and_truncation_of_the_file_are_ignored(
    tiny_folder: Path, tiny: pocketgpt.Model, tmp_path: Path
) -> None:
    """Fine-tuning scripts leave both switched on in tokenizer.json."""
    import tokenizers

    altered = tokenizers.Tokenizer.from_file(str(tiny_folder / "tokenizer.json"))
    altered.enable_truncation(4)
    altered.enable_padding(length=64)
    altered.save(str(tmp_path / "tokenizer.json"))
    text = PLAIN["words"]
    assert Tokenizer(tmp_path / "tokenizer.json").encode(text) == tiny.tokenizer.encode(text)
