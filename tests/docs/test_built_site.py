"""The site as it is built: nothing from outside, and it works in a browser, opened as files."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from site_build import ROOT

import mmadapters

CHROMIUM = Path(os.environ.get("MMADAPTERS_CHROMIUM", "/usr/bin/chromium"))
LOADED = re.compile(r"<(?:script|link|img|iframe|source)\b[^>]*?\b(?:src|href)=[\"']?((?:https?:)?//[^\s\"'>]+)")
SIZES = {"desktop": (1280, 900), "phone": (390, 844)}


def test_every_page_is_built_and_loads_nothing_from_outside(built_site: Path) -> None:
    pages = sorted(built_site.rglob("*.html"))
    assert len(pages) > 30
    for page in pages:
        assert LOADED.findall(page.read_text(encoding="utf-8")) == [], page
    styles = "".join(path.read_text(encoding="utf-8") for path in built_site.rglob("*.css"))
    assert not re.findall(r"url\([\"']?(?:https?:)?//|@import [\"'](?:https?:)?//", styles)
    home = (built_site / "index.html").read_text(encoding="utf-8")
    assert "assets/iframe-worker.js" in home
    assert "make demo" in home
    assert (built_site / "files" / "benchmarks" / "steps-4" / "result.json").read_bytes() == (
        ROOT / "benchmarks" / "steps-4" / "result.json"
    ).read_bytes()


def test_the_pages_of_the_reference_have_the_docstrings(built_site: Path) -> None:
    text = "".join(page.read_text(encoding="utf-8") for page in (built_site / "reference").glob("*.html"))
    for name in mmadapters.__all__:
        assert f'id="mmadapters.{name}"' in text or name == "__version__"
    assert "One source of information beside the text." in text
    assert ":::" not in re.sub(r"<code.*?</code>", "", text, flags=re.DOTALL)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api")
    if not CHROMIUM.is_file():
        pytest.skip(f"no Chromium at {CHROMIUM}")
    with api.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("size", SIZES)
def test_the_site_works_as_files_in_a_browser(built_site: Path, browser: Any, size: str) -> None:
    width, height = SIZES[size]
    context = browser.new_context(viewport={"width": width, "height": height})
    asked: list[str] = []
    problems: list[str] = []
    context.on("request", lambda request: asked.append(request.url))
    context.route(re.compile(r"^(?!file:|data:|blob:)"), lambda route: route.abort())
    context.set_default_timeout(90_000)
    page = context.new_page()
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto((built_site / "index.html").as_uri())
    assert page.locator("h1").inner_text().startswith("mmadapters")

    if size == "phone":
        page.locator("label[for=__search].md-header__button").click()
    query = page.locator("input.md-search__input")
    query.fill("prefix cach")
    query.press_sequentially("e")  # It searches when a key is let go.
    hit = page.locator(".md-search-result__item a", has_text="frozen-prefix cache").first
    hit.wait_for()
    hit.click()
    page.wait_for_url("**/prefix-cache.html*")
    assert "Training the last layers only" in page.locator("h1").inner_text()

    for name in ("fusions.html", "speed.html", "reference/python.html", "reference/cli.html", "benchmarks/index.html"):
        page.goto((built_site / name).as_uri())
        # What is wide scrolls in itself, not the page.
        assert page.evaluate("document.documentElement.scrollWidth") <= width, name
        assert page.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)"), name
    page.locator(".md-content a", has_text="length").first.click()
    assert "length-bucketing/index.html" in page.url
    assert problems == []
    assert {address.partition(":")[0] for address in asked} <= {"file", "data", "blob"}
    context.close()
