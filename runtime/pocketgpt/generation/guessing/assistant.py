"""Which models may guess for which."""

from __future__ import annotations

from typing import Protocol

from ...errors import OptionError
from ...folder.config import ModelConfig, Task
from ...text.tokenizer import Tokenizer
from ..options import GenerationOptions


class Guessed(Protocol):
    """What is looked at of either model."""

    tokenizer: Tokenizer
    config: ModelConfig

    def check_task(self, task: Task) -> None:
        """Refuse a model of another kind."""


def check_assistant(model: Guessed, assistant: Guessed) -> None:
    """Check that a model guesses tokens of the same vocabulary.

    Raises:
        OptionError: it does not, or is a classifier.
    """
    assistant.check_task("text-generation")
    sizes = model.config.vocab_size, assistant.config.vocab_size
    if sizes[0] != sizes[1]:
        raise OptionError(
            f"the assistant has a vocabulary of {sizes[1]} tokens and the model one of {sizes[0]}: "
            "an assistant takes the same tokenizer"
        )
    if assistant.tokenizer.vocabulary != model.tokenizer.vocabulary:
        raise OptionError(
            "the assistant's tokenizer.json has other tokens than the model's: an assistant takes "
            "the same tokenizer"
        )


def check_options(options: GenerationOptions) -> None:
    """Check that an assistant can guess for what is asked for.

    Raises:
        OptionError: it is a beam search.
    """
    if options.num_assistant_tokens and options.num_beams > 1:
        raise OptionError(
            "an assistant is not there for beam search; use num_beams=1, or num_assistant_tokens=0"
        )
