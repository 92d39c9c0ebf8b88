"""`pocketgpt chat`: a conversation, line by line."""

from __future__ import annotations

import sys
from typing import Any

from ..chat import Chat, read_format
from ..errors import OptionError
from .console import progress_console
from .generation_flags import with_generation_flags
from .interrupt import cancel_on_interrupt
from .loading import Loading, with_loading_flags
from .options import Folder
from .streams import UnreadableLineError, read_line


@with_loading_flags()
@with_generation_flags
def chat(
    folder: Folder,
    *,
    loading: Loading,
    generation: dict[str, Any],
) -> None:
    """Talk with a model. A line is a turn; /new starts afresh; an empty input's end leaves.

    Ctrl-C ends an answer, or at the prompt the conversation. Turns are written as the folder's chat
    template says, or without one in DialoGPT's format.
    """
    format_turns = read_format(folder)
    model = loading.open(folder)
    model.resolve(generation)
    conversation = Chat(model, format_turns, loading.adapter)
    while (line := _next_line()) is not None:
        if line == "/new":
            conversation = Chat(model, format_turns, loading.adapter)
        elif line:
            _answer(conversation, line, generation)


def _answer(conversation: Chat, line: str, generation: dict[str, Any]) -> None:
    begun = False
    try:
        stream = conversation.reply(line, **generation)
        with cancel_on_interrupt(stream.cancel):
            for piece in stream:
                begun = True
                print(piece, end="", flush=True)
    except OptionError as error:  # this line's fault: the conversation goes on without it
        if begun:
            print()
        _show(error)
        return
    print()
    assert stream.result is not None
    conversation.remember(stream.result.text)


def _next_line() -> str | None:
    """Return the next line, empty where it cannot be read, None at the end.

    The prompt is for people only.
    """
    if sys.stdin is not None and sys.stdin.isatty():
        progress_console.print("> ", end="")
    try:
        return read_line()
    except KeyboardInterrupt:
        return None
    except UnreadableLineError as error:
        _show(error)
        return ""


def _show(error: OptionError) -> None:
    progress_console.print(f"error: {error}", highlight=False, markup=False, soft_wrap=True)
