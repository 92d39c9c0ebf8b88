"""`mixed`: the search by hand, and what it makes of a small model."""

from __future__ import annotations

from pathlib import Path

import pytest

from pocketgpt import QuantizationError
from pocketgpt.folder.manifest import read_manifest
from pocketgpt_quantize import VariantReport, quantize
from pocketgpt_quantize.recipes.mixed import fewest

EMBEDDING, POSITIONS = "transformer.wte.weight", "transformer.wpe.weight"


@pytest.mark.parametrize("most", [0, 1, 5, 8])
def test_fewest(most: int) -> None:
    for wanted in range(most + 1):
        tried: list[int] = []

        def holds(count: int, trial: int, tried: list[int] = tried, wanted: int = wanted) -> bool:
            assert trial == len(tried)
            tried.append(count)
            return count >= wanted

        assert fewest(most, holds) == wanted
        assert len(tried) <= most.bit_length()


def made(folder: Path, max_loss: float) -> VariantReport:
    (report,) = quantize(folder, ["mixed"], max_loss=max_loss, accept_loss=True)
    return report


def test_bits_follow_the_loss_allowed(model_folder: Path) -> None:
    """Much allowed: 4 bits. Nothing: 8 where 4 lose. The manifest lists every tensor's."""
    lavish = made(model_folder, 0).variant
    assert read_manifest(model_folder).variants["mixed"] == lavish
    assert list(lavish.bits.values()).count(8) > 1
    frugal = made(model_folder, 10).variant
    assert {name for name, bits in frugal.bits.items() if bits == 8} == {POSITIONS}
    assert set(frugal.bits) == set(read_manifest(model_folder).variants["fp32"].bits)
    assert frugal.bytes < lavish.bytes
    assert frugal.max_loss == 10
    assert (frugal.method, frugal.calibration_sha256 is None) == ("gptq", False)


def test_a_text_too_short_to_hold_a_part_out(model_folder: Path) -> None:
    path = model_folder / "calibration.txt"
    path.write_text(path.read_text("utf-8")[:900], "utf-8")
    with pytest.raises(QuantizationError, match="calibration text is too short to measure on"):
        quantize(model_folder, ["mixed"])
