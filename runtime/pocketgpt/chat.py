"""Conversations: `Chat` over a loaded model, written as the folder's chat template says.

    from pocketgpt.chat import Chat, read_format

    chat = Chat(model, read_format(folder))
    stream = chat.reply("Who are you?")
    for piece in stream: print(piece, end="")
    chat.remember(stream.result.text)

A chat template needs jinja2: `pip install 'pocketgpt[chat]'`.
"""

from __future__ import annotations

from .sessions.chat import Chat
from .text.chat_template import Format, Turn, read_format

__all__ = ["Chat", "Format", "Turn", "read_format"]
