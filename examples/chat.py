"""A conversation in an app: turns go in, answers stream out, and only what is new is computed.

    python examples/chat.py [FOLDER] [LINE]...

The bundled model tells tales and knows no conversations: it answers, and makes no sense. A GPT-2
that was trained on conversations (DialoGPT, or one with a chat template) does.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pocketgpt
from pocketgpt.chat import Chat, read_format

DEMO = Path(__file__).resolve().parent.parent / "models" / "demo"  # what `make demo` leaves
LINES = ["Good evening!", "And what became of the princess?"]


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else DEMO
    model = pocketgpt.load(folder)
    chat = Chat(model, read_format(folder))
    for line in sys.argv[2:] or LINES:
        print(f"> {line}")
        stream = chat.reply(line, max_new_tokens=30, do_sample=True, top_p=0.9, seed=1)
        for piece in stream:
            print(piece, end="", flush=True)
        assert stream.result is not None
        chat.remember(stream.result.text)
        known = len(chat.session.token_ids)
        print(f"\n({known} tokens so far, {chat.session.evaluated_tokens} computed)\n")


if __name__ == "__main__":
    main()
