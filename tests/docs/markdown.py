"""What a page of Markdown holds: blocks to run, headings, links."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

from ..conftest import ROOT

LANGUAGES = ("sh", "python", "text")
_NOTE = re.compile(r"<!--\s*(not run|saved as|begins with):\s*(.*?)\s*-->", re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block. `not_run` is the reason why it is not run, `saved_as` the file it is."""

    language: str
    text: str
    line: int
    not_run: str | None = None
    saved_as: str | None = None


@dataclass(frozen=True)
class Link:
    """A link or a picture: where it leads, from which line."""

    target: str
    line: int


def pages() -> list[Path]:
    """Return the pages whose examples and links are held: the READMEs and docs/."""
    roots = [ROOT / "README.md", ROOT / "README.zh-CN.md", ROOT / "CONTRIBUTING.md"]
    return [*roots, *sorted((ROOT / "docs").rglob("*.md"))]


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@cache
def tokens_of(page: Path) -> list[Token]:
    return MarkdownIt("commonmark", {"html": True}).enable("table").parse(page.read_text("utf-8"))


def notes(page: Path) -> Iterator[tuple[int, str, str]]:
    """Yield the comments that say how a page is run: line, what, about what."""
    for token in tokens_of(page):
        if token.type == "html_block":
            assert token.map is not None
            for found in _NOTE.finditer(token.content):
                yield token.map[1], found[1], found[2]


def begins_with(page: Path) -> list[str]:
    """Return the files and folders that have to be there before a page is run."""
    return [name for _, what, about in notes(page) if what == "begins with" for name in about.split()]


def blocks(page: Path) -> list[Block]:
    """Return the fenced blocks in a language, in order. A note is of the block right below it."""
    found = []
    said = list(notes(page))
    for token in tokens_of(page):
        if token.type == "fence" and token.info.strip():
            assert token.map is not None
            line = token.map[0]
            own = {what: about for below, what, about in said if below in (line, line - 1)}
            found.append(
                Block(
                    token.info.split()[0],
                    token.content,
                    line + 1,
                    own.get("not run"),
                    own.get("saved as"),
                )
            )
    return found


def links(page: Path) -> Iterator[Link]:
    """Yield a page's links and pictures."""
    for token in tokens_of(page):
        for child in token.children or ():
            target = child.attrGet("href") or child.attrGet("src")
            if target is not None:
                assert token.map is not None
                yield Link(str(target), token.map[0] + 1)


@cache
def anchors(page: Path) -> frozenset[str]:
    """Return the anchors of a page's headings, as GitHub and the site make them."""
    made: set[str] = set()
    tokens = tokens_of(page)
    for heading, inline in zip(tokens, tokens[1:], strict=False):
        if heading.type == "heading_open":
            text = "".join(child.content for child in inline.children or ())
            slug = re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-")
            number = 1
            name = slug
            while name in made:
                name, number = f"{slug}-{number}", number + 1
            made.add(name)
    return frozenset(made)
