"""Drawing one token: what narrows the draw, in transformers' order, and the draw itself."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..engine.decoder import check_largest
from ..errors import OptionError
from .options import GenerationOptions
from .processors.base import Ids, Logits
from .processors.narrowing import (
    exclude_top,
    keep_min_p,
    keep_top_k,
    keep_top_p,
    keep_typical,
    scatter,
)
from .topk import leading, nearly_largest


class Sampler:
    """The options that only drawing asks for; one may serve many texts.

    The order of `_get_logits_processor` in transformers' `generation/utils.py`: temperature, top_k,
    top_p, min_p, typical_p. XTC comes last, as in llama.cpp it comes after what cuts the tail.
    """

    def __init__(self, options: GenerationOptions) -> None:
        """Take what the options ask for."""
        # A beam has to go on where the likeliest tokens all end the text.
        keep = max(1, len(options.eos_token_ids)) + 1 if options.num_beams > 1 else 1
        self._keep = keep
        self._temperature = np.float32(options.temperature)
        self._top_k = options.top_k
        self._stages: list[Callable[[Logits], Ids]] = []
        if options.top_p < 1.0:
            self._stages.append(lambda scores: keep_top_p(scores, options.top_p, keep))
        if (min_p := options.min_p) is not None:
            self._stages.append(lambda scores: keep_min_p(scores, min_p, keep))
        if options.typical_p < 1.0:
            self._stages.append(lambda scores: keep_typical(scores, options.typical_p, keep))
        self._xtc = (options.xtc_probability, options.xtc_threshold)

    def narrow(self, scores: Logits) -> tuple[Ids | None, Logits]:
        """Return the tokens `scores [vocab]` leave to be drawn, None for all, and their scores.

        Raises:
            OptionError: no token is left.
        """
        ids: Ids | None = None
        if 0 < self._top_k < len(scores):
            ids = nearly_largest(scores, min(max(self._top_k, self._keep), len(scores)))
            scores = scores[ids]
        check_best(scores.max() if len(scores) else np.float32(np.nan))  # none of NaNs is largest
        if self._temperature != 1:
            scores = scores / self._temperature
        if ids is not None:
            ids, scores = _only(keep_top_k(scores, self._top_k, self._keep), ids, scores)
        for stage in self._stages:
            ids, scores = _only(stage(scores), ids, scores)
        return ids, scores

    def warp(self, scores: Logits) -> Logits:
        """Return scores `[vocab]` in which what may not be drawn is ruled out."""
        ids, kept = self.narrow(scores)
        return kept if ids is None else scatter(kept, ids, len(scores))

    def draw(self, scores: Logits, random: np.random.Generator) -> int:
        """Draw a token from what `narrow` leaves of scores `[vocab]`.

        Raises:
            OptionError: no token is left.
        """
        ids, scores = self.narrow(scores)
        probability, threshold = self._xtc
        if probability and threshold <= 0.5 and random.random() <= probability:
            ids, scores = _only(exclude_top(scores, threshold), ids, scores)
        drawn = leading(np.exp(scores - scores.max()), random.random())
        return drawn if ids is None else int(ids[drawn])


def check_best(scores: Logits | np.float32) -> None:
    """Refuse the best scores of some rows where they are no scores.

    Raises:
        OptionError: a row has no token left.
        InferenceError: the model gives what is no number; a row's best is one where any of it is.
    """
    if np.isfinite(scores).all():  # at every step: one look is enough where all is well
        return
    if np.equal(scores, -np.inf).any():
        raise nothing_left()
    check_largest(scores)


def nothing_left() -> OptionError:
    """Return the error of options that rule out every token."""
    return OptionError(
        "the options rule out every token of the vocabulary; see suppress_tokens, "
        "bad_words_ids, no_repeat_ngram_size, min_new_tokens, logits_processor and constraints"
    )


def _only(kept: Ids, ids: Ids | None, scores: Logits) -> tuple[Ids, Logits]:
    return (kept if ids is None else ids[kept]), scores[kept]
