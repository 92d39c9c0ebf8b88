"""Decoding a portable graph: the same tokens as PyTorch, in every way there is to decode.

Only Optimum makes such a graph: these run where optimum-onnx is installed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import GPT2LMHeadModel

import pocketgpt

from .conftest import Reference

PROMPTS = ["The quick brown fox jumps over the lazy dog and", "A", "naïve café", "runs home again."]


@pytest.fixture(scope="module")
def portable(random_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> pocketgpt.Model:
    """`random_checkpoint` as a portable graph."""
    pytest.importorskip("optimum.exporters.onnx", reason="only Optimum exports portable graphs")
    from pocketgpt_export import export

    folder = tmp_path_factory.mktemp("portable") / "folder"
    export(random_checkpoint, folder, graph="portable")
    model = pocketgpt.load(folder, "fp32")
    assert model.graph.contract.kind == "portable"
    return model


pytestmark = pytest.mark.filterwarnings("ignore")  # the older tracer's own, in the fixture


@pytest.mark.parametrize(
    "options",
    [
        {"do_sample": False},
        {"num_beams": 4, "num_return_sequences": 3},
        {"num_beams": 3, "no_repeat_ngram_size": 2, "length_penalty": 2.0},
    ],
    ids=str,
)
def test_tokens_equal_transformers(
    portable: pocketgpt.Model, reference: Reference, options: dict[str, Any]
) -> None:
    for prompt in PROMPTS:
        expected = [ids for ids, _ in reference(prompt, max_new_tokens=25, **options)]
        made: Any = portable.generate(prompt, max_new_tokens=25, **options)
        results = made if isinstance(made, list) else [made]
        assert [result.token_ids for result in results] == expected


@pytest.mark.parametrize("options", [{}, {"do_sample": True, "seed": 3, "temperature": 1.4}])
def test_batches_and_streams_equal_each_alone(
    portable: pocketgpt.Model, options: dict[str, Any]
) -> None:
    alone = [portable.generate(prompt, max_new_tokens=30, **options) for prompt in PROMPTS]
    together = portable.generate(PROMPTS, max_new_tokens=30, batch_size=3, **options)
    assert [r.token_ids for r in together] == [r.token_ids for r in alone]
    texts = ["".join(portable.stream(p, max_new_tokens=30, **options)) for p in PROMPTS]
    assert texts == [result.text for result in alone]
    assert len({len(result.token_ids) for result in together}) > 1  # rows left the batch


def test_sessions_compute_nothing_twice(
    portable: pocketgpt.Model, model: pocketgpt.Model, tmp_path: Path
) -> None:
    """And go on as one on the fused graph does."""
    options: dict[str, Any] = {"max_new_tokens": 6, "eos_token_id": []}
    sessions = [portable.session(), model.session()]
    for session in sessions:
        session.append(PROMPTS[0])
        session.generate(**options)
        session.rewind(3)
        session.append(" dog")
        session.generate(**options)
    assert sessions[0].token_ids == sessions[1].token_ids
    assert sessions[0].evaluated_tokens == sessions[1].evaluated_tokens
    sessions[0].save(tmp_path / "saved")
    restored, fork = portable.restore(tmp_path / "saved"), sessions[0].fork()
    found = [one.generate(**options).token_ids for one in (*sessions, restored, fork)]
    assert found.count(found[1]) == 4


def test_an_overflowing_batch_equals_the_fused_graphs(
    portable: pocketgpt.Model, model: pocketgpt.Model
) -> None:
    options: dict[str, Any] = {
        "context_overflow": "reprefill",
        "keep": 3,
        "eos_token_id": [],
        "max_new_tokens": 90,
    }
    found = [one.generate(PROMPTS, **options) for one in (portable, model)]
    assert [r.token_ids for r in found[0]] == [r.token_ids for r in found[1]]
    assert min(r.reprefills for r in found[0]) > 0


def test_scores_equal_pytorchs(
    portable: pocketgpt.Model, random_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pocketgpt.engine.decoder.PREFILL_CHUNK", 10)
    text = "The quick brown fox runs home."
    ids = torch.tensor([portable.tokenizer.encode(text)])
    torch_model: Any = GPT2LMHeadModel.from_pretrained(
        random_checkpoint, dtype=torch.float32, attn_implementation="eager"
    ).eval()
    with torch.inference_mode():
        log_probs = torch_model(ids).logits[0, :-1].log_softmax(-1)
    expected = log_probs.gather(1, ids[0, 1:, None])[:, 0].numpy()
    np.testing.assert_allclose(portable.score(text).log_probs, expected, rtol=0, atol=1e-4)
