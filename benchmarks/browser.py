"""Tokens a second of the browser's page, in headless Chromium: one thread, and an isolated page's.

    .venv-apps/bin/python benchmarks/browser.py [SITE] [--texts N] [--tokens N] [--threads N]

`make test-browser` makes SITE (build/browser) and the environment. Each page writes texts of as
many tokens, one after another, greedily; the first ones are slower, while the browser still
compiles. The page and the isolated one take turns. The table is Markdown.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, sync_playwright

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from tests.apps.test_browser import BROWSERS, READY, dial, served, written

PROMPTS = ("Once upon a time", "The wolf", "In the garden", "She opened the door", "An old king")


def write(page: Page, number: int) -> dict[str, Any]:
    """Let a page write a text; return what it says of it."""
    page.get_by_role("textbox").fill(f"{PROMPTS[number % len(PROMPTS)]} {number}")
    return written(page, page.get_by_role("button", name="Write on").click)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the browser's page.")
    parser.add_argument("site", type=Path, nargs="?", default=Path("build/browser"))
    parser.add_argument("--texts", type=int, default=12)
    parser.add_argument("--tokens", type=int, default=200)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    given = parser.parse_args()
    path = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)))
    isolated_name = f"isolated, {given.threads} threads"
    found: dict[str, list[float]] = {"one thread": [], isolated_name: []}
    with (
        sync_playwright() as playwright,
        served(given.site) as plain,
        served(given.site, isolated=True) as isolated,
    ):
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        pages = {}
        for name, where in zip(found, (plain, f"{isolated}/?threads={given.threads}"), strict=True):
            pages[name] = page = browser.new_page()
            page.goto(where)
            page.wait_for_function(READY)
            dial(page, "Temperature", 0)
            dial(page, "Length", given.tokens)
        for number in range(given.texts):
            for name, page in pages.items():
                found[name].append(write(page, number)["tokensPerSecond"])
        browser.close()
    print("| page | first text, tok/s | last half, tok/s, median | least | greatest |")
    print("|---|---:|---:|---:|---:|")
    for name, speeds in found.items():
        last = speeds[len(speeds) // 2 :]
        cells = [speeds[0], statistics.median(last), min(last), max(last)]
        print(f"| {name} | " + " | ".join(f"{cell:.0f}" for cell in cells) + " |")


if __name__ == "__main__":
    main()
