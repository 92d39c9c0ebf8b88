"""docs/site/check.py finds what it is for: links that lead nowhere, and what comes from elsewhere."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from ..conftest import ROOT

wrong = runpy.run_path(str(ROOT / "docs" / "site" / "check.py"))["wrong"]
GOOD = """<link rel="stylesheet" href="style.css"><h1 id="top">A</h1><a href="b/c.html#part">c</a>
<a href="#top">top</a><a href="https://example.org/">elsewhere</a><img src="data:,"><a name="x"></a>"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "b").mkdir()
    (tmp_path / "index.html").write_text(GOOD, "utf-8")
    (tmp_path / "b" / "c.html").write_text('<h2 id="part">P</h2><a href="../index.html#x">up</a>')
    (tmp_path / "style.css").write_text("body { background: url(data:,) }", "utf-8")
    return tmp_path


def test_a_site_that_holds(site: Path) -> None:
    assert list(wrong(site)) == []


@pytest.mark.parametrize(
    ("added", "line"),
    [
        ('<a href="b/d.html">d</a>', "index.html: b/d.html leads nowhere"),
        ('<a href="b/c.html#other">c</a>', "index.html: b/c.html#other has no such anchor"),
        ('<a href="#other">c</a>', "index.html: #other has no such anchor"),
        ('<img src="gone.svg">', "index.html: gone.svg leads nowhere"),
        ('<script src="https://cdn.org/a.js">', "index.html: fetches https://cdn.org/a.js"),
        ('<link rel="stylesheet" href="//cdn.org/a">', "index.html: fetches //cdn.org/a"),
    ],
)
def test_what_it_finds(added: str, line: str, site: Path) -> None:
    (site / "index.html").write_text(GOOD + added, "utf-8")
    assert line in list(wrong(site))


def test_a_font_from_elsewhere(site: Path) -> None:
    (site / "style.css").write_text("@font-face { src: url('https://fonts.org/a') }", "utf-8")
    assert list(wrong(site)) == ["style.css: fetches https://fonts.org/a"]
