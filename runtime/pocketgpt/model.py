"""The public face: `load` a model folder, then `generate`, `classify`, `choose` and `score`."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Unpack, overload

from .engine.providers import Provider
from .engine.running import Running
from .engine.selftest import Progress
from .folder.opening import KvCache
from .generation.generator import BATCH_SIZE, TextGenerator
from .generation.option_types import OneTextOptionsDict
from .measure.evaluate import evaluate
from .measure.evaluation import Evaluation
from .measure.score import Score, checked_stride, score_ids
from .measure.score_file import FileScore, TextFile, score_file
from .sessions.session import Session
from .tasks.choose import Choices, Normalization, choose
from .tasks.classify import Classification, classify


class Model(TextGenerator):
    """A loaded variant of a model folder; `load` makes one.

    Threads may share it. Copied or pickled, for another process, it opens its folder again.
    """

    def session(self, adapter: str | None = None) -> Session:
        """Return an empty text that can be appended to and continued without computing it again.

        Args:
            adapter: the name of a LoRA adapter that was loaded; None for the model as it is.

        Raises:
            OptionError: no such adapter was loaded.
        """
        return Session(self, adapter=adapter)

    def restore(self, path: str | os.PathLike[str], adapter: str | None = None) -> Session:
        """Return a session as `Session.save` wrote it.

        Args:
            path: the file.
            adapter: the name of the LoRA adapter that it was saved with; None where it had none.

        Raises:
            SessionError: the file is no session, is damaged, or is another model's, variant's or
                adapter's.
            OptionError: no such adapter was loaded.
        """
        return Session.restore(self, Path(path), adapter)

    def score(
        self,
        text: str,
        *,
        stride: int | None = None,
        adapter: str | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Score:
        """Score how well the model predicts `text`, over sliding windows of the whole context.

        Args:
            text: at least two tokens long.
            stride: tokens between two windows' starts; None for half the context.
            adapter: the name of a LoRA adapter that was loaded; None for the model as it is.
            progress: called with (tokens scored, tokens in all).

        Raises:
            OptionError: the text is too short, the stride not within the context, or no such
                adapter was loaded.
        """
        self.check_task("text-generation")
        token_ids = self.tokenizer.encode(text)
        decoder = partial(self.new_decoder, adapter=adapter)
        log_probs = score_ids(decoder, token_ids, self.config.n_positions, stride, progress)
        return Score(log_probs, len(text.encode("utf-8")))

    def score_file(
        self,
        file: TextFile,
        *,
        stride: int | None = None,
        adapter: str | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> FileScore:
        """Score a UTF-8 text file, which may be larger than memory, as `score` scores a text.

        Args:
            file: its path, or a file opened in binary. It is read once: a pipe will do.
            stride: tokens between two windows' starts; None for half the context.
            adapter: the name of a LoRA adapter that was loaded; None for the model as it is.
            progress: called with (tokens scored, tokens in all), the latter estimated until the
                file is read.

        Raises:
            OptionError: it cannot be read or is too short, the stride not within the context, or no
                such adapter was loaded.
        """
        self.check_task("text-generation")
        n_positions = self.config.n_positions
        stride = checked_stride(stride, n_positions)
        self.adapter(adapter)  # refused before the file is read
        decoder = partial(self.new_decoder, adapter=adapter)
        return score_file(file, self.tokenizer, decoder, n_positions, stride, progress)

    @overload
    def classify(
        self,
        text: str,
        *,
        top_k: int | None = None,
        truncation: bool = False,
        batch_size: int = BATCH_SIZE,
        progress: Callable[[int, int], None] | None = None,
    ) -> Classification: ...
    @overload
    def classify(
        self,
        text: list[str] | tuple[str, ...],
        *,
        top_k: int | None = None,
        truncation: bool = False,
        batch_size: int = BATCH_SIZE,
        progress: Callable[[int, int], None] | None = None,
    ) -> list[Classification]: ...
    def classify(
        self,
        text: str | list[str] | tuple[str, ...],
        *,
        top_k: int | None = None,
        truncation: bool = False,
        batch_size: int = BATCH_SIZE,
        progress: Callable[[int, int], None] | None = None,
    ) -> Classification | list[Classification]:
        """Label a text, or each of several, by a folder whose checkpoint is a classifier.

        Args:
            text: what to classify.
            top_k: how many labels to give, the likeliest; None for all.
            truncation: read the beginning of a text that is longer than the context, rather than
                refuse it.
            batch_size: most texts in one pass.
            progress: called with (texts done, texts in all).

        Returns:
            The labels and their probabilities, as transformers' text-classification pipeline gives
            them: softmax, or where labels do not exclude each other, or there is one, sigmoid; of a
            regression the values. A list for a list.

        Raises:
            OptionError: the model is no classifier, an option is out of range, or a text is empty
                or longer than the context.

        Example:
            >>> model = pocketgpt.load("models/sentiment")
            >>> model.classify("What a film!").label
        """
        several = isinstance(text, (list, tuple))
        texts = text if several else [text]
        found = classify(self, texts, batch_size, top_k, truncation, progress)
        return found if several else found[0]

    def choose(
        self,
        prompt: str,
        choices: Sequence[str],
        *,
        normalization: Normalization = "none",
        batch_size: int = BATCH_SIZE,
        adapter: str | None = None,
    ) -> Choices:
        """Find which of several texts goes on best after a prompt, by log-probability.

        Args:
            prompt: what comes before; it is read once. An empty one is the BOS token.
            choices: the continuations, as they follow the prompt: `" Paris"`, with its space.
            normalization: what to compare: `none`, the log-probability of all of a choice's tokens;
                `bytes` or `tokens`, that for each byte or token, which does not favour short ones.
            batch_size: most choices to read at once.
            adapter: the name of a LoRA adapter that was loaded; None for the model as it is.

        Raises:
            OptionError: the model is a classifier, a choice is empty or exceeds the context, or no
                such adapter was loaded.

        Example:
            >>> model.choose("The capital of France is", [" Paris", " London"]).text
        """
        return choose(self, prompt, choices, normalization, batch_size, adapter)

    def evaluate(
        self,
        path: str | os.PathLike[str],
        metric: str = "bleu",
        *,
        batch_size: int = BATCH_SIZE,
        adapter: str | None = None,
        progress: Callable[[int, int], None] | None = None,
        **options: Unpack[OneTextOptionsDict],
    ) -> Evaluation:
        """Continue the prompts of a file and score the new texts against references.

        Or with the metric `choice`, let the model answer multiple-choice questions, as `choose`
        does.

        Args:
            path: JSON lines, each an object with `prompt` and `reference`, strings, or
                `references`, a list of strings of which the closest counts; for `choice` with
                `prompt`, `choices`, a list of strings, and `answer`, the index or the text of the
                right one.
            metric: `bleu`, `rouge`, `exact` or `choice`.
            batch_size: most texts to decode at once.
            adapter: the name of a LoRA adapter that was loaded; None for the model as it is.
            progress: called with (prompts done, prompts in all).
            options: fields of `GenerationOptions`; none for `choice`.

        Raises:
            OptionError: the file cannot be read, a line of it is broken (the message has its
                number), an option is unknown or out of range, or no such adapter was loaded.
            MissingExtraError: the metric's library is not installed.

        Example:
            >>> model.evaluate("pairs.jsonl", "rouge", max_new_tokens=40).scores["rougeL"]
        """
        return evaluate(self, Path(path), metric, batch_size, options, progress, adapter)


def load(
    folder: str | os.PathLike[str],
    variant: str | None = None,
    *,
    revision: str | None = None,
    provider: Provider = "auto",
    threads: int | None = None,
    verify: bool = False,
    prefix_cache_bytes: int = 0,
    adapters: Mapping[str, str | os.PathLike[str]] | None = None,
    assistant: str | os.PathLike[str] | Model | None = None,
    kv_cache: KvCache = "auto",
    prefill_variant: str | None = None,
    low_memory: bool = False,
    strict: bool = False,
    selftest: bool = True,
    progress: Progress | None = None,
) -> Model:
    """Load a variant of a model folder, or of a package.

    Args:
        folder: what `pocketgpt export` or `pocketgpt package` wrote: a folder, or one file, which
            is read where it lies, not unpacked; or where there is neither of that name, a model on
            the Hugging Face hub, `user/repo` or `user/repo@revision`, of which the variant's files
            are downloaded to the hub's cache (extra `hub`).
        variant: `fp32`, `int8`, `q4`, ...; None for the first there is that suits the provider: on
            the CPU of int8 and fp32, on an x86-64 with VNNI or AMX of q8, int8 and fp32; on CUDA of
            fp16 and q4f16, of a portable folder fp32. On the CPU the only one there is will do.
        revision: a branch, tag or commit of the hub.
        provider: `auto` and `cpu` are ONNX Runtime's CPU provider; `cuda`, `tensorrt`, `openvino`,
            `coreml`, `directml`, `webgpu`, `qnn`, `xnnpack`, `migraphx`, or any name of its own;
            alone or with options: `("cuda", {"device_id": 1})`, which may also be written
            `"cuda:device_id=1"`. One that comes as a library beside onnxruntime is found where its
            package is installed, or by `library=PATH` among the options.
        threads: threads to compute with; None for the physical cores this process may use.
        verify: check every file's sha256, not only names and sizes.
        prefix_cache_bytes: how much memory the keys and values of ended texts may keep, so that a
            prompt which begins like an earlier one goes on from there. Off by default: tokens taken
            from a cache were computed in other chunks, and a quantized variant's logits may differ
            by that, within its tolerance.
        adapters: PEFT LoRA adapters, folders by the names that `generate(..., adapter=name)` is to
            use; the folder has to be from `export --adapters`.
        assistant: a smaller model with the same tokenizer, a folder or a loaded model, that guesses
            tokens ahead: the same text, in fewer steps of this one (`num_assistant_tokens`).
        kv_cache: `int8` keeps keys and values in 8 bits, a quarter of the memory and faster to read
            in long texts and large batches; `float` in the variant's own type; `auto` is `int8` for
            variants of 8 bits or fewer where the folder has a graph for it (and no adapters are
            loaded). What it costs is in the manifest. It takes ONNX Runtime 1.32.
        prefill_variant: another variant of the folder, which is opened too and computes prompts and
            other chunks of 24 tokens or more: q8 is the fastest at that, int8 and q4 at single
            tokens. The two have to be made with the same calibration text. It takes the memory of
            both.
        low_memory: take less memory rather than less time: prompts are computed in chunks of 64
            tokens, tokenizer and graph are read one after the other, and fp32's weights are used
            where they lie in their file (docs/embedding.md).
        strict: refuse a provider that leaves nodes of the graph to the CPU; `model.assignment`
            names them otherwise.
        selftest: test whether a provider other than the CPU computes what the manifest says the CPU
            does, once for each graph, provider, device and ONNX Runtime: what was found is kept in
            the user's cache.
        progress: called with (what is done now, checks done, checks in all) while that runs.

    Raises:
        ModelFolderError: the folder is missing, damaged, or has no such variant.
        ProviderError: the provider is not in this ONNX Runtime, did not become active, computes
            wrongly, or leaves nodes to the CPU where it is not to.
        OptionError: `threads` or `prefix_cache_bytes` is no whole number, or too small; the
            provider's options cannot be read; the folder has no places for adapters, or no graph
            with an 8-bit cache; or the assistant has another tokenizer.
        AdapterError: an adapter is damaged, of a kind that cannot be used, or does not fit.
        MissingExtraError: adapters need safetensors.

    Warns:
        ProviderWarning: the variant is slow on the provider, or has no fingerprint to test it by.

    Example:
        >>> model = pocketgpt.load("models/gpt2", "int8")
        >>> model.variant, model.config.n_positions
    """
    running = Running(provider, threads, low_memory, strict, selftest, progress)
    return Model.open(
        folder,
        variant,
        running,
        revision=revision,
        verify=verify,
        prefix_cache_bytes=prefix_cache_bytes,
        adapters=adapters,
        assistant=assistant,
        kv_cache=kv_cache,
        prefill_variant=prefill_variant,
    )
