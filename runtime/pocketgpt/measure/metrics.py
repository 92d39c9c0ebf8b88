"""How close generated texts come to reference texts, by libraries that others use, too.

Each function here finds its library and returns the metric: what takes texts and, for each, one or
several references, and returns scores and how they were made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import zip_longest

from ..extras import needs_extra

References = Sequence[Sequence[str]]
Scores = Mapping[str, float]
Metric = Callable[[Sequence[str], References], tuple[Scores, str]]


def bleu() -> Metric:
    """Return sacrebleu's corpus BLEU, 0 to 100, with its signature.

    https://aclanthology.org/W18-6319/

    Raises:
        MissingExtraError: sacrebleu is not installed.
    """
    with needs_extra("evaluate"):
        from sacrebleu.metrics.bleu import BLEU

    def measure(texts: Sequence[str], references: References) -> tuple[Scores, str]:
        metric = BLEU()
        # It takes a stream of first references, one of second ones, and so on, None where none is.
        streams = [list(stream) for stream in zip_longest(*references)]
        score = metric.corpus_score(list(texts), streams)
        return {"bleu": float(score.score)}, str(metric.get_signature())

    return measure


def rouge() -> Metric:
    """Return the mean F1 of rouge-score's ROUGE-1, -2 and -L, 0 to 1.

    Of several references the closest counts. https://aclanthology.org/W04-1013/

    Raises:
        MissingExtraError: rouge-score is not installed.
    """
    with needs_extra("evaluate"):
        from rouge_score.rouge_scorer import RougeScorer

    def measure(texts: Sequence[str], references: References) -> tuple[Scores, str]:
        kinds = ("rouge1", "rouge2", "rougeL")
        scorer = RougeScorer(kinds, use_stemmer=False)
        scores = [
            scorer.score_multi(several, text)
            for text, several in zip(texts, references, strict=True)
        ]
        means = {kind: sum(each[kind].fmeasure for each in scores) / len(scores) for kind in kinds}
        return means, "rouge-score, F1, no stemming"

    return measure


def exact() -> Metric:
    """Return the share of texts equal to one of their references, but for space around them."""

    def measure(texts: Sequence[str], references: References) -> tuple[Scores, str]:
        equal = [
            text.strip() in {reference.strip() for reference in several}
            for text, several in zip(texts, references, strict=True)
        ]
        return {"exact": sum(equal) / len(equal)}, "equal but for space around"

    return measure


METRICS: dict[str, Callable[[], Metric]] = {"bleu": bleu, "rouge": rouge, "exact": exact}
