"""The public face: `load` a model folder, then `generate`, `stream` and `score`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnxruntime as ort

from .config import ModelConfig, read_config, read_generation_defaults
from .decoder import Decoder
from .errors import OptionError
from .generation import FinishReason, Progress, Timings, generate_ids
from .growing import GrowingDecoder
from .manifest import Manifest, check_files, read_manifest, variant_path
from .options import GenerationOptions
from .score import Score, score_ids
from .session import open_session
from .tokenizer import TextStream, Tokenizer

# What `load` takes, where nothing is asked for, in this order: on a CPU 8-bit weights are the
# fastest variant whose text is as good as fp32's.
PREFERRED_VARIANTS = ("int8", "fp32")


@dataclass(frozen=True)
class GenerationResult:
    """What a generation made: the new text, its token ids (a final EOS included), why it ended."""

    text: str
    token_ids: list[int]
    finish_reason: FinishReason
    timings: Timings


class Stream:
    """Iterates over the pieces of a text as they are made; `result` is there at the end."""

    def __init__(self, pieces: Callable[[Stream], Iterator[str]]) -> None:
        self.result: GenerationResult | None = None
        self._pieces = pieces(self)

    def __iter__(self) -> Iterator[str]:
        return self._pieces

    def __next__(self) -> str:
        return next(self._pieces)


class Model:
    """A loaded variant of a model folder. Threads may share it; `load` makes one.

    Attributes:
        tokenizer: text to ids and back.
        config: the model's shape.
        manifest: what the folder holds.
        variant: the loaded variant's name.
    """

    def __init__(
        self,
        session: ort.InferenceSession,
        tokenizer: Tokenizer,
        config: ModelConfig,
        manifest: Manifest,
        variant: str,
        generation_defaults: dict[str, Any],
    ) -> None:
        """Use `load` instead."""
        self.tokenizer = tokenizer
        self.config = config
        self.manifest = manifest
        self.variant = variant
        self._session = session
        self._defaults = generation_defaults

    def generate(self, prompt: str, **options: Any) -> GenerationResult:
        """Continue `prompt`.

        Args:
            prompt: the text to continue; an empty one starts from the BOS token.
            options: fields of `GenerationOptions`, over the folder's generation_config.json.

        Raises:
            OptionError: an option is unknown or out of range, or the prompt exceeds the context.

        Example:
            >>> model = pocketgpt.load("models/gpt2")
            >>> model.generate("Once upon a time", max_new_tokens=40).text
        """
        stream = self.stream(prompt, **options)
        for _ in stream:
            pass
        assert stream.result is not None
        return stream.result

    def stream(self, prompt: str, **options: Any) -> Stream:
        """Continue `prompt`, yielding its text as it is made, never half a character.

        Args and errors are `generate`'s; errors are raised by this call, not by the iteration.
        """
        resolved = GenerationOptions.resolve(self._defaults, options)
        prompt_ids = self._prompt_ids(prompt, resolved)
        resolved.new_token_budget(len(prompt_ids))

        def pieces(stream: Stream) -> Iterator[str]:
            text, progress = TextStream(self.tokenizer), Progress()
            made: list[str] = []
            ids = generate_ids(
                self.new_decoder(), prompt_ids, resolved, self.config.n_positions, progress
            )
            for piece in _chain(map(text.push, ids), text.finish):
                if piece:
                    made.append(piece)
                    yield piece
            assert progress.finish_reason is not None
            assert progress.timings is not None
            stream.result = GenerationResult(
                "".join(made), progress.token_ids, progress.finish_reason, progress.timings
            )

        return Stream(pieces)

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

    def new_decoder(self) -> Decoder:
        """Return a decoder with an empty cache, for work below the level of text."""
        decoder = GrowingDecoder if self.manifest.graph == "portable" else Decoder
        return decoder(self._session, self.config)

    def _prompt_ids(self, prompt: str, options: GenerationOptions) -> list[int]:
        if not isinstance(prompt, str):
            raise OptionError(f"prompt should be a string, not {type(prompt).__name__}")
        prompt_ids = self.tokenizer.encode(prompt)
        if not prompt_ids:
            if options.bos_token_id is None:
                raise OptionError("an empty prompt needs a bos_token_id, and the folder has none")
            prompt_ids = [options.bos_token_id]
        if len(prompt_ids) > self.config.n_positions:
            raise OptionError(
                f"the prompt has {len(prompt_ids)} tokens, the model's context is "
                f"{self.config.n_positions}; shorten it"
            )
        return prompt_ids


def load(
    folder: str | os.PathLike[str],
    variant: str | None = None,
    *,
    provider: str = "auto",
    threads: int | None = None,
    verify: bool = False,
) -> Model:
    """Load a variant of a model folder.

    Args:
        folder: what `pocketgpt export` wrote.
        variant: `fp32`, `int8`, `q4`, ...; None for the first of int8 and fp32 that is there.
        provider: `auto`, `cpu`, or one of ONNX Runtime's own provider names.
        threads: threads to compute with; None for the physical cores this process may use.
        verify: check every file's sha256, not only names and sizes.

    Raises:
        ModelFolderError: the folder is missing, damaged, or has no such variant.
        ProviderError: the provider is unavailable.
        OptionError: `threads` is no whole number above 0.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    if variant is None:
        variant = next((v for v in PREFERRED_VARIANTS if v in manifest.variants), "fp32")
    check_files(folder, manifest.variant(variant), verify=verify)
    return Model(
        session=open_session(folder / variant_path(variant), provider=provider, threads=threads),
        tokenizer=Tokenizer(folder / "tokenizer.json"),
        config=read_config(folder),
        manifest=manifest,
        variant=variant,
        generation_defaults=read_generation_defaults(folder),
    )


def _chain(pieces: Iterator[str], last: Callable[[], str]) -> Iterator[str]:
    yield from pieces
    yield last()
