"""What stands on GPT-2's body: a language model's head is exported, or a classifier's of texts."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from pocketgpt import CheckpointError
from pocketgpt.folder.labels import ARCHITECTURE as CLASSIFIER

# Classes whose language model is whole: with no head, the head is the embedding.
_LANGUAGE_MODELS = ("GPT2LMHeadModel", "GPT2Model", "GPT2DoubleHeadsModel")
_TASKS = {
    "GPT2ForTokenClassification": "a classifier of tokens",
    "GPT2ForQuestionAnswering": "a finder of answers",
}
# Heads beside a whole language model: GPT2DoubleHeadsModel's, and the value of a reward (trl).
_BESIDE = {"multiple_choice_head.": "multiple choice", "v_head.": "values"}
# Heads that stand in the language model's place, told by their tensors alone.
_INSTEAD = {"classifier.": "a classifier of tokens", "qa_outputs.": "answers"}


def check_architectures(architectures: object, where: str) -> None:
    """Refuse by name a GPT-2 that is no language model.

    Raises:
        CheckpointError: its config.json names a class with another head.
    """
    task = next((name for name in _names(architectures) if name in _TASKS), None)
    if task is not None and not is_language_model(architectures):
        raise CheckpointError(
            f"{where} is a {task}, {_TASKS[task]}: PocketGPT exports language models "
            f"(GPT2LMHeadModel) and classifiers of texts ({CLASSIFIER})"
        )


def head_of(architectures: object) -> str:
    """Return the class to export a GPT-2 as, by those that its config.json names."""
    is_classifier = CLASSIFIER in _names(architectures) and not is_language_model(architectures)
    return CLASSIFIER if is_classifier else "GPT2LMHeadModel"


def is_language_model(architectures: object) -> bool:
    """Tell whether a config.json names a class whose language model is whole."""
    return not set(_names(architectures)).isdisjoint(_LANGUAGE_MODELS)


def _names(architectures: object) -> list[str]:
    names = architectures if isinstance(architectures, list) else []
    return [name for name in names if isinstance(name, str)]


def without_other_heads(
    tensors: Mapping[str, Tensor], where: str
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Leave out heads that stand beside the language model's.

    Args:
        tensors: by their names in transformers.
        where: what to call the checkpoint in errors.

    Returns:
        The others, and a line for each head left out.

    Raises:
        CheckpointError: a head stands in the place of the language model's.
    """
    for name in tensors:
        head = next((head for head in _INSTEAD if name.startswith(head)), None)
        if head is not None:
            raise CheckpointError(
                f"{where}'s weights hold {name}, the head of {_INSTEAD[head]}: PocketGPT exports "
                f"language models (GPT2LMHeadModel) and classifiers of texts ({CLASSIFIER})"
            )
    found = [head for head in _BESIDE if any(name.startswith(head) for name in tensors)]
    kept = {n: tensor for n, tensor in tensors.items() if not n.startswith(tuple(found) or "\0")}
    return kept, tuple(
        f"the head for {_BESIDE[head]} ({head}*) is left out: the language model is exported"
        for head in found
    )
