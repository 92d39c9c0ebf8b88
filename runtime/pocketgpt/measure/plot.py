"""Whether a file can take a picture, asked before the work that it is to show."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import OptionError
from ..extras import needs_extra


def check_picture_path(path: str | os.PathLike[str]) -> None:
    """Refuse a file that no picture can be written to.

    Raises:
        OptionError: its ending is none of a picture format's.
        MissingExtraError: matplotlib is not installed.
    """
    with needs_extra("plot"):
        from matplotlib.figure import Figure
    kinds = Figure().canvas.get_supported_filetypes()
    if Path(path).suffix.lstrip(".").lower() not in kinds:
        raise OptionError(f"{path} has no ending of a picture format: {', '.join(sorted(kinds))}")
