"""The end of the calibration text: measured on while a variant is being made, not rounded by."""

from __future__ import annotations

from pocketgpt import QuantizationError

from ..job import Job
from ..measure.loading import open_sparingly
from ..measure.quality import Passage, Reference

HELD_OUT = 1 / 4  # of the calibration text
MEASURED = 32_768  # characters of that at most


class HeldOut:
    """A calibration text in two parts.

    Attributes:
        token_ids: of the part to round by.
    """

    def __init__(self, job: Job) -> None:
        """Split the job's text."""
        assert job.calibration is not None
        text = job.calibration.content
        cut = len(text) - min(round(HELD_OUT * len(text)), MEASURED)
        self.token_ids = job.tokenizer.encode(text[:cut])
        self._text = text[cut:]
        self._job = job

    def reference(self, name: str, characters: int | None = None) -> Reference:
        """Record what fp32 says about the other part, a block of `Passage` of it at most.

        Args:
            name: of the folder that it is recorded in.
            characters: how many of it to measure on; None for all.

        Raises:
            QuantizationError: it is too short.
        """
        job = self._job
        folder = job.scratch.folder / name
        folder.mkdir()
        graph = open_sparingly(job.source, job.config, job.opened.record.bits)
        try:
            passage = Passage.of(self._text[:characters], job.tokenizer, job.config)
            return Reference(graph, passage, folder, continuations=False)
        except QuantizationError as error:
            raise QuantizationError(
                f"the calibration text is too short to measure on a part of it: {error}"
            ) from None
