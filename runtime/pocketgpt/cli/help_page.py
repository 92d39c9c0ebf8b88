"""The help of every verb, as docs/commands.md has it.

After a change: `python -m pocketgpt.cli.help_page docs/commands.md`.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from typer import Context
from typer.main import get_command

from .app import app

WIDTH = 90  # of a page's code blocks, which a phone scrolls; a terminal has its own
_HELP = re.compile(r"(<!-- help: .*? -->\n)(.*?)(<!-- end of help -->)", re.DOTALL)


def help_of(verb: str) -> str:
    """Return what `pocketgpt VERB --help` prints, at a width of its own and without colours."""
    group = get_command(app)
    root = Context(group, info_name="pocketgpt", terminal_width=WIDTH, color=False)
    command = group.get_command(root, verb)  # type: ignore[attr-defined]  # it is a group
    context = Context(command, info_name=verb, parent=root, terminal_width=WIDTH, color=False)
    return "\n".join(line.rstrip() for line in command.get_help(context).splitlines())


def verbs() -> list[str]:
    """Return the verbs' names, in the order in which `pocketgpt --help` lists them."""
    group = get_command(app)
    return group.list_commands(Context(group))  # type: ignore[attr-defined,no-any-return]


def help_sections() -> str:
    """Return a section of Markdown for every verb."""
    return "\n".join(f"## {verb}\n\n```text\n{help_of(verb)}\n```\n" for verb in verbs())


def with_help(page: str) -> str:
    """Return the page with today's help where it has one."""
    return _HELP.sub(lambda found: f"{found[1]}\n{help_sections()}\n{found[3]}", page)


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(with_help(path.read_text("utf-8")), "utf-8")
