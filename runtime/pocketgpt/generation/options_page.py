"""The table in docs/options.md, made of the options' declarations.

After a change: `python -m pocketgpt.generation.options_page docs/options.md`.
"""

from __future__ import annotations

import dataclasses
import re
import sys
from pathlib import Path

from .options import GenerationOptions

_TABLE = re.compile(r"(<!-- table: .*? -->\n)(.*?)(<!-- end of table -->)", re.DOTALL)


def options_table() -> str:
    """Return a Markdown table of all options: name, values, default, what it does."""
    lines = ["| option | takes | default | what it does |", "|---|---|---|---|"]
    for field in dataclasses.fields(GenerationOptions):
        takes = field.metadata["kind"].says
        unset = field.default is None or field.default in ((), {})
        default = "" if unset else f"`{field.default!r}`"
        lines.append(f"| `{field.name}` | {takes} | {default} | {field.metadata['help']} |")
    return "\n".join(lines) + "\n"


def with_table(page: str) -> str:
    """Return the page with today's table where it has one."""
    return _TABLE.sub(lambda found: f"{found[1]}{options_table()}{found[3]}", page)


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(with_table(path.read_text("utf-8")), "utf-8")
