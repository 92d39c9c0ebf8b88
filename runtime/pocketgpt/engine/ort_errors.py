"""What ONNX Runtime's exceptions say, in a line."""

from __future__ import annotations

_REASON_CHARACTERS = 400


def reason(error: Exception) -> str:
    """Return an error's first line, at a bearable length; its kind where it says nothing."""
    lines = str(error).splitlines()
    return lines[0][:_REASON_CHARACTERS] if lines and lines[0] else type(error).__name__
