"""What every system's form of a checkpoint loses on a text, by the figures of `pocketgpt quantize`.

    python benchmarks/peers.py CHECKPOINT FOLDER OUT.json

CHECKPOINT is the Hugging Face one, FOLDER its model folder. Every peer of 8 and 4 bits converts the
checkpoint with its own tool and computes with its own runtime, in an environment of its own, as
where its speed is measured. Sizes are of the files that it loads. A peer that cannot be installed
or run is listed with the reason.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import IO, Any

import numpy as np
from calls import Job, WorkerError, reason
from numpy.typing import NDArray
from systems.catalog import SYSTEMS, System
from systems.measuring import Plan

import pocketgpt
from pocketgpt_quantize.measure.quality import Passage, Reference

Logits = NDArray[np.float32]
Forward = Callable[[list[int], int], Logits]
"""From token ids to logits of the last so many: `[count, vocab_size]`."""


@contextmanager
def forward_of(job: Job, system: System, vocab_size: int) -> Iterator[Forward]:
    """Start a process that computes logits, and give what asks it; end it afterwards.

    Raises:
        WorkerError: it cannot be started, or ended while it was asked.
    """
    if not system.python.exists():
        raise WorkerError("not installed here")
    command, environment = job.command(system, "logits"), job.environment()
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, env=environment
        )
        questions, answers = _pipe(process.stdin), _pipe(process.stdout)

        def forward(token_ids: list[int], count: int) -> Logits:
            questions.write(json.dumps([token_ids, count]).encode() + b"\n")
            questions.flush()
            content = answers.read(4 * count * vocab_size)
            if len(content) < 4 * count * vocab_size:
                raise BrokenPipeError
            return np.frombuffer(content, "<f4").reshape(count, vocab_size)

        try:
            yield forward
        except BrokenPipeError:
            errors.seek(0)
            raise WorkerError(reason(process.wait(), errors.read())) from None
        finally:
            process.kill()
            process.communicate()


def _pipe(end: IO[bytes] | None) -> IO[bytes]:
    assert end is not None
    return end


@dataclass
class Peer:
    """Another tool's model, in the shape of a graph that `Reference` takes."""

    forward: Forward
    config: Any

    def decoder(self) -> Any:
        """Start a text."""
        return PeerDecoder(self.forward)


@dataclass
class PeerDecoder:
    """Appends tokens to a text by computing all of it again."""

    forward: Forward
    token_ids: list[int] = field(default_factory=list)

    def reserve(self, tokens: int) -> None:
        """There is no cache."""

    def prefill(self, token_ids: Sequence[int]) -> Logits:
        self.token_ids += token_ids
        return np.empty((0, 0), np.float32)  # nobody reads it

    def score(self, token_ids: Sequence[int]) -> Logits:
        self.token_ids += token_ids
        return self.forward(self.token_ids, len(token_ids))


class Quality:
    """What fp32 says of a folder's evaluation text, to hold systems against."""

    def __init__(self, folder: Path, scratch: Path) -> None:
        self._folder, self._scratch = folder, scratch

    @cached_property
    def _reference(self) -> tuple[Reference, Any]:
        fp32 = pocketgpt.load(self._folder, "fp32")
        text = (self._folder / "evaluation.txt").read_text("utf-8")
        passage = Passage.of(text, fp32.tokenizer, fp32.config, 2**40)
        return Reference(fp32.graph, passage, self._scratch, continuations=False), fp32.config

    def of(self, job: Job, system: System) -> dict[str, float]:
        """Measure a system.

        Raises:
            WorkerError: it cannot be run.
        """
        reference, config = self._reference
        with forward_of(job, system, config.vocab_size) as forward:
            peer: Any = Peer(forward, config)
            return reference.figures(system.label, peer)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    work = arguments.out.resolve().parent / "peers"
    paths = arguments.checkpoint.resolve(), arguments.folder.resolve()
    job = Job(*paths, work, threads=2, plan=Plan())
    rows: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        quality = Quality(arguments.folder, Path(scratch))
        for system in SYSTEMS:
            if system.ours or system.files_of or system.bits == 32:
                continue
            try:
                job.prepare(system)
                size = job.ask(system, "footprint")["disk"]
                rows[system.label] = {"bytes": size, "quality": quality.of(job, system)}
            except WorkerError as error:
                rows[system.label] = {"error": str(error)}
            print(system.label, rows[system.label], file=sys.stderr, flush=True)
    arguments.out.write_text(json.dumps(rows, indent=2), "utf-8")


if __name__ == "__main__":
    main()
