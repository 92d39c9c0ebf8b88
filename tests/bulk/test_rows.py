"""Lines of JSON lines: what JSON cannot say has a place in them all the same."""

from __future__ import annotations

import datetime
import json
from typing import Any

import pytest

from pocketgpt.bulk.rows import json_line

NAN, INFINITY = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (NAN, None),
        ([1.5, -INFINITY, {"deep": (INFINITY, 2)}], [1.5, None, {"deep": [None, 2]}]),
        (datetime.date(2026, 1, 2), "2026-01-02"),
        ("灯台守 🌙\nA", "灯台守 🌙\nA"),
        ("half \ud83c", "half \ud83c"),
    ],
)
def test_a_row_is_one_line_whatever_is_in_it(value: Any, said: Any) -> None:
    line = json_line({"value": value})
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert json.loads(line) == {"value": said}
