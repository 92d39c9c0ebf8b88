"""The page at / in headless Chromium: it streams, shows errors, fits a phone, asks nobody else."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import pocketgpt

from ..conftest import ROOT

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
SHOTS = Path(os.environ.get("POCKETGPT_SCREENSHOTS", ROOT / "build" / "screenshots"))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="run by `make test-server`")
    if CHROMIUM is None:
        pytest.skip("there is no chromium: apt-get install chromium")
    with sync_api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("name", "width"), [("desktop", 1000), ("phone", 375)])
def test_it_streams_a_text(
    browser: Any, url: str, model: pocketgpt.Model, scheme: str, name: str, width: int
) -> None:
    page = browser.new_page(viewport={"width": width, "height": 760}, color_scheme=scheme)
    asked: list[str] = []
    failed: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: failed.append(str(error)))
    page.on("console", lambda said: failed.append(said.text) if said.type == "error" else None)
    page.goto(url)
    page.fill("#prompt", "Once upon a time")
    page.click("summary")
    page.fill("[name=temperature]", "0")
    page.fill("[name=max_tokens]", "40")
    page.click("#go")
    made = model.generate("Once upon a time", max_new_tokens=40)
    page.locator("#go:enabled").wait_for()
    assert page.text_content("#text") == "Once upon a time" + made.text
    assert "tokens/s" in page.text_content("#speed")
    assert page.text_content("#error") == ""
    wide = page.evaluate("document.documentElement.scrollWidth")
    assert wide <= width
    assert failed == []
    assert all(one.startswith((url, "data:")) for one in asked)
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=str(SHOTS / f"page-{name}-{scheme}.png"))
    page.fill("[name=max_tokens]", "")
    page.fill("#prompt", "word " * 2000)
    page.click("#go")
    page.locator("#error:not(:empty)").wait_for()
    assert "shorten it" in page.text_content("#error")
    page.close()


def test_stop_ends_the_text(browser: Any, url: str) -> None:
    page = browser.new_page()
    page.goto(url)
    page.click("summary")
    page.fill("[name=max_tokens]", "500")
    page.click("#go")
    page.locator(".new", has_text=re.compile(r"[\s\S]{11}")).wait_for()
    page.click("#stop")
    page.locator("#go:enabled").wait_for()
    assert page.text_content("#error") == ""
    page.close()
