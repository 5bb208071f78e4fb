"""Writes a comparison: its values, its tables and its report, each file whole or not at all."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmadapters.files import write_json_atomically, write_text_atomically
from mmadapters.plots.picture import Picture
from mmadapters.report.html import html_report
from mmadapters.report.markdown import markdown_report
from mmadapters.report.sections import sections
from mmadapters.report.tables import Comparison, finished, footer, labels_by_frequency

JSON_FILE = "comparison.json"
MARKDOWN_FILE = "comparison.md"
CSV_FILE = "comparison.csv"
LABELS_FILE = "labels.csv"
HTML_FILE = "report.html"
FIGURES = "figures"


def write_comparison(folder: Path, comparison: Comparison, pictures: Sequence[Picture] = (), title: str = "") -> None:
    """Write a comparison as JSON, CSV, Markdown with pictures in ``figures/``, and one HTML file.

    Args:
        folder: Where to.
        comparison: The comparison.
        pictures: In the order of the report.
        title: Of the report; the folder's name where empty.
    """
    title = title or f"Comparison: {folder.resolve().name}"
    write_json_atomically(folder / JSON_FILE, comparison)
    write_figures(folder, pictures)
    parts, notes = sections(comparison, pictures), footer(comparison)
    write_text_atomically(folder / MARKDOWN_FILE, markdown_report(title, parts, notes, FIGURES))
    write_text_atomically(folder / CSV_FILE, comparison_csv(comparison))
    if comparison["labels"]:
        write_text_atomically(folder / LABELS_FILE, labels_csv(comparison))
    write_text_atomically(folder / HTML_FILE, html_report(title, parts, notes))


def write_figures(folder: Path, pictures: Sequence[Picture]) -> None:
    """Write pictures to ``figures/`` and take away those of an earlier report.

    Args:
        folder: Of the report.
        pictures: All of it.
    """
    figures = folder / FIGURES
    for picture in pictures:
        write_text_atomically(figures / f"{picture.name}.svg", picture.svg)
    if figures.is_dir():
        named = {f"{picture.name}.svg" for picture in pictures}
        for stale in figures.glob("*.svg"):
            if stale.name not in named:
                stale.unlink()


def comparison_csv(comparison: Comparison) -> str:
    """Return one line a contender with every figure, not rounded.

    Args:
        comparison: The comparison.
    """
    records = []
    for contender in finished(comparison):
        record: dict[str, Any] = {
            "name": contender["name"],
            "method": contender["method"],
            "modalities": " ".join(contender["modalities"]),
            "seeds": len(contender["seeds"]),
            "trainable_parameters": contender["trainable_parameters"],
            "parameters": contender["parameters"],
            "file_bytes": contender["file_bytes"],
        }
        for name in ("seconds", "peak_memory_bytes"):
            record |= _both(name, contender[name])
        for split, metrics in contender["metrics"].items():
            for name, found in metrics.items():
                record |= _both(f"{split}_{name}", found)
        for name, found in contender.get("differences", {}).items():
            record |= {
                f"{name}_difference": found["difference"],
                f"{name}_low": found["low"],
                f"{name}_high": found["high"],
            }
        records.append(record)
    return _csv(records)


def labels_csv(comparison: Comparison) -> str:
    """Return one line a label and contender, most frequent labels first.

    Args:
        comparison: The comparison.
    """
    return _csv(
        [
            {
                "label": comparison["labels"][index],
                "training_rows": comparison["label_counts"][index],
                "name": contender["name"],
                **{name: value for name, value in contender["per_label"][index].items() if name != "label"},
            }
            for index in labels_by_frequency(comparison)
            for contender in finished(comparison)
        ]
    )


def _both(name: str, found: dict[str, Any]) -> dict[str, Any]:
    return {f"{name}_mean": found["mean"], f"{name}_sd": found["sd"]}


def _csv(records: list[dict[str, Any]]) -> str:
    text = io.StringIO()
    columns = list(dict.fromkeys(name for record in records for name in record))
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue()
