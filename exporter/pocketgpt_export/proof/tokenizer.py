"""The runtime's tokenizer against the checkpoint's own, on text that is easily got wrong."""

from __future__ import annotations

from transformers import PreTrainedTokenizerFast

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


def tokenizer_failures(tokenizer: Tokenizer, reference: PreTrainedTokenizerFast) -> list[str]:
    """Encode and decode a fixed corpus and the reference's special tokens with both tokenizers.

    Every text has to give the reference's ids, and the ids its text back, wherever the reference's
    own ids do: a vocabulary that lacks some bytes loses them in both.

    Returns:
        A line for every text that does not.
    """
    failed = []
    with quiet_transformers():  # it warns of texts beyond the context, and these only get encoded
        for text in (*CORPUS, *_with_special_tokens(reference)):
            expected: list[int] = reference(text)["input_ids"]
            expected_text = reference.decode(
                expected, skip_special_tokens=True, clean_up_tokenization_spaces=False
            )
            found = tokenizer.encode(text)
            if found != expected:
                failed.append(f"the tokenizer encodes {_shown(text)} unlike the checkpoint's own")
            elif tokenizer.decode(found) != expected_text:
                failed.append(f"the tokenizer decodes {_shown(text)} unlike the checkpoint's own")
    return failed


def _with_special_tokens(reference: PreTrainedTokenizerFast) -> list[str]:
    return [
        text
        for token in sorted(set(map(str, reference.all_special_tokens)))
        for text in (token, f"before{token}after", f" {token} {token}\n{token[:-1]}")
    ]


def _shown(text: str) -> str:
    return ascii(text if len(text) <= 40 else text[:40] + "...")
