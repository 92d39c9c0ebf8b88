"""What a classifier's config.json says of its labels, and what they make of its logits.

problem_type                  probabilities of logits, as transformers' text-classification pipeline
regression                    the logits themselves, which are values and no probabilities
multi_label_classification    sigmoid, each label by itself; one label alone likewise
single_label_classification   softmax; several labels without a problem_type likewise
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from .fields import is_line, is_whole, shown

ARCHITECTURE = "GPT2ForSequenceClassification"
PROBLEM_TYPES = ("regression", "multi_label_classification", "single_label_classification")

Activation = Literal["none", "sigmoid", "softmax"]


@dataclass(frozen=True)
class Labels:
    """The labels of a classifier.

    `names` are in the order of its logits; `pad_token_id` is the token that transformers passes
    over where it looks for a text's last one, None where there is no such token.

    Raises:
        ValueError: a field is of a wrong type, or two labels have one name; the message begins with
            the field's name in config.json.
    """

    names: tuple[str, ...]
    problem_type: str | None = None
    pad_token_id: int | None = None

    def __post_init__(self) -> None:
        """Check the fields."""
        if not self.names or not all(name and is_line(name) for name in self.names):
            raise ValueError("'id2label': every label should be a line of text")
        twice = [name for name, count in Counter(self.names).items() if count > 1]
        if twice:
            raise ValueError(f"'id2label': two labels are called {shown(twice[0])}")
        if self.problem_type not in (None, *PROBLEM_TYPES):
            raise ValueError(f"'problem_type': there is no {shown(self.problem_type)}")
        if self.pad_token_id is not None and not is_whole(self.pad_token_id, -1):
            raise ValueError(f"'pad_token_id': no token is {shown(self.pad_token_id)}")

    @property
    def activation(self) -> Activation:
        """What turns logits into probabilities."""
        if self.problem_type == "regression":
            return "none"
        if self.problem_type == "multi_label_classification" or len(self.names) == 1:
            return "sigmoid"
        return "softmax"


def labels_of(config: Mapping[str, Any]) -> Labels | None:
    """Return the labels of a config.json; None where it is no classifier's.

    Raises:
        ValueError: it is one, and its labels cannot be understood.
    """
    architectures = config.get("architectures")
    if not isinstance(architectures, list) or ARCHITECTURE not in architectures:
        return None
    named = config.get("id2label")
    if not isinstance(named, Mapping) or not named:
        raise ValueError("'id2label': it should name the labels, by their numbers from 0 on")
    by_number = {str(number): name for number, name in named.items()}
    if by_number.keys() != {str(number) for number in range(len(by_number))}:
        raise ValueError(f"'id2label': {len(by_number)} labels should have the numbers from 0 on")
    names = (by_number[str(number)] for number in range(len(by_number)))
    # transformers takes numbers for names, too.
    lines = tuple(str(name) if is_whole(name, -(2**63)) else name for name in names)
    return Labels(lines, config.get("problem_type"), config.get("pad_token_id"))
