"""What a decoder is put through on every device: no pass has more tokens than SwiftShader bears."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pocketgpt.engine.decoder import Decoder


def growth(decoder: Decoder) -> np.ndarray:
    """Logits of steps beyond one block of the cache, and of two: `[logits, vocab_size]`."""
    rows = [decoder.append([5, 6, 7]).copy()]
    rows += [decoder.step([8 + number]).copy() for number in range(130)]
    return np.concatenate(rows)


def all_of_it(decoder: Decoder) -> np.ndarray:
    """Logits of fills, copies, steps of some slots, rewinding, reading, writing, of 3 slots."""
    rows = [decoder.fill([[5, 6, 7], [8], [9, 10]]).copy(), decoder.append([1, 2, 3], 1).copy()]
    rows += [decoder.step([3, 4, 5]).copy() for _ in range(4)]
    decoder.copy_slot(2, 0)
    decoder.rewind(5, 1)
    decoder.rewind(1, 2)
    rows += [decoder.step([6, 7]).copy(), decoder.score([1, 2, 3], 2).copy()]
    rows += [decoder.step([6, 7]).copy(), decoder.step([8]).copy()]
    keys, values = decoder.read(0)
    decoder.write(keys[:, :, :5], values[:, :, :5], 1)
    decoder.write(keys[:, :, :5], values[:, :, :5], 2)
    decoder.copy_slot(1, 0)
    rows += [decoder.step([1, 2, 3]).copy() for _ in range(3)]  # of one length, together
    return np.concatenate(rows)


def greedy(decoder: Decoder, prompt: Sequence[int], tokens: int) -> list[int]:
    """Return the likeliest tokens after a prompt, which goes in token by token."""
    for token in prompt:
        logits = decoder.step(token)
    made: list[int] = []
    for _ in range(tokens):
        made.append(int(logits[0].argmax()))
        logits = decoder.step(made[-1])
    return made
