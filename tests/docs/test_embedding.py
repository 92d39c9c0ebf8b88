"""docs/embedding.md: what a program takes on with PocketGPT, against what is installed."""

from __future__ import annotations

import re
from pathlib import Path

import embedding
import pytest

from ..conftest import ROOT

PAGE = (ROOT / "docs" / "embedding.md").read_text("utf-8")
ROWS = re.findall(r"^\| ([\w-]+) \| ([\d.]+) \| (.+?) \| ([\d.]+) \| (yes)? *\|$", PAGE, re.MULTILINE)


def test_every_package_and_its_licence_is_listed() -> None:
    """Else run `python benchmarks/embedding.py build/pocket-tales --write docs/embedding.md`."""
    installed = {name: embedding.licence_of(one) for name, one in embedding.closure().items()}
    assert {name: licence for name, _, licence, _, _ in ROWS} == installed


def test_every_licence_is_a_known_one() -> None:
    """A package that becomes copyleft, or says nothing, has to be looked at by a person."""
    known = {"0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "CC0-1.0", "MIT", "MPL-2.0"}
    for _, _, licence, _, _ in ROWS:
        assert set(re.split(r" (?:AND|OR) ", licence)) <= {*known, "PSF-2.0", "Zlib"}


def test_no_other_package_is_imported(tiny_folder: Path) -> None:
    """A program that loads and generates imports what is marked, in a process of its own."""
    marked = {name for name, _, _, _, used in ROWS if used}
    assert marked == {"numpy", "onnxruntime", "tokenizers"}
    assert embedding.imported(tiny_folder) & {name for name, *_ in ROWS} == marked


@pytest.mark.parametrize("file", ["ThirdPartyNotices.txt", "LICENSE"])
def test_notices_that_the_page_names_are_there(file: str) -> None:
    files = embedding.closure(("onnxruntime",))["onnxruntime"].files or []
    assert [path for path in files if path.name == file]


def test_numpy_brings_what_the_page_says() -> None:
    numpy = embedding.closure(("numpy",))["numpy"]
    (path,) = (one for one in numpy.files or [] if str(one).endswith("licenses/LICENSE.txt"))
    text = Path(str(path.locate())).read_text("utf-8")
    for name in ("OpenBLAS", "GCC runtime library", "libquadmath"):
        assert re.search(rf"^Name: {name}$", text, re.MULTILINE), name
