"""Pages as they are written: links lead somewhere, nothing to run hides, two languages agree."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from urllib.parse import unquote

import pytest

from ..conftest import ROOT
from .markdown import LANGUAGES, anchors, begins_with, blocks, links, name_of, pages, tokens_of

# A page in Chinese, and the page whose commands it has.
TRANSLATED = {"README.zh-CN.md": "README.md", "docs/tutorial.zh-CN.md": "docs/tutorial.md"}
MOST_NOT_RUN = 0.35  # of all blocks that could be; more, and the pages are claims


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in links(page):
        if re.match(r"\w+:", link.target):
            continue
        path, _, anchor = unquote(link.target).partition("#")
        target = (page.parent / path).resolve() if path else page
        where = f"{name_of(page)}:{link.line}: {link.target}"
        assert target.is_relative_to(ROOT), where
        assert target.exists(), where
        if anchor:
            assert anchor in anchors(target), where


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_nothing_to_run_hides_in_another_kind_of_block(page: Path) -> None:
    """What a reader would copy is in a block that `make test-docs` runs, or says why not."""
    for token in tokens_of(page):
        bare = token.type == "code_block" or (token.type == "fence" and not token.info.strip())
        if bare and page.name != "CONTRIBUTING.md":
            assert not re.search(r"^(pocketgpt|pip|python3?) ", token.content, re.MULTILINE), (
                f"{name_of(page)}: put this into a fenced block of sh:\n{token.content}"
            )
    for block in blocks(page):
        assert block.language in LANGUAGES, f"{name_of(page)}:{block.line}: {block.language}"
        assert block.not_run != "", f"{name_of(page)}:{block.line}: not run, and why?"


def test_few_blocks_are_not_run() -> None:
    every = [block for page in pages() for block in blocks(page) if block.language != "text"]
    left_out = [block for block in every if block.not_run]
    assert len(left_out) <= MOST_NOT_RUN * len(every)


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_install_lines_name_extras_that_there_are(page: Path) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    known = set(project["optional-dependencies"])
    for asked in re.findall(r"pip install '(?:pocketgpt|\.)\[([\w,]+)\]'", page.read_text("utf-8")):
        assert set(asked.split(",")) <= known, f"{name_of(page)}: {asked}"


def without_comments(text: str) -> str:
    return re.sub(r"\s+# .*$", "", text, flags=re.MULTILINE)


@pytest.mark.parametrize("page", TRANSLATED)
def test_a_translation_has_the_same_commands(page: str) -> None:
    """Blocks are the same, letter by letter but for comments, with what they print."""
    here, there = ROOT / page, ROOT / TRANSLATED[page]
    assert begins_with(here) == begins_with(there)
    one, other = (
        [(b.language, without_comments(b.text), b.saved_as, bool(b.not_run)) for b in blocks(which)]
        for which in (here, there)
    )
    assert one == other
    assert one


@pytest.mark.parametrize("page", TRANSLATED)
def test_a_translation_and_its_page_lead_to_each_other(page: str) -> None:
    here, there = ROOT / page, ROOT / TRANSLATED[page]
    assert there in [(here.parent / link.target).resolve() for link in links(here)]
    assert here in [(there.parent / link.target).resolve() for link in links(there)]


def test_every_page_can_be_reached_in_the_site() -> None:
    """mkdocs says so too, and `make docs` fails by it; this says it within `make test`."""
    nav = (ROOT / "mkdocs.yml").read_text("utf-8").split("\nnav:\n")[1].split("\n\n")[0]
    listed = set(re.findall(r"([\w./-]+\.md)$", nav, re.MULTILINE))
    there = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    assert there <= listed
