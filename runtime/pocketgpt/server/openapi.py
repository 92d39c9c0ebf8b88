"""The OpenAPI page at /openapi.json: paths, what they take, what they answer."""

from __future__ import annotations

from typing import Any

from .. import __version__
from .chat import ROLES
from .sampling import OWN
from .settings import Settings

Json = dict[str, Any]
_CODES = {
    "400": "The request is wrong; param names the field.",
    "401": "An API key is needed, and this is none.",
    "403": "The web page or the host's name may not ask.",
    "404": "There is no such model.",
    "408": "The body did not come in time.",
    "413": "The body is too large.",
    "429": "Too many texts wait; retry-after says for how many seconds to wait.",
    "500": "The server failed.",
    "503": "The models are being loaded, or the server is stopping.",
}
_TEXT, _WHOLE, _ANY = {"type": "string"}, {"type": "integer"}, {"type": "object"}


def describe(settings: Settings) -> Json:
    """Return what the server answers, in OpenAPI's form."""
    document: Json = {
        "openapi": "3.1.0",
        "info": {"title": "PocketGPT", "version": __version__},
        "paths": {
            "/v1/completions": _posted("Continue prompts.", _completion(), stream=True),
            "/v1/chat/completions": _posted("Answer a conversation.", _chat(), stream=True),
            "/tokenize": _posted("Text to token ids.", _object({"prompt": _TEXT}, ["prompt"])),
            "/detokenize": _posted("Token ids to text.", _object({"tokens": _ids()}, ["tokens"])),
            "/v1/models": _got("List the models."),
            "/v1/models/{name}": _got("Describe a model.", _name()),
            "/health": _got("200 once the models are loaded, else 503."),
            "/metrics": _got("Figures for Prometheus.", kind="text/plain"),
        },
        "components": {"schemas": {"Error": _error()}},
    }
    if settings.keys:
        bearer = {"bearer": {"type": "http", "scheme": "bearer"}}
        document["components"]["securitySchemes"] = bearer
        document["security"] = [{"bearer": []}]
    return document


def _posted(summary: str, schema: Json, *, stream: bool = False) -> Json:
    content: Json = {"application/json": {"schema": _ANY}}
    if stream:
        content["text/event-stream"] = {"schema": _TEXT}
    body = {"required": True, "content": {"application/json": {"schema": schema}}}
    answers = _answers(content)
    return {"post": {"summary": summary, "requestBody": body, "responses": answers}}


def _got(
    summary: str, parameters: list[Json] | None = None, kind: str = "application/json"
) -> Json:
    content = {kind: {"schema": _ANY if kind == "application/json" else _TEXT}}
    return {
        "get": {
            "summary": summary,
            "parameters": parameters or [],
            "responses": _answers(content),
        }
    }


def _answers(content: Json) -> Json:
    error = {"application/json": {"schema": _ANY}}
    return {
        "200": {"description": "The answer.", "content": content},
        **{code: {"description": text, "content": error} for code, text in _CODES.items()},
    }


def _name() -> list[Json]:
    return [{"name": "name", "in": "path", "required": True, "schema": _TEXT}]


def _common() -> Json:
    """Return the fields of both kinds of request; what ours take is said by their help."""
    own = {name: {"description": field.metadata["help"]} for name, field in OWN.items()}
    return {
        **own,
        "model": _or_null(_TEXT),
        "n": _or_null({**_WHOLE, "minimum": 1, "maximum": 128}),
        "stream": _or_null({"type": "boolean"}),
        "stream_options": _or_null(_object({"include_usage": {"type": "boolean"}}, [])),
        "max_tokens": _or_null({**_WHOLE, "minimum": 0}),
        "temperature": _or_null({"type": "number", "minimum": 0, "maximum": 2}),
        "top_p": _or_null({"type": "number", "minimum": 0, "maximum": 1}),
        "presence_penalty": _or_null({"type": "number", "minimum": -2, "maximum": 2}),
        "frequency_penalty": _or_null({"type": "number", "minimum": -2, "maximum": 2}),
        "logit_bias": _or_null({"type": "object", "additionalProperties": {"type": "number"}}),
        "seed": _or_null(_WHOLE),
        "stop": _or_null({"anyOf": [_TEXT, {"type": "array", "items": _TEXT, "maxItems": 4}]}),
        "response_format": _or_null(_ANY),
        "user": _or_null(_TEXT),
    }


def _completion() -> Json:
    prompts = [_TEXT, {"type": "array", "items": _TEXT, "minItems": 1}, _ids(minimum=1)]
    prompts.append({"type": "array", "items": _ids(minimum=1), "minItems": 1})
    return _object(
        {
            **_common(),
            "prompt": _or_null({"anyOf": prompts}),
            "best_of": _or_null({**_WHOLE, "minimum": 1, "maximum": 128}),
            "echo": _or_null({"type": "boolean"}),
            "logprobs": _or_null({**_WHOLE, "minimum": 0, "maximum": 5}),
        },
        [],
    )


def _chat() -> Json:
    message = _object(
        {"role": {"enum": list(ROLES)}, "content": _or_null(_TEXT)}, ["role", "content"]
    )
    return _object(
        {
            **_common(),
            "messages": {"type": "array", "items": message, "minItems": 1},
            "max_completion_tokens": _or_null({**_WHOLE, "minimum": 1}),
            "logprobs": _or_null({"type": "boolean"}),
            "top_logprobs": _or_null({**_WHOLE, "minimum": 0, "maximum": 20}),
        },
        ["messages"],
    )


def _error() -> Json:
    text = _or_null(_TEXT)
    fields = {"message": _TEXT, "type": _TEXT, "param": text, "code": text}
    return _object({"error": _object(fields, list(fields))}, ["error"])


def _object(properties: Json, required: list[str]) -> Json:
    return {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }


def _ids(minimum: int = 0) -> Json:
    return {"type": "array", "items": {**_WHOLE, "minimum": 0}, "minItems": minimum}


def _or_null(schema: Json) -> Json:
    return {"anyOf": [schema, {"type": "null"}]}
