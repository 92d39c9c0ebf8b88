"""A conversation on a session, of which only what is new is computed."""

from __future__ import annotations

from typing import Unpack

from ..errors import OptionError
from ..generation.generator import TextGenerator
from ..generation.option_types import OneTextOptionsDict
from ..generation.prefix_cache import common_prefix
from ..generation.stream import Stream
from ..text.chat_template import Format, Turn
from .session import Session

DEFAULT_NEW_TOKENS = 128


class Chat:
    """A conversation of which only what is new is computed, as far as the format lets it.

    Attributes:
        turns: what was said and answered, by `user` and `assistant` in turn; the oldest go when the
            context is full.
        session: the text they make.
    """

    def __init__(
        self, model: TextGenerator, format_turns: Format, adapter: str | None = None
    ) -> None:
        """Start an empty conversation."""
        self.turns: list[Turn] = []
        self.session = Session(model, adapter=adapter)
        self._model = model
        self._format = format_turns
        self._asked: list[Turn] = []  # the turns kept, and the one that is being answered

    def reply(self, text: str, **options: Unpack[OneTextOptionsDict]) -> Stream:
        """Say something; return the answer as a stream. Once it has ended, call `remember`.

        Until then the conversation stays as it was, whatever goes wrong.

        Raises:
            OptionError: an option is unknown or out of range, the text alone fills the context, or
                the chat template refuses it.
            ModelFolderError: the chat template is broken.
        """
        options.setdefault("max_new_tokens", DEFAULT_NEW_TOKENS)
        wanted = self._model.resolve(options).max_new_tokens or DEFAULT_NEW_TOKENS
        asked, token_ids = self._fitting([*self.turns, {"role": "user", "content": text}], wanted)
        shared = common_prefix(self.session.token_ids, token_ids)
        self.session.rewind(len(self.session.token_ids) - shared)
        self.session.append(token_ids[shared:])
        stream = self.session.stream(**options)
        self._asked = asked
        return stream

    def remember(self, answer: str) -> None:
        """Add what was asked last, and what was answered to it, to the conversation."""
        self.turns = [*self._asked, {"role": "assistant", "content": answer}]

    def _fitting(self, turns: list[Turn], wanted: int) -> tuple[list[Turn], list[int]]:
        """Return the turns without the oldest that leave no room for an answer, and their tokens.

        The format writes every special token there is to be: the tokenizer adds none.
        """
        n_positions = self._model.config.n_positions
        while True:
            token_ids = self._model.tokenizer.encode(self._format(turns), add_special_tokens=False)
            if len(token_ids) + min(wanted, n_positions // 2) <= n_positions:
                return turns, token_ids
            if len(turns) == 1:
                raise OptionError(
                    f"that is {len(token_ids)} tokens, too many to answer in a context of "
                    f"{n_positions}; say it shorter"
                )
            turns = turns[2:]
