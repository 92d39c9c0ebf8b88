"""Ids of a text in parts: tokenizers' own of the whole text, whatever tokenizer and parts."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tokenizers
from tokenizers import (
    AddedToken,
    Regex,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from pocketgpt.text.encode_stream import encode_stream
from pocketgpt.text.tokenizer import Tokenizer

from ..conftest import SENTENCES, byte_level_bpe

GPT4 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
PIECES = [
    *(
        "fox",
        "naïve",
        "e\u0301\u0301",
        "灯台守は",
        "夕方。",
        "💃🏽",
        "don't",
        "'",
        "'s",
        "it's",
        "aaaa",
    ),
    *(
        " ",
        "  ",
        "   ",
        "\n",
        "\r\n",
        "\t",
        " the",
        "42",
        "1234567",
        "!?",
        "...",
        "_",
        "<x>",
        "</x>",
    ),
    *("[two words]", "[two", " words]", "<pad>", "<mask>", "<|endoftext|>", "<|end", "oftext|>"),
]
Change = Callable[[tokenizers.Tokenizer], object]


def bpe(**byte_level: bool) -> tokenizers.Tokenizer:
    tokenizer = byte_level_bpe(SENTENCES, 400)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(**{"add_prefix_space": False, **byte_level})
    return tokenizer


def merged_across_words() -> tokenizers.Tokenizer:
    """A BPE whose tokens span words: nothing is split before it."""
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    trainer = trainers.BpeTrainer(
        vocab_size=420,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([text_of(0, 400)], trainer)
    return tokenizer


def split_by(pattern: str) -> tokenizers.Tokenizer:
    tokenizer = bpe()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    return tokenizer


def with_added_tokens(tokenizer: tokenizers.Tokenizer) -> tokenizers.Tokenizer:
    """Tokens that span words, eat white space around them, or want a word of their own."""
    tokenizer.add_special_tokens([AddedToken("<mask>", lstrip=True), AddedToken("<pad>")])
    tokenizer.add_tokens(
        [
            AddedToken("[two words]"),
            AddedToken("<x>", rstrip=True),
            AddedToken("</x>", lstrip=True, rstrip=True),
            AddedToken("fox", single_word=True),
            "aa",
        ]
    )
    return tokenizer


def framed(tokenizer: tokenizers.Tokenizer) -> tokenizers.Tokenizer:
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<|endoftext|> $A <|endoftext|> <|endoftext|>", special_tokens=[("<|endoftext|>", 0)]
    )
    return tokenizer


def word_piece() -> tokenizers.Tokenizer:
    tokenizer = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=300, special_tokens=["[UNK]"], show_progress=False
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    return tokenizer


def unigram(scheme: str) -> tokenizers.Tokenizer:
    tokenizer = tokenizers.Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
    trainer = trainers.UnigramTrainer(
        vocab_size=200, special_tokens=["<unk>"], unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    return tokenizer


def normalized() -> tokenizers.Tokenizer:
    tokenizer = bpe()
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Lowercase(), normalizers.Strip()]
    )
    return tokenizer


def word_level() -> tokenizers.Tokenizer:
    vocab = {"<unk>": 0, "fox": 1, "the": 2, "42": 3}
    tokenizer = tokenizers.Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return tokenizer


TOKENIZERS: dict[str, Callable[[], tokenizers.Tokenizer]] = {
    "GPT-2": bpe,
    "a prefix space": lambda: bpe(add_prefix_space=True),
    "no regex": lambda: bpe(use_regex=False),
    "merges across words": merged_across_words,
    "added tokens": lambda: with_added_tokens(bpe()),
    "added tokens, a prefix space": lambda: with_added_tokens(bpe(add_prefix_space=True)),
    "added tokens, no regex": lambda: with_added_tokens(merged_across_words()),
    "a frame": lambda: framed(with_added_tokens(bpe(add_prefix_space=True))),
    "GPT-4": lambda: with_added_tokens(split_by(GPT4)),
    "three digits": lambda: split_by(r"\p{N}{1,3}"),
    "normalized": normalized,
    "normalized, added tokens": lambda: with_added_tokens(normalized()),
    "WordPiece": word_piece,
    "Unigram": lambda: unigram("always"),
    "Unigram, first": lambda: unigram("first"),
    "WordLevel": word_level,
}


def text_of(seed: int, pieces: int) -> str:
    random = np.random.default_rng(seed)
    return "".join(random.choice(PIECES, pieces))


def load(tokenizer: tokenizers.Tokenizer, folder: Path) -> Tokenizer:
    tokenizer.save(str(folder / "tokenizer.json"))
    return Tokenizer(folder / "tokenizer.json")


@pytest.mark.parametrize("name", TOKENIZERS)
def test_parts_join_to_the_whole_texts_ids(name: str, tmp_path: Path) -> None:
    reference = TOKENIZERS[name]()
    tokenizer = load(reference, tmp_path)
    random = np.random.default_rng(7)
    several = 0
    for seed in range(40):
        text = text_of(seed, int(random.integers(0, 500)))
        parts = [
            *encode_stream(
                tokenizer,
                io.StringIO(text, newline="").read,
                int(random.choice([1, 7, 50, 300])),
                int(random.choice([1, 200])),
            )
        ]
        assert [i for part in parts for i in part] == reference.encode(text).ids
        several += len(parts) > 4
    assert several > 10  # most texts were cut


@pytest.mark.parametrize("name", ["GPT-2", "no regex", "a frame", "merges across words"])
@pytest.mark.parametrize("unit", ["z", "灯", "ab", "灯台守は夕方に。", "x1", "\u0301"])
def test_text_without_white_space_is_never_held_whole(name: str, unit: str, tmp_path: Path) -> None:
    """However long a word: no part is longer than a few reads."""
    reference = TOKENIZERS[name]()
    tokenizer = load(reference, tmp_path)
    longest, encode = 0, tokenizer.encode_words

    def watched(text: str) -> object:
        nonlocal longest
        longest = max(longest, len(text))
        return encode(text)

    tokenizer.encode_words = watched  # type: ignore[method-assign,assignment]
    text = unit * (20_000 // len(unit))
    parts = [*encode_stream(tokenizer, io.StringIO(text).read, 500, 300)]
    assert [i for part in parts for i in part] == reference.encode(text).ids
    assert longest <= 4000
