"""The report: figures in its tables, labels that no format trips over, one file that asks for nothing else."""

from __future__ import annotations

import csv
import functools
import http.server
import json
import re
import shutil
import subprocess
import threading
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import markdown_it
import pytest

from comparisons import NASTY, multi_label_comparison
from mmadapters.plots.draw import draw_pictures
from mmadapters.report.files import write_comparison
from mmadapters.report.html import html_report, html_table
from mmadapters.report.markdown import markdown_report
from mmadapters.report.sections import sections
from mmadapters.report.tables import (
    Table,
    differences_table,
    diversity_table,
    footer,
    label_table,
    mean_and_deviation,
    metric_tables,
    summary_table,
)

VOID = {"meta", "link", "br", "img", "hr", "input"}
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


class Page(HTMLParser):
    """What a page has: its elements, whether all are closed, and every address that a browser would ask for."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.ids: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "xlink:href", "data", "action") and value:
                self.addresses.append(value)
            if name == "id" and value:
                self.ids.append(value)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def comparison() -> dict[str, Any]:
    return multi_label_comparison()


@pytest.fixture(scope="module")
def page(comparison: dict[str, Any]) -> str:
    return html_report("Movies & <more>", sections(comparison, draw_pictures(comparison)), footer(comparison))


def test_the_summary_has_means_deviations_and_costs(comparison: dict[str, Any]) -> None:
    table = summary_table(comparison)
    assert table.columns[:5] == ["method", "modalities", "seeds", "micro AP", "macro AP"]
    ours, other, none = table.rows
    assert ours[:3] == ["ours", "poster", "2"]
    assert ours[-4:] == ["1,234", "2.0 ± 1.4", "300 MiB", "2.0 KiB"]
    assert other[3] == f"{comparison['contenders'][1]['metrics']['test']['micro_average_precision']['mean']:.4f}"
    assert none == ["other [text]", "–", "0", "–", "–", "–", "–", "–", "–"]


def test_cells_say_mean_and_deviation() -> None:
    assert mean_and_deviation({"mean": 0.5, "sd": 0.25}) == "0.5000 ± 0.2500"
    assert mean_and_deviation({"mean": 0.5, "sd": None}) == "0.5000"
    assert mean_and_deviation({"mean": None, "sd": None}) == mean_and_deviation(None) == "–"


def test_differences_have_their_intervals(comparison: dict[str, Any]) -> None:
    table = differences_table(comparison)
    assert table is not None
    found = comparison["contenders"][1]["differences"]["micro_average_precision"]
    assert table.rows == [
        [
            "other [all]",
            f"{found['difference']:+.4f}",
            f"{found['low']:+.4f} to {found['high']:+.4f}",
            *table.rows[0][3:],
        ]
    ]
    assert "200 draws" in table.note


def test_every_metric_is_there_and_wide_tables_are_cut(comparison: dict[str, Any]) -> None:
    (test,) = metric_tables(comparison, ("test",))
    assert ["accuracy", "0.8750 ± 0.1768", "0.5000"] in test.rows
    assert [len(table.columns) for table in metric_tables(comparison, at_once=1)] == [2, 2, 2, 2]


def test_labels_stand_by_frequency(comparison: dict[str, Any]) -> None:
    table = label_table(comparison, "f1")
    assert table is not None
    assert [row[:3] for row in table.rows] == [["war", "10", "2"], [NASTY, "3", "3"]]
    assert table.rows[0][3:] == ["0.8333", "0.5000"]
    assert label_table(comparison, "no_such_figure") is None


def test_errors_that_are_shared(comparison: dict[str, Any]) -> None:
    table = diversity_table(comparison)
    assert table is not None
    assert table.rows == [["ours", "other [all]", "75.0 %", "0.0 %", "25.0 %", "0.0 %", "1.0000", "100.0 %", "1.0000"]]


def test_the_footer_hides_nothing(comparison: dict[str, Any]) -> None:
    text = "\n".join(footer(comparison))
    assert "20 training, 4 validation, 4 test; multi label classification, 2 labels" in text
    assert "Failed: other [all], seed 1: it broke | badly" in text
    assert "second line" not in text
    assert "Not run yet: other [text] seed 0, other [text] seed 1." in text
    assert "different versions: torch 2.0, 2.1" in text
    assert "A note." in text


def test_the_page_is_whole_and_asks_for_nothing(page: str, comparison: dict[str, Any]) -> None:
    found = Page(page)
    assert found.open == []
    assert "script" not in found.tags
    assert found.tags.count("svg") == len(draw_pictures(comparison)) == 8
    outside = [address for address in found.addresses if not address.startswith(("#", "data:"))]
    assert outside == []
    assert re.findall(r"url\((?!#)|@import|@font-face", page) == []
    assert "Movies &amp; &lt;more&gt;" in page
    assert "a|b &lt;i&gt;$5" in page
    # What one drawing names inside must not be found in another.
    drawn = re.findall(r"<clipPath id=\"(\w+)\"", page)
    assert len(drawn) == len(set(drawn)) > 8


def test_the_tables_come_before_the_pictures(page: str) -> None:
    assert page.index("<table>") < page.index("<svg")


def test_the_same_comparison_gives_the_same_report(page: str, comparison: dict[str, Any]) -> None:
    assert html_report("Movies & <more>", sections(comparison, draw_pictures(comparison)), footer(comparison)) == page


def test_pictures_are_drawings_with_names_on_their_axes(comparison: dict[str, Any]) -> None:
    pictures = {picture.name: picture for picture in draw_pictures(comparison)}
    texts = {}
    for name, picture in pictures.items():
        root = ElementTree.fromstring(picture.svg)
        texts[name] = [element.text for element in root.iter() if element.tag.endswith("}text")]
        assert picture.caption
        assert picture.title
    assert {"micro AP", "macro AP", "ours", "other [all]"} <= set(texts["results"])
    assert {"seconds of training (s)", "peak memory (MiB)", "trainable parameters"} <= set(texts["costs"])
    assert {"recall", "precision"} <= set(texts["precision-recall"])
    assert "errors in common (%)" in texts["errors"]
    assert {"epoch", "training loss", "validation loss"} <= set(texts["losses"])
    assert f"{NASTY} (3)" in texts["labels"]
    assert "validation micro AP" in texts["validation"]
    assert "other [text]" not in texts["results"]


def test_a_comparison_without_a_finished_run_is_told(comparison: dict[str, Any], tmp_path: Path) -> None:
    bare = [{name: value for name, value in each.items() if name in ("name", "label", "method", "modalities")}
            for each in comparison["contenders"]]  # fmt: skip
    nothing = {**comparison, "contenders": [{**each, "seeds": []} for each in bare], "diversity": None, "missed": None}
    assert draw_pictures(nothing) == []
    write_comparison(tmp_path, nothing)
    assert "Failed: other [all], seed 1" in (tmp_path / "report.html").read_text()


def test_markdown_tables_survive_any_label(comparison: dict[str, Any]) -> None:
    text = markdown_report("A | B", sections(comparison, draw_pictures(comparison)), footer(comparison), "figures")
    html = markdown_it.MarkdownIt("commonmark").enable("table").render(text)
    found = Page(html)
    assert found.open == []
    assert "i" not in found.tags
    assert html.count("<td>a|b &lt;i&gt;$5</td>") == 3
    assert "![" in text
    assert "(figures/labels.svg)" in text


def test_files_are_written_and_stale_pictures_go(comparison: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "old.svg").write_text("<svg/>")
    pictures = draw_pictures(comparison)
    write_comparison(tmp_path, comparison, pictures)
    assert json.loads((tmp_path / "comparison.json").read_text()) == comparison
    assert {path.stem for path in (tmp_path / "figures").iterdir()} == {picture.name for picture in pictures}
    with (tmp_path / "comparison.csv").open() as file:
        ours, other = csv.DictReader(file)
    assert float(ours["test_accuracy_mean"]) == 0.875
    assert float(ours["test_accuracy_sd"]) == pytest.approx(0.25 / 2**0.5)
    assert other["test_accuracy_sd"] == ""
    found = comparison["contenders"][1]["differences"]["macro_average_precision"]
    assert float(other["macro_average_precision_low"]) == found["low"]
    with (tmp_path / "labels.csv").open() as file:
        labels = list(csv.DictReader(file))
    assert [(row["label"], row["name"], row["training_rows"]) for row in labels[1:3]] == [
        ("war", "other [all]", "10"),
        (NASTY, "ours", "3"),
    ]


def test_a_table_cell_is_text() -> None:
    html = html_table(Table("<t>", ["a<", "b"], [["<script>", "1"]], "n&"))
    assert "<script>" not in html
    assert '<td class="text">&lt;script&gt;</td><td class="number">1</td>' in html
    assert '<p class="note">n&amp;</p>' in html


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_chromium_opens_the_report_and_asks_for_nothing_else(page: str, tmp_path: Path) -> None:
    asked: list[str] = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            asked.append(self.path)

    (tmp_path / "report.html").write_text(page, encoding="utf-8")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(tmp_path)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        found = subprocess.run(
            [
                str(CHROMIUM),
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                f"--user-data-dir={tmp_path / 'profile'}",
                # Whatever is not on this machine's own address is refused, and would be in the page's errors.
                "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
                "--dump-dom",
                f"http://127.0.0.1:{server.server_port}/report.html",
            ],
            capture_output=True,
            text=True,
            timeout=120,
        )
    finally:
        server.shutdown()
        server.server_close()
    assert found.returncode == 0, found.stderr
    assert found.stdout.count("<table>") == page.count("<table>")
    assert found.stdout.count("<svg") == page.count("<svg")
    assert asked == ["/report.html"]
