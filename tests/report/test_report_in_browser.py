"""The reports of ``mmadapters compare`` and ``explain`` in a browser: at a desk, on a telephone, on paper."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from browsing import DESKTOP, PHONE, Visit, chromium, visit
from comparisons import NASTY, multi_label_comparison
from mmadapters.data.schema import MULTI_LABEL
from mmadapters.evaluation.ablation import rate_variants, subset_variants, variant_metrics
from mmadapters.evaluation.explanation import Explanation
from mmadapters.evaluation.explanation_summary import summarise_explanation
from mmadapters.plots.draw import draw_explanation, draw_pictures
from mmadapters.report.explanation import explanation_notes, explanation_sections
from mmadapters.report.html import html_report
from mmadapters.report.sections import sections
from mmadapters.report.tables import footer

PAPER = 794
"""Pixels of A4's width."""


def explanation_page() -> str:
    """An explanation of as many sites, modalities and labels as real ones have."""
    random = np.random.default_rng(0)
    names = ["poster", "trailer", "trailer_audio", "a_table_with_a_long_name"]
    labels = [NASTY, "science fiction and fantasy", *(f"label {i}" for i in range(10))]
    sites = [(layer, place) for layer in range(12) for place in ("attention", "feed_forward")]
    shape = (30, len(sites), 1 + len(names))
    logits = random.normal(size=(30, len(labels)))
    without = {name: logits + random.normal(size=logits.shape) for name in names}
    present = np.ones((30, 1 + len(names)), bool)
    explanation = Explanation(
        MULTI_LABEL, ["text", *names], sites, random.random(shape), random.random(shape), present, logits, without
    )
    targets = (random.random(logits.shape) < 0.3).astype(np.float32)
    variants = [*subset_variants(names), *rate_variants(names, [0.5])]
    scored = variant_metrics(variants, {v.key: logits for v in variants}, MULTI_LABEL, targets, labels)
    content = {
        **summarise_explanation(explanation, labels, targets),
        "variants": scored,
        "examples": [],
        "model": "model",
        "data": "rows.csv",
    }
    return html_report(
        "What it looks at", explanation_sections(content, draw_explanation(content)), explanation_notes(content)
    )


def comparison_page() -> str:
    comparison = multi_label_comparison()
    return html_report("Movies", sections(comparison, draw_pictures(comparison)), footer(comparison))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module", params=[explanation_page, comparison_page], ids=["explain", "compare"])
def shown(request: pytest.FixtureRequest, browser: Any) -> Iterator[Visit]:
    visited = visit(browser)
    visited.page.set_content(request.param())
    yield visited
    visited.page.context.close()


@pytest.mark.parametrize("width", [DESKTOP, PHONE])
def test_nobody_has_to_scroll_sideways(shown: Visit, width: int) -> None:
    assert shown.overflow(width) == []
    assert shown.page.locator("svg").first.bounding_box()["width"] > 0.5 * min(width, 600)


def test_the_report_asks_for_nothing_and_complains_of_nothing(shown: Visit) -> None:
    assert shown.page.locator("table").count() >= 3
    assert shown.outside == []
    assert shown.complaints == []


def test_the_report_on_paper(shown: Visit) -> None:
    shown.page.emulate_media(media="print")
    try:
        assert not shown.page.locator("nav").is_visible()
        assert shown.overflow(PAPER) == []
        assert (
            shown.page.pdf(format="A4", margin=dict.fromkeys(("top", "bottom", "left", "right"), "1cm"))[:5] == b"%PDF-"
        )
    finally:
        shown.page.emulate_media(media="screen")


def test_a_page_that_asks_elsewhere_or_is_too_wide_is_found(browser: Any) -> None:
    visited = visit(browser)
    visited.page.set_content('<img src="https://example.invalid/a.png"><p style="width:2000px">wide</p>')
    visited.page.wait_for_load_state()
    assert visited.outside == ["https://example.invalid/a.png"]
    assert visited.complaints
    assert visited.overflow(PHONE)[-1] == "scrollWidth 2008"
    visited.page.context.close()
