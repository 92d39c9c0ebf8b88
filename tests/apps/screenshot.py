"""Take the picture of the browser's page that the docs show.

    .venv-apps/bin/python tests/apps/screenshot.py docs/browser.png

A desktop in light and a phone in dark, side by side, after `make test-browser`.
"""

from __future__ import annotations

import sys
import threading
from base64 import b64encode
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

ROOT = Path(__file__).resolve().parents[2]
OPENING = "Once upon a time, on the edge of a great wood,"
FRAME = """
<style>
    body { margin: 0; padding: 48px; display: flex; gap: 40px; background: #dfe6e2; }
    img { display: block; border-radius: 14px; box-shadow: 0 18px 50px #10201a33; }
</style>
<img src="data:image/png;base64,%s" width="1040"><img src="data:image/png;base64,%s" width="326">
"""


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


def picture(browser: Browser, address: str, size: tuple[int, int], scheme: str) -> str:
    """Let the page write, and return what it then looks like."""
    page = browser.new_page(
        viewport={"width": size[0], "height": size[1]}, color_scheme=scheme, device_scale_factor=1.5
    )
    page.goto(address)
    page.wait_for_function("!document.getElementById('write').disabled")
    page.get_by_label("Temperature").fill("0.7")
    for _ in range(4):  # the first texts compile what they use
        page.get_by_role("textbox").fill(OPENING)
        page.evaluate(
            "window.written = new Promise((resolve) => "
            "document.addEventListener('written', resolve, { once: true })); 0"
        )
        page.get_by_role("button", name="Write on").click()
        page.evaluate("window.written.then(() => 0)")
    page.get_by_role("textbox").focus()
    page.mouse.move(0, 0)
    return b64encode(page.screenshot()).decode()


def main() -> None:
    handler = partial(_Quiet, directory=str(ROOT / "build" / "browser"))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--no-sandbox"]
        )
        pictures = (
            picture(browser, address, (1180, 800), "light"),
            picture(browser, address, (390, 800), "dark"),
        )
        page = browser.new_page(viewport={"width": 1502, "height": 802})
        page.set_content(FRAME % pictures)
        page.screenshot(path=sys.argv[1])
        browser.close()


if __name__ == "__main__":
    main()
