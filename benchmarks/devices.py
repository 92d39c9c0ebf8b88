"""Ours on a device beside PyTorch on the same one: tokens a second, the first token, the same text.

    pip install torch transformers onnxruntime-gpu && pip install --no-deps -e .
    python benchmarks/devices.py CHECKPOINT FUSED PORTABLE [--docs docs/devices.md]

FUSED is CHECKPOINT's model folder with the variants fp16 and q4f16, PORTABLE its portable one.
Prompts are the evaluation text's: 32 tokens and 128 new ones, greedy, without an end, for 1, 8 and
64 rows; *first token* is that of 512 tokens or as many as fit. Each figure is the median of
`--rounds` after a run that is not counted. *Same* is the share of tokens up to the first that is
not the CPU's fp32. PyTorch has its cache as it comes, StaticCache, and that compiled.
"""

from __future__ import annotations

import argparse
import re
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import torch
import transformers
from machine import described
from tables import markdown

import pocketgpt

Generate = Callable[[list[list[int]], int], list[list[int]]]

PROMPT, NEW = 32, 128
BEGIN, END = "<!-- measured -->", "<!-- /measured -->"


def of_ours(folder: Path, variant: str, provider: Any) -> Generate:
    """Return greedy decoding by a variant of a folder."""
    model = pocketgpt.load(folder, variant, provider=provider)
    decode = model.tokenizer.decode

    def generate(prompts: list[list[int]], new: int) -> list[list[int]]:
        texts = [decode(ids) for ids in prompts]
        results = model.generate(texts, max_new_tokens=new, batch_size=len(texts), eos_token_id=[])
        return [result.token_ids for result in results]

    return generate


def of_torch(checkpoint: Path, device: str, dtype: torch.dtype, cache: str) -> Generate:
    """Return greedy decoding by transformers: cache `dynamic`, `static` or `compiled`."""
    model: Any = transformers.GPT2LMHeadModel.from_pretrained(checkpoint, dtype=dtype)
    model = model.to(device).eval()
    options: dict[str, Any] = {} if cache == "dynamic" else {"cache_implementation": "static"}
    if cache != "dynamic":
        options["disable_compile"] = cache == "static"

    def generate(prompts: list[list[int]], new: int) -> list[list[int]]:
        ids = torch.tensor(prompts, device=device)
        fixed = {"do_sample": False, "pad_token_id": 0, "eos_token_id": None}
        with torch.inference_mode():
            made = model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=new,
                min_new_tokens=new,
                **fixed,
                **options,
            )
        rows: list[list[int]] = made[:, ids.shape[1] :].tolist()
        return rows

    return generate


def median_seconds(generate: Generate, prompts: list[list[int]], new: int, rounds: int) -> float:
    generate(prompts, new)
    seconds = []
    for _ in range(rounds):
        begin = time.perf_counter()
        generate(prompts, new)
        seconds.append(time.perf_counter() - begin)
    return statistics.median(seconds)


def same(found: Sequence[int], expected: Sequence[int]) -> float:
    """Return the share of tokens up to the first difference."""
    differ = [a != b for a, b in zip(found, expected, strict=True)]
    return (differ.index(True) if True in differ else len(differ)) / len(differ)


def row(name: str, generate: Generate, work: dict[str, Any], rounds: int) -> list[str]:
    """Measure a system: its line of the table."""
    cells = [name]
    for prompts in work["batches"]:
        first = median_seconds(generate, prompts, 1, rounds)
        whole = median_seconds(generate, prompts, NEW, rounds)
        cells.append(f"{len(prompts) * (NEW - 1) / (whole - first):,.0f}")
    cells.append(f"{1e3 * median_seconds(generate, [work['long']], 1, rounds):.1f}")
    cells.append(f"{same(generate(work['batches'][0], NEW)[0], work['expected']):.0%}")
    return cells


def workload(arguments: argparse.Namespace) -> dict[str, Any]:
    """Cut the evaluation text, where tokens decode to a text that encodes to them again."""
    model = pocketgpt.load(arguments.portable, "fp32")
    text = (arguments.portable / "evaluation.txt").read_text("utf-8")
    ids = model.tokenizer.encode(text)
    n_positions = model.graph.config.n_positions
    exact = [
        cut
        for at in range(0, len(ids) - PROMPT, PROMPT)
        if model.tokenizer.encode(model.tokenizer.decode(cut := ids[at : at + PROMPT])) == cut
    ]
    batches = [list(np.resize(np.array(exact), (rows, PROMPT)).tolist()) for rows in arguments.rows]
    expected = of_ours(arguments.portable, "fp32", "cpu")(batches[0], NEW)[0]
    return {"batches": batches, "long": ids[: min(512, n_positions - 1)], "expected": expected}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("fused", type=Path)
    parser.add_argument("portable", type=Path)
    parser.add_argument("--provider", default="CUDAExecutionProvider")
    parser.add_argument("--device", default="cuda", help="PyTorch's name of it")
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--variants", nargs="+", default=["fp16", "q4f16"])
    parser.add_argument("--docs", type=Path, help="the page whose measured part is written")
    arguments = parser.parse_args()
    work = workload(arguments)
    on_cuda = arguments.device == "cuda"
    half = torch.float16 if on_cuda else torch.float32
    folder, provider = arguments.portable, arguments.provider
    systems: dict[str, Callable[[], Generate]] = {
        f"PocketGPT {name}": partial(of_ours, arguments.fused, name, provider)
        for name in arguments.variants
    }
    systems["PocketGPT portable fp32"] = partial(of_ours, folder, "fp32", provider)
    for dtype in dict.fromkeys((half, torch.float32)):
        for cache in ("dynamic", "static", "compiled"):
            name = f"PyTorch {str(dtype).removeprefix('torch.')}, {cache} cache"
            systems[name] = partial(of_torch, arguments.checkpoint, arguments.device, dtype, cache)
    lines = []
    for name, make in systems.items():
        lines.append(row(name, make(), work, arguments.rounds))
        print(lines[-1], flush=True)
    where = torch.cuda.get_device_name() if on_cuda else described(1)["processor"]
    headings = ["", *(f"tok/s, {rows} rows" for rows in arguments.rows), "first token, ms", "same"]
    text = (
        f"{where}, {time.strftime('%Y-%m-%d')}: ONNX Runtime {ort.__version__}, PyTorch "
        f"{torch.__version__}, transformers {transformers.__version__}; {arguments.provider}; "
        f"{arguments.rounds} rounds.\n\n{markdown(headings, lines)}"
    )
    print(text)
    if arguments.docs:
        page = arguments.docs.read_text("utf-8")
        part = f"{BEGIN}\n{text}{END}"
        whole = re.sub(f"{BEGIN}.*{END}", lambda _: part, page, flags=re.DOTALL)
        arguments.docs.write_text(whole, "utf-8")


if __name__ == "__main__":
    main()
