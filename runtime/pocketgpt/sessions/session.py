"""A text that grows by appending and generating; what is in its cache is never computed again."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..engine.decoder import Decoder
from ..errors import OptionError, SessionError
from ..extras import needs_extra
from ..folder.atomic import staging_folder
from ..generation.results import GenerationResult
from ..generation.scheduler import generate_rows
from ..generation.sequence import Row
from ..generation.stream import Stream

if TYPE_CHECKING:
    from ..model import Model

FORMAT = "pocketgpt-session-1"


class Session:
    """One text with its cache; `Model.session` makes one. For one thread at a time.

    Tokens are computed when something is generated after them, and once.

    Attributes:
        token_ids: the whole text.

    Example:
        >>> session = model.session()
        >>> session.append("Once upon a time")
        >>> session.generate(max_new_tokens=20).text
        >>> other = session.fork()
    """

    def __init__(self, model: Model, decoder: Decoder, token_ids: Sequence[int] = ()) -> None:
        """Use `Model.session` instead."""
        self.token_ids = list(token_ids)
        self._model = model
        self._decoder = decoder
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

        Raises:
            OptionError: it does not fit the context, or an id is not in the vocabulary.
        """
        self._settle()
        config = self._model.config
        new = self._model.tokenizer.encode(text) if isinstance(text, str) else list(text)
        if not all(0 <= token_id < config.vocab_size for token_id in new):
            raise OptionError(f"a token id is outside the vocabulary of {config.vocab_size}")
        length = len(self.token_ids) + len(new)
        if length > config.n_positions:
            raise OptionError(
                f"the session would have {length} tokens, the model's context is "
                f"{config.n_positions}; shorten the text or rewind"
            )
        self.token_ids += new

    def generate(self, **options: Any) -> GenerationResult:
        """Continue the text and keep what is made; see `Model.generate`.

        Raises:
            OptionError: an option is unknown or out of range, or makes more than one text.
        """
        stream = self.stream(**options)
        for _ in stream:
            pass
        assert stream.result is not None
        return stream.result

    def stream(self, **options: Any) -> Stream:
        """Continue the text, yielding it as it is made; see `Model.stream`.

        Whatever is made before the stream ends, or is given up, belongs to the session.
        """
        self._settle()
        resolved = self._model.resolve(options)
        if resolved.num_beams > 1 or resolved.num_return_sequences > 1:
            raise OptionError("a session has one text: no num_beams, no num_return_sequences")
        if resolved.context_overflow != "stop":
            raise OptionError("a session keeps its whole text: no context_overflow='reprefill'")
        if not self.token_ids:
            if resolved.bos_token_id is None:
                raise OptionError("an empty session needs a bos_token_id, and the folder has none")
            self.token_ids.append(resolved.bos_token_id)
        resolved.new_token_budget(len(self.token_ids))

        def pieces(
            cancelled: Callable[[], bool], done: Callable[[GenerationResult], None]
        ) -> Iterator[str]:
            model, decoder = self._model, self._decoder
            row = Row(
                model.tokenizer,
                list(self.token_ids),
                resolved,
                model.config.n_positions,
                vocabulary=model.vocabulary,
            )
            # The last token is computed in any case: its logits are wanted.
            decoder.rewind(min(decoder.cache.length, len(self.token_ids) - 1))
            try:
                if row.finish_reason is None:
                    rows = generate_rows(decoder, [row], model.config.n_positions, cancelled)
                    for _, piece in rows:
                        yield piece
            finally:
                self.token_ids = row.ids.tolist()
                done(row.result())

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
        self._decoder.rewind(min(length, self._decoder.cache.length))

    def fork(self) -> Session:
        """Return a session of its own that goes on from the same text."""
        self._settle()
        return Session(self._model, self._decoder.fork(), self.token_ids)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the text and its cache to a safetensors file, replacing what is there in one step.

        Raises:
            MissingExtraError: safetensors is not installed.
        """
        self._settle()
        with needs_extra("sessions"):
            from safetensors.numpy import save_file
        cache = self._decoder.cache
        filled = np.s_[0, :, : cache.length]
        tensors = {
            "token_ids": np.array(self.token_ids, np.int64),
            "keys": np.stack([buffer[filled] for buffer in cache.keys]),
            "values": np.stack([buffer[filled] for buffer in cache.values]),
        }
        metadata = {"format": FORMAT, "model_sha256": _model_hash(self._model)}
        path = Path(path)
        with staging_folder(path) as staging:
            save_file(tensors, staging / path.name, metadata)
            (staging / path.name).replace(path)

    @classmethod
    def restore(cls, model: Model, path: Path) -> Session:
        """Read a file that `save` wrote; `Model.restore` is the public way.

        Raises:
            SessionError: the file is no session, is damaged, or is another model's or variant's.
            MissingExtraError: safetensors is not installed.
        """
        tensors = _read(model, path)
        token_ids = tensors["token_ids"].tolist()
        session = cls(model, model.new_decoder(), token_ids)
        cache = session._decoder.cache
        length = tensors["keys"].shape[2]
        cache.reserve(length)
        cache.length = length
        for buffers, saved in ((cache.keys, tensors["keys"]), (cache.values, tensors["values"])):
            for buffer, layer in zip(buffers, saved, strict=True):
                buffer[0, :, :length] = layer
        return session

    def _settle(self) -> None:
        """End a stream that was left before its end: what it made is the session's."""
        if self._streaming is not None and self._streaming.result is None:
            self._streaming.close()
        self._streaming = None


def _read(model: Model, path: Path) -> dict[str, NDArray[Any]]:
    with needs_extra("sessions"):
        from safetensors import SafetensorError, safe_open
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise SessionError(f"{path} is not a session that this PocketGPT can read")
            if metadata.get("model_sha256") != _model_hash(model):
                raise SessionError(
                    f"{path} was saved with another model or variant than {model.variant}; "
                    "load that one"
                )
            return {name: file.get_tensor(name) for name in ("token_ids", "keys", "values")}
    except (OSError, SafetensorError) as error:
        raise SessionError(f"{path} cannot be read: {error}") from None


def _model_hash(model: Model) -> str:
    """Return one hash of the loaded variant's files, from the hashes in the manifest."""
    records = model.manifest.variant(model.variant).files
    joined = "\n".join(sorted(record.sha256 for record in records))
    return hashlib.sha256(joined.encode("ascii")).hexdigest()
