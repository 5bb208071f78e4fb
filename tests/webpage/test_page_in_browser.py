"""The page in a real browser: what a person does on it, on a telephone and without a mouse, and whom it asks."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from page_screenshots import IMAGES, take_screenshots

from browsing import DESKTOP, NEEDED, PHONE, Visit, chromium, visit
from mmadapters.webpage.server import PageOptions, running_page

if os.environ.get(NEEDED) != "1":
    pytest.importorskip("gradio", reason="Gradio is not installed: pip install 'mmadapters[page]'")

NAMES = """() => [...document.querySelectorAll('input, textarea, button, select')].filter(e => e.checkVisibility())
  .map(e => e.getAttribute('aria-label') || (e.labels && e.labels[0] && e.labels[0].innerText) || e.innerText || '')"""
FOCUSED = """() => {
  const e = document.activeElement, field = e.closest('[id^=field-], [id^=use-], #examples');
  return e.tagName === 'BODY' ? '' : field ? field.id : e.innerText.trim();
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def connections() -> list[str]:
    """Addresses outside this machine that the server would have asked."""
    return []


@pytest.fixture(scope="module")
def address(page_folder: Path, connections: list[str], browser: Any) -> Iterator[str]:
    connect = socket.socket.connect

    def watched(self: socket.socket, to: Any) -> Any:
        if self.family != socket.AF_UNIX and to[0] not in ("127.0.0.1", "localhost", "::1"):
            connections.append(str(to))
            raise OSError("refused by the test")
        return connect(self, to)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", watched)
        with running_page(page_folder / "model", PageOptions(0, page_folder / "rows" / "movies.csv")) as found:
            yield found


@pytest.fixture(scope="module")
def opened(address: str, browser: Any) -> Iterator[Visit]:
    visited = visit(browser)
    visited.page.goto(address)
    visited.page.get_by_role("button", name="Predict").wait_for()
    yield visited
    visited.page.context.close()


@pytest.fixture
def page(opened: Visit) -> Any:
    """The page with nothing filled in."""
    opened.page.set_viewport_size({"width": DESKTOP, "height": 844})
    opened.page.get_by_role("button", name="Clear all").click()
    opened.page.get_by_text("Fill in what you have").wait_for()
    return opened.page


def upload(page: Any, field: str, file: Path) -> None:
    page.locator(f"#field-{field} input[type=file]").set_input_files(str(file))
    page.locator(f"#field-{field}").get_by_label("Remove").or_(
        page.locator(f"#field-{field} video, #field-{field} img, #field-{field} .file-preview")
    ).first.wait_for()


def probabilities(page: Any) -> dict[str, str]:
    rows = page.locator("#results tr[data-label]").all()
    return {row.get_attribute("data-label"): row.locator("td.mm-number").first.inner_text() for row in rows}


def media(folder: Path, kind: str) -> Path:
    return sorted((folder / "rows" / kind).iterdir())[0]


def test_fill_in_upload_predict_and_leave_a_modality_out(page: Any, page_folder: Path, opened: Visit) -> None:
    page.get_by_label("plot").fill("the war of the robot and the ghost")
    upload(page, "poster", media(page_folder, "posters"))
    upload(page, "trailer", media(page_folder, "trailers"))
    page.get_by_label("year").fill("1975")
    page.get_by_role("button", name="Predict").click()
    page.locator("#results tr[data-without=trailer]").wait_for()
    before = probabilities(page)
    assert set(before) == {"action", "comedy", "horror", "romance", "sci-fi", "western"}
    assert page.locator("#results .mm-tick").count() == 6
    assert page.locator("#results tr[data-share=viewers]").inner_text().split()[-1] == "missing"
    assert page.locator("#results img").evaluate("image => image.naturalWidth") > 200
    page.get_by_label("Use poster").uncheck()
    page.locator("#results tr[data-share=poster]", has_text="left out").wait_for()
    after = probabilities(page)
    assert after != before
    assert page.locator("#results tr[data-without=poster]").count() == 0
    page.get_by_label("Use poster").check()
    page.locator("#results tr[data-without=poster]").wait_for()
    assert probabilities(page) == before
    assert opened.overflow(PHONE) == []
    assert opened.overflow(DESKTOP) == []


def test_a_broken_file_is_told_at_its_place(page: Any, page_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "torn.mp4").write_bytes(media(page_folder, "trailers").read_bytes()[:900])
    page.locator("#field-trailer input[type=file]").set_input_files(str(tmp_path / "torn.mp4"))
    page.get_by_label("year").fill("long ago")
    page.wait_for_timeout(500)
    page.get_by_role("button", name="Predict").click()
    page.locator("#results tr[data-label]").first.wait_for()
    assert page.locator("#error-trailer").get_by_role("alert").inner_text().startswith("torn.mp4: ")
    assert page.locator("#error-year").inner_text() == "'long ago' is no number. It counts as missing."
    assert not page.locator("#error-poster").is_visible()
    page.get_by_role("button", name="Clear all").click()
    page.locator("#error-trailer").wait_for(state="hidden")


def test_on_a_telephone_results_come_into_view(page: Any, opened: Visit) -> None:
    assert opened.overflow(PHONE) == []
    page.get_by_label("plot").fill("love")
    page.get_by_role("button", name="Predict").click()
    page.locator("#results tr[data-label]").first.wait_for()
    page.wait_for_function("document.getElementById('results').getBoundingClientRect().top < innerHeight / 2")
    assert page.locator("#results").bounding_box()["width"] > 300


@pytest.mark.slow
def test_an_example_by_the_keyboard_alone(page: Any) -> None:
    page.get_by_label("Fill in an example").focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.wait_for_function("document.querySelector('#field-plot textarea').value.length > 20")
    page.locator("#field-viewers .file-preview").wait_for()
    reached = []
    while "Predict" not in reached and len(reached) < 80:
        page.keyboard.press("Tab")
        reached.append(page.evaluate(FOCUSED))
    fields = [
        "plot",
        "poster",
        "trailer",
        "year",
        "budget",
        "runtime",
        "country",
        "studio",
        "season",
        "moods",
        "viewers",
    ]
    uses = ["poster", "trailer", "trailer_audio", "table", "viewers"]
    wanted = {*(f"field-{name}" for name in fields), *(f"use-{name.replace('_', '-')}" for name in uses), "Clear all"}
    assert wanted - set(reached) == set()
    page.keyboard.press("Enter")
    page.locator("#results tr[data-without=viewers]").wait_for()


def test_whatever_can_be_used_has_a_name(page: Any) -> None:
    names = [name.strip() for name in page.evaluate(NAMES)]
    assert "" not in names
    typed = {"Fill in an example", "plot", "year", "budget", "runtime", "country", "studio", "season", "moods"}
    uploaded = {f"{name}: upload a file" for name in ("poster", "trailer", "viewers")}
    used = {f"Use {name}" for name in ("poster", "trailer", "trailer_audio", "table", "viewers")}
    assert (typed | uploaded | used | {"Clear all", "Predict"}) - set(names) == set()


def test_nobody_else_was_asked(opened: Visit, connections: list[str]) -> None:
    assert opened.outside == []
    assert opened.complaints == []
    assert connections == []
    with socket.socket() as other, pytest.raises(OSError, match="refused by the test"):
        other.connect(("192.0.2.1", 80))
    assert connections.pop() == "('192.0.2.1', 80)"


@pytest.mark.skipif(IMAGES not in os.environ, reason=f"{IMAGES} names no folder for the pictures of the documents")
@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_pictures_of_the_documents(browser: Any, tmp_path: Path) -> None:
    for picture in take_screenshots(browser, Path(os.environ[IMAGES]), tmp_path):
        assert picture.stat().st_size < 150_000, picture.name
