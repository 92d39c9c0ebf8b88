"""Token ids in, logits out: texts in slots, each with its cache, over a graph of either kind."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..errors import InferenceError
from ..folder.config import ModelConfig
from .buffers import Buffers
from .contract import Array
from .passes import Lengths, Logits, Passes

PREFILL_CHUNK = 256  # tokens; skips half of the masked attention of one long pass
SMALL_CHUNK = 64  # a quarter of what is computed on the way is in memory at once


class Decoder:
    """Feeds texts to a model, in chunks or token by token; `Graph.decoder` makes one.

    A text's length advances once a pass has succeeded: after one that failed everything is as it
    was. Logits that come back are the decoder's own and hold until its next call.

    Attributes:
        lengths: `[slots]`, the tokens that each slot holds.
        evaluated_tokens: how many tokens have run through the model so far.
        chunk: how many tokens of a text go through it at once, at most.
    """

    def __init__(
        self, passes: Passes, config: ModelConfig, cache: Buffers, chunk: int | None = None
    ) -> None:
        self.lengths: Lengths = np.zeros(cache.slots, np.int64)
        self.evaluated_tokens = 0
        self.chunk = chunk or PREFILL_CHUNK
        self._passes = passes
        self._config = config
        self._cache = cache

    @property
    def slots(self) -> int:
        """How many texts there is room for."""
        return self._cache.slots

    @property
    def engine_seconds(self) -> float:
        """How long ONNX Runtime has run for this decoder in all."""
        return self._passes.seconds

    @property
    def cache_bytes(self) -> int:
        """Size of the cache's buffers."""
        return self._cache.bytes

    @property
    def cache_capacity(self) -> int:
        """Tokens that fit each slot before the buffers grow."""
        return self._cache.capacity

    def reserve(self, tokens: int) -> None:
        """Make room for `tokens` in every slot now: a cache that grows is copied."""
        self._passes.settle()
        self._cache.reserve(tokens)

    def prefill(self, token_ids: Sequence[int], slot: int = 0) -> Logits:
        """Append `token_ids`, at least one, in chunks; return `[1, vocab_size]` after the last.

        Raises:
            InferenceError: ONNX Runtime could not run the graph.
        """
        last = (len(token_ids) - 1) // self.chunk * self.chunk
        for start in range(0, last, self.chunk):
            self.feed(token_ids[start : start + self.chunk], slot)
        return self.append(token_ids[last:], slot)

    def feed(self, token_ids: Sequence[int], slot: int = 0) -> None:
        """Append `token_ids`, at least one, in one pass, without logits: more of a text follows."""
        self._passes.feed(token_ids, slot, int(self.lengths[slot]))
        self._advance(slot, token_ids)

    def append(self, token_ids: Sequence[int], slot: int = 0) -> Logits:
        """Append `token_ids`, at least one, in one pass; return `[1, vocab_size]` after them."""
        logits = self._passes.append(token_ids, slot, int(self.lengths[slot]))
        self._advance(slot, token_ids)
        return logits

    def score(self, token_ids: Sequence[int], slot: int = 0) -> Logits:
        """Append `token_ids` in one pass; return `[tokens, vocab_size]` after each of them."""
        logits = self._passes.append_all(token_ids, slot, int(self.lengths[slot]))
        self._advance(slot, token_ids)
        return logits

    @property
    def widest(self) -> int:
        """How many tokens `check` takes behind each of several slots; 1 where it takes one slot."""
        return self._passes.widest

    def check(self, chunks: Sequence[Sequence[int]]) -> list[Logits]:
        """Append a chunk to each of the first slots in one pass, each of a length of its own.

        Args:
            chunks: one a slot, each of at least one token; where there are several, each of at
                most `widest`.

        Returns:
            By slot `[tokens, vocab_size]`, the logits after each of its tokens.

        Raises:
            InferenceError: ONNX Runtime could not run the graph.
        """
        if len(chunks) == 1:
            return [self.score(chunks[0])]
        logits = self._passes.check(chunks, self.lengths[: len(chunks)])
        for slot, chunk in enumerate(chunks):
            self._advance(slot, chunk)
        return logits

    def fill(self, prompts: Sequence[Sequence[int]], first: int = 0) -> Logits:
        """Fill as many slots from `first` on, all empty, in one pass, padded on the right.

        Returns:
            `[prompts, vocab_size]`, the logits after each prompt's last token.
        """
        logits = self._passes.fill(prompts, first)
        for slot, prompt in enumerate(prompts, first):
            self._advance(slot, prompt)
        return logits

    def step(self, token_ids: int | Sequence[int]) -> Logits:
        """Append one token to each of the first slots; return `[tokens, vocab_size]` after them."""
        token_ids = [token_ids] if isinstance(token_ids, int) else token_ids
        count = len(token_ids)
        logits = self._passes.step(token_ids, self.lengths[:count])
        self.lengths[:count] += 1
        self.evaluated_tokens += count
        return logits

    def copy_slot(self, source: int, target: int, start: int = 0, end: int | None = None) -> None:
        """Make slot `target` hold the first `end` tokens of `source`, or all of them.

        Args:
            source: the slot to copy.
            target: the slot that becomes like it.
            start: how many tokens the two have in common already.
            end: how many tokens `target` has afterwards.
        """
        self._passes.settle()
        end = int(self.lengths[source]) if end is None else end
        if end > start:
            self._cache.copy_slot(source, target, start, end)
        self.lengths[target] = end

    def rewind(self, length: int, slot: int = 0) -> None:
        """Forget a slot's tokens from `length` on."""
        self._passes.settle()
        self.lengths[slot] = length

    def read(self, slot: int = 0) -> tuple[Array, Array]:
        """Return a slot's keys and values, copied: each `[n_layer, n_head, tokens, head_dim]`."""
        self._passes.settle()
        return self._cache.read(slot, int(self.lengths[slot]))

    def write(self, keys: Array, values: Array, slot: int = 0) -> None:
        """Make a slot hold what `read` returned."""
        self._passes.settle()
        self._cache.reserve(keys.shape[2])
        self._cache.write(slot, 0, keys, values)
        self.lengths[slot] = keys.shape[2]

    def _advance(self, slot: int, token_ids: Sequence[int]) -> None:
        self.lengths[slot] += len(token_ids)
        self.evaluated_tokens += len(token_ids)


def check_largest(largest: Logits | np.float32) -> None:
    """Refuse logits that are no numbers, for whoever goes by them; a row's largest one tells.

    Args:
        largest: `[rows]`, the largest logit of each.

    Raises:
        InferenceError: one is NaN or infinite.
    """
    if not np.isfinite(largest).all():
        raise InferenceError(
            "the model's logits are no numbers: its weights are damaged, which 'pocketgpt verify' "
            "tells, or they overflow this variant's"
        )
