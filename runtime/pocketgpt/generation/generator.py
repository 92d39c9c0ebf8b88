"""From prompts to texts over an open graph: what every way to generate goes through."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import Any, Self, Unpack, overload

from .. import validate
from ..engine.adapters import Adapter, adapter_paths
from ..engine.assignment import Assignment
from ..engine.decoder import Decoder
from ..engine.graph import Graph
from ..engine.providers import find_provider
from ..engine.running import Running
from ..errors import OptionError, ProviderWarning
from ..folder.config import ModelConfig, Task
from ..folder.file_record import hash_of
from ..folder.hub import located
from ..folder.manifest import Manifest
from ..folder.opening import KvCache, open_chunks, open_folder, pick_variant
from ..folder.pairing import remark_on
from ..text.tokenizer import Tokenizer
from .folder_defaults import usable_defaults
from .guessing.assistant import check_assistant, check_options
from .guessing.draft import Draft
from .guessing.worth import Worth
from .option_types import GenerationOptionsDict, OneTextOptionsDict
from .options import GenerationOptions
from .prefix_cache import PrefixCache
from .request import (
    Request,
    check_task,
    each_prompts_options,
    jobs_of,
    resolve_options,
    resolve_prompt,
    slots_for,
)
from .results import GenerationResult
from .scheduler import Scheduler
from .side_by_side import open_both
from .stream import BatchStream, Stream
from .vocabulary import Vocabulary

BATCH_SIZE = 16  # rows decoded at once where nothing is asked for


class TextGenerator:
    """Generates with one open model. Threads may share it.

    Attributes:
        tokenizer: text to ids and back.
        config: the model's shape.
        manifest: what the folder holds.
        variant: the opened variant's name.
        graph: its graph.
        prefill_variant: the name of the variant that computes prompts; None for the same.
        vocabulary: the tokens, for constraints on what is generated.
        prefixes: what earlier prompts left in memory, where it was told to keep any.
        adapters: the LoRA adapters that were loaded with it, by the names they were given.
        assistant: the smaller model that guesses ahead, where one was loaded.
    """

    def __init__(
        self,
        graph: Graph,
        tokenizer: Tokenizer,
        manifest: Manifest,
        variant: str,
        defaults: Mapping[str, Any],
        prefix_cache_bytes: int = 0,
        adapters: Mapping[str, Adapter] = MappingProxyType({}),
        assistant: TextGenerator | None = None,
    ) -> None:
        """Use `pocketgpt.load` instead."""
        self.tokenizer = tokenizer
        self.config: ModelConfig = graph.config
        self.manifest = manifest
        self.variant = variant
        self.prefixes = PrefixCache(prefix_cache_bytes)
        self.vocabulary = Vocabulary(tokenizer, graph.config.vocab_size)
        self.graph = graph
        self.adapters = MappingProxyType(dict(adapters))
        self.assistant = assistant
        self._assistants_worth = Worth()
        self._defaults = usable_defaults(defaults, graph.config.vocab_size)
        self.prefill_variant: str | None = None
        self._open_again: Callable[[], Self] | None = None

    def __reduce__(self) -> tuple[Callable[[], Self], tuple[()]]:
        """Pickle and copy what opens the folder again: ONNX Runtime's sessions cannot be copied.

        Raises:
            TypeError: it was not opened from a folder.
        """
        if self._open_again is None:
            raise TypeError("a model made by hand cannot be copied: load its folder there instead")
        return self._open_again, ()

    @classmethod
    def open(
        cls,
        folder: str | os.PathLike[str],
        variant: str | None,
        running: Running,
        *,
        revision: str | None = None,
        verify: bool = False,
        prefix_cache_bytes: int = 0,
        adapters: Mapping[str, str | os.PathLike[str]] | None = None,
        assistant: str | os.PathLike[str] | TextGenerator | None = None,
        kv_cache: KvCache = "auto",
        prefill_variant: str | None = None,
    ) -> Self:
        """Open a variant of a model; see `pocketgpt.load`."""
        validate.whole("prefix_cache_bytes", prefix_cache_bytes, at_least=0)
        paths = adapter_paths(adapters)
        if assistant is not None and not isinstance(assistant, TextGenerator):
            assistant = cls.open(assistant, None, running)
        runner = find_provider(running.provider).name

        def needed(known: Manifest) -> list[str]:
            return [pick_variant(known, variant, runner), *filter(None, [prefill_variant])]

        folder = located(folder, needed, revision=revision, everything=verify)
        opened = open_folder(
            folder,
            variant,
            verify=verify,
            adapters=bool(paths),
            kv_cache=kv_cache,
            provider=runner,
        )
        known = opened.manifest
        if slow := remark_on(runner, known.graph, opened.variant, known.variants):
            warnings.warn(ProviderWarning(slow), stacklevel=3)
        chunks = None
        if prefill_variant is not None:
            chunks = open_chunks(opened, prefill_variant, verify=verify, provider=runner)
        graph, tokenizer = open_both(opened, running, chunks)
        opened.check_unchanged()
        model = cls(
            graph,
            tokenizer,
            opened.manifest,
            opened.variant,
            opened.generation_defaults,
            prefix_cache_bytes,
            {name: graph.read_adapter(path) for name, path in paths.items()},
            assistant,
        )
        if assistant is not None:
            check_assistant(model, assistant)
        model.prefill_variant = prefill_variant
        model._open_again = partial(
            cls.open,
            opened.folder.absolute(),
            opened.variant,
            replace(running, progress=None),
            verify=verify,
            prefix_cache_bytes=prefix_cache_bytes,
            adapters={name: path.absolute() for name, path in paths.items()} or None,
            assistant=assistant,
            kv_cache="int8" if opened.int8_cache else "float",
            prefill_variant=prefill_variant,
        )
        return model

    @property
    def defaults(self) -> Mapping[str, Any]:
        """What the folder's generation_config.json says of options, ids of the vocabulary alone."""
        return MappingProxyType(self._defaults)

    @property
    def assignment(self) -> Assignment | None:
        """Where its graph's nodes run, those that fell to the CPU by name.

        None on the CPU, or where ONNX Runtime is too old to tell.
        """
        return self.graph.assignment

    @property
    def kv_cache(self) -> str:
        """The type that keys and values are kept in: `float32`, `float16` or `int8`."""
        return str(self.graph.contract.cache_dtype)

    @property
    def identity(self) -> str:
        """One hash of the variant's files, from the hashes in the manifest."""
        record = self.manifest.variant(self.variant)
        records = record.files
        if self.kv_cache == "int8" and record.int8_cache is not None:
            records = (record.int8_cache.graph, *records[1:])
        if self.prefill_variant is not None:
            records = (*records, *self.manifest.variant(self.prefill_variant).files)
        return hash_of(sorted(record.sha256 for record in records))

    def identity_with(self, adapter: str | None) -> str:
        """Return what tells texts computed with an adapter, or without any, from all others.

        Raises:
            OptionError: no adapter of that name was loaded.
        """
        used = self.adapter(adapter)
        return self.identity if used is None else hash_of([self.identity, used.sha256])

    def adapter(self, name: str | None) -> Adapter | None:
        """Return a loaded adapter by its name; None for None.

        Raises:
            OptionError: there is none of that name.
        """
        if name is None:
            return None
        if not isinstance(name, str) or name not in self.adapters:
            known = ", ".join(self.adapters) or "none"
            raise OptionError(
                f"no adapter {name!a:.60} was loaded ({known} was); name its folder to load: "
                "adapters={name: folder}"
            )
        return self.adapters[name]

    @overload
    def generate(
        self,
        prompt: str,
        *,
        on_piece: Callable[[str], object] | None = None,
        adapter: str | None = None,
        **options: Unpack[OneTextOptionsDict],
    ) -> GenerationResult: ...
    @overload
    def generate(
        self,
        prompt: list[str] | tuple[str, ...],
        *,
        on_piece: Callable[[int, str], object] | None = None,
        options: Sequence[Mapping[str, Any]] | None = None,
        batch_size: int = BATCH_SIZE,
        adapter: str | None = None,
        **shared: Unpack[GenerationOptionsDict],
    ) -> list[GenerationResult]: ...
    @overload
    def generate(
        self,
        prompt: str,
        *,
        on_piece: Callable[..., object] | None = None,
        batch_size: int = BATCH_SIZE,
        adapter: str | None = None,
        **options: Unpack[GenerationOptionsDict],
    ) -> GenerationResult | list[GenerationResult]: ...
    def generate(
        self,
        prompt: str | list[str] | tuple[str, ...],
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
                `options`, `batch_size` and `adapter`, see `stream`.

        Returns:
            The result; a list, prompt by prompt, for a list of prompts, or where
            `num_return_sequences` is above 1.

        Raises:
            OptionError: an option is unknown or out of range, a prompt exceeds the context, or no
                such adapter was loaded.

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
    def stream(
        self, prompt: str, *, adapter: str | None = None, **options: Unpack[OneTextOptionsDict]
    ) -> Stream: ...
    @overload
    def stream(
        self,
        prompt: list[str] | tuple[str, ...],
        *,
        options: Sequence[Mapping[str, Any]] | None = None,
        batch_size: int = BATCH_SIZE,
        adapter: str | None = None,
        **shared: Unpack[GenerationOptionsDict],
    ) -> BatchStream: ...
    @overload
    def stream(
        self,
        prompt: str,
        *,
        batch_size: int = BATCH_SIZE,
        adapter: str | None = None,
        **options: Unpack[GenerationOptionsDict],
    ) -> Stream | BatchStream: ...
    def stream(
        self,
        prompt: str | list[str] | tuple[str, ...],
        *,
        options: Sequence[Mapping[str, Any]] | None = None,
        batch_size: int = BATCH_SIZE,
        adapter: str | None = None,
        **shared: Any,
    ) -> Stream | BatchStream:
        """Continue a prompt, or each of several, yielding text as it is made, whole characters.

        Errors are `generate`'s, raised by this call rather than by the iteration. Beam search
        yields a text once it is done, as no part of it is final before.

        Args:
            prompt: the text to continue, or a list of them.
            options: a dictionary of options for each prompt of a list, over `shared`.
            batch_size: most texts to decode at once; memory grows with it.
            adapter: the name of a LoRA adapter that was loaded, for all of the prompts; None for
                the model as it is.
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
        scheduler = self.scheduler(slots_for(requests, batch_size), adapter)
        if several or requests[0].options.num_return_sequences > 1:
            batch = BatchStream(
                lambda cancelled, done: self._pieces(requests, scheduler, cancelled, done)
            )
            batch.counters = scheduler.counters
            return batch

        def pieces(
            cancelled: Callable[[], bool], done: Callable[[GenerationResult], None]
        ) -> Generator[str, None, None]:
            indexed = self._pieces(requests, scheduler, cancelled, lambda results: done(results[0]))
            with closing(indexed):
                yield from (piece for _, piece in indexed)

        return Stream(pieces)

    def check_task(self, task: Task) -> None:
        """Refuse what a model of the other kind is asked for.

        Raises:
            OptionError: the model is not for `task`.
        """
        check_task(self.config, task)

    def resolve(self, options: Mapping[str, Any]) -> GenerationOptions:
        """Combine options with the folder's generation_config.json and check them.

        Raises:
            OptionError: one is unknown, out of range, or does not suit the model; or it generates
                no text.
        """
        self.check_task("text-generation")
        resolved = resolve_options(self._defaults, options, self.config, self.vocabulary)
        if self.assistant is not None:
            check_options(resolved)
        return resolved

    def new_decoder(self, slots: int = 1, adapter: str | None = None) -> Decoder:
        """Return a decoder of so many empty texts, for work below the level of text.

        Raises:
            OptionError: no adapter of that name was loaded.
        """
        return self.graph.decoder(slots, adapter=self.adapter(adapter))

    def new_draft(self, slots: int = 1) -> Draft | None:
        """Return what guesses for so many texts together; None without an assistant."""
        if self.assistant is None:
            return None
        n_positions = self.assistant.config.n_positions
        return Draft(self.assistant.new_decoder(slots), n_positions, self._assistants_worth)

    def scheduler(
        self, slots: int, adapter: str | None = None, *, isolate: bool = False
    ) -> Scheduler:
        """Return a scheduler with so many slots, for who drives requests on their own.

        Args:
            slots: how many texts run at once.
            adapter: the name of an adapter that was loaded; None for the model as it is.
            isolate: whether a job that fails by its own options ends alone.

        Raises:
            OptionError: no adapter of that name was loaded.
        """
        return Scheduler(
            self.new_decoder(slots, adapter),
            self.config.n_positions,
            prefixes=self.prefixes.of(adapter),
            draft=self.new_draft(slots),
            isolate=isolate,
        )

    def _request(self, prompt: object, options: Mapping[str, Any]) -> Request:
        return resolve_prompt(prompt, self.resolve(options), self.tokenizer, self.config)

    def _pieces(
        self,
        requests: Sequence[Request],
        scheduler: Scheduler,
        cancelled: Callable[[], bool],
        done: Callable[[list[GenerationResult]], None],
    ) -> Generator[tuple[int, str], None, None]:
        texts, jobs = jobs_of(requests, self.tokenizer, self.vocabulary, self.config.n_positions)
        try:
            for job in jobs:
                scheduler.submit(job)
            for text, piece in scheduler.run(cancelled):
                yield text.index, piece
        finally:
            done([text.result() for text in texts])
