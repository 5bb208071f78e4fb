"""Pages in a headless Chromium that may ask nobody but this machine, and that notes whoever it would have asked."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
NEEDED = "MMADAPTERS_NEEDS_CHROMIUM"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
HERE = {"127.0.0.1", "localhost"}
DESKTOP, PHONE = 1200, 390
WIDER_THAN_THE_WINDOW = """() => {
  const width = document.documentElement.clientWidth;
  if (document.documentElement.scrollWidth <= width) return [];
  return [...document.querySelectorAll('body *')].filter(e => e.getBoundingClientRect().right > width + 1)
    .map(e => e.tagName + '.' + e.className).slice(0, 5)
    .concat(['scrollWidth ' + document.documentElement.scrollWidth]);
}"""


@dataclass
class Visit:
    """A page and what it did.

    Attributes:
        page: Playwright's page.
        outside: Addresses outside this machine that it asked for; they were refused.
        complaints: Errors of its console and scripts.
    """

    page: Any
    outside: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def overflow(self, width: int) -> list[str]:
        """What is wider than a window of a width; nothing where no one has to scroll sideways."""
        self.page.set_viewport_size({"width": width, "height": 844})
        self.page.wait_for_timeout(100)
        return list(self.page.evaluate(WIDER_THAN_THE_WINDOW))


@contextmanager
def chromium() -> Iterator[Any]:
    """A browser; the test is skipped where there is none, and fails if ``MMADAPTERS_NEEDS_CHROMIUM`` is 1."""
    absent = [name for name, found in (("Playwright", _has_playwright()), ("Chromium", CHROMIUM)) if not found]
    if absent:
        reason = f"{' and '.join(absent)} not installed"
        if os.environ.get(NEEDED) == "1":
            pytest.fail(f"{reason}, and {NEEDED}=1 asks for this test")
        pytest.skip(reason)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


def visit(browser: Any, width: int = DESKTOP) -> Visit:
    """Open an empty page that may ask this machine alone."""
    page = browser.new_context(viewport={"width": width, "height": 844}).new_page()
    page.set_default_timeout(60_000)
    visited = Visit(page)

    def gate(route: Any) -> None:
        parts = urlsplit(route.request.url)
        if parts.hostname in HERE or parts.scheme in ("data", "blob"):
            route.continue_()
        else:
            visited.outside.append(route.request.url)
            route.abort()

    page.route("**/*", gate)
    page.on("websocket", lambda socket: urlsplit(socket.url).hostname in HERE or visited.outside.append(socket.url))
    page.on("pageerror", lambda error: visited.complaints.append(str(error)))
    page.on("console", lambda line: visited.complaints.append(line.text) if line.type == "error" else None)
    return visited


def _has_playwright() -> bool:
    try:
        import playwright.sync_api  # noqa: F401
    except ImportError:
        return False
    return True
