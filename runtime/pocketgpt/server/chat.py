"""/v1/chat/completions: a conversation, written as the folder's template says, and the answer."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import OptionError
from ..generation.request import Request, jobs_of
from ..generation.results import GenerationResult
from ..text.chat_template import Turn
from .answers import Envelope, Json, finish_reason, usage
from .call import Call, Ended, Part
from .completions import check_fits, resolved_options
from .errors import wrong
from .fields import Fields
from .logprobs import chat_logprobs
from .sampling import (
    MOST_RETURNED,
    Delivery,
    read_delivery,
    read_length,
    read_options,
    refused_option,
)
from .served import Served
from .settings import Limits

MOST_LOGPROBS = 20
ROLES = ("system", "developer", "user", "assistant")
# What changes nothing here, and clients send all the same.
_IGNORED = (
    "user", "metadata", "store", "service_tier", "prompt_cache_key", "prompt_cache_retention",
    "safety_identifier", "parallel_tool_calls",
)  # fmt: skip
_TOOLS = "these models call no tools"


@dataclass(frozen=True)
class ChatRequest:
    """What is asked for; see `CompletionRequest`.

    `turns` are the conversation's, `length` the most new tokens, None for as many as fit.
    """

    turns: list[Turn]
    n: int
    logprobs: int | None
    length: int | None
    delivery: Delivery
    options: dict[str, Any]


def read_chat(fields: Fields, served: Served, limits: Limits) -> ChatRequest:
    """Read a request's fields; `model` has been taken.

    Raises:
        ApiError: a field is wrong or unknown, or the model has no chat template.
    """
    if served.chat is None:
        raise wrong(
            f"the model {served.name} has no chat template, which says how a conversation is "
            "written; use /v1/completions",
            "model",
        )
    turns = _read_turns(fields)
    delivery = read_delivery(fields)
    n = fields.whole("n", 1, 1, min(MOST_RETURNED, limits.texts)) or 1
    logprobs = _read_logprobs(fields)
    for name in ("tools", "functions"):
        fields.unsupported(name, _TOOLS, [[]])
    for name in ("tool_choice", "function_call"):
        fields.unsupported(name, _TOOLS, ["none", "auto"])
    fields.unsupported("modalities", "these models write text", [["text"]])
    for name in ("audio", "prediction", "web_search_options", "reasoning_effort", "verbosity"):
        fields.unsupported(name, "these models have no such thing")
    fields.ignore(*_IGNORED)
    options = read_options(fields, served.model.defaults, limits.seconds)
    length = read_length(fields, ("max_completion_tokens", "max_tokens"), options)
    if length == 0:
        raise wrong("max_tokens should be at least 1", "max_tokens")
    if logprobs is not None:
        options["logprobs"] = logprobs
    fields.finish()
    return ChatRequest(turns, n, logprobs, length, delivery, options)


def call_for_chat(
    asked: ChatRequest, served: Served, limits: Limits, loop: asyncio.AbstractEventLoop
) -> Call:
    """Write the conversation, tokenize it, and make the texts that are to run.

    Raises:
        ApiError: it does not fit, the template refuses it, or options do not go together.
    """
    assert served.chat is not None
    model, n_positions = served.model, served.model.config.n_positions
    try:
        # The template writes every special token there is to be.
        ids = model.tokenizer.encode(served.chat(asked.turns), add_special_tokens=False)
    except OptionError as error:
        raise wrong(str(error), "messages") from None
    try:
        length = asked.length or n_positions
        options = resolved_options(
            {**asked.options, "max_new_tokens": length}, asked.n, served, limits
        )
        ids = ids or [options.start_token("an empty conversation")]
        check_fits(ids, n_positions - 1, "messages")
        count = None if options.num_beams > 1 else asked.n
        requests = [Request(ids, options, count)]
        texts, jobs = jobs_of(requests, model.tokenizer, model.vocabulary, n_positions)
    except OptionError as error:
        raise refused_option(error) from None
    return Call(served, texts, jobs, asked.delivery.stream, loop)


def _read_turns(fields: Fields) -> list[Turn]:
    value = fields.any("messages")
    if not isinstance(value, list) or not value:
        raise fields.refused("messages", "a list of messages, at least one", value)
    return [_read_turn(number, message) for number, message in enumerate(value)]


def _read_turn(number: int, message: object) -> Turn:
    name = f"messages[{number}]"
    if not isinstance(message, dict):
        raise wrong(f"{name} should be an object with role and content", "messages")
    fields = Fields(message, f"{name}.")
    role = fields.text("role")
    if role not in ROLES:
        raise fields.refused("role", f"one of {', '.join(ROLES)}", role)
    fields.ignore("name", "refusal", "annotations", "audio")
    for tool in ("tool_calls", "function_call"):
        fields.unsupported(tool, _TOOLS, [[]])
    content = _read_content(fields)
    fields.finish()
    return {"role": "system" if role == "developer" else role, "content": content}


def _read_content(fields: Fields) -> str:
    """Take a message's content: a text, or parts that are texts."""
    value = fields.any("content")
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(
        isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str)
        for part in value
    ):
        return "".join(part["text"] for part in value)
    raise fields.refused("content", "a string, or a list of parts of the type text", value)


def _read_logprobs(fields: Fields) -> int | None:
    wanted = fields.switch("logprobs")
    top = fields.whole("top_logprobs", None, 0, MOST_LOGPROBS)
    if top is not None and not wanted:
        raise wrong("top_logprobs is only there where logprobs is true", "top_logprobs")
    return (top or 0) if wanted else None


class ChatAnswer:
    """The answer to a conversation; see `Answer`."""

    def __init__(self, asked: ChatRequest, call: Call) -> None:
        """Begin to write what comes of a call."""
        self.call = call
        self._asked = asked
        kind = "chat.completion.chunk" if asked.delivery.stream else "chat.completion"
        self._envelope = Envelope.new(call, "chatcmpl", kind)
        self._told: dict[int, int] = {}  # tokens whose log-probabilities are out
        self._results: dict[int, GenerationResult] = {}
        self._usage = {"usage": None} if asked.delivery.include_usage else {}

    def whole(self, ended: Mapping[int, Ended]) -> Json:
        self._results = {index: one.result for index, one in ended.items()}
        choices: list[Json] = [
            {
                "index": index,
                "message": {
                    "role": "assistant",
                    "content": result.text,
                    "refusal": None,
                    "annotations": [],
                },
                "logprobs": self._logprobs(result.logprobs or ()),
                "finish_reason": finish_reason(result.finish_reason),
            }
            for index, result in sorted(self._results.items())
        ]
        return self._envelope.around(choices, usage=self._count())

    def begin(self) -> Iterator[Json]:
        for index in range(len(self.call.texts)):
            yield self._chunk(index, {"role": "assistant", "content": "", "refusal": None})

    def part(self, part: Part) -> Iterator[Json]:
        self._told[part.index] = self._told.get(part.index, 0) + len(part.logprobs)
        yield self._chunk(part.index, {"content": part.text}, self._logprobs(part.logprobs))

    def ended(self, ended: Ended) -> Iterator[Json]:
        result = ended.result
        self._results[ended.index] = result
        rest = (result.logprobs or ())[self._told.get(ended.index, 0) :]
        if rest:
            yield self._chunk(ended.index, {"content": ""}, self._logprobs(rest))
        yield self._chunk(ended.index, {}, None, finish_reason(result.finish_reason))

    def finish(self) -> Iterator[Json]:
        if self._usage:
            yield self._envelope.around([], usage=self._count())

    def _logprobs(self, entries: Any) -> Json | None:
        if self._asked.logprobs is None:
            return None
        return chat_logprobs(self.call.served.model.tokenizer, entries)

    def _chunk(
        self, index: int, delta: Json, logprobs: Json | None = None, reason: str | None = None
    ) -> Json:
        choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": reason}
        return self._envelope.around([choice], **self._usage)

    def _count(self) -> Json:
        results = [self._results[index] for index in range(len(self.call.texts))]
        return usage([len(self.call.texts[0].prompt_ids)], [results])
