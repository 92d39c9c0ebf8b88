"""The training recipe's own parts against PyTorch's."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel, GPT2TokenizerFast

from finish import opening, read_sources
from heldout import bits_per_byte
from loss import chunked_cross_entropy
from muon import MuonWithAdamW, orthogonalize
from train import pack, schedule, train_tokenizer

TEXT = "Once upon a time there was a fox, and the fox had a house of ice. " * 12


@pytest.fixture(scope="module")
def works(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("works")
    for name in ("a.txt", "b.txt"):
        (folder / name).write_text(f"{TEXT}{name}\n\nSecond paragraph.\n", "utf-8")
    return sorted(folder.glob("*.txt"))


@pytest.fixture(scope="module")
def tokenizer(works: list[Path]) -> GPT2TokenizerFast:
    return train_tokenizer(works)


def test_chunked_cross_entropy_equals_torch() -> None:
    torch.manual_seed(0)
    hidden = torch.randn(600, 32, dtype=torch.float64, requires_grad=True)
    head = torch.randn(100, 32, dtype=torch.float64, requires_grad=True)
    labels = torch.randint(0, 100, (600,))
    found = torch.autograd.grad(chunked_cross_entropy(hidden, head, labels) * 3, (hidden, head))
    reference = nn.functional.cross_entropy(hidden @ head.T, labels) * 3
    expected = torch.autograd.grad(reference, (hidden, head))
    for gradient, wanted in zip(found, expected, strict=True):
        torch.testing.assert_close(gradient, wanted)


@pytest.mark.parametrize("shape", [(64, 192), (192, 64)])
def test_orthogonalize_brings_singular_values_near_one(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    singular = torch.linalg.svdvals(orthogonalize(torch.randn(shape)))
    assert singular.min() > 0.3
    assert singular.max() < 1.3


def test_optimizer_goes_on_from_its_saved_state() -> None:
    """Training that was interrupted takes the very steps it would have taken."""

    def build() -> tuple[GPT2LMHeadModel, MuonWithAdamW]:
        torch.manual_seed(0)
        model = GPT2LMHeadModel(
            GPT2Config(vocab_size=50, n_positions=16, n_embd=32, n_layer=1, n_head=2)
        ).eval()
        return model, MuonWithAdamW(model, lr=1e-2)

    def step(model: GPT2LMHeadModel, optimizer: MuonWithAdamW) -> None:
        optimizer.zero_grad()
        ids = torch.arange(16)[None]
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()

    whole, optimizer = build()
    for _ in range(2):
        step(whole, optimizer)
    weights = {name: tensor.clone() for name, tensor in whole.state_dict().items()}
    state = copy.deepcopy(optimizer.state_dict())
    step(whole, optimizer)

    resumed, fresh = build()
    resumed.load_state_dict(weights)
    fresh.load_state_dict(state)
    step(resumed, fresh)
    for name, tensor in whole.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], tensor, rtol=0, atol=0)
        assert not torch.equal(tensor, weights[name]), name


def test_schedule_warms_up_holds_and_falls_to_zero() -> None:
    assert schedule(1000, 0) == pytest.approx(1 / 60)
    assert schedule(1000, 59) == schedule(1000, 449) == 1.0
    assert schedule(1000, 725) == pytest.approx(0.5)
    assert schedule(1000, 1000) == 0.0


def test_packed_stream_holds_every_token_in_order(
    works: list[Path], tokenizer: GPT2TokenizerFast
) -> None:
    blocks = pack(works * 20, tokenizer)
    stream = [token for block in blocks for token in block["input_ids"]]
    first = [tokenizer.bos_token_id, *tokenizer(works[0].read_text("utf-8")).input_ids]
    assert stream[: len(first)] == first
    assert stream[len(first)] == tokenizer.bos_token_id
    assert all(len(block["input_ids"]) == 512 for block in blocks)


def test_bits_per_byte_of_a_work_that_fits_one_window(
    works: list[Path], tokenizer: GPT2TokenizerFast
) -> None:
    """A uniform model needs log2(vocabulary) bits a token."""
    config = GPT2Config(vocab_size=len(tokenizer), n_positions=64, n_embd=16, n_layer=1, n_head=1)
    model = GPT2LMHeadModel(config).eval()
    nn.init.zeros_(model.transformer.wte.weight)
    text = works[0].read_text("utf-8")
    tokens, size = len(tokenizer(text).input_ids), len(text.encode())
    expected = tokens * torch.log2(torch.tensor(float(len(tokenizer)))).item() / size
    assert bits_per_byte(model, tokenizer, works[0]) == pytest.approx(expected, rel=1e-5)


def test_opening_takes_whole_paragraphs(works: list[Path]) -> None:
    assert opening(works[0], 10).endswith("a.txt\n")
    assert opening(works[0], 10_000) == works[0].read_text("utf-8") + "\n"


def test_a_text_that_its_row_does_not_describe_is_refused(
    works: list[Path], tmp_path: Path
) -> None:
    table = tmp_path / "SOURCES.md"
    table.write_text("| a.txt | A | B | 1900 | C | public domain | 1 | 00 |\n", "utf-8")
    with pytest.raises(SystemExit, match=r"a\.txt is not as"):
        read_sources(table, works)
