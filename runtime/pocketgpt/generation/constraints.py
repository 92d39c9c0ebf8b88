"""What may not come next, or must: pure functions on `[batch_size, vocab]` logits.

A token that is ruled out gets minus infinity. `ids` are each row's token ids so far,
`[batch_size, length]`, prompt included.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from .penalties import Ids
from .processors import Logits


def ban_repeated_ngrams(logits: Logits, ids: Ids, size: int) -> Logits:
    """Rule out every token that would end a sequence of `size` tokens the text has already.

    transformers' NoRepeatNGramLogitsProcessor.
    """
    length = ids.shape[-1]
    if length < size:
        return logits
    result = logits.copy()
    for row, text in zip(result, ids, strict=True):
        ngrams = sliding_window_view(text, size)
        begun = (ngrams[:, :-1] == text[length - size + 1 :]).all(axis=-1)
        row[ngrams[begun, -1]] = -np.inf
    return result


def ban_words(
    logits: Logits, ids: Ids, words: Sequence[Sequence[int]], eos_token_ids: Sequence[int]
) -> Logits:
    """Rule out every token that would end one of `words`; an EOS alone is no word.

    transformers' NoBadWordsLogitsProcessor, which looks at a word only once the text is as long.
    """
    result = logits.copy()
    for *begin, last in words:
        if not begin and last not in eos_token_ids:
            result[:, last] = -np.inf
        elif begin and len(begin) < ids.shape[-1]:
            result[(ids[:, -len(begin) :] == begin).all(axis=-1), last] = -np.inf
    return result


def ban_tokens(logits: Logits, token_ids: Sequence[int]) -> Logits:
    """Rule out `token_ids`; those outside the vocabulary are out already.

    transformers' SuppressTokensLogitsProcessor, and with the EOS ids MinNewTokensLength's.
    """
    result = logits.copy()
    result[:, [token_id for token_id in token_ids if token_id < logits.shape[-1]]] = -np.inf
    return result


def force_tokens(logits: Logits, token_ids: Sequence[int]) -> Logits:
    """Rule out all but `token_ids`; transformers' ForcedEOSTokenLogitsProcessor, at the end."""
    result = np.full_like(logits, -np.inf)
    result[:, list(token_ids)] = 0
    return result
