"""A text that grows by appending and generating; what is in its cache is never computed again."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NoReturn, Unpack

import numpy as np

from ..engine.contract import Array
from ..errors import OptionError
from ..folder.config import GENERATION_CONFIG
from ..generation.generator import TextGenerator
from ..generation.option_types import OneTextOptionsDict
from ..generation.options import GenerationOptions
from ..generation.request import Request
from ..generation.results import GenerationResult
from ..generation.scheduler import Scheduler
from ..generation.stream import Stream
from .storage import read_session, write_session

_OF_ONE_TEXT = {"num_beams": 1, "num_return_sequences": 1, "context_overflow": "stop"}


class Session:
    """One text with its cache; `Model.session` makes one. For one thread at a time.

    Tokens are computed when something is generated after them, and once.

    Attributes:
        token_ids: the whole text.
        adapter: the name of the LoRA adapter that it is computed with; None for none.

    Example:
        >>> session = model.session()
        >>> session.append("Once upon a time")
        >>> session.generate(max_new_tokens=20).text
        >>> other = session.fork()
    """

    def __init__(
        self,
        model: TextGenerator,
        token_ids: Sequence[int] = (),
        cache: tuple[Array, Array] | None = None,
        adapter: str | None = None,
    ) -> None:
        """Use `Model.session` instead; `cache` are keys and values as `Decoder.read` returns."""
        model.check_task("text-generation")
        self.token_ids = list(token_ids)
        self.adapter = adapter
        self._model = model
        self._decoder = model.new_decoder(adapter=adapter)
        self._draft = model.new_draft()
        if cache is not None:
            self._decoder.write(*cache)
        self._streaming: Stream | None = None

    @property
    def evaluated_tokens(self) -> int:
        """How many tokens this session has run through the model; a fork starts from 0."""
        return self._decoder.evaluated_tokens

    @property
    def text(self) -> str:
        """The whole text, without special tokens."""
        self._settle()
        return self._model.tokenizer.decode(self.token_ids)

    def append(self, text: str | Sequence[int]) -> None:
        """Append a text, or token ids.

        A text's tokens begin where it begins: no token spans what was there before and what comes.
        What the tokenizer puts before every text, a BOS for one, stands before the first one alone.

        Raises:
            OptionError: it is neither a text nor token ids, does not fit the context, or an id is
                not in the vocabulary.
        """
        self._settle()
        config = self._model.config
        new = self._encode(text) if isinstance(text, str) else _token_ids(text)
        if not all(0 <= token_id < config.vocab_size for token_id in new):
            raise OptionError(f"a token id is outside the vocabulary of {config.vocab_size}")
        length = len(self.token_ids) + len(new)
        if length > config.n_positions:
            raise OptionError(
                f"the session would have {length} tokens, the model's context is "
                f"{config.n_positions}; shorten the text or rewind"
            )
        self.token_ids += new

    def generate(self, **options: Unpack[OneTextOptionsDict]) -> GenerationResult:
        """Continue the text and keep what is made; see `Model.generate`.

        Raises:
            OptionError: an option is unknown or out of range, or makes more than one text.
        """
        stream = self.stream(**options)
        for _ in stream:
            pass
        assert stream.result is not None
        return stream.result

    def stream(self, **options: Unpack[OneTextOptionsDict]) -> Stream:
        """Continue the text, yielding it as it is made; see `Model.stream`.

        Whatever is made before the stream ends, or is given up, belongs to the session.
        """
        self._settle()
        resolved = self._model.resolve(options)
        _check_one_text(resolved, options)
        if not self.token_ids:
            self.token_ids.append(resolved.start_token("an empty session"))
        resolved.new_token_budget(len(self.token_ids))

        def pieces(
            cancelled: Callable[[], bool], done: Callable[[GenerationResult], None]
        ) -> Iterator[str]:
            model, decoder = self._model, self._decoder
            n_positions = model.config.n_positions
            request = Request(list(self.token_ids), resolved)
            (text,) = request.texts(model.tokenizer, model.vocabulary, n_positions, 0)
            held = self.token_ids[: decoder.lengths[0]]
            scheduler = Scheduler(decoder, n_positions, held=held, min_shared=1, draft=self._draft)
            scheduler.submit(text)
            try:
                yield from (piece for _, piece in scheduler.run(cancelled))
            finally:
                self.token_ids = text.ids.tolist()
                done(text.result())

        self._streaming = Stream(pieces)
        return self._streaming

    def rewind(self, count: int) -> None:
        """Forget the last `count` tokens.

        Raises:
            OptionError: there are not as many.
        """
        self._settle()
        if not isinstance(count, int) or not 0 <= count <= len(self.token_ids):
            raise OptionError(f"rewind takes 0 to {len(self.token_ids)} tokens, not {count!r}")
        length = len(self.token_ids) - count
        del self.token_ids[length:]
        self._decoder.rewind(min(length, int(self._decoder.lengths[0])))

    def fork(self) -> Session:
        """Return a session of its own that goes on from the same text."""
        self._settle()
        return Session(self._model, self.token_ids, self._decoder.read(), self.adapter)

    def __copy__(self) -> Session:
        """Fork: two texts cannot share a cache."""
        return self.fork()

    def __deepcopy__(self, memo: dict[int, object]) -> Session:
        """Fork: two texts cannot share a cache."""
        return self.fork()

    def __reduce__(self) -> NoReturn:
        """Refuse to be pickled.

        Raises:
            TypeError: always; another process restores what `save` wrote.
        """
        raise TypeError("a session cannot be pickled: save it, and restore it there")

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the text and its cache to a safetensors file, replacing what is there in one step.

        Raises:
            SessionError: the file cannot be written.
            MissingExtraError: safetensors is not installed.
        """
        self._settle()
        identity = self._model.identity_with(self.adapter)
        write_session(Path(path), self.token_ids, *self._decoder.read(), identity)

    @classmethod
    def restore(cls, model: TextGenerator, path: Path, adapter: str | None = None) -> Session:
        """Read a file that `save` wrote; `Model.restore` is the public way.

        Raises:
            SessionError: the file is no session, is damaged, or is another model's, variant's or
                adapter's.
            OptionError: no adapter of that name was loaded.
            MissingExtraError: safetensors is not installed.
        """
        saved = read_session(
            path,
            model.identity_with(adapter),
            model.config,
            model.graph.contract.cache_dtype,
            _name_of(model, adapter),
        )
        return cls(model, saved.token_ids, (saved.keys, saved.values), adapter)

    def _encode(self, text: str) -> list[int]:
        tokenizer = self._model.tokenizer
        before = [] if self.token_ids else tokenizer.frame[0]
        return [*before, *tokenizer.encode(text, add_special_tokens=False)]

    def _settle(self) -> None:
        """End a stream that was left before its end: what it made is the session's."""
        if self._streaming is not None and self._streaming.result is None:
            self._streaming.close()
        self._streaming = None


def _check_one_text(resolved: GenerationOptions, given: Mapping[str, object]) -> None:
    """Refuse options that make several texts, or forget a part of one.

    Raises:
        OptionError: one does; the message says so where it is the folder's.
    """
    for name, only in _OF_ONE_TEXT.items():
        value = getattr(resolved, name)
        if value != only:
            whose = "" if name in given else f"the folder's {GENERATION_CONFIG}: "
            raise OptionError(
                f"{whose}a session has one text and keeps it whole, which {name}={value!r} does "
                f"not; give {name}={only!r}"
            )


def _name_of(model: TextGenerator, adapter: str | None) -> str:
    if not model.adapters:
        return model.variant
    return f"{model.variant} {'without an adapter' if adapter is None else f'with {adapter!r}'}"


def _token_ids(ids: object) -> list[int]:
    """Return token ids as plain integers; NumPy's are taken, true and 1.0 are none."""
    if isinstance(ids, np.ndarray):
        ids = [*ids]
    if not isinstance(ids, Sequence) or isinstance(ids, (bytes, bytearray)):
        raise OptionError(f"append takes a text or a list of token ids, not {type(ids).__name__}")
    for token_id in ids:
        if not isinstance(token_id, (int, np.integer)) or isinstance(token_id, bool):
            raise OptionError(f"a token id should be a whole number, not {token_id!r}")
    return [int(token_id) for token_id in ids]
