"""Texts to labels: the logits after each text's last token, in passes of texts of like length."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .. import validate
from ..engine.decoder import Decoder, check_largest
from ..errors import OptionError
from ..folder.config import ModelConfig
from ..folder.labels import Labels
from ..generation.generator import BATCH_SIZE, TextGenerator
from ..generation.processors import Logits
from ..generation.scheduler import CHUNKS_TOGETHER, MAX_PADDED
from ..text.tokenizer import Tokenizer

Probabilities = NDArray[np.float64]


@dataclass(frozen=True)
class Classification:
    """What a classifier says of a text.

    Attributes:
        label: the likeliest label.
        probability: its own; of a regression the value itself, which is no probability.
        probabilities: the same of each label, the likeliest first; of several labels that exclude
            each other they sum to 1, as long as all are there.
        tokens: how many tokens of the text were read.
    """

    label: str
    probability: float
    probabilities: Mapping[str, float]
    tokens: int

    @classmethod
    def of(
        cls, labels: Labels, probabilities: Probabilities, tokens: int, top_k: int | None = None
    ) -> Classification:
        """Name `probabilities [num_labels]`; of equal ones the first label's comes first."""
        order = np.argsort(-probabilities, kind="stable")[:top_k]
        named = {labels.names[index]: float(probabilities[index]) for index in order}
        label = next(iter(named))
        return cls(label, named[label], named, tokens)


def classify(
    model: TextGenerator,
    texts: Sequence[object],
    batch_size: int = BATCH_SIZE,
    top_k: int | None = None,
    truncation: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> list[Classification]:
    """Classify texts; see `Model.classify`."""
    model.check_task("text-classification")
    labels = model.config.labels
    assert labels is not None
    validate.whole("batch_size", batch_size, at_least=1)
    validate.whole("top_k", top_k, at_least=1, optional=True)
    validate.one_of("truncation", truncation, (True, False))
    read = []
    for number, text in enumerate(texts, 1):
        try:
            n_positions = model.config.n_positions
            ids = encode_text(text, model.tokenizer, n_positions, truncation=truncation)
        except OptionError as error:
            which = f"text {number}" if len(texts) > 1 else "the text"
            raise OptionError(f"{which} cannot be classified: {error}") from None
        read.append(ids)
    logits = label_logits(model.new_decoder, read, model.config, batch_size, progress)
    return [
        Classification.of(labels, probabilities, len(ids), top_k)
        for probabilities, ids in zip(probabilities_of(logits, labels), read, strict=True)
    ]


def encode_text(
    text: object, tokenizer: Tokenizer, n_positions: int, *, truncation: bool = False
) -> list[int]:
    """Return a text's token ids as transformers' tokenizers give them to a classifier.

    Args:
        text: what to classify.
        tokenizer: the model's.
        n_positions: the context.
        truncation: cut a text that is longer than the context at its end; what the tokenizer puts
            around a text stays.

    Raises:
        OptionError: it is no text, has no tokens, or is too long.
    """
    if not isinstance(text, str):
        raise OptionError(f"it should be a string, not {type(text).__name__}")
    ids = tokenizer.encode(text)
    if not ids:
        raise OptionError("it is empty, and a classifier goes by a text's last token")
    if len(ids) <= n_positions:
        return ids
    if not truncation:
        raise OptionError(
            f"it has {len(ids)} tokens, the model's context is {n_positions}; shorten it, or let "
            "its end be cut off: --truncation (truncation=True)"
        )
    before, after = tokenizer.frame
    room = n_positions - len(before) - len(after)
    return [*before, *tokenizer.encode(text, add_special_tokens=False)[:room], *after]


def pooled_ids(token_ids: Sequence[int], pad_token_id: int | None) -> Sequence[int]:
    """Return a text up to the token whose logits are the text's.

    GPT2ForSequenceClassification takes the last one that is not the pad token, and the first one
    where all are. Nothing behind that token has a part in its logits.
    """
    last = len(token_ids) - 1
    while last > 0 and token_ids[last] == pad_token_id:
        last -= 1
    return token_ids[: last + 1]


def label_logits(
    new_decoder: Callable[[int], Decoder],
    texts: Sequence[Sequence[int]],
    config: ModelConfig,
    batch_size: int,
    progress: Callable[[int, int], None] | None = None,
) -> Logits:
    """Return the logits `[texts, num_labels]` of texts, in their order.

    Args:
        new_decoder: makes a decoder of so many slots.
        texts: token ids, at least one and at most the context.
        config: a classifier's.
        batch_size: most texts in one pass.
        progress: called with (texts done, texts in all).

    Raises:
        InferenceError: ONNX Runtime could not run the graph, or gives logits that are no numbers.
    """
    found: Logits = np.empty((len(texts), config.n_logits), np.float32)
    if not texts:
        return found
    assert config.labels is not None
    read = [pooled_ids(text, config.labels.pad_token_id) for text in texts]
    decoder = new_decoder(min(batch_size, len(texts)))
    decoder.reserve(max(map(len, read)))
    done = 0
    for group in _groups([len(ids) for ids in read], batch_size, decoder.chunk):
        for slot in range(len(group)):
            decoder.rewind(0, slot)
        if len(group) > 1:
            found[group] = decoder.fill([read[index] for index in group])
        else:
            found[group] = decoder.prefill(read[group[0]])
        done += len(group)
        if progress:
            progress(done, len(texts))
    check_largest(np.abs(found).max(axis=1))
    return found


def _groups(lengths: Sequence[int], batch_size: int, chunk: int) -> Iterator[list[int]]:
    """Yield the indices of texts to read in one pass, shorter ones first.

    By the scheduler's rule: together where padding costs less than a pass does; a text longer than
    a chunk of prefill goes alone, in chunks.
    """
    group: list[int] = []
    tokens = 0
    for index in sorted(range(len(lengths)), key=lambda index: lengths[index]):
        longest = lengths[index]
        most = min(CHUNKS_TOGETHER * chunk, MAX_PADDED * (tokens + longest))
        fits = longest <= chunk and (len(group) + 1) * longest <= most
        if group and not (fits and len(group) < batch_size):
            yield group
            group, tokens = [], 0
        group.append(index)
        tokens += longest
    if group:
        yield group


def probabilities_of(logits: Logits, labels: Labels) -> Probabilities:
    """Return the probabilities `[texts, num_labels]` of logits; of a regression its values."""
    wide: Probabilities = logits.astype(np.float64)
    if labels.activation == "none":
        return wide
    if labels.activation == "sigmoid":
        with np.errstate(over="ignore"):  # to infinity, whose inverse is the 0 that is meant
            sigmoid: Probabilities = 1 / (1 + np.exp(-wide))
        return sigmoid
    powers = np.exp(wide - wide.max(axis=-1, keepdims=True))
    softmax: Probabilities = powers / powers.sum(axis=-1, keepdims=True)
    return softmax
