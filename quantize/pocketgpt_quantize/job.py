"""One variant to make: what its maker gets, and what it gives back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import onnx_ir as ir

from pocketgpt.folder.config import ModelConfig
from pocketgpt.folder.file_record import check_files
from pocketgpt.folder.manifest import (
    Variant,
    adapter_graph_path,
    record_adapter_graph,
    record_files,
    variant_path,
)
from pocketgpt.folder.opening import OpenFolder
from pocketgpt.text.tokenizer import Tokenizer

from .graph.adapters import write_adapter_graph
from .graph.rewrite import save
from .graph.scratch import Scratch
from .texts import Text

FP32 = "fp32"
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Job:
    """A variant to make from the fp32 one of a folder that was `opened` with it, in `staging`.

    `calibration` is the text for makers that look at one, None for the others; `max_loss` the rise
    of perplexity that the gate will allow; `block_size` how many weights of a layer are to share a
    scale, None for the recipe's own number; `progress` is called with (what is done now, units
    done, units in all).
    """

    name: str
    opened: OpenFolder
    staging: Path
    max_loss: float
    calibration: Text | None = None
    block_size: int | None = None
    progress: Progress | None = None

    @property
    def source(self) -> Path:
        """The fp32 graph."""
        return self.opened.graph_path

    @property
    def target(self) -> Path:
        """Where the variant's graph goes; its weights go to this path + `_data`."""
        return self.staging / variant_path(self.name)

    @cached_property
    def scratch(self) -> Scratch:
        """Room for what is too large to be kept in memory; it goes when the staging does."""
        folder = self.staging / "scratch"
        folder.mkdir(exist_ok=True)
        return Scratch(folder)

    @property
    def config(self) -> ModelConfig:
        """The model's shape."""
        return self.opened.config

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer."""
        return Tokenizer(self.opened.tokenizer, self.config.vocab_size)

    @cached_property
    def token_ids(self) -> list[int]:
        """The calibration text's tokens; none without one."""
        if self.calibration is None:
            return []
        return self.tokenizer.encode(self.calibration.content)

    def step(self, doing: str) -> Callable[[int, int], None]:
        """Return a function to call with (units done, units in all) of `doing` for this variant."""

        def report(done: int, total: int) -> None:
            if self.progress:
                self.progress(f"{doing} {self.name}", done, total)

        return report

    def save(self, model: ir.Model, progress: Callable[[int, int], None] | None = None) -> None:
        """Write the variant; once more with places for adapters, where the fp32 one has them.

        Args:
            model: used up.
            progress: called with (tensors written, tensors in all).

        Raises:
            ModelFolderError: the fp32 graph with places for adapters is missing or altered.
            QuantizationError: it is not what the exporter writes.
        """
        save(model, self.target, progress)
        record = self.opened.record.adapter_graph
        if record is not None:
            check_files(self.opened.folder, [record], verify=True)
            source = self.opened.folder / record.path
            write_adapter_graph(model, source, self.staging / adapter_graph_path(self.name))

    def made(
        self,
        bits: Mapping[str, int],
        *,
        method: str | None = None,
        basis: str | None = None,
        block_size: int | None = None,
    ) -> Variant:
        """Return the manifest entry of the files that now lie at `target`.

        Args:
            bits: the stored bits of every weight matrix, by name.
            method: how the weights were rounded.
            basis: of its keys and values.
            block_size: how many weights of a layer share a scale.
        """
        return Variant(
            files=record_files(self.staging, self.name),
            bits=bits,
            method=method,
            adapter_graph=record_adapter_graph(self.staging, self.name),
            basis=basis,
            block_size=block_size,
            calibration_sha256=self.calibration.sha256 if self.calibration else None,
        )
