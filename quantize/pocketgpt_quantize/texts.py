"""The two texts: one that quality is measured on, one that calibrates, never the same."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from pocketgpt import QuantizationError


@dataclass(frozen=True)
class Text:
    """A text and the SHA-256 of its bytes."""

    content: str
    sha256: str


def read_evaluation(folder: Path, given: str | os.PathLike[str] | None) -> Text:
    """Read the text to measure on: `given`, or the folder's evaluation.txt.

    Raises:
        QuantizationError: it is not there, or no UTF-8 text.
    """
    return _read(
        Path(given) if given is not None else folder / "evaluation.txt",
        "quality is always measured: give a text with --eval-text FILE (eval_text=...)",
    )


def read_calibration(folder: Path, given: str | os.PathLike[str] | None, evaluation: Text) -> Text:
    """Read the text to calibrate on: `given`, or the folder's calibration.txt.

    Raises:
        QuantizationError: it is not there, no UTF-8 text, or the evaluation text itself.
    """
    path = Path(given) if given is not None else folder / "calibration.txt"
    text = _read(
        path,
        "this variant is calibrated: give a text with --calibration-text FILE "
        "(calibration_text=...)",
    )
    if text.sha256 == evaluation.sha256:
        raise QuantizationError(
            f"{path} is the text that quality is measured on, so it cannot calibrate: "
            "the figures would flatter; give another one"
        )
    return text


def _read(path: Path, remedy: str) -> Text:
    try:
        content = path.read_bytes()
        return Text(content.decode("utf-8"), hashlib.sha256(content).hexdigest())
    except FileNotFoundError:
        raise QuantizationError(f"{path} is missing, and {remedy}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise QuantizationError(f"{path} cannot be read as UTF-8 text: {error}") from None
