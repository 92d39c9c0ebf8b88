"""The window: a page to write on, and what the model adds to it, as it is made."""

from __future__ import annotations

import queue
import threading
import tkinter as tk
from pathlib import Path
from tkinter import ttk

import pocketgpt

FRAME_MS = 30  # how often the window looks for what the model has made
PAPER, INK, MODEL_INK = "#fbfaf6", "#1d2422", "#1f6f54"


class Window:
    """One page. The model computes in a thread; tkinter is touched by the main one alone."""

    def __init__(self, model: Path, tokens: int, temperature: float) -> None:
        """Draw the page at once, and open the model meanwhile."""
        self._tokens, self._temperature = tokens, temperature
        self._model: pocketgpt.Model | None = None
        self._stream: pocketgpt.Stream | None = None
        self._news: queue.Queue[tuple[str, str]] = queue.Queue()
        self.root = tk.Tk(className="Tales")
        self.root.title("Tales")
        self.root.geometry("720x520")
        self.page = self._draw()
        self.root.protocol("WM_DELETE_WINDOW", self.close)
        self.root.bind("<Control-Return>", lambda _: self.write())
        self.root.bind("<Escape>", lambda _: self.stop())
        self.root.after(FRAME_MS, self._look)
        threading.Thread(target=self._open, args=(model,), daemon=True).start()

    def run(self) -> None:
        """Show the window until it is closed."""
        self.root.mainloop()

    def write(self) -> str:
        """Begin to write on at the page's end; `break` keeps the key from typing a line."""
        if self._model is not None and self._stream is None:
            try:
                self._stream = self._model.stream(
                    self.page.get("1.0", "end-1c"),
                    max_new_tokens=self._tokens,
                    do_sample=self._temperature > 0,
                    temperature=self._temperature or 1.0,
                )
            except pocketgpt.PocketGPTError as error:  # a text longer than the context, for one
                self._say(str(error))
                return "break"
            self.page["state"] = "disabled"
            self._say("writing")
            threading.Thread(target=self._compute, args=(self._stream,), daemon=True).start()
        return "break"

    def stop(self) -> None:
        """End the text within a step."""
        if self._stream is not None:
            self._stream.cancel()

    def close(self) -> None:
        """Stop, and leave."""
        self.stop()
        self.root.destroy()

    def _draw(self) -> tk.Text:
        bar = ttk.Frame(self.root, padding=10)
        bar.pack(side="bottom", fill="x")
        self.status = ttk.Label(bar, text="opening the model")
        self.status.pack(side="left")
        ttk.Button(bar, text="Stop", command=self.stop).pack(side="right")
        self.button = ttk.Button(bar, text="Write on", command=self.write, state="disabled")
        self.button.pack(side="right", padx=8)
        page = tk.Text(
            self.root, wrap="word", font=("TkDefaultFont", 13), padx=28, pady=24, undo=True,
            background=PAPER, foreground=INK, borderwidth=0, highlightthickness=0, spacing2=4,
        )  # fmt: skip
        page.tag_configure("model", foreground=MODEL_INK)
        page.bind("<Control-Return>", lambda _: self.write())
        page.bind("<Control-a>", lambda _: self._select_all())
        page.pack(fill="both", expand=True)
        page.focus_set()
        return page

    def _select_all(self) -> str:
        self.page.tag_add("sel", "1.0", "end-1c")
        return "break"

    def _open(self, model: Path) -> None:
        try:
            self._model = pocketgpt.load(model)
            self._news.put(("ready", "ready: Ctrl+Enter writes on, Esc stops"))
        except pocketgpt.PocketGPTError as error:
            self._news.put(("failed", str(error)))

    def _compute(self, stream: pocketgpt.Stream) -> None:
        try:
            for piece in stream:
                self._news.put(("piece", piece))
            assert stream.result is not None
            speed = stream.result.timings.tokens_per_second
            self._news.put(("ready", f"{speed or 0:.0f} tokens a second"))
        except pocketgpt.PocketGPTError as error:
            self._news.put(("ready", str(error)))

    def _look(self) -> None:
        """Put on the page what has come, and look again."""
        while not self._news.empty():
            kind, text = self._news.get()
            if kind == "piece":
                self.page["state"] = "normal"
                self.page.insert("end", text, "model")
                self.page["state"] = "disabled"
                self.page.see("end")
            else:
                self._stream = None
                self.page["state"] = "normal"
                self.button["state"] = "normal" if kind == "ready" else "disabled"
                self._say(text)
        self.root.after(FRAME_MS, self._look)

    def _say(self, text: str) -> None:
        self.status["text"] = text
