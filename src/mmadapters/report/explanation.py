"""The report of ``mmadapters explain``, made from plain values alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmadapters.files import write_json_atomically, write_text_atomically
from mmadapters.plots.picture import Picture
from mmadapters.report.explanation_tables import (
    faithfulness_table,
    labels_table,
    leave_one_out_table,
    missing_table,
    number,
    sites_table,
    subsets_table,
)
from mmadapters.report.files import FIGURES, HTML_FILE, write_figures
from mmadapters.report.html import html_report
from mmadapters.report.markdown import markdown_report
from mmadapters.report.sections import Section
from mmadapters.report.tables import NONE, Table

JSON_FILE = "explanation.json"
MARKDOWN_FILE = "explanation.md"
MODEL = "model"
Content = Mapping[str, Any]
"""A summary, with ``variants``, ``examples``, ``model`` and ``data`` (names for people)."""


def write_explanation(folder: Path, content: Content, pictures: Sequence[Picture] = ()) -> None:
    """Write an explanation as JSON, Markdown with pictures in ``figures/``, and one HTML file.

    Args:
        folder: Where to.
        content: The explanation.
        pictures: In the order of the report.
    """
    title = f"What {content['model']} looks at in {content['data']}"
    parts, notes = explanation_sections(content, pictures), explanation_notes(content)
    write_json_atomically(folder / JSON_FILE, content)
    write_figures(folder, pictures)
    write_text_atomically(folder / MARKDOWN_FILE, markdown_report(title, parts, notes, FIGURES))
    write_text_atomically(folder / HTML_FILE, html_report(title, parts, notes))


def explanation_sections(content: Content, pictures: Sequence[Picture]) -> list[Section]:
    """Return the parts of the report that have something in them.

    Args:
        content: The explanation.
        pictures: All pictures.
    """
    by_name = {picture.name: picture for picture in pictures}
    variants = {MODEL: content["variants"]}
    plan: list[tuple[str, list[Table | None], tuple[str, ...]]] = [
        (
            "Which modality matters",
            [leave_one_out_table(content), faithfulness_table({MODEL: content})],
            ("left-out",),
        ),
        ("Layers and sites", [sites_table(content)], ("shares",)),
        ("Labels", [labels_table(content)], ("label-shares",)),
        ("Examples", [examples_table(content)], ()),
        (
            "Missing modalities",
            [table(variants, metric) for metric in content["main_metrics"] for table in (missing_table, subsets_table)]
            if content["variants"]
            else [],
            ("missing",),
        ),
    ]
    found = []
    for title, tables, names in plan:
        filled = [table for table in tables if table is not None]
        drawn = [by_name[name] for name in names if name in by_name]
        if filled or drawn:
            found.append(Section(title, filled, drawn))
    return found


def examples_table(content: Content) -> Table | None:
    """Return the rows for which each modality decides most; None without any.

    Args:
        content: The explanation.
    """
    if not content["examples"]:
        return None
    rows = [
        [
            each["modality"],
            each["row"],
            each["text"],
            each["prediction"] or NONE,
            each["without"] or NONE,
            number(each["change"], 3),
            number(each["share"], 3),
        ]
        for each in content["examples"]
    ]
    return Table(
        "Rows for which a modality decides most",
        ["modality", "row", "text", "prediction", "without it", "change", "share"],
        rows,
        "Change: of the scores, absolute, a mean over labels. rows.csv has every row.",
        ("row", "text", "prediction", "without it"),
    )


def explanation_notes(content: Content) -> list[str]:
    """Return what a reader has to know.

    Args:
        content: The explanation.
    """
    kind = content["problem_type"].replace("_", " ")
    labels = f", {len(content['labels'])} labels" if content["labels"] else ""
    lines = [f"{content['rows']:,} rows of {content['data']}; {kind}{labels}."]
    have = {name: count for name, count in content["present"].items() if count < content["rows"]}
    if have:
        lines.append("Rows that have it: " + ", ".join(f"{name} {count:,}" for name, count in have.items()) + ".")
    if content["metrics"] is None:
        lines.append(
            "The rows have no labels, so nothing is said of what a modality is worth, or whether shares are faithful."
        )
    else:
        lines.append("Metrics, rises of the loss and faithfulness are of these rows, with their true labels.")
    lines.append(
        "A share tells where the adapters' updates come from, not what they are good for: a part may be long and "
        "change nothing that matters. What is taken away says more; yet a model was not trained for rows without it, "
        "unless with modality dropout."
    )
    return lines
