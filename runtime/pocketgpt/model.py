"""The public face: `load` a model folder, then `generate`, `stream` and `score`."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, overload

import onnxruntime as ort

from . import validate
from .engine.decoder import Decoder
from .engine.ort_session import open_session
from .engine.portable import PortableDecoder
from .engine.providers import Provider
from .folder.config import ModelConfig
from .folder.manifest import Manifest
from .folder.opening import open_folder
from .generation.options import GenerationOptions
from .generation.prefix_cache import PrefixCache
from .generation.request import Request, each_prompts_options, resolve_options, resolve_prompt
from .generation.results import GenerationResult
from .generation.scheduler import generate_texts
from .generation.sequence import Row
from .generation.stream import BatchStream, Stream
from .measure.evaluate import Evaluation, evaluate
from .measure.score import Score, checked_stride, score_ids
from .measure.score_file import FileScore, score_file
from .sessions.session import Session
from .text.tokenizer import Tokenizer

BATCH_SIZE = 16  # rows decoded at once where nothing is asked for


class Model:
    """A loaded variant of a model folder. Threads may share it; `load` makes one.

    Attributes:
        tokenizer: text to ids and back.
        config: the model's shape.
        manifest: what the folder holds.
        variant: the loaded variant's name.
        prefixes: what earlier prompts left in memory, where `load` was told to keep any.
    """

    def __init__(
        self,
        session: ort.InferenceSession,
        tokenizer: Tokenizer,
        config: ModelConfig,
        manifest: Manifest,
        variant: str,
        generation_defaults: dict[str, Any],
        prefix_cache_bytes: int = 0,
    ) -> None:
        """Use `load` instead."""
        self.tokenizer = tokenizer
        self.config = config
        self.manifest = manifest
        self.variant = variant
        self.prefixes = PrefixCache(prefix_cache_bytes)
        self._session = session
        self._defaults = generation_defaults

    @overload
    def generate(self, prompt: str, **options: Any) -> GenerationResult: ...
    @overload
    def generate(self, prompt: list[str], **options: Any) -> list[GenerationResult]: ...
    def generate(
        self,
        prompt: str | list[str],
        *,
        on_piece: Callable[..., object] | None = None,
        **options: Any,
    ) -> GenerationResult | list[GenerationResult]:
        """Continue a prompt, or each of several.

        Args:
            prompt: the text to continue, or a list of them; an empty one starts from the BOS token.
            on_piece: called with each piece of text as soon as it is final; with its text's index
                and the piece where several texts are made.
            options: fields of `GenerationOptions`, over the folder's generation_config.json; and
                `options` and `batch_size`, see `stream`.

        Returns:
            The result; a list, prompt by prompt, for a list of prompts, or where
            `num_return_sequences` is above 1.

        Raises:
            OptionError: an option is unknown or out of range, or a prompt exceeds the context.

        Example:
            >>> model = pocketgpt.load("models/gpt2")
            >>> model.generate("Once upon a time", max_new_tokens=40).text
        """
        stream: Stream | BatchStream = self.stream(prompt, **options)
        for piece in stream:
            if on_piece:
                on_piece(*piece) if isinstance(piece, tuple) else on_piece(piece)
        assert stream.result is not None
        return stream.result

    @overload
    def stream(self, prompt: str, **options: Any) -> Stream: ...
    @overload
    def stream(self, prompt: list[str], **options: Any) -> BatchStream: ...
    def stream(
        self,
        prompt: str | list[str],
        *,
        options: Sequence[Mapping[str, Any]] | None = None,
        batch_size: int = BATCH_SIZE,
        **shared: Any,
    ) -> Stream | BatchStream:
        """Continue a prompt, or each of several, yielding text as it is made, whole characters.

        Errors are `generate`'s, raised by this call rather than by the iteration. Beam search
        yields a text once it is done, as no part of it is final before.

        Args:
            prompt: the text to continue, or a list of them.
            options: a dictionary of options for each prompt of a list, over `shared`.
            batch_size: most texts to decode at once; memory grows with it.
            shared: options that hold for all.

        Returns:
            A `Stream` of strings, or where `generate` gives a list, a `BatchStream` of
            `(index, string)`.
        """
        validate.whole("batch_size", batch_size, at_least=1)
        several = isinstance(prompt, (list, tuple))
        prompts: list[str] = list(prompt) if several else [prompt]  # type: ignore[list-item]
        given = each_prompts_options(prompts, options, shared)
        requests = [self._request(text, own) for text, own in zip(prompts, given, strict=True)]
        if several or requests[0].options.num_return_sequences > 1:
            return BatchStream(
                lambda cancelled, done: self._pieces(requests, batch_size, cancelled, done)
            )

        def pieces(
            cancelled: Callable[[], bool], done: Callable[[GenerationResult], None]
        ) -> Generator[str, None, None]:
            indexed = self._pieces(requests, 1, cancelled, lambda results: done(results[0]))
            with closing(indexed):
                yield from (piece for _, piece in indexed)

        return Stream(pieces)

    def session(self) -> Session:
        """Return an empty text that can be appended to and continued without computing it again."""
        return Session(self, self.new_decoder())

    def restore(self, path: str | os.PathLike[str]) -> Session:
        """Return a session as `Session.save` wrote it.

        Raises:
            SessionError: the file is no session, is damaged, or is another model's or variant's.
        """
        return Session.restore(self, Path(path))

    def resolve(self, options: Mapping[str, Any]) -> GenerationOptions:
        """Combine options with the folder's generation_config.json and check them.

        Raises:
            OptionError: one is unknown, out of range, or does not suit the model.
        """
        return resolve_options(self._defaults, options, self.config)

    def score(
        self,
        text: str,
        *,
        stride: int | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Score:
        """Score how well the model predicts `text`, over sliding windows of the whole context.

        Args:
            text: at least two tokens long.
            stride: tokens between two windows' starts; None for half the context.
            progress: called with (tokens scored, tokens in all).

        Raises:
            OptionError: the text is too short, or the stride not within the context.
        """
        token_ids = self.tokenizer.encode(text)
        log_probs = score_ids(
            self.new_decoder, token_ids, self.config.n_positions, stride, progress
        )
        return Score(log_probs, len(text.encode("utf-8")))

    def score_file(
        self,
        path: str | os.PathLike[str],
        *,
        stride: int | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> FileScore:
        """Score a UTF-8 text file, which may be larger than memory, as `score` scores a text.

        Raises:
            OptionError: it cannot be read or is too short, or the stride not within the context.
        """
        n_positions = self.config.n_positions
        stride = checked_stride(stride, n_positions)
        return score_file(
            Path(path), self.tokenizer, self.new_decoder, n_positions, stride, progress
        )

    def evaluate(
        self,
        path: str | os.PathLike[str],
        metric: str = "bleu",
        *,
        batch_size: int = BATCH_SIZE,
        progress: Callable[[int, int], None] | None = None,
        **options: Any,
    ) -> Evaluation:
        """Continue the prompts of a file and score the new texts against references.

        Args:
            path: JSON lines, each an object with `prompt` and `reference`, strings, or
                `references`, a list of strings of which the closest counts.
            metric: `bleu`, `rouge` or `exact`.
            batch_size: most texts to decode at once.
            progress: called with (prompts done, prompts in all).
            options: fields of `GenerationOptions`.

        Raises:
            OptionError: the file cannot be read, a line of it is broken (the message has its
                number), or an option is unknown or out of range.
            MissingExtraError: the metric's library is not installed.

        Example:
            >>> model.evaluate("pairs.jsonl", "rouge", max_new_tokens=40).scores["rougeL"]
        """
        return evaluate(self, Path(path), metric, batch_size, options, progress)

    def new_decoder(self, batch_size: int = 1) -> Decoder:
        """Return a decoder with an empty cache, for work below the level of text."""
        return decoder_type(self.manifest)(self._session, self.config, batch_size)

    def _request(self, prompt: object, options: Mapping[str, Any]) -> Request:
        return resolve_prompt(prompt, self.resolve(options), self.tokenizer, self.config)

    def _pieces(
        self,
        requests: Sequence[Request],
        batch_size: int,
        cancelled: Callable[[], bool],
        done: Callable[[list[GenerationResult]], None],
    ) -> Generator[tuple[int, str], None, None]:
        n_positions = self.config.n_positions
        prompts: list[list[Row]] = []
        index = 0
        for request in requests:
            prompts.append(request.rows(self.tokenizer, n_positions, index))
            index += len(prompts[-1])
        try:
            texts = generate_texts(
                prompts,
                self.new_decoder,
                self.prefixes,
                self.tokenizer,
                n_positions,
                batch_size,
                cancelled,
            )
            for row, piece in texts:
                yield row.index, piece
        finally:
            done([row.result() for rows in prompts for row in rows])


def load(
    folder: str | os.PathLike[str],
    variant: str | None = None,
    *,
    provider: Provider = "auto",
    threads: int | None = None,
    verify: bool = False,
    prefix_cache_bytes: int = 0,
) -> Model:
    """Load a variant of a model folder.

    Args:
        folder: what `pocketgpt export` wrote.
        variant: `fp32`, `int8`, `q4`, ...; None for the first of int8 and fp32 that is there.
        provider: `auto` and `cpu` are ONNX Runtime's CPU provider; or one of its own names, alone
            or with options: `("CUDAExecutionProvider", {"device_id": 1})`, which may also be
            written `"CUDAExecutionProvider:device_id=1"`.
        threads: threads to compute with; None for the physical cores this process may use.
        verify: check the sha256 of every file that is read, not only names and sizes.
        prefix_cache_bytes: how much memory the keys and values of ended texts may keep, so that a
            prompt which begins like an earlier one goes on from there. Off by default: tokens taken
            from a cache were computed in other chunks, and a quantized variant's logits may differ
            by that, within its tolerance.

    Raises:
        ModelFolderError: the folder is missing, damaged, or has no such variant.
        ProviderError: the provider is not in this ONNX Runtime, or did not become active.
        OptionError: `threads` or `prefix_cache_bytes` is no whole number, or too small; or the
            provider's options cannot be read.
    """
    validate.whole("prefix_cache_bytes", prefix_cache_bytes, at_least=0)
    opened = open_folder(folder, variant, verify=verify)
    session = open_session(opened.graph_path, provider=provider, threads=threads)
    tokenizer = Tokenizer(opened.tokenizer_path)
    opened.check_unchanged()
    return Model(
        session=session,
        tokenizer=tokenizer,
        config=opened.config,
        manifest=opened.manifest,
        variant=opened.variant,
        generation_defaults=dict(opened.generation_defaults),
        prefix_cache_bytes=prefix_cache_bytes,
    )


def decoder_type(manifest: Manifest) -> type[Decoder]:
    """Return what feeds a folder's kind of graph."""
    return PortableDecoder if manifest.graph == "portable" else Decoder
