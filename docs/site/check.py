"""Check a built site: every link leads to a page and an anchor that are there, nothing is fetched.

    python docs/site/check.py build/site

mkdocs checks the links of the Markdown; this reads what a browser would: the links of docstrings,
of navigation and of pictures, and every script, style, font and picture, which have to be the
site's own.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

# What a browser fetches by itself, and from which attribute; `a` is for people to follow.
FETCHED = {"img": "src", "script": "src", "link": "href", "source": "srcset", "iframe": "src"}
# `link`s that are no request.
NOT_FETCHED = {"canonical", "prev", "next", "alternate"}
_CSS_URL = re.compile(r"url\(\s*['\"]?([^'\")]+)|@import\s+['\"]([^'\"]+)")


@dataclass
class Page(HTMLParser):
    """A page's anchors, its links, and what a browser fetches for it."""

    anchors: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)
    fetched: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what an element says."""
        known = {name: value or "" for name, value in attrs}
        self.anchors |= {known[name] for name in ("id", "name") if known.get(name)}
        if tag == "a" and "href" in known:
            self.links.append(known["href"])
        target = known.get(FETCHED.get(tag, ""))
        if target and not (tag == "link" and known.get("rel") in NOT_FETCHED):
            self.fetched.append(target)


def read(path: Path) -> Page:
    page = Page()
    page.feed(path.read_text("utf-8"))
    return page


def wrong(site: Path) -> Iterator[str]:
    """Yield a line for everything that is wrong."""
    pages = {path: read(path) for path in sorted(site.rglob("*.html"))}
    for path, page in pages.items():
        where = path.relative_to(site)
        for target in page.fetched:
            if urlsplit(target).scheme not in ("", "data") or target.startswith("//"):
                yield f"{where}: fetches {target}"
        for target in page.links + page.fetched:
            yield from _broken(where, path, target, pages, site)
    for path in sorted(site.rglob("*.css")):
        for found in _CSS_URL.finditer(path.read_text("utf-8")):
            target = found[1] or found[2]
            if re.match(r"(\w+:)?//", target):
                yield f"{path.relative_to(site)}: fetches {target}"


def _broken(
    where: Path, path: Path, target: str, pages: dict[Path, Page], site: Path
) -> Iterator[str]:
    parts = urlsplit(target)
    if parts.scheme or parts.netloc:
        return
    base = site if parts.path.startswith("/") else path.parent
    file = (base / unquote(parts.path).lstrip("/")).resolve() if parts.path else path
    file = file / "index.html" if file.is_dir() else file
    if not file.is_file():
        if where.name != "404.html":  # whose links are from the root of wherever the site is
            yield f"{where}: {target} leads nowhere"
    elif parts.fragment and file in pages:
        anchor = unquote(parts.fragment)
        if anchor not in pages[file].anchors and not anchor.startswith("__"):
            yield f"{where}: {target} has no such anchor"


def main() -> None:
    site = Path(sys.argv[1]).resolve()
    lines = [*wrong(site)]
    print("\n".join(lines) or f"{site}: every link leads somewhere, nothing is fetched from elsewhere")
    sys.exit(bool(lines))


if __name__ == "__main__":
    main()
