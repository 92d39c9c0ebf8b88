"""Answers as columns of Arrow: what Parquet and Ray have of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow


def arrow_schema(own: pyarrow.Schema, kinds: Mapping[str, str]) -> pyarrow.Schema:
    """Return the columns that rows have, and behind them those of their answers.

    Args:
        own: those of the rows.
        kinds: new columns by the kind of their values: text, whole, number or numbers.
    """
    import pyarrow as pa

    types = {
        "text": pa.string(),
        "whole": pa.int64(),
        "number": pa.float64(),
        "numbers": pa.list_(pa.float64()),
    }
    for name, kind in kinds.items():
        own = own.append(pa.field(name, types[kind]))
    return own


def added(
    table: pyarrow.Table, answers: Sequence[Mapping[str, Any]], kinds: Mapping[str, str]
) -> pyarrow.Table:
    """Return a table of rows with the columns of their answers."""
    import pyarrow as pa

    for field in arrow_schema(pa.schema([]), kinds):
        values = [answer[field.name] for answer in answers]
        table = table.append_column(field, pa.array(values, field.type))
    return table
