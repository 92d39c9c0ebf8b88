"""The examples that need a model folder, run whole on the bundled model."""

from __future__ import annotations

from pathlib import Path

import pytest

from .conftest import Run

FOLLOWED = {
    "complete.py": ["Once upon a time", "(length)", "3. Once upon a time"],
    "answer.py": ["who was a king", "the children were afraid", "nats a byte"],
    "chat.py": ["> Good evening!", "tokens so far"],
    "code.py": ["result +=", "tokens computed"],
}


@pytest.mark.parametrize("name", FOLLOWED)
def test_it_runs(
    name: str, run: Run, bundled_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(name, bundled_folder)
    printed = capsys.readouterr().out
    for words in FOLLOWED[name]:
        assert words in printed


def test_what_an_editor_did_not_change_is_not_computed_again(
    run: Run, bundled_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The second buffer goes on from the first, the third changes its first line."""
    run("code.py", bundled_folder)
    printed = capsys.readouterr().out
    computed = [int(part.rsplit("# ", 1)[1]) for part in printed.split(" tokens computed")[:-1]]
    assert len(computed) == 3
    assert computed[1] < computed[2]
