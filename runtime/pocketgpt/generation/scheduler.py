"""The loop from prompts to new tokens: step every row, choose, see which rows have ended."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from ..engine.decoder import Decoder, PrefillCancelledError
from ..text.tokenizer import Tokenizer
from .beam import beam_search
from .pipeline import choose_tokens
from .prefix_cache import PrefixCache
from .processors import Logits
from .sequence import Row


def generate_texts(
    prompts: Sequence[Sequence[Row]],
    new_decoder: Callable[[int], Decoder],
    prefixes: PrefixCache,
    tokenizer: Tokenizer,
    n_positions: int,
    batch_size: int,
    cancelled: Callable[[], bool],
) -> Iterator[tuple[Row, str]]:
    """Continue the rows of every prompt, yielding each piece of text as it is final.

    Args:
        prompts: for each prompt the rows to return.
        new_decoder: makes a decoder of so many rows, empty.
        prefixes: what earlier prompts left in memory.
        tokenizer: for beam search with stop strings.
        n_positions: the context.
        batch_size: most rows to decode at once.
        cancelled: asked before every step; when it says so, all that goes on ends.
    """
    searched = [rows for rows in prompts if rows[0].options.num_beams > 1]
    plain = [rows for rows in prompts if rows[0].options.num_beams == 1]
    waiting = [row for rows in plain for row in rows if row.finish_reason is None]
    for start in range(0, len(waiting), batch_size):
        batch = waiting[start : start + batch_size]
        if cancelled():
            return
        if len(batch) > 1:
            yield from generate_rows(new_decoder(len(batch)), batch, n_positions, cancelled)
        else:
            with prefixes.decoder_for(batch[0], new_decoder) as decoder:
                yield from generate_rows(decoder, batch, n_positions, cancelled)
    for rows in searched:
        if rows[0].finish_reason is None and not cancelled():
            beam_search(new_decoder(rows[0].options.num_beams), rows, tokenizer, cancelled)
            yield from ((row, row.text) for row in rows)


def generate_rows(
    decoder: Decoder, rows: Sequence[Row], n_positions: int, cancelled: Callable[[], bool]
) -> Iterator[tuple[Row, str]]:
    """Continue `rows` until every one has ended, yielding each piece of text as it is final.

    Args:
        decoder: as many rows, empty; one that holds the beginning of the only row's prompt does,
            too. Afterwards a decoder of one row holds all tokens but the last.
        rows: none of them ended.
        n_positions: the context.
        cancelled: asked before every step; when it says so, the rows end as `cancelled`.
    """
    active = list(rows)
    try:
        logits = _prefill(decoder, active, cancelled)
    except PrefillCancelledError:
        return
    while True:
        tokens = choose_tokens(
            [row.pipeline for row in active], logits, [row.random for row in active]
        )
        for row, token_id, scores in zip(active, tokens.tolist(), logits, strict=True):
            row.report(scores, token_id)
            piece = row.add(token_id)
            if row.finish_reason is None and row.out_of_time:
                piece += row.finish("time")
            if piece:
                yield row, piece
        staying = [slot for slot, row in enumerate(active) if row.finish_reason is None]
        if not staying or cancelled():
            break
        if len(staying) < len(active):
            decoder.keep_rows(staying)
            active = [active[slot] for slot in staying]
        _make_room(decoder, active, n_positions)
        logits = decoder.step([row.token_ids[-1] for row in active])
    for row in active:
        if row.finish_reason is None and (piece := row.finish("cancelled")):
            yield row, piece


def _prefill(decoder: Decoder, rows: Sequence[Row], cancelled: Callable[[], bool]) -> Logits:
    if len(rows) > 1:
        return decoder.prefill_rows([row.prompt_ids for row in rows], cancelled)
    row = rows[0]
    row.reused_tokens = decoder.cache.length
    return decoder.prefill(row.prompt_ids[row.reused_tokens :], 0, cancelled)


def _make_room(decoder: Decoder, rows: Sequence[Row], n_positions: int) -> None:
    """Where a row fills the context, compute its first `keep` tokens and newest half afresh.

    Learned positions cannot be shifted. The last token stays for the step to come.
    """
    for slot, row in enumerate(rows):
        if decoder.cache.lengths[slot] == n_positions:
            ids = row.ids.tolist()
            decoder.rewind(0, slot)
            decoder.prefill(ids[: row.options.keep] + ids[-(n_positions // 2) : -1], slot)
            row.reprefills += 1
