"""Ten thousand generations of random options in one process: no error, and memory stays flat."""

from __future__ import annotations

import gc
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pocketgpt
from pocketgpt import OptionError

from .options_offered import OFFERS, PROMPTS

GENERATIONS = 10_000
WARM = 100  # generations after which memory must be flat
MEGABYTES_MORE = 8  # what allocators may still take then
PREFIX_CACHE = 1 << 20


def resident_bytes() -> int:
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def generate(model: pocketgpt.Model, random: np.random.Generator) -> bool:
    """Generate something somehow; return whether the options were taken."""
    names = random.choice(list(OFFERS), int(random.integers(1, 6)), replace=False)
    options: dict[str, Any] = {
        name: OFFERS[name][random.integers(len(OFFERS[name]))] for name in names
    }
    prompts = [PROMPTS[i] for i in random.integers(0, len(PROMPTS), random.integers(1, 4))]
    way = random.integers(4)
    try:
        if way == 0:
            stream = model.stream(prompts, **options)
            next(iter(stream), None)
            stream.close()
        elif way == 1:
            session = model.session()
            session.append(prompts[0])
            session.generate(**options)
            session.fork().generate(**options)
        elif way == 2:
            model.generate(prompts[0], **options)
        else:
            model.generate(prompts, batch_size=2, **options)
    except OptionError:
        return False
    return True


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_is_flat(random_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = pocketgpt.load(random_folder, "fp32", prefix_cache_bytes=PREFIX_CACHE)
    random = np.random.default_rng(0)
    made, after = 0, {}
    while made < GENERATIONS:
        made += generate(model, random)
        if made in (WARM, GENERATIONS // 10, GENERATIONS) and made not in after:
            after[made] = resident_bytes()
    with capsys.disabled():
        figures = ", ".join(f"{bytes_ / 1e6:.1f} MB after {n:,}" for n, bytes_ in after.items())
        print(f"\nresident: {figures} generations")
    assert model.prefixes.bytes <= PREFIX_CACHE
    assert after[GENERATIONS] - after[WARM] < MEGABYTES_MORE * 1e6
