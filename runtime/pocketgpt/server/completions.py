"""/v1/completions: a request's prompts and how to continue them, and the answer to it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import OptionError
from ..generation.options import GenerationOptions
from ..generation.request import Request, jobs_of
from ..generation.results import GenerationResult
from .answers import Envelope, Json, finish_reason, usage
from .call import Call, Ended, Part
from .errors import wrong
from .fields import Fields
from .logprobs import CompletionLogprobs
from .sampling import (
    MOST_RETURNED,
    Delivery,
    check_stream_of_best,
    read_delivery,
    read_length,
    read_options,
    refused_option,
)
from .served import Served
from .settings import Limits

DEFAULT_NEW_TOKENS = 16  # the API's
MOST_LOGPROBS = 5
Prompt = str | list[int]


@dataclass(frozen=True)
class CompletionRequest:
    """What is asked for.

    Attributes:
        prompts: texts or token ids, at least one.
        n: choices for each prompt.
        best_of: texts to choose them from.
        echo: whether answers begin with the prompt.
        logprobs: how many of the likeliest tokens to tell; None for no log-probabilities at all.
        nothing: whether no new token is wanted: the prompt is to be scored.
        delivery: whole or streamed.
        options: what `Model.resolve` takes.
    """

    prompts: list[Prompt]
    n: int
    best_of: int
    echo: bool
    logprobs: int | None
    nothing: bool
    delivery: Delivery
    options: dict[str, Any]


def read_completion(fields: Fields, served: Served, limits: Limits) -> CompletionRequest:
    """Read a request's fields; `model` has been taken.

    Raises:
        ApiError: a field is wrong or unknown.
    """
    prompts = _read_prompts(fields)
    delivery = read_delivery(fields)
    n = fields.whole("n", 1, 1, MOST_RETURNED) or 1
    best_of = fields.whole("best_of", n, 1, MOST_RETURNED) or n
    check_stream_of_best(best_of, n, delivery.stream)
    _check_count(len(prompts) * best_of, limits.texts)
    echo = fields.switch("echo")
    logprobs = fields.whole("logprobs", None, 0, MOST_LOGPROBS)
    fields.unsupported("suffix", "these models continue a text, and insert none", [""])
    fields.ignore("user")
    options = read_options(fields, served.model.defaults, limits.seconds)
    length = read_length(fields, ("max_tokens",), options)
    if length is None and "max_length" not in options:
        length = DEFAULT_NEW_TOKENS
    if length is not None:
        options["max_new_tokens"] = max(length, 1)
    if logprobs is not None or best_of > n:
        options["logprobs"] = logprobs or 0
    fields.finish()
    nothing = length == 0
    return CompletionRequest(prompts, n, best_of, echo, logprobs, nothing, delivery, options)


def call_for_completion(
    asked: CompletionRequest, served: Served, limits: Limits, loop: asyncio.AbstractEventLoop
) -> Call:
    """Tokenize the prompts and make the texts that are to run. This may take a while.

    Raises:
        ApiError: a prompt does not fit, or options do not go together.
    """
    model = served.model
    try:
        options = resolved_options(asked.options, asked.n, served, limits)
        if options.num_beams > 1 and asked.best_of > asked.n:
            raise wrong("best_of is not there for beam search; use num_beams", "best_of")
        score = asked.echo and asked.logprobs is not None
        count = None if options.num_beams > 1 else asked.best_of
        requests = [
            Request(_prompt_ids(prompt, options, served), options, count, score)
            for prompt in asked.prompts
        ]
        for request in requests:
            options.new_token_budget(len(request.prompt_ids))
        texts, jobs = jobs_of(requests, model.tokenizer, model.vocabulary, model.config.n_positions)
    except OptionError as error:
        raise refused_option(error) from None
    return Call(served, texts, jobs, asked.delivery.stream, loop)


def resolved_options(
    given: dict[str, Any], n: int, served: Served, limits: Limits
) -> GenerationOptions:
    """Check options together, and against the model and the slots there are.

    Raises:
        OptionError: they do not go together.
        ApiError: a beam search is wider than the server.
    """
    searched = given.get("num_beams", served.model.defaults.get("num_beams", 1)) != 1
    options = served.model.resolve({**given, "num_return_sequences": n if searched else 1})
    if options.num_beams > limits.slots:
        raise wrong(
            f"num_beams is {options.num_beams}, and the server has {limits.slots} slots; "
            "search with fewer",
            "num_beams",
        )
    return options


def _read_prompts(fields: Fields) -> list[Prompt]:
    """Take the prompt: a text, a list of texts, token ids, or a list of lists of them."""
    value = fields.any("prompt")
    if value is None:
        return [""]
    if isinstance(value, str) or _is_ids(value):
        return [value]
    if (
        isinstance(value, list)
        and value
        and (all(isinstance(one, str) for one in value) or all(map(_is_ids, value)))
    ):
        return value
    forms = "a string, a list of strings, a list of token ids, or a list of such lists, none empty"
    raise fields.refused("prompt", forms, value)


def _is_ids(value: object) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(one, int) and not isinstance(one, bool) for one in value)
    )


def _prompt_ids(prompt: Prompt, options: GenerationOptions, served: Served) -> list[int]:
    config = served.model.config
    if isinstance(prompt, str):
        return check_fits(resolve_ids(prompt, options, served), config.n_positions)
    for token_id in prompt:
        if not 0 <= token_id < config.vocab_size:
            raise wrong(
                f"prompt has token id {token_id}, and the vocabulary has {config.vocab_size}",
                "prompt",
            )
    return check_fits(prompt, config.n_positions)


def resolve_ids(prompt: str, options: GenerationOptions, served: Served) -> list[int]:
    """Return a text's token ids, the BOS token for an empty one.

    Raises:
        ApiError: it is no text that can be tokenized.
    """
    tokenizer = served.model.tokenizer
    try:
        ids = tokenizer.encode(prompt, add_special_tokens=options.add_special_tokens)
        return ids or [options.start_token("an empty prompt")]
    except OptionError as error:
        raise wrong(str(error), "prompt") from None


def check_fits(ids: list[int], n_positions: int, param: str = "prompt") -> list[int]:
    """Return token ids that the context holds.

    Raises:
        ApiError: it does not.
    """
    if len(ids) > n_positions:
        raise wrong(
            f"the {param} has {len(ids)} tokens, and the model's context is {n_positions}; "
            "shorten it",
            param,
            "context_length_exceeded",
        )
    return ids


def _check_count(count: int, most: int) -> None:
    if count > most:
        raise wrong(
            f"the request asks for {count} texts (its prompts times n or best_of), and at most "
            f"{most} are made of one; split it",
            "n",
        )


class CompletionAnswer:
    """The answer to a completion request; see `Answer`."""

    def __init__(self, asked: CompletionRequest, call: Call) -> None:
        """Begin to write what comes of a call."""
        self.call = call
        self._asked = asked
        self._per = len(call.texts) // len(asked.prompts)
        self._envelope = Envelope.new(call, "cmpl", "text_completion")
        self._prompts = [self._prompt_text(number) for number in range(len(asked.prompts))]
        self._written: dict[int, int] = {}  # characters of each choice so far, where it streams
        self._logprobs: dict[int, CompletionLogprobs] = {}
        self._results: dict[int, GenerationResult] = {}
        self._usage = {"usage": None} if asked.delivery.include_usage else {}

    def whole(self, ended: Mapping[int, Ended]) -> Json:
        choices: list[Json] = []
        for number in range(len(self._prompts)):
            texts = [ended[number * self._per + place] for place in range(self._per)]
            best = _best(texts, self._asked.n) if self._asked.best_of > self._asked.n else texts
            choices += [self._choice(one, len(choices) + i) for i, one in enumerate(best)]
        self._results = {index: one.result for index, one in ended.items()}
        return self._envelope.around(choices, usage=self._count())

    def begin(self) -> Iterator[Json]:
        if self._asked.echo and self._asked.logprobs is None:
            for index in range(len(self.call.texts)):
                yield from self._open(index)

    def part(self, part: Part) -> Iterator[Json]:
        if self._asked.nothing:
            return
        yield from self._open(part.index)
        self._written[part.index] += len(part.text)
        found = None
        if self._asked.logprobs is not None:
            known = self._logprobs[part.index]
            known.push((entry.token_id, entry) for entry in part.logprobs)
            found = known.take(self._written[part.index])
        yield self._chunk(part.index, part.text, found)

    def ended(self, ended: Ended) -> Iterator[Json]:
        index, result = ended.index, ended.result
        self._results[index] = result
        yield from self._open(index)
        found = None
        if self._asked.logprobs is not None:
            known = self._logprobs[index]
            if not self._asked.nothing:
                known.push(
                    (entry.token_id, entry) for entry in (result.logprobs or ())[known.count :]
                )
            found = known.take(self._written[index], last=True)
        yield self._chunk(index, "", found, finish_reason(result.finish_reason))

    def finish(self) -> Iterator[Json]:
        if self._usage:
            yield self._envelope.around([], usage=self._count())

    def _open(self, index: int) -> Iterator[Json]:
        """Yield a choice's first chunk, the prompt, where that is wanted; once."""
        if index in self._written:
            return
        prompt = self._prompts[index // self._per]
        offset = 0 if self._asked.echo else len(prompt)
        self._written[index] = len(prompt)
        if self._asked.logprobs is not None:
            self._logprobs[index] = self._new_logprobs(index, offset)
        if self._asked.echo:
            found = self._logprobs[index].take(len(prompt)) if self._logprobs else None
            yield self._chunk(index, prompt, found)

    def _choice(self, ended: Ended, index: int) -> Json:
        result = ended.result
        prompt = self._prompts[ended.index // self._per]
        new = "" if self._asked.nothing else result.text
        found = None
        if self._asked.logprobs is not None:
            known = self._new_logprobs(ended.index, 0 if self._asked.echo else len(prompt))
            if not self._asked.nothing:
                known.push((entry.token_id, entry) for entry in result.logprobs or ())
            found = known.take(len(prompt) + len(new), last=True) or known.nothing
        return {
            "index": index,
            "text": (prompt if self._asked.echo else "") + new,
            "logprobs": found,
            "finish_reason": finish_reason(result.finish_reason),
        }

    def _new_logprobs(self, index: int, offset: int) -> CompletionLogprobs:
        """Return the lists of a choice, with those of the prompt in them where it is echoed."""
        text = self.call.texts[index]
        tokenizer = self.call.served.model.tokenizer
        if not self._asked.echo:
            return CompletionLogprobs(tokenizer, text.prompt_ids, offset)
        known = CompletionLogprobs(tokenizer, (), 0)
        entries = [None, *(text.prompt_logprobs or ())]
        pairs = zip(text.prompt_ids, entries, strict=True)
        known.push_prompt(pairs, self._prompts[index // self._per])
        return known

    def _prompt_text(self, number: int) -> str:
        prompt = self._asked.prompts[number]
        if isinstance(prompt, str):
            return prompt
        return self.call.served.model.tokenizer.decode(prompt)

    def _chunk(
        self, index: int, text: str, logprobs: Json | None, reason: str | None = None
    ) -> Json:
        choice = {"index": index, "text": text, "logprobs": logprobs, "finish_reason": reason}
        return self._envelope.around([choice], **self._usage)

    def _count(self) -> Json:
        per = self._per
        prompts = [
            len(self.call.texts[place].prompt_ids) for place in range(0, len(self.call.texts), per)
        ]
        results = [
            [self._results[number * per + place] for place in range(per)]
            for number in range(len(prompts))
        ]
        return usage(prompts, results, self._asked.nothing)


def _best(texts: Sequence[Ended], count: int) -> list[Ended]:
    """Return the texts with the highest log-probability a token, the best first."""

    def mean(one: Ended) -> float:
        found = one.result.logprobs or ()
        return sum(entry.logprob for entry in found) / max(1, len(found))

    return sorted(texts, key=mean, reverse=True)[:count]
