"""docs/speed.md is what ``make bench-page`` makes of the results that are in the repository."""

from __future__ import annotations

import re
import shutil
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import made_results
import matplotlib
import page_figures
import pages
import pytest
from names import FULL
from page_tables import contenders_table, growth_section, left_out_line, steps_section, targets_table
from results import newest_parts, ratio

BENCHMARKS, PAGE, IMAGES = pages.BENCHMARKS, pages.PAGE, pages.IMAGES


def row_of(text: str, start: str) -> list[str]:
    (line,) = [line for line in text.splitlines() if line.startswith(f"| {start} |")]
    return [cell.strip() for cell in line.strip("|").split("|")][1:]


class Links(dict):
    def __missing__(self, what: str) -> str:
        return f"images/{what}.svg"


def test_the_page_is_what_the_results_make() -> None:
    committed = PAGE.read_text(encoding="utf-8")
    page, drawn = pages.make(BENCHMARKS, committed, IMAGES.name)
    assert page == committed, "docs/speed.md is of other results: run `make bench-page`"
    assert {path.name for path in IMAGES.glob("speed-*.svg")} == set(drawn)
    for name, svg in drawn.items():
        there = (IMAGES / name).read_text(encoding="utf-8")
        if f"Matplotlib v{matplotlib.__version__}," in there:
            assert svg == there, f"{name} is of other results: run `make bench-page`"


def test_every_picture_of_the_page_is_there() -> None:
    named = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", PAGE.read_text(encoding="utf-8"))
    assert named
    for name in named:
        assert ET.parse(PAGE.parent / name).getroot().tag.endswith("svg")


def test_the_commands_of_the_page_are_targets() -> None:
    targets = re.findall(r"^([a-z-]+):", (PAGE.parents[1] / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    commands = re.findall(r"make ([a-z-]+)", PAGE.read_text(encoding="utf-8"))
    assert {"bench", "bench-page", "bench-adapterhub-env"} <= set(commands) <= set(targets)


def test_a_missed_target_is_shown_as_missed(tmp_path: Path) -> None:
    made_results.write_steps(tmp_path / "steps", step_of_ours=0.75)
    table = targets_table(tmp_path)
    assert row_of(table, "training step, BERT-base") == ["at most 0.74", "0.750", "**missed**", "0.650"]
    # 0.75 s against AdapterHub's 0.6 s, turn by turn.
    assert row_of(table, "the same, against AdapterHub's text-only adapters") == [
        "at most 1.05",
        "1.250",
        "**missed**",
        "1.083",
    ]
    assert row_of(table, "peak memory of training, BERT-base") == ["at most 0.70", "0.710", "**missed**", "0.680"]
    assert row_of(table, "training step, last 4 layers, prefix cached") == ["at most 0.27", "0.250", "met", ""]
    assert row_of(table, "training step, MiniLM") == ["at most 0.70", "–", "–", ""]


def test_the_newest_result_of_a_shape_is_shown(tmp_path: Path) -> None:
    made_results.write_steps(tmp_path / "steps-9", step_of_ours=0.5)
    made_results.write_steps(tmp_path / "steps-10", step_of_ours=0.6)
    made_results.write_steps(tmp_path / "steps-11", step_of_ours=0.9, date="2026-01-01")
    made_results.write_steps(tmp_path / "steps", step_of_ours=0.8, shape="minilm", date="2025-01-01")
    parts = newest_parts(tmp_path, "steps", "shapes")
    assert {shape: part.source.folder.name for shape, part in parts.items()} == {
        "minilm": "steps",
        "bert-base": "steps-10",
    }
    assert row_of(targets_table(tmp_path), "training step, BERT-base")[1] == "0.600"


def test_a_ratio_is_the_median_over_turns_where_there_are_turns() -> None:
    contenders: dict[str, Any] = {
        "a": {"step_seconds": {"turns": [1.0, 3.0, 9.0]}, "step_ratio": {"median": 0.5}, "peak_megabytes": 30},
        "b": {"step_seconds": {"turns": [2.0, 2.0, 3.0]}, "step_ratio": {"median": 0.2}, "peak_megabytes": 20},
    }
    assert ratio(contenders, "a", "step", "b") == 1.5
    assert ratio(contenders, "a", "memory", "b") == 1.5
    assert ratio(contenders, "a", "step", "c") is None
    del contenders["a"]["step_seconds"]["turns"]
    assert ratio(contenders, "a", "step", "b") == 2.5


def test_the_table_of_a_shape(tmp_path: Path) -> None:
    made_results.write_steps(tmp_path / "steps")
    section = steps_section(tmp_path, Links())
    assert "8 rows of 128 tokens, modalities of 64 and 8 features, 13 labels." in section
    assert "takes\n1.00 s a step, 250 ms an inference and 1,000 MiB" in section
    # Products are in proportion to the seconds here; 50 gigaflops at 100 a second take half of the second.
    assert row_of(section, "ours") == [
        "0.700",
        "0.700",
        "2.00",
        "0.700",
        "0.700",
        "2.08",
        "0.710",
        "2.0 M",
        "8.4 MB",
    ]
    assert "Z80, 2 cores, 2 threads, 25 GB of memory, load 0.1; torch 2.13.0" in section


def test_quartiles_and_columns_of_an_older_form() -> None:
    spread = {"median": 0.7, "quartile_1": 0.6512, "quartile_3": 0.75}
    result = {"step_ratio": spread, "infer_ratio": spread, "memory_ratio": 0.5, "trainable_parameters": 18_513_805}
    table = contenders_table({"ours": result})
    assert table.splitlines()[0] == "|  | step | inference | memory | trained parameters |"
    assert row_of(table, "ours") == ["0.700 (0.651 to 0.750)", "0.700 (0.651 to 0.750)", "0.500", "18.5 M"]


def test_who_was_left_out_is_told() -> None:
    assert left_out_line({"ours compiled": "no C++ compiler"}) == "Left out: ours, compiled (no C++ compiler)."
    assert left_out_line({}) == ""


def test_the_tables_of_growth(tmp_path: Path) -> None:
    made_results.write_growth(tmp_path / "growth")
    section = growth_section(tmp_path, Links())
    assert row_of(section, "256") == ["1.07 s / 268 ms / 1,467 MiB", "0.72 / 0.72 / 0.82"] + [
        "0.68 / 0.68 / 0.79",
        "0.55 / 0.55 / 0.70",
    ]
    assert "MiniLM, 4 rows a batch, modalities of 512 and 512 features, 13 labels." in section
    assert "MiniLM, 4 rows a batch, 64 tokens a text, modalities of 512 features, 13 labels." in section
    assert "With the rows in memory, the peak grows by 90 MiB from 1,000 to 10,000 rows: 10,486 bytes a" in section
    assert row_of(section, "10,000 | in memory")[1:] == ["210 ms", "1.2 ms", "1.2 s", "790 MiB"]


def test_without_results_the_page_says_so(tmp_path: Path) -> None:
    for section in (steps_section(tmp_path, {}), growth_section(tmp_path, {})):
        assert section == "Not measured yet: `make bench` does it."
    assert pages.pictures(tmp_path) == {}


def test_making_the_page_keeps_what_was_written_by_hand(tmp_path: Path) -> None:
    made_results.write_steps(tmp_path / "benchmarks" / "steps")
    made_results.write_growth(tmp_path / "benchmarks" / "growth")
    page, images = tmp_path / "speed.md", tmp_path / "images"
    images.mkdir()
    shutil.copy(PAGE, page)
    page.write_text(page.read_text().replace("## Growth", "By hand.\n\n## Growth"))
    (images / "speed-of-before.svg").write_text("old")
    (images / "fusions.svg").write_text("of another page")
    pages.main(tmp_path / "benchmarks", page, images)
    text = page.read_text()
    assert "By hand.\n\n## Growth" in text
    assert "Not measured yet" in text.partition("## Texts of similar length")[2]
    drawn = {path.name for path in images.iterdir()}
    assert drawn == {
        "fusions.svg",
        "speed-steps-bert-base.svg",
        *(f"speed-growth-{axis}.svg" for axis in ("length", "batch-size", "modalities", "width", "labels", "rows")),
    }
    assert set(re.findall(r"images/([\w-]+\.svg)", text)) == drawn - {"fusions.svg"}
    before = {path: path.read_bytes() for path in images.iterdir()}
    pages.main(tmp_path / "benchmarks", page, images)
    assert page.read_text() == text
    assert {path: path.read_bytes() for path in images.iterdir()} == before


@pytest.mark.parametrize(
    "page",
    ["no markers", "<!-- steps -->\n", "<!-- end of steps -->\n<!-- steps -->\n", "<!-- steps -->\n<!-- steps -->\n"],
)
def test_a_page_without_its_markers_is_refused(page: str) -> None:
    with pytest.raises(ValueError, match=r"must have the lines '<!-- steps -->' and '<!-- end of steps -->' once"):
        pages.filled(page, {"steps": "text"})


def test_pictures_show_the_numbers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made_results.write_growth(tmp_path / "growth")
    made_results.write_steps(tmp_path / "steps")
    drawn: list[tuple[list[Any], list[Any]]] = []
    original = matplotlib.axes.Axes.plot

    def plot(axes: Any, x: Any, y: Any, *args: Any, **kwargs: Any) -> Any:
        drawn.append((x, y))
        return original(axes, x, y, *args, **kwargs)

    monkeypatch.setattr(matplotlib.axes.Axes, "plot", plot)
    growth = newest_parts(tmp_path, "growth", "axes")["length"]
    page_figures.growth_figure("length", growth.values["points"])
    assert drawn[1][0] == [32, 64, 128, 256, 512]
    assert drawn[1][1] == pytest.approx([128.16, 220.32, 404.64, 773.28, 1510.56], rel=1e-4)
    assert drawn[9][1] == [point["contenders"]["ours"]["peak_megabytes"] for point in growth.values["points"]]
    drawn.clear()
    steps = newest_parts(tmp_path, "steps", "shapes")["bert-base"]
    page_figures.contenders_figure(steps.values["contenders"])
    assert (0.7, 2) in drawn
    with pytest.raises(ValueError, match="'length' has 6 contenders; a picture can show 5"):
        page_figures.growth_figure("length", [{"value": 1, "contenders": dict.fromkeys("abcdef", {})}])


def test_the_same_numbers_give_the_same_picture(tmp_path: Path) -> None:
    made_results.write_steps(tmp_path / "steps")
    contenders = newest_parts(tmp_path, "steps", "shapes")["bert-base"].values["contenders"]
    svg = page_figures.contenders_figure(contenders)
    with matplotlib.rc_context({"font.size": 20, "svg.fonttype": "none"}):
        assert page_figures.contenders_figure(contenders) == svg
    contenders["ours"]["memory_ratio"] = 0.6
    assert page_figures.contenders_figure(contenders) != svg
    assert FULL in contenders
    assert not re.search(r"[ \t]$", svg, re.MULTILINE)
