"""examples/browser in headless Chromium: its tokens, its errors, and how it looks and is used.

`make test-browser` prepares the page in build/browser first.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

import pocketgpt

from .answers import FP32_TOLERANCE, check_tokens, unpacked_greedy
from .conftest import FOLDER, PROMPTS, ROOT, Greedy

SITE = ROOT / "build" / "browser"
MODULES = ROOT / "build" / "npm" / "apps" / "node_modules"  # transformers.js and axe-core
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
DESKTOP, PHONE = {"width": 1280, "height": 860}, {"width": 390, "height": 844}
TOKENS = 60
READY = "!document.getElementById('write').disabled"
ADDRESS = re.compile(r"http://127\.0\.0\.1:\d+")
Open = Callable[..., Page]


@contextmanager
def served(folder: Path, *, isolated: bool = False) -> Iterator[str]:
    """Serve a folder while the context is open; yields its address."""
    plain = ["-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory", str(folder)]
    threads = [str(ROOT / "examples" / "browser" / "serve.py"), str(folder), "0"]
    command = [sys.executable, *(threads if isolated else plain)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as server:
        assert server.stdout is not None
        found = ADDRESS.search(server.stdout.readline())
        try:
            assert found is not None
            yield found[0]
        finally:
            server.terminate()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    path = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)), None)
    assert path, "no Chromium: apt-get install chromium, or make test-browser CHROMIUM=PATH"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with served(SITE) as address:
        yield address


@pytest.fixture
def open_page(chromium: Browser, address: str) -> Iterator[Open]:
    """Open the page, which must be ready, log nothing and ask nobody else for anything."""
    pages: list[Page] = []
    wrong: list[str] = []
    asked: list[tuple[str, str]] = []

    def open_page(
        where: str = address, query: str = "", *, ready: bool = True, **options: Any
    ) -> Page:
        page = chromium.new_page(**{"viewport": DESKTOP, **options})
        pages.append(page)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        if ready:
            page.on("console", lambda message: wrong.append(message.text))
        page.on("request", lambda request: asked.append((where, request.url)))
        page.goto(f"{where}/{query}")
        if ready:
            page.wait_for_function(READY)
        return page

    yield open_page
    for page in pages:
        page.close()
    assert wrong == []
    own = [url for where, url in asked if url.startswith((where, "data:", "blob:"))]
    assert own == [url for _, url in asked]  # nothing comes from elsewhere


def dial(page: Page, name: str, value: float) -> None:
    page.get_by_label(name).fill(str(value))


def written(page: Page, act: Callable[[], None]) -> dict[str, Any]:
    """Do what makes the model write; return what it says at the end."""
    page.evaluate(
        "window.written = new Promise((resolve) => "
        "document.addEventListener('written', (e) => resolve(e.detail), { once: true })); 0"
    )
    act()
    result: dict[str, Any] = page.evaluate("window.written")
    return result


def test_greedy_tokens_are_python_s(open_page: Open, greedy: Greedy) -> None:
    """Those of ONNX Runtime in Python on the page's graph; and q4's, within what q4 promises.

    In the browser q4's products take what they multiply in 32 bits, elsewhere in 8 (unpack.py).
    """
    page = open_page()
    dial(page, "Temperature", 0)
    dial(page, "Length", TOKENS)
    model = pocketgpt.load(FOLDER, "q4", kv_cache="float")
    tolerance = json.loads((FOLDER / "pocketgpt.json").read_text("utf-8"))["variants"]["q4"][
        "tolerance"
    ]
    equal = []
    for prompt in PROMPTS:
        page.get_by_role("textbox").fill(prompt)
        result = written(page, page.get_by_role("button", name="Write on").click)
        made = model.tokenizer.decode(result["ids"])
        assert page.get_by_role("textbox").input_value() == prompt + made
        assert page.locator("#ink .model").text_content() == made
        given = model.tokenizer.encode(prompt)
        check_tokens(result["ids"], *unpacked_greedy(SITE / "model", given, TOKENS), FP32_TOLERANCE)
        expected = model.generate(prompt, max_new_tokens=TOKENS, logprobs=model.config.vocab_size)
        equal.append(check_tokens(result["ids"], *table(expected), tolerance))
    assert max(equal) == TOKENS
    print(f"tokens equal to q4's elsewhere, of {TOKENS}: {equal}")


def table(result: pocketgpt.GenerationResult) -> tuple[list[int], Any]:
    """Return a result's tokens with the log-probabilities of all tokens at each."""
    assert result.logprobs is not None
    found = np.zeros((len(result.token_ids), len(result.logprobs[0].top)), np.float32)
    for row, step in zip(found, result.logprobs, strict=True):
        ids, values = zip(*step.top, strict=True)
        row[list(ids)] = values
    return result.token_ids, found


def test_threads_change_no_token(open_page: Open, greedy: Greedy) -> None:
    with served(SITE, isolated=True) as address:
        page = open_page(address, "?threads=2")
        assert page.evaluate("crossOriginIsolated")
        expect(page.locator("#name")).to_contain_text("2 threads")
        dial(page, "Temperature", 0)
        dial(page, "Length", TOKENS)
        page.get_by_role("textbox").fill(PROMPTS[0])
        result = written(page, page.get_by_role("button", name="Write on").click)
        assert result["ids"] == greedy("q4", PROMPTS[0], TOKENS).token_ids


def test_a_text_goes_on_past_the_context(open_page: Open) -> None:
    """Only what is new is computed, and a long text's newest part goes on."""
    page = open_page()
    dial(page, "Length", 300)
    page.get_by_role("textbox").fill("Once upon a time")
    write = page.get_by_role("button", name="Write on")
    results = [written(page, write.click) for _ in range(3)]
    assert [result["left"] > 0 for result in results] == [False, True, True]
    assert all(result["held"] <= 512 for result in results)
    assert all(result["reason"] in ("length", "end", "context") for result in results)


def test_what_is_measured_is_shown(open_page: Open) -> None:
    page = open_page()
    manifest = json.loads((FOLDER / "pocketgpt.json").read_text("utf-8"))
    loss = manifest["variants"]["q4"]["quality"]["loss"]
    expect(page.locator("#loss")).to_have_text(f"+{100 * loss:.2f}%")
    expect(page.locator("#size")).to_have_text("4.4 MB")
    written(page, page.get_by_role("button", name="The wolf").click)
    assert int(page.locator("#speed").text_content() or "") > 0
    assert float(page.locator("#first").text_content() or "") > 0
    expect(page.locator("#held-text")).to_contain_text(re.compile(r"\d+ of 512 tokens"))


def test_keys_write_stop_and_edits_are_yours(open_page: Open) -> None:
    page = open_page()
    dial(page, "Length", 300)
    text = page.get_by_role("textbox")
    text.fill("The wolf")
    text.focus()

    def write_and_stop() -> None:
        page.keyboard.press("Control+Enter")
        expect(page.get_by_role("button", name="Stop")).to_be_visible()
        page.wait_for_function("document.getElementById('text').value.length > 30")
        page.keyboard.press("Escape")

    result = written(page, write_and_stop)
    assert result["reason"] == "stopped"
    assert 0 < len(result["ids"]) < 300
    whole = text.input_value()
    text.press("End")
    page.keyboard.press("Control+End")
    page.keyboard.type(" And I said no.")
    assert page.locator("#ink > span").all_text_contents() == [
        "The wolf",
        whole.removeprefix("The wolf"),
        " And I said no.",
    ]
    page.get_by_role("button", name="Take back").click()
    assert text.input_value() == "The wolf"


def copied(tmp_path: Path) -> Path:
    return Path(shutil.copytree(SITE, tmp_path / "site"))


def test_a_missing_model_is_said_and_tried_again(open_page: Open, tmp_path: Path) -> None:
    site = copied(tmp_path)
    (site / "model").rename(tmp_path / "model")
    with served(site) as address:
        page = open_page(address, ready=False)
        expect(page.get_by_role("alert")).to_contain_text("is not there (404): run make browser")
        expect(page.get_by_role("button", name="Write on")).to_be_disabled()
        (tmp_path / "model").rename(site / "model")
        page.get_by_role("button", name="Try again").click()
        page.wait_for_function(READY)
        expect(page.get_by_role("alert")).to_be_hidden()


def test_weights_cut_short_are_said(open_page: Open, tmp_path: Path) -> None:
    site = copied(tmp_path)
    weights = site / "model" / "onnx" / "model_q4.onnx_data"
    weights.write_bytes(weights.read_bytes()[:-1])
    with served(site) as address:
        page = open_page(address, ready=False)
        expect(page.get_by_role("alert")).to_contain_text("4390399 bytes, not 4390400")


def test_a_graph_that_is_none_is_said(open_page: Open, tmp_path: Path) -> None:
    site = copied(tmp_path)
    graph = site / "model" / "onnx" / "model_q4.onnx"
    graph.write_bytes(bytes(graph.stat().st_size))
    with served(site) as address:
        page = open_page(address, ready=False)
        expect(page.get_by_role("alert")).to_be_visible(timeout=30_000)
        assert len(page.locator("#failure-text").text_content() or "") > 20


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_it_fits_and_axe_finds_nothing(open_page: Open, scheme: str, size: dict[str, int]) -> None:
    page = open_page(viewport=size, color_scheme=scheme)
    page.get_by_role("textbox").fill("Once upon a time")
    written(page, page.get_by_role("button", name="Write on").click)
    assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]
    button = page.get_by_role("button", name="Write on").bounding_box()
    assert button is not None
    assert button["y"] + button["height"] <= size["height"]
    assert button["height"] >= 44
    text = page.locator("#ink .model").bounding_box()
    assert text is not None
    assert text["y"] + text["height"] <= button["y"]  # the newest line is not behind the desk
    page.add_script_tag(path=str(MODULES / "axe-core" / "axe.min.js"))
    found = page.evaluate("axe.run()")
    assert [(one["id"], one["help"]) for one in found["violations"]] == []


def test_every_control_is_reached_by_tab_and_shows_it(open_page: Open) -> None:
    page = open_page()
    page.get_by_role("textbox").fill("The wolf")
    page.get_by_role("textbox").focus()
    reached = []
    for _ in range(3):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id"))
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    assert reached == ["temperature", "length", "write"]


def test_tokens_are_drawn_by_their_probabilities(open_page: Open) -> None:
    """Of three logits whose weights at this temperature are 1, 2 and 4."""
    counts = open_page().evaluate(
        """async () => {
            const { pick } = await import("/text.js");
            const logits = Float32Array.from([0, Math.log(2) / 2, -9, Math.log(4) / 2]);
            const counts = [0, 0, 0, 0];
            for (let i = 0; i < 7000; i++) counts[pick(logits, 0.5, 3, () => (i + 0.5) / 7000)]++;
            return counts;
        }"""
    )
    assert counts == [1000, 2000, 0, 4000]


def test_half_characters_wait_for_the_rest(open_page: Open) -> None:
    text = "“Größe”, 灯台守は💃🏽 naïve — and the wolf."
    pieces = open_page().evaluate(
        """async (text) => {
            const { TextStream } = await import("/text.js");
            const { Tokenizer } = await import("/vendor/tokenizers.min.mjs");
            const json = async (name) => (await fetch(`/model/${name}.json`)).json();
            const names = ["tokenizer", "tokenizer_config"];
            const tokenizer = new Tokenizer(...(await Promise.all(names.map(json))));
            const stream = new TextStream((ids) => tokenizer.decode(ids));
            const pieces = tokenizer.encode(text).ids.map((id) => stream.push(id));
            return [...pieces, stream.finish()];
        }""",
        text,
    )
    assert "".join(pieces) == text
    assert pieces.count("") > 3
    assert not any("\ufffd" in piece for piece in pieces)


def test_transformers_js_says_the_same_offline(
    chromium: Browser, greedy: Greedy, tmp_path: Path
) -> None:
    """The folder as it is, by transformers.js in the browser, every variant named."""
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "folder").symlink_to(FOLDER)
    (tmp_path / "npm").symlink_to(MODULES)
    shutil.copyfile(Path(__file__).with_name("transformersjs.html"), tmp_path / "index.html")
    elsewhere: list[str] = []
    with served(tmp_path) as address:
        page = chromium.new_page()
        page.on("request", lambda request: elsewhere.append(request.url))
        page.goto(address)
        page.wait_for_function("'greedy' in window")
        prompts, count = list(PROMPTS[:2]), 16
        for dtype in ("fp32", "int8", "q8", "q4"):
            made = page.evaluate("(given) => greedy(...given)", [dtype, prompts, count])
            assert made == [greedy(dtype, prompt, count).token_ids for prompt in prompts], dtype
        page.close()
        assert [url for url in elsewhere if not url.startswith((address, "blob:"))] == []
