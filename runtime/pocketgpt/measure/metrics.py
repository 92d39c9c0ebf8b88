"""How close generated texts come to reference texts, by libraries that others use, too."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import zip_longest

from ..extras import needs_extra

References = Sequence[Sequence[str]]  # one or several for each text
Scores = Mapping[str, float]


def bleu(texts: Sequence[str], references: References) -> tuple[Scores, str]:
    """Return sacrebleu's corpus BLEU, 0 to 100, and its signature.

    https://aclanthology.org/W18-6319/

    Raises:
        MissingExtraError: sacrebleu is not installed.
    """
    with needs_extra("evaluate"):
        from sacrebleu.metrics.bleu import BLEU
    metric = BLEU()
    # It takes a stream of first references, one of second ones, and so on, None where none is.
    streams = [list(stream) for stream in zip_longest(*references)]
    score = metric.corpus_score(list(texts), streams)
    return {"bleu": float(score.score)}, str(metric.get_signature())


def rouge(texts: Sequence[str], references: References) -> tuple[Scores, str]:
    """Return the mean F1 of rouge-score's ROUGE-1, -2 and -L, 0 to 1, and how it was made.

    Of several references the closest counts. https://aclanthology.org/W04-1013/

    Raises:
        MissingExtraError: rouge-score is not installed.
    """
    with needs_extra("evaluate"):
        from rouge_score.rouge_scorer import RougeScorer
    kinds = ("rouge1", "rouge2", "rougeL")
    scorer = RougeScorer(kinds, use_stemmer=False)
    found = [scorer.score_multi(own, text) for text, own in zip(texts, references, strict=True)]
    means = {kind: sum(one[kind].fmeasure for one in found) / len(found) for kind in kinds}
    return means, "rouge-score, F1, no stemming"


def exact(texts: Sequence[str], references: References) -> tuple[Scores, str]:
    """Return the share of texts equal to one of their references, but for space around them."""
    equal = [
        text.strip() in {reference.strip() for reference in own}
        for text, own in zip(texts, references, strict=True)
    ]
    return {"exact": sum(equal) / len(equal)}, "equal but for space around"


METRICS: dict[str, Callable[[Sequence[str], References], tuple[Scores, str]]] = {
    "bleu": bleu,
    "rouge": rouge,
    "exact": exact,
}
