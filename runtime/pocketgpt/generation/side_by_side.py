"""Opening a model: its graph and its tokenizer, at the same time."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from ..engine.graph import Graph, open_variant
from ..engine.heap import trim_heap
from ..engine.running import Running
from ..folder.opening import OpenFolder
from ..text.tokenizer import Tokenizer

HEAD_START = 0.02  # seconds, in which ONNX Runtime has parsed a graph, and lets Python's lock go


def open_both(
    opened: OpenFolder, running: Running, chunks: OpenFolder | None
) -> tuple[Graph, Tokenizer]:
    """Open the graph and read the tokenizer, side by side unless that takes too much memory."""
    reading = partial(Tokenizer, opened.tokenizer, opened.config.vocab_size)
    if running.low_memory:  # one after the other: so are their peaks
        graph = open_variant(opened, running, chunks)
        trim_heap()
        tokenizer = reading()
    else:
        # ONNX Runtime opens a graph without Python's lock, which reading a tokenizer holds to its
        # end: begun at once, it would go first and the graph after it.
        begun, is_open = threading.Event(), threading.Event()
        with ThreadPoolExecutor(1) as beside:
            read = beside.submit(lambda: (begun.wait(), is_open.wait(HEAD_START), reading())[-1])
            try:
                graph = open_variant(opened, running, chunks, begun.set)
            finally:
                begun.set()
                is_open.set()
            tokenizer = read.result()
    trim_heap()
    return graph, tokenizer
