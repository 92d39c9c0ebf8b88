"""What mkdocs does besides: pages and files that lie outside docs/, and the Chinese pages' language.

Pages link to whatever lies in the repository as GitHub has it, `../examples/chat.py`. The site has
a copy of each such file, and README.md is its front page.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
COPIES = "repository"  # the site's folder of copied files
# Pages of the site that lie in the repository's root.
PAGES = {
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "README.zh-CN.md": "readme.zh-CN.md",
}
_LINK = re.compile(r"(!?\[[^\]]*\])\((?!\w+:|#)([^)\s#]+)(#[^)\s]+)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of the root, and every file that a page links to, page by page."""
    for path, uri in PAGES.items():
        files.append(File.generated(config, uri, abs_src_path=str(ROOT / path)))
    todo = list(files.documentation_pages())
    while todo:
        page = todo.pop()
        for path in _links(page):
            if files.get_file_from_path(_site_uri(path)) is None:
                if path.startswith("docs/") or not (ROOT / path).is_file():
                    raise PluginError(f"{page.src_uri} links to {path}, which is not there")
                copy = File.generated(
                    config,
                    _site_uri(path),
                    abs_src_path=str(ROOT / path),
                    inclusion=InclusionLevel.NOT_IN_NAV,
                )
                files.append(copy)
                todo += [copy] if copy.is_documentation_page() else []
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn a page's links to where the site has what they lead to."""
    here = page.file.src_uri
    folder = posixpath.dirname(here) or "."

    def turned(link: re.Match[str]) -> str:
        uri = _site_uri(_target(_repository_path(here), link[2]))
        return f"{link[1]}({posixpath.relpath(uri, folder)}{link[3] or ''})"

    return _LINK.sub(turned, markdown)


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    """Say of Chinese pages that they are: browsers choose glyphs by it, readers a voice."""
    if page.file.src_uri.endswith(".zh-CN.md"):
        return output.replace('<html lang="en"', '<html lang="zh-CN"', 1)
    return output


def _links(page: File) -> list[str]:
    """Return where a page's links lead in the repository."""
    here = _repository_path(page.src_uri)
    return [_target(here, link[2]) for link in _LINK.finditer(page.content_string)]


def _target(here: str, link: str) -> str:
    """Return the file in the repository that a link of the file `here` leads to."""
    path = posixpath.normpath(posixpath.join(posixpath.dirname(here), link))
    return posixpath.join(path, "README.md") if (ROOT / path).is_dir() else path


def _repository_path(uri: str) -> str:
    """Return where a page of the site lies in the repository."""
    roots = {site: path for path, site in PAGES.items()}
    if uri.startswith(f"{COPIES}/"):
        return uri.removeprefix(f"{COPIES}/")
    return roots.get(uri, f"docs/{uri}")


def _site_uri(path: str) -> str:
    """Return where the site has a file of the repository."""
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    return {"README.md": "index.md", **PAGES}.get(path, f"{COPIES}/{path}")
