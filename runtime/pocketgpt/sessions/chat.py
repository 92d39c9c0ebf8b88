"""A conversation on a session: turns in DialoGPT's format, or in the folder's own template."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..errors import ModelFolderError, OptionError
from ..extras import needs_extra
from ..folder.json_file import read_json_object
from ..generation.prefix_cache import common_prefix
from ..generation.stream import Stream
from ..model import Model

Turn = dict[str, str]  # "role" and "content", as chat templates have them
Format = Callable[[Sequence[Turn]], str]

DEFAULT_NEW_TOKENS = 128


class Chat:
    """A conversation of which only what is new is computed, as far as the format lets it.

    Attributes:
        turns: what was said, by `user` and `assistant`; the oldest go when the context is full.
        session: the text they make.
    """

    def __init__(self, model: Model, format_turns: Format) -> None:
        """Start an empty conversation."""
        self.turns: list[Turn] = []
        self.session = model.session()
        self._model = model
        self._format = format_turns

    def reply(self, text: str, **options: Any) -> Stream:
        """Say something; return the answer as a stream. Once it has ended, call `remember`.

        Raises:
            OptionError: an option is unknown or out of range, or the text alone fills the context.
        """
        options = {"max_new_tokens": DEFAULT_NEW_TOKENS, **options}
        wanted = self._model.resolve(options).max_new_tokens or DEFAULT_NEW_TOKENS
        self.turns.append({"role": "user", "content": text})
        try:
            token_ids = self._fitting_ids(wanted)
        except OptionError:
            self.turns.pop()
            raise
        shared = common_prefix(self.session.token_ids, token_ids)
        self.session.rewind(len(self.session.token_ids) - shared)
        self.session.append(token_ids[shared:])
        return self.session.stream(**options)

    def remember(self, answer: str) -> None:
        """Add what was answered to the conversation."""
        self.turns.append({"role": "assistant", "content": answer})

    def _fitting_ids(self, wanted: int) -> list[int]:
        """Return the conversation's tokens without the oldest turns that leave no room."""
        n_positions = self._model.config.n_positions
        while True:
            token_ids = self._model.tokenizer.encode(self._format(self.turns))
            if len(token_ids) + min(wanted, n_positions // 2) <= n_positions:
                return token_ids
            if len(self.turns) == 1:
                raise OptionError(
                    f"that is {len(token_ids)} tokens, too many to answer in a context of "
                    f"{n_positions}; say it shorter"
                )
            del self.turns[:2]


def read_format(folder: Path) -> Format:
    """Return how a folder writes a conversation: its chat template, or DialoGPT's format.

    The template is chat_template.jinja, or `chat_template` in tokenizer_config.json. DialoGPT ends
    every turn with the EOS token: https://huggingface.co/microsoft/DialoGPT-medium

    Raises:
        ModelFolderError: there is neither a template nor an EOS token.
        MissingExtraError: there is a template, and jinja2 is not installed.
    """
    path = folder / "tokenizer_config.json"
    config = read_json_object(path) if path.exists() else {}
    own = folder / "chat_template.jinja"
    template = own.read_text("utf-8") if own.exists() else config.get("chat_template")
    eos, bos = (_token_text(config.get(name)) for name in ("eos_token", "bos_token"))
    if not template:
        if not eos:
            raise ModelFolderError(
                f"{path} has neither a chat_template nor an eos_token, which ends DialoGPT's turns"
            )
        return lambda turns: "".join(turn["content"] + eos for turn in turns)
    with needs_extra("chat"):
        from jinja2.sandbox import ImmutableSandboxedEnvironment
    compiled = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True).from_string(
        template
    )
    return lambda turns: compiled.render(
        messages=turns, add_generation_prompt=True, eos_token=eos, bos_token=bos
    )


def _token_text(token: Any) -> str:
    """Return a special token's text, which may be written out or in an object."""
    return str(token.get("content", "")) if isinstance(token, dict) else str(token or "")
