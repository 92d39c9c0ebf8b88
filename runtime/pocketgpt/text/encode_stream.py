"""The token ids of a text of any length, read in parts: those of the whole text, in bounded memory.

A tokenizer may look beyond any cut: added tokens reach across white space, a space is put before a
text, merges cross words. So parts overlap. A part ends and the next one goes on behind what both
have in common, at the same place with the same ids:

- a whole word (what the pre-tokenizer yields, or an added token). From there on both saw the same
  text, and pre-tokenizers scan it from left to right;
- within one word of a BPE, a token. A sequence of tokens is BPE's own if every pair of neighbours
  is BPE's encoding of their joined text, and each pair is in one of the two parts:
  https://github.blog/ai-and-ml/llms/so-many-tokens-so-little-time-introducing-a-faster-more-flexible-byte-pair-tokenizer/

Where they have nothing in common, the part grows.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator

from .tokenizer import Encoding, Tokenizer

PART = 1 << 16  # characters read at once
OVERLAP = 1 << 12  # characters that a part shares with the next one, at least
LOOKAHEAD = 64  # characters that a pre-tokenizer or a normalizer may look ahead


def encode_stream(
    tokenizer: Tokenizer, read: Callable[[int], str], part: int = PART, overlap: int = OVERLAP
) -> Iterator[list[int]]:
    """Yield lists of ids that join to `tokenizer.encode` of the whole text.

    Args:
        tokenizer: any, as long as it scans its text from left to right.
        read: returns at most so many characters, and none at the end alone.
        part: how many to ask for.
        overlap: how many two parts share, at least.
    """
    before, behind = tokenizer.frame
    margin = LOOKAHEAD + 2 * tokenizer.longest_added_token
    overlap = max(overlap, 2 * margin)
    yield before
    text = read(part)
    encoding, first = tokenizer.encode_words(text), 0
    size = part
    while more := read(size):
        begin = max(0, len(text) - overlap)
        longer = text[begin:] + more
        following = tokenizer.encode_words(longer)
        # What a token to come may still take for itself is not final: white space before it, too.
        final = len(text[: max(0, len(text) - margin)].rstrip())
        joint = _joint(encoding, following, begin, final, tokenizer.is_plain_bpe) if begin else None
        if joint is None or joint[0] < first:
            text += more
            encoding = tokenizer.encode_words(text) if begin else following
            size = max(part, len(text))  # so that a text without any joint is read in linear time
            continue
        yield encoding.ids[first : joint[0]]
        text, encoding, first, size = longer, following, joint[1], part
    yield encoding.ids[first:]
    yield behind


def _joint(
    left: Encoding, right: Encoding, begin: int, final: int, within_words: bool
) -> tuple[int, int] | None:
    """Return how many tokens of `left` and `right` end behind the last they have in common.

    Args:
        left: a part's encoding.
        right: the encoding of the text from the part's character `begin` on.
        begin: that character.
        final: the character of the part behind which a word or token may still change.
        within_words: whether a token of a word may be the joint.
    """
    start = bisect_left(left.offsets, (begin, begin))
    words = {
        (left.offsets[first], tuple(left.ids[first:end])): end
        for first, end in _words(left, start)
        if left.offsets[end - 1][1] <= final
    }
    for first, end in reversed([*_words(right, 0, final - begin)]):
        key = (_shifted(right.offsets[first], begin), tuple(right.ids[first:end]))
        if key in words and right.offsets[end - 1][1] + begin == left.offsets[words[key] - 1][1]:
            return words[key], end
    if not within_words or len({*left.words[start:]}) != 1:
        return None
    tokens = {
        (left.offsets[index], left.ids[index]): index + 1
        for index in range(start, len(left.ids))
        if left.offsets[index][1] <= final and _ends_a_character(left, index)
    }
    for index in range(bisect_left(right.offsets, (final - begin, 0)) - 1, -1, -1):
        if right.words[index] != right.words[0]:
            continue
        token = (_shifted(right.offsets[index], begin), right.ids[index])
        if token in tokens and _ends_a_character(right, index):
            return tokens[token], index + 1
    return None


def _words(encoding: Encoding, start: int, end: float = float("inf")) -> Iterator[tuple[int, int]]:
    """Yield `(first token, token behind the last)` of the whole words from a token on.

    Only of those that begin before the character `end`; the last word may go on, and is none.
    """
    words = encoding.words
    first = start
    while 0 < first < len(words) and words[first] == words[first - 1]:
        first += 1  # the rest of a word
    for index in range(first + 1, len(words)):
        if words[index] != words[index - 1]:
            if encoding.offsets[first][0] >= end:
                return
            yield first, index
            first = index


def _ends_a_character(encoding: Encoding, index: int) -> bool:
    """Tell whether a token ends where a character does: of a character's bytes the last one."""
    end = encoding.offsets[index][1]
    return index + 1 == len(encoding.ids) or encoding.offsets[index + 1][0] >= end


def _shifted(offsets: tuple[int, int], by: int) -> tuple[int, int]:
    return offsets[0] + by, offsets[1] + by
