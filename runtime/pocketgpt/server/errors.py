"""What goes wrong, as OpenAI's clients read it: {"error": {message, type, param, code}}."""

from __future__ import annotations

import re
from typing import Any

from ..errors import MissingExtraError, OptionError, PocketGPTError

INVALID = "invalid_request_error"
_FIRST_WORD = re.compile(r"(?:a token id in |the (?:start|factor) of |a bias in )?([a-z_]+)\b")
# Options that a request knows by another name.
_ALIASES = {"max_new_tokens": "max_tokens", "stop_strings": "stop", "num_return_sequences": "n"}


class ApiError(Exception):
    """An answer that is an error.

    Attributes:
        status: HTTP's.
        message: one line: what is wrong, what to do.
        type, param, code: as OpenAI's API has them.
        retry_after: seconds after which to try again; None where that is no use.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        type: str = INVALID,
        param: str | None = None,
        code: str | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.type = type
        self.param = param
        self.code = code
        self.retry_after = retry_after

    @property
    def content(self) -> dict[str, Any]:
        """The JSON that says it."""
        fields = {"type": self.type, "param": self.param, "code": self.code}
        return {"error": {"message": self.message, **fields}}

    @property
    def headers(self) -> dict[str, str]:
        """The HTTP headers that go with it."""
        headers = {}
        if self.retry_after is not None:
            headers["retry-after"] = str(self.retry_after)
        if self.status == 401:
            headers["www-authenticate"] = "Bearer"
        return headers


def wrong(message: str, param: str | None = None, code: str | None = None) -> ApiError:
    """Return the error of a request that is wrong."""
    return ApiError(400, message, param=param, code=code)


def unavailable(message: str, code: str) -> ApiError:
    """Return the error of a server that cannot answer now."""
    return ApiError(503, message, type="server_error", code=code, retry_after=5)


def as_api_error(error: PocketGPTError) -> ApiError:
    """Return what a client is told of an error of ours: its own fault, or the server's."""
    if isinstance(error, (OptionError, MissingExtraError)):
        return wrong(str(error), param_of(str(error)))
    return ApiError(500, str(error), type="server_error")


def param_of(message: str) -> str | None:
    """Return the field that an option's error is about; its message begins with it."""
    found = _FIRST_WORD.match(message)
    name = found[1] if found else ""
    if name in _ALIASES:
        return _ALIASES[name]
    return name if "_" in name or name in ("seed", "temperature", "grammar", "regex") else None
