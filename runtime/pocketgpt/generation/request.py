"""From the arguments of a call to what there is to generate: token ids and checked options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import OptionError
from ..folder.config import ModelConfig, Task
from ..text.tokenizer import Tokenizer
from .beam import BeamSearch
from .options import GenerationOptions
from .pipeline import Pipeline
from .sequence import TokenSequence, new_tokens
from .vocabulary import Vocabulary

_KINDS: dict[Task, str] = {
    "text-generation": "a language model, which has no labels: use choose, with answers to rank",
    "text-classification": "a classifier, which predicts no next token: use classify",
}


@dataclass(frozen=True)
class Request:
    """One prompt and what holds for it.

    Attributes:
        prompt_ids: at least one token.
        options: what holds for its texts.
        count: how many texts to make of it; None for `num_return_sequences`.
        score_prompt: whether its texts are to have the log-probabilities of the prompt, too.
    """

    prompt_ids: list[int]
    options: GenerationOptions
    count: int | None = None
    score_prompt: bool = False

    def texts(
        self, tokenizer: Tokenizer, vocabulary: Vocabulary, n_positions: int, first_index: int
    ) -> list[TokenSequence]:
        """Return the texts to make of it, not yet begun; the clocks of all start now."""
        budget = new_tokens(self.options, len(self.prompt_ids), n_positions)
        return [
            TokenSequence(
                tokenizer,
                self.prompt_ids,
                self.options,
                n_positions,
                Pipeline.build(self.options, self.prompt_ids, budget, vocabulary=vocabulary),
                first_index + sibling,
                sibling,
                score_prompt=self.score_prompt,
            )
            for sibling in range(self.count or self.options.num_return_sequences)
        ]


def resolve_options(
    defaults: Mapping[str, Any],
    given: Mapping[str, Any],
    config: ModelConfig,
    vocabulary: Vocabulary,
) -> GenerationOptions:
    """Combine a folder's defaults with a call's options and check them against the model.

    Raises:
        OptionError: an option is unknown, out of range, or does not suit the model.
        MissingExtraError: a constraint's library is not installed.
    """
    options = GenerationOptions.resolve(defaults, given)
    options.check_vocabulary(config.vocab_size)
    vocabulary.constraint(options)  # compiled once, here, so that a bad one is refused at once
    half = config.n_positions // 2
    if options.context_overflow == "reprefill" and options.keep >= config.n_positions - half:
        raise OptionError(
            f"keep is {options.keep} and a reprefill also keeps the newest {half} tokens of the "
            f"context's {config.n_positions}; keep at most {config.n_positions - half - 1}"
        )
    return options


def resolve_prompt(
    prompt: object, options: GenerationOptions, tokenizer: Tokenizer, config: ModelConfig
) -> Request:
    """Return a prompt's request.

    Raises:
        OptionError: the prompt is no text, exceeds the context, or `max_length` leaves no room.
    """
    if not isinstance(prompt, str):
        raise OptionError(f"prompt should be a string, not {type(prompt).__name__}")
    prompt_ids = tokenizer.encode(prompt, add_special_tokens=options.add_special_tokens)
    prompt_ids = prompt_ids or [options.start_token("an empty prompt")]
    if len(prompt_ids) > config.n_positions:
        raise OptionError(
            f"the prompt has {len(prompt_ids)} tokens, the model's context is "
            f"{config.n_positions}; shorten it"
        )
    options.new_token_budget(len(prompt_ids))
    return Request(prompt_ids, options)


def each_prompts_options(
    prompts: Sequence[str], own: Sequence[Mapping[str, Any]] | None, shared: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Return the options given for each prompt: its own over the shared ones.

    Raises:
        OptionError: there are not as many as prompts.
    """
    if own is None:
        return [{**shared}] * len(prompts)
    if not isinstance(own, Sequence) or not all(isinstance(one, Mapping) for one in own):
        raise OptionError("options should be a list with a dictionary of options for each prompt")
    if len(own) != len(prompts):
        raise OptionError(f"options has {len(own)} entries for {len(prompts)} prompts")
    return [{**shared, **one} for one in own]


def slots_for(requests: Sequence[Request], batch_size: int) -> int:
    """Return how many rows to decode at once: no more than there are, nor fewer than a search has.

    A search takes a row for each beam, and its texts share them.
    """
    widths = [request.options.num_beams for request in requests]
    texts = [
        request.options.num_return_sequences if width == 1 else width
        for request, width in zip(requests, widths, strict=True)
    ]
    return max(1, *widths, min(batch_size, sum(texts))) if requests else 1


def jobs_of(
    requests: Sequence[Request], tokenizer: Tokenizer, vocabulary: Vocabulary, n_positions: int
) -> tuple[list[TokenSequence], list[TokenSequence | BeamSearch]]:
    """Return the texts to make, prompt by prompt, and what makes them: each itself, or a search."""
    texts: list[TokenSequence] = []
    jobs: list[TokenSequence | BeamSearch] = []
    for request in requests:
        made = request.texts(tokenizer, vocabulary, n_positions, len(texts))
        texts += made
        jobs += [BeamSearch(made, tokenizer)] if request.options.num_beams > 1 else made
    return texts, jobs


def check_task(config: ModelConfig, task: Task) -> None:
    """Refuse what a model of the other kind is asked for.

    Raises:
        OptionError: the model is not for `task`.
    """
    if config.task != task:
        raise OptionError(f"this folder is {_KINDS[config.task]}")
