"""Decoding as on a device, whose code runs here over the CPU's memory: PyTorch's tokens, always.

tests/devices has what a real one does.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import pocketgpt
from pocketgpt.engine.decoder import Decoder
from pocketgpt.engine.graph import Graph, open_graph
from pocketgpt.engine.on_device import DevicePasses
from pocketgpt.engine.ort_session import run_bound
from pocketgpt.engine.placement import EXACT, HOST, Placement
from pocketgpt.folder.config import read_config

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel

PLACEMENTS = {
    "device": Placement(apart=True),
    "device, rows of one length": Placement(apart=True, ragged=False),
    "device, captured": Placement(apart=True, captured=True),
    "device, exact": Placement(apart=True, in_place=False, ragged=False),
    "host, exact": EXACT,
}
PROMPTS = [[5, 6, 7], [8], [9, 10, 11, 12, 13], [14, 15, 16]]

Open = Callable[[Placement], Graph]


@pytest.fixture
def open_at(tiny_folder: Path) -> Open:
    """Open the small model's graph, its cache in a place."""

    def open_it(placement: Placement) -> Graph:
        graph = open_graph(tiny_folder / "onnx" / "model.onnx", read_config(tiny_folder))
        graph.placement = placement
        return graph

    return open_it


@pytest.fixture(params=list(PLACEMENTS.values()), ids=list(PLACEMENTS))
def placed(
    request: pytest.FixtureRequest, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> pocketgpt.Model:
    """The small model, loaded as on a device."""
    monkeypatch.setattr("pocketgpt.engine.graph.read_placement", lambda session: request.param)
    monkeypatch.setattr("pocketgpt.engine.graph.takes_query_lengths", lambda provider: False)
    return pocketgpt.load(tiny_folder, "fp32")


def test_the_cpu_keeps_the_cache_on_the_host(tiny: pocketgpt.Model) -> None:
    assert tiny.graph.placement == HOST


def scenario(decoder: Decoder) -> np.ndarray:
    """Everything that a decoder does: `[logits, vocab_size]`."""
    rows = [decoder.fill([[5, 6, 7], [8], [9, 10]]).copy(), decoder.append([1, 2, 3], 1).copy()]
    rows += [decoder.step([3, 4, 5]).copy() for _ in range(70)]
    decoder.copy_slot(2, 0)
    decoder.rewind(20, 1)
    rows += [decoder.step([6, 7]).copy(), decoder.score([1, 2, 3], 2).copy()]
    rows += [decoder.step([6, 7]).copy(), decoder.step([8]).copy()]
    keys, values = decoder.read(0)
    decoder.write(keys[:, :, :30], values[:, :, :30], 1)
    decoder.feed([4, 5], 1)
    rows.append(decoder.step([1, 1, 1]).copy())
    return np.concatenate(rows)


@pytest.mark.parametrize("placement", PLACEMENTS.values(), ids=PLACEMENTS.keys())
def test_logits_equal_the_hosts(open_at: Open, placement: Placement) -> None:
    """Through fills, growth, copies, steps of some slots, rewinding, reading and writing."""
    found, expected = (scenario(open_at(one).decoder(3)) for one in (placement, HOST))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    "options", [{}, {"num_beams": 3}, {"no_repeat_ngram_size": 2}, {"prompt_lookup_num_tokens": 3}]
)
def test_tokens_equal_transformers(
    placed: pocketgpt.Model,
    tiny_reference: GPT2LMHeadModel,
    reference_greedy: Callable[..., list[int]],
    options: dict[str, Any],
) -> None:
    same = {name: value for name, value in options.items() if not name.startswith("prompt_")}
    for prompt in PROMPTS[:2]:
        text = placed.tokenizer.decode(prompt)
        assert placed.tokenizer.encode(text) == prompt
        result = placed.generate(text, max_new_tokens=70, **options)
        assert result.token_ids == reference_greedy(
            tiny_reference, prompt, max_new_tokens=70, **same
        )


def test_batches_of_different_lengths_equal_each_alone(placed: pocketgpt.Model) -> None:
    """Rows leave the batch, others take their slots."""
    texts = ["The lighthouse", "A", "naïve café, naïve", "We danced", "def count"]
    tokens = [40, 3, 20, 7, 30]
    alone = [
        placed.generate(text, max_new_tokens=count)
        for text, count in zip(texts, tokens, strict=True)
    ]
    options = [{"max_new_tokens": count} for count in tokens]
    together = placed.generate(texts, options=options, batch_size=3)
    assert [r.token_ids for r in together] == [r.token_ids for r in alone]


def test_sessions_save_fork_and_go_on(
    placed: pocketgpt.Model, tiny: pocketgpt.Model, tmp_path: Path
) -> None:
    found = []
    for model in (placed, tiny):
        session = model.session()
        session.append("The quick brown")
        session.generate(max_new_tokens=6, eos_token_id=[])
        session.rewind(3)
        session.append(" dog")
        session.save(tmp_path / "saved")
        ends = [session, session.fork(), model.restore(tmp_path / "saved")]
        found.append([one.generate(max_new_tokens=6, eos_token_id=[]).token_ids for one in ends])
    assert found[0] == found[1]


def test_a_graph_that_runs_as_exact_keeps_its_cache_where_it_came_out(open_at: Open) -> None:
    """From pass to pass nothing is read from the buffers, and nothing written."""
    decoder = open_at(PLACEMENTS["device, exact"]).decoder()
    decoder.append([5, 6, 7])
    live: Any = decoder._passes
    before = live._live.present
    decoder.step([8])
    assert not decoder._cache.read(0, 3)[0].any()
    assert live._live.present[0].shape() == [1, 2, 4, 64]
    assert before[0].shape() == [1, 2, 3, 64]
    decoder.copy_slot(0, 0)
    assert decoder._cache.read(0, 3)[0].all()


def passes_of(decoder: Decoder) -> DevicePasses:
    passes = decoder._passes
    assert isinstance(passes, DevicePasses)
    return passes


def test_all_slots_are_stepped_in_the_buffers_themselves(open_at: Open) -> None:
    decoder = open_at(PLACEMENTS["device"]).decoder(2)
    decoder.fill([[5, 6], [7, 8]])
    before = decoder._cache.addresses()
    decoder.step([1, 2])
    decoder.step([3])  # a part, taken out and not put back yet
    assert decoder._cache.addresses() == before
    assert list(passes_of(decoder)._parts) == [(0, 1)]
    decoder.step([4, 5])
    assert decoder._cache.addresses() != before
    assert not passes_of(decoder)._parts


class TestCaptured:
    """A recording holds for the memory that it was made over, and is never freed."""

    @pytest.fixture
    def graph(self, open_at: Open) -> Graph:
        return open_at(PLACEMENTS["device, captured"])

    @pytest.fixture
    def runs(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """The ids of recordings, as runs are told them."""
        ids: list[str] = []
        for module in ("on_device", "captured"):
            name = f"pocketgpt.engine.{module}.run_bound"

            def run(session: Any, binding: Any, options: Any, was: Any = run_bound) -> None:
                ids.append(options.get_run_config_entry("gpu_graph_id"))
                was(session, binding, options)

            monkeypatch.setattr(name, run)
        return ids

    def test_steps_of_all_slots_alone_are_recorded(self, graph: Graph, runs: list[str]) -> None:
        decoder = graph.decoder(2)
        decoder.fill([[5], [6, 7]])
        decoder.step([1, 2])
        decoder.copy_slot(0, 1)
        decoder.step([1, 2])
        decoder.step([1])
        decoder.append([3, 4], 0)
        decoder.step([1, 2])
        assert runs[0] == runs[3] == runs[4] == "-1"
        assert runs[1] == runs[2] == runs[5] != "-1"

    def test_growth_is_recorded_anew_and_later_texts_play_it(
        self, graph: Graph, runs: list[str]
    ) -> None:
        made: list[list[str]] = []
        for _ in range(2):
            decoder = graph.decoder()
            decoder.append([5])
            for _ in range(70):
                decoder.step([1])
            made.append([one for one in dict.fromkeys(runs) if one != "-1"])
            runs.clear()
            del decoder
            gc.collect()
        assert len(made[0]) == 2
        assert made[1] == made[0][1:]

    def test_texts_at_one_time_have_recordings_of_their_own(self, graph: Graph) -> None:
        first, second = graph.decoder(), graph.decoder()
        for decoder in (first, second):
            decoder.append([5, 6])
            decoder.step([1])
        assert first._cache is not second._cache
