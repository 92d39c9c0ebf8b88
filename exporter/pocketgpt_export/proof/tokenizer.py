"""The runtime's tokenizer against the checkpoint's own, on text that is easily got wrong."""

from __future__ import annotations

from itertools import groupby

import numpy as np
from transformers import PreTrainedTokenizerFast

from pocketgpt import ModelFolderError
from pocketgpt.text.detokenizer import decoder_kinds
from pocketgpt.text.text_stream import TextStream
from pocketgpt.text.tokenizer import Tokenizer

from ..source.quiet import quiet_transformers

ENGLISH = (
    "Once upon a time, in a village by the sea, there lived a clock-maker who couldn't tell the "
    "time. \"It's 12:45,\" he'd say, whatever the sun said; and the village, being fond of him, "
    "set every clock to 12:45.\n\n1. Wind it up.\n2. Let it run (for 24 hours).\n"
)

CORPUS = (
    ENGLISH,
    "",
    " ",
    "a",
    " leading and trailing ",
    "tabs\tand\r\nline\rends\n\n\n",
    "spaces" + " " * 1000 + "inside",
    " " * 4096,
    "\n" * 300,
    "\u00a0\u2003\u3000\u200b\u2028 other spaces",
    "I'll, you've, he'd, it's, we're, I'm, don't; I'LL SHOUT",
    "naïve café, Ærøskøbing, Straße, Ελληνικά, Кириллица, עברית, العربية, हिन्दी, ไทย",
    "e\u0301 o\u0308\u0323 Z\u0351\u036b\u0343\u036a\u0302\u0346a\u0334l\u0335g\u0336o\u0337",
    "中文句子,日本語の文章、한국어 문장。𠜎𠜱𡿺",
    "😀👍🏽👩‍👩‍👧‍👦🏳️‍🌈🇺🇳❤️ and a joiner \u200d alone",
    "\x00\x01\x02\x07\x08\x0b\x0c\x1b[31m\x7f\x80\x85\x9f",
    "\ufeffbyte order mark, \ufffd replacement, \ufffe \uffff noncharacters, \U0010ffff last",
    "1234567890 3.14159 1e-5 0x7F ½ Ⅷ ٣",
    "def f(x):\n\treturn {k: v for k, v in x.items() if k != '__init__'}  # <tag attr=\"1\">&amp;",
    "pneumonoultramicroscopicsilicovolcanoconiosis" * 8,
    "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~" * 4,
)


ADDED = 32  # added tokens that are looked at, of as many as a checkpoint may have
RANDOM_IDS = 256


def tokenizer_failures(tokenizer: Tokenizer, reference: PreTrainedTokenizerFast) -> list[str]:
    """Encode and decode a fixed corpus and the reference's added tokens with both tokenizers.

    Every text has to give the reference's ids, and the ids its text back, token by token as well as
    at once, wherever the reference's own ids do: a vocabulary that lacks some bytes loses them in
    both, and BERT's kinds lose white space.

    Returns:
        A line for every text that does not.
    """
    failed = []
    with quiet_transformers():  # it warns of texts beyond the context, and these only get encoded
        for text in (*CORPUS, *_with_added_tokens(reference)):
            expected = reference_ids(reference, text)
            if _encoded(tokenizer, text) != expected:
                failed.append(f"the tokenizer encodes {_shown(text)} unlike the checkpoint's own")
            elif not _decodes(tokenizer, reference, expected or []):
                failed.append(f"the tokenizer decodes {_shown(text)} unlike the checkpoint's own")
        if not _decodes(tokenizer, reference, _random_ids(reference)):
            failed.append("the tokenizer decodes random tokens unlike the checkpoint's own")
    return failed


def reference_ids(reference: PreTrainedTokenizerFast, text: str) -> list[int] | None:
    """Return a text's ids by the checkpoint's own tokenizer.

    None where that refuses the text: it has no token for what is unknown, as music's may have none.
    """
    try:
        ids: list[int] = reference(text)["input_ids"]
    except Exception:  # tokenizers raises plain Exception
        return None
    return ids


def _encoded(tokenizer: Tokenizer, text: str) -> list[int] | None:
    try:
        return tokenizer.encode(text)
    except ModelFolderError:
        return None


def _decodes(tokenizer: Tokenizer, reference: PreTrainedTokenizerFast, ids: list[int]) -> bool:
    stream = TextStream(tokenizer)
    streamed = "".join(map(stream.push, ids)) + stream.finish()
    return tokenizer.decode(ids) == streamed == reference_text(reference, ids)


def _random_ids(reference: PreTrainedTokenizerFast) -> list[int]:
    """Return random ids, but for bytes of SentencePiece's: of a wrong one it drops those around."""
    ids = np.random.default_rng(0).integers(0, len(reference), RANDOM_IDS).tolist()
    tokens = map(str, reference.convert_ids_to_tokens(ids))
    return [number for number, token in zip(ids, tokens, strict=True) if token[:3] != "<0x"]


def reference_text(reference: PreTrainedTokenizerFast, ids: list[int]) -> str:
    """Return what ids stand for by the checkpoint's own tokenizer, special tokens left out.

    A byte-level decoder takes the characters of added tokens for bytes, too: an added "müde" ends
    in no text. Added tokens are the words they are, as transformers' slow tokenizers have it
    (`spaces_between_special_tokens=False`).
    """
    if decoder_kinds(reference.backend_tokenizer) != ["ByteLevel"]:
        return _decoded(reference, ids)
    added = {n: t.content for n, t in reference.added_tokens_decoder.items() if not t.special}
    parts: list[str] = []
    for is_added, grouped in groupby(ids, key=added.__contains__):
        run = [*grouped]
        parts.append("".join(added[n] for n in run) if is_added else _decoded(reference, run))
    return "".join(parts)


def _decoded(reference: PreTrainedTokenizerFast, ids: list[int]) -> str:
    text: str = reference.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return text


def _with_added_tokens(reference: PreTrainedTokenizerFast) -> list[str]:
    added = {token.content for token in reference.added_tokens_decoder.values()}
    special = set(map(str, reference.all_special_tokens))
    tokens = sorted(special) + sorted(added - special)[:ADDED]
    return [
        text
        for token in tokens
        for text in (token, f"before{token}after", f" {token} {token}\n{token[:-1]}")
    ]


def _shown(text: str) -> str:
    return ascii(text if len(text) <= 40 else text[:40] + "...")
