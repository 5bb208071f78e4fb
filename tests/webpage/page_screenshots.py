"""Pictures of the page for the documents: a real encoder, trained on synthetic miniatures."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image

from browsing import DESKTOP, PHONE, visit
from mmadapters import MultimodalPredictor
from mmadapters.data.sources.miniatures import write_miniatures
from mmadapters.webpage.server import PageOptions, running_page

IMAGES = "MMADAPTERS_PAGE_IMAGES"
"""Folder that the pictures go to."""
MODEL = "MMADAPTERS_PAGE_MODEL"
"""Folder of a model that was trained before, by the same lines."""
COLOURS = 256


def trained_model(folder: Path) -> Path:
    if MODEL in os.environ:
        return Path(os.environ[MODEL])
    rows = write_miniatures(folder / "rows", n=240)
    training = {"num_train_epochs": 12}
    predictor = MultimodalPredictor(label="genres", training=training, cache_dir=folder / "cache", verbose=0)
    return predictor.fit(rows).save(folder / "miniature-genres")


def take_screenshots(browser: Any, images: Path, folder: Path) -> list[Path]:
    unseen = write_miniatures(folder / "unseen", n=10, seed=1)
    whole = pd.read_csv(unseen).notna().all(axis=1).to_numpy().nonzero()[0]
    with running_page(trained_model(folder), PageOptions(0, unseen)) as address:
        page = visit(browser, DESKTOP).page
        page.goto(address)
        page.get_by_label("Fill in an example").click()
        page.get_by_role("option").nth(int(whole[0])).click()
        page.wait_for_function("document.querySelector('#field-plot textarea').value.length > 20")
        page.locator("#field-trailer video").wait_for()
        page.get_by_role("button", name="Predict").click()
        page.locator("#results tr[data-without=table]").wait_for()
        page.wait_for_timeout(1500)
        taken = [_saved(page, images / "page.png")]
        page.get_by_label("Use poster").uncheck()
        page.locator("#results tr[data-share=poster]", has_text="left out").wait_for()
        page.wait_for_timeout(500)
        taken.append(_saved(page.locator("#results"), images / "page-without-poster.png"))
        page.set_viewport_size({"width": PHONE, "height": 844})
        page.locator("#results").scroll_into_view_if_needed()
        page.evaluate("document.getElementById('results').scrollIntoView()")
        page.wait_for_timeout(800)
        taken.append(_saved(page, images / "page-phone.png", full_page=False))
    return taken


def _saved(what: Any, file: Path, **options: Any) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    if hasattr(what, "goto"):
        options = {"full_page": True, **options}
    what.screenshot(path=str(file), **options)
    # Few colours are enough, and make small files.
    Image.open(file).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(file, optimize=True)
    return file
