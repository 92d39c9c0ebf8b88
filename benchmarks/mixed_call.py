"""Whether one call that decodes some rows and prefills another beats a step and a chunk in turn.

    python benchmarks/mixed_call.py FOLDER [--variant V]... [--rounds N]

GroupQueryAttention of ONNX Runtime 1.32 takes `query_seqlens`, the number of valid tokens in each
row's right-padded chunk. Two graphs are made with it, over a copy of FOLDER's weights: *padded*,
whose every product computes the padding too, and *packed*, which keeps only real tokens,
`[1, tokens, width]`, and spreads them over rows around attention alone. FOLDER
has a `fused` graph; gpt2_shape.py makes one.

Times are the calling thread's processor time, one thread, which other work on the machine disturbs
least; every round runs all cases in turn, and a ratio is the median of the rounds'. What packed
logits differ by, from those of the same rows in turn, is printed too. Tables are Markdown.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
from numpy.typing import NDArray
from onnx_ir.passes.common import RemoveUnusedNodesPass

import pocketgpt

QUERY_LENGTHS = 16  # the place of query_seqlens among GroupQueryAttention's inputs
PAST = 128  # tokens that decoding rows have behind them
STEPS = (1, 2, 4, 8, 16)
CHUNKS = (32, 64, 128, 256)
DECODING = 15  # rows of a mixed call
MIXED_CHUNKS = (16, 64, 256)
PADDED_PLACES = 1200  # tokens with padding, beyond which that form is not run
PROMPTS = ((16, 17, 18, 19, 20, 21, 22, 23), (16, 40, 64, 96, 128, 160))


def add_input(graph: ir.Graph, name: str, dtype: ir.DataType, shape: list[str]) -> ir.Value:
    value = ir.Value(name=name, type=ir.TensorType(dtype), shape=ir.Shape(shape))
    graph.inputs.append(value)
    return value


def add_constant(graph: ir.Graph, name: str, numbers: list[int]) -> ir.Value:
    tensor = ir.tensor(np.array(numbers, np.int64), name=name)
    kind = ir.TensorType(ir.DataType.INT64)
    value = ir.Value(name=name, shape=ir.Shape([len(numbers)]), type=kind, const_value=tensor)
    graph.initializers.add(value)
    return value


def attentions(graph: ir.Graph) -> list[ir.Node]:
    return [node for node in graph if node.op_type == "GroupQueryAttention"]


def padded(model: ir.Model) -> None:
    """Let rows have chunks of different lengths: `query_lengths [batch]`."""
    lengths = add_input(model.graph, "query_lengths", ir.DataType.INT32, ["batch_size"])
    for node in attentions(model.graph):
        node.resize_inputs(QUERY_LENGTHS + 1)
        node.replace_input_with(QUERY_LENGTHS, lengths)


def packed(model: ir.Model, width: int) -> None:
    """Compute on real tokens alone.

    `input_ids` and `position_ids` become `[1, tokens]`. `token_of_row [batch, longest]` says which
    token each place of the padded chunks has, `place_of_token [tokens]` the reverse, over all
    places, `last_of_row [batch]` each row's last token.
    """
    padded(model)
    graph, whole = model.graph, ir.DataType.INT64
    token_of_row = add_input(graph, "token_of_row", whole, ["batch_size", "longest"])
    place_of_token = add_input(graph, "place_of_token", whole, ["tokens"])
    last_of_row = add_input(graph, "last_of_row", whole, ["batch_size"])
    first, second = add_constant(graph, "axis.0", [0]), add_constant(graph, "axis.1", [1])
    single, triple = (add_constant(graph, f"flat.{n}", [-1, n * width]) for n in (1, 3))

    def gathered(value: ir.Value, flat: ir.Value, index: ir.Value) -> list[ir.Node]:
        rows = ir.node("Reshape", [value, flat])
        return [rows, ir.node("Gather", [rows.outputs[0], index], {"axis": 0})]

    for node in attentions(graph):
        given, made = node.inputs[0], node.outputs[0]
        assert given is not None
        spread = gathered(given, triple, token_of_row)
        graph.insert_before(node, spread)
        node.replace_input_with(0, spread[-1].outputs[0])
        back = gathered(made, single, place_of_token)
        back.append(ir.node("Unsqueeze", [back[-1].outputs[0], first]))
        made.replace_all_uses_with(back[-1].outputs[0])
        back[0].replace_input_with(0, made)
        graph.insert_after(node, back)
    keep = next(node for node in graph if node.op_type == "GatherND")
    assert keep.inputs[0] is not None
    last = gathered(keep.inputs[0], single, last_of_row)
    last.append(ir.node("Unsqueeze", [last[-1].outputs[0], second]))
    graph.insert_before(keep, last)
    keep.outputs[0].replace_all_uses_with(last[-1].outputs[0])
    positions = next(value for value in graph.inputs if value.name == "position_ids")
    # What poisons the positions of rows padded on the left has another shape.
    poisoned = next(n for n in graph if n.op_type == "Add" and n.inputs[0] is positions)
    poisoned.outputs[0].replace_all_uses_with(positions)
    for value in graph.inputs:
        if value.name in ("input_ids", "position_ids"):
            value.shape = ir.Shape([1, "tokens"])
    RemoveUnusedNodesPass()(model)


@dataclass(frozen=True)
class Rows:
    """Texts in a batch: how many tokens each has behind it, and how many it is given now."""

    pasts: Sequence[int]
    new: Sequence[int]

    first_seed: int = 0

    @property
    def capacity(self) -> int:
        """What a row of the cache must hold: the padding too."""
        return max(self.pasts) + max(self.new)

    @property
    def seeds(self) -> range:
        """What each row's content is drawn from: the same alone and in a batch."""
        return range(self.first_seed, self.first_seed + len(self.new))

    def row(self, index: int) -> Rows:
        """Return one of the rows alone."""
        return Rows([self.pasts[index]], [self.new[index]], self.first_seed + index)


class Call:
    """A run of some rows, bound once. Attributes: `logits [rows, 1, vocab]` after it."""

    def __init__(self, session: ort.InferenceSession, model: pocketgpt.Model, rows: Rows) -> None:
        self._session, self._config, self._rows = session, model.config, rows
        count = len(rows.new)
        self._binding = session.io_binding()
        self._kept: list[NDArray[Any]] = []  # ONNX Runtime reads and writes where they lie
        for name, array in self._feeds({i.name for i in session.get_inputs()}).items():
            self._binding.bind_cpu_input(name, array)
            self._kept.append(array)
        for layer in range(model.config.n_layer):
            for side in ("key", "value"):
                cache = np.stack([self._past(row) for row in range(count)])
                self._binding.bind_cpu_input(f"past_key_values.{layer}.{side}", cache)
                self._write_to(f"present.{layer}.{side}", cache)
        self.logits = np.zeros((count, 1, model.config.vocab_size), np.float32)
        self._write_to("logits", self.logits)

    def run(self) -> None:
        self._session.run_with_iobinding(self._binding)

    def _write_to(self, name: str, array: NDArray[Any]) -> None:
        place = array.dtype, array.shape, array.ctypes.data
        self._binding.bind_output(name, "cpu", 0, *place)
        self._kept.append(array)

    def _past(self, row: int) -> NDArray[np.float32]:
        config, random = self._config, np.random.default_rng(self._rows.seeds[row])
        numbers = random.standard_normal((config.n_head, 1, config.head_dim), np.float32)
        return np.tile(numbers, (1, self._rows.capacity, 1))

    def _feeds(self, names: set[str]) -> dict[str, NDArray[Any]]:
        rows, vocab_size = self._rows, self._config.vocab_size
        drawn = zip(rows.seeds, rows.new, strict=True)
        ids = [np.random.default_rng(seed).integers(0, vocab_size, n) for seed, n in drawn]
        places = [np.arange(past, past + n) for past, n in zip(rows.pasts, rows.new, strict=True)]
        ends = np.array([place[-1] + 1 for place in places])
        chunk = np.arange(max(rows.new)) < np.array(rows.new)[:, None]
        mask = np.arange(rows.capacity) < ends[:, None]
        feeds: dict[str, NDArray[Any]] = {"attention_mask": mask.astype(np.int64)}
        if "query_lengths" in names:
            feeds["query_lengths"] = np.array(rows.new, np.int32)
        if "token_of_row" in names:
            feeds["token_of_row"] = np.zeros(chunk.shape, np.int64)
            feeds["token_of_row"][chunk] = np.arange(chunk.sum())
            feeds["place_of_token"] = np.flatnonzero(chunk)
            feeds["last_of_row"] = np.cumsum(rows.new) - 1
        for name, parts in (("input_ids", ids), ("position_ids", places)):
            if "token_of_row" in names:
                feeds[name] = np.concatenate(parts)[None]
            else:
                feeds[name] = np.zeros(chunk.shape, np.int64)
                feeds[name][chunk] = np.concatenate(parts)
        return feeds


def timed(calls: dict[str, Call], rounds: int) -> dict[str, list[float]]:
    """Return each call's times in ms, round by round; a first round warms up."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds + 1):
        for name, call in calls.items():
            begin = time.thread_time()
            call.run()
            if number:
                times[name].append((time.thread_time() - begin) * 1e3)
    return times


@dataclass(frozen=True)
class Bench:
    """The three graphs of one variant, opened."""

    variant: str
    model: pocketgpt.Model
    sessions: dict[str, ort.InferenceSession]
    rounds: int

    def call(self, graph: str, rows: Rows) -> Call:
        return Call(self.sessions[graph], self.model, rows)

    def costs(self) -> str:
        """Return a row: what steps and chunks take alone."""
        alone = {f"step of {n}": Rows([PAST] * n, [1] * n) for n in STEPS}
        alone |= {f"chunk of {n}": Rows([0], [n]) for n in CHUNKS}
        calls = {name: self.call("plain", rows) for name, rows in alone.items()}
        found = {n: statistics.median(t) for n, t in timed(calls, self.rounds).items()}
        return f"| {self.variant} | " + " | ".join(f"{ms:.1f}" for ms in found.values()) + " |"

    def comparisons(self) -> Iterator[str]:
        """Yield the rows of the second table."""
        for chunk in MIXED_CHUNKS:
            step = Rows([PAST] * DECODING, [1] * DECODING)
            both = Rows([*step.pasts, 0], [*step.new, chunk])
            label = f"{DECODING} rows decode, {chunk} tokens are prefilled"
            yield self.compare(label, [step, both.row(DECODING)], both)
        for prompts in PROMPTS:
            rows = Rows([0] * len(prompts), prompts)
            label = f"prompts of {', '.join(map(str, prompts))}"
            yield self.compare(label, [rows.row(i) for i in range(len(prompts))], rows)

    def compare(self, label: str, apart: Sequence[Rows], together: Rows) -> str:
        """Return a row: one call's time over several calls' in turn, and its logits' difference."""
        calls = {str(i): self.call("plain", rows) for i, rows in enumerate(apart)}
        one_by_one = list(calls)
        for graph in ("padded", "packed"):
            if graph == "packed" or max(together.new) * len(together.new) <= PADDED_PLACES:
                calls[graph] = self.call(graph, together)
        times = timed(calls, self.rounds)
        in_turn = [sum(parts) for parts in zip(*(times[n] for n in one_by_one), strict=True)]
        expected = np.concatenate([calls[name].logits for name in one_by_one])
        cells = []
        for graph in ("padded", "packed"):
            pairs = zip(times.get(graph, []), in_turn, strict=False)
            ratios = [one / other for one, other in pairs]
            cells.append(f"{statistics.median(ratios):.2f}" if ratios else "")
        worst = float(np.abs(calls["packed"].logits - expected).max())
        figures = " | ".join([f"{statistics.median(in_turn):.0f}", *cells, f"{worst:.1g}"])
        return f"| {self.variant} | {label} | {figures} |"


def open_graphs(source: Path, width: int) -> dict[str, ort.InferenceSession]:
    """Make the two graphs, which have to lie beside the weights, and open all three."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    sessions = {}
    with tempfile.TemporaryDirectory() as scratch:
        weights = Path(f"{source}_data")
        shutil.copyfile(weights, Path(scratch) / weights.name)
        for name in ("plain", "padded", "packed"):
            model = ir.load(source)
            if name == "padded":
                padded(model)
            elif name == "packed":
                packed(model, width)
            path = Path(scratch) / f"{name}.onnx"
            ir.save(model, path)
            sessions[name] = ort.InferenceSession(path, options, ["CPUExecutionProvider"])
    return sessions


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--variant", action="append", help="all of the folder's by default")
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    model = pocketgpt.load(arguments.folder, "fp32")
    alone = [f"step of {n}, ms" for n in STEPS] + [f"chunk of {n}, ms" for n in CHUNKS]
    print("| variant | " + " | ".join(alone) + " |\n|---|" + "---|" * len(alone))
    comparisons: list[str] = []
    for variant in arguments.variant or model.manifest.variants:
        graph = arguments.folder / model.manifest.variant(variant).files[0].path
        sessions = open_graphs(graph, model.config.n_embd)
        bench = Bench(variant, model, sessions, arguments.rounds)
        print(bench.costs(), flush=True)
        comparisons += bench.comparisons()
    print("\n| variant | in one call | in turn, ms | padded | packed | packed logits differ by |")
    print("|---|---|---|---|---|---|", *comparisons, sep="\n")


if __name__ == "__main__":
    main()
