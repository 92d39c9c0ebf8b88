"""Many clients at one server: answers, memory, slots, time to the first token, gaps between tokens.

    python benchmarks/serving.py FOLDER [--variant V]... [--clients 64] [--seconds 120] [--quick]
        [--exact FOLDER] [--prefix-cache MB] [--gguf FILE [--llama PYTHON] [--llama-server PROGRAM]]
        [--write docs/serving.md]

Clients on loopback ask one after another for streams of mixed prompts and lengths, greedily; one in
ten closes its connection in mid-stream. Afterwards all slots have to be free, completed answers are
compared with what `generate` gives alone, and the server's memory is compared with that of the
first third. --exact is a model that is loaded first, in fp32: every answer of it has to be equal;
of other variants some are compared, as their kernels round batches otherwise. With --gguf the same
load is put on llama-cpp-python's server and on llama.cpp's own, over the same model, in the same
run. The variant `default` is what `serve` picks itself. The table is Markdown.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pocketgpt

KINDS = 1000  # different requests: few are answered from what is remembered of another
COMPARED = 48  # of them, where answers may differ
PROMPT_TOKENS, NEW_TOKENS = (8, 192), (8, 96)
LEAVING = 0.1  # of the clients' requests
BEGIN, END = "<!-- measured -->", "<!-- /measured -->"


@dataclass(frozen=True)
class Asked:
    """A request: a prompt and how many tokens are to follow it."""

    prompt: str
    tokens: int


@dataclass
class Found:
    """What the clients saw."""

    first: list[float] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)
    answers: list[tuple[int, str]] = field(default_factory=list)
    left: int = 0
    refused: int = 0
    broken: list[str] = field(default_factory=list)
    pieces: int = 0
    seconds: float = 0.0
    memory: list[float] = field(default_factory=list)  # MB, once a second


def requests(model: pocketgpt.Model, longest: int) -> list[Asked]:
    """Return the different requests: random words of the vocabulary."""
    chance = random.Random(0)
    size = model.config.vocab_size
    words = [text for i in range(256, min(size, 5000)) if (text := model.tokenizer.decode([i]))]
    words = [word for word in words if word.isascii()]
    made = []
    for _ in range(KINDS):
        count = min(chance.randint(*PROMPT_TOKENS), longest // 2)
        text = "".join(chance.choice(words) for _ in range(count))
        ids = model.tokenizer.encode(text)[:count]
        tokens = min(chance.randint(*NEW_TOKENS), longest - len(ids))
        made.append(Asked(model.tokenizer.decode(ids), tokens))
    return made


async def ask(port: int, model: str, number: int, asked: Asked, leave: bool, found: Found) -> None:
    """Ask for a stream, read it, and note when its pieces came."""
    fields = {"model": model, "prompt": asked.prompt, "max_tokens": asked.tokens, "stream": True}
    body = json.dumps({**fields, "temperature": 0}).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: {len(body)}\r\n"
    begun = last = time.perf_counter()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        head += "content-type: application/json\r\nconnection: close\r\n\r\n"
        writer.write(head.encode() + body)
        status = (await reader.readline()).split()[1:2]
        if status != [b"200"]:
            found.refused += 1
            await asyncio.sleep(0.2)
            return
        text, pieces = "", 0
        leave_at = random.randint(1, max(1, asked.tokens - 1)) if leave else None
        while line := await reader.readline():
            if not line.startswith(b"data: {"):
                continue
            chunk = json.loads(line[6:])
            if "error" in chunk:
                found.broken.append(str(chunk["error"]))
                return
            piece = chunk["choices"][0]["text"] if chunk["choices"] else ""
            if not piece:
                continue
            now = time.perf_counter()
            (found.gaps if pieces else found.first).append(now - (last if pieces else begun))
            last, pieces, text = now, pieces + 1, text + piece
            found.pieces += 1
            if pieces == leave_at:
                found.left += 1
                return
        found.answers.append((number, text))
    finally:
        writer.close()


async def load(port: int, model: str, kinds: list[Asked], options: Any, pid: int) -> Found:
    """Put the load on a server."""
    found, chance = Found(), random.Random(1)
    begun = time.perf_counter()

    async def client() -> None:
        while time.perf_counter() - begun < options.seconds:
            number = chance.randrange(len(kinds))
            leave = chance.random() < LEAVING
            await ask(port, model, number, kinds[number], leave, found)

    async def watch() -> None:
        while True:
            found.memory.append(resident(pid))
            await asyncio.sleep(1)

    watching = asyncio.create_task(watch())
    await asyncio.gather(*(client() for _ in range(options.clients)))
    watching.cancel()
    found.seconds = time.perf_counter() - begun
    return found


def resident(pid: int) -> float:
    """Return a process's memory, in MB."""
    status = Path(f"/proc/{pid}/status").read_text()
    match = re.search(r"VmRSS:\s+(\d+)", status)
    return int(match[1]) / 1024 if match else 0.0


def free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port: int = bound.getsockname()[1]
        return port


@contextmanager
def server(command: list[str], port: int, path: str) -> Iterator[int]:
    """Run a server until it answers a path; yield its process id."""
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ)
        try:
            deadline = time.monotonic() + 120
            while True:
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=2)
                    break
                except OSError:
                    if process.poll() is not None or time.monotonic() > deadline:
                        log.seek(0)
                        raise SystemExit(f"no server:\n{log.read()[-2000:]}") from None
                    time.sleep(0.2)
            yield process.pid
        finally:
            process.terminate()
            process.wait(60)


def quantile(values: list[float], share: float) -> float:
    """Return a quantile in milliseconds."""
    found = sorted(values)
    return 1000 * found[min(len(found) - 1, int(share * len(found)))] if found else float("nan")


def row(name: str, found: Found) -> str:
    third = max(1, len(found.memory) // 3)
    growth = statistics.median(found.memory[-third:]) - statistics.median(found.memory[:third])
    cells = [
        name,
        f"{found.pieces / found.seconds:.0f}",
        f"{len(found.answers)}",
        f"{found.left}",
        f"{quantile(found.first, 0.5):.0f} / {quantile(found.first, 0.99):.0f}",
        f"{quantile(found.gaps, 0.5):.1f} / {quantile(found.gaps, 0.99):.1f}",
        f"{max(found.memory):.0f} ({growth:+.0f})",
    ]
    return "| " + " | ".join(cells) + " |"


HEAD = (
    "| server | tokens/s | completed | left | first token, ms, p50 / p99 | gap, ms, p50 / p99 "
    "| MB (growth) |\n|---|---|---|---|---|---|---|"
)


def measure_ours(options: Any, folder: str, variant: str) -> str:
    """Load our server and check what it answered; return its row."""
    port, picked = free_port(), None if variant == "default" else variant
    model = pocketgpt.load(folder, picked, threads=options.threads)
    kinds = requests(model, model.config.n_positions)
    command = [sys.executable, "-m", "pocketgpt", "serve", folder, "--port", str(port)]
    command += ["--name", "model", "--slots", str(options.slots)]
    command += ["--variant", picked] if picked else []
    if options.threads:
        command += ["--threads", str(options.threads)]
    if options.prefix_cache is not None:
        command += ["--prefix-cache", str(options.prefix_cache)]
    with server(command, port, "/health") as pid:
        found = asyncio.run(load(port, "model", kinds, options, pid))
        time.sleep(1)
        figures = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics").read().decode()
    for name in ("running", "queued"):
        assert f'pocketgpt_{name}{{model="model"}} 0.0' in figures, f"{name}: a slot was lost"
    assert not found.broken, found.broken[:3]
    compare(model, kinds, found, exact=variant == "fp32")
    return row(f"PocketGPT, {Path(folder).name} {model.variant}, {options.slots} slots", found)


def compare(model: pocketgpt.Model, kinds: list[Asked], found: Found, *, exact: bool) -> None:
    """Compare answers with those given alone: all where they have to be equal, else some."""
    numbers = sorted({number for number, _ in found.answers})[: None if exact else COMPARED]
    alone = {
        number: model.generate(kinds[number].prompt, max_new_tokens=kinds[number].tokens).text
        for number in numbers
    }
    answers = [(number, text) for number, text in found.answers if number in alone]
    wrong = sum(text != alone[number] for number, text in answers)
    print(f"{model.variant}: {wrong} of {len(answers)} answers other than alone; refused: "
          f"{found.refused}", file=sys.stderr)  # fmt: skip
    assert not (exact and wrong), "fp32 answers differ from those given alone"


def measure_other(
    options: Any, kinds: list[Asked], name: str, command: list[str], flags: str, ready: str
) -> str:
    """Load another server over the GGUF file; return its row.

    Args:
        options: the command line.
        kinds: the requests.
        name: what the row calls it.
        command: what starts it.
        flags: those for threads, each.
        ready: the path that answers once it serves.
    """
    port = free_port()
    command = [*command, "--model", options.gguf, "--port", str(port)]
    for flag in flags.split() if options.threads else ():
        command += [flag, str(options.threads)]
    with server(command, port, ready) as pid:
        found = asyncio.run(load(port, "model", kinds, options, pid))
    return row(name.format(Path(options.gguf).stem), found)


def others(options: Any) -> list[str]:
    """Load the other servers that were named; return their rows."""
    if not options.gguf:
        return []
    model = pocketgpt.load(options.folder, threads=options.threads)
    context, rows = model.config.n_positions, []
    measure = partial(measure_other, options, requests(model, context))
    del model
    if options.llama:
        command = [options.llama, "-m", "llama_cpp.server", "--interrupt_requests", "False"]
        command += ["--n_ctx", "0"]
        flags = "--n_threads --n_threads_batch"
        rows.append(measure("llama-cpp-python, {}", command, flags, "/v1/models"))
    if options.llama_server:
        command = [options.llama_server, "--parallel", str(options.slots)]
        command += ["--ctx-size", str(options.slots * context)]
        name = f"llama.cpp's, {{}}, {options.slots} slots"
        rows.append(measure(name, command, "--threads", "/health"))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder")
    parser.add_argument("--variant", action="append", help="may be repeated")
    parser.add_argument("--exact", help="a folder whose fp32 answers are compared, every one")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--slots", type=int, default=16)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--prefix-cache", type=int, help="MB, as serve takes it")
    parser.add_argument("--quick", action="store_true", help="15 seconds")
    parser.add_argument("--gguf", help="the same model for llama.cpp")
    parser.add_argument("--llama", help="a Python that has llama-cpp-python[server]")
    parser.add_argument("--llama-server", help="llama.cpp's own llama-server")
    parser.add_argument("--write", type=Path, help="a page that has a place for the table")
    options = parser.parse_args()
    options.seconds = 15 if options.quick else options.seconds
    rows = [measure_ours(options, options.exact, "fp32")] if options.exact else []
    rows += [measure_ours(options, options.folder, one) for one in options.variant or ["default"]]
    rows += others(options)
    table = "\n".join([HEAD, *rows])
    said = f"{options.clients} clients, {options.seconds:.0f} seconds, {pocketgpt.__version__}"
    print(f"{table}\n\n{said}")
    if options.write:
        page = options.write.read_text("utf-8")
        before, _, rest = page.partition(BEGIN)
        _, _, after = rest.partition(END)
        text = f"{before}{BEGIN}\n{table}\n\n{said}.\n{END}{after}"
        options.write.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
