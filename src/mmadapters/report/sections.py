"""What stands where in a report: tables first, then pictures, beside the tables that they belong to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from mmadapters.plots.picture import Picture
from mmadapters.report.explanation_tables import (
    faithfulness_table,
    labels_table,
    leave_one_out_table,
    missing_table,
    sites_table,
    subsets_table,
)
from mmadapters.report.tables import (
    Comparison,
    Table,
    chosen_table,
    differences_table,
    diversity_table,
    finished,
    label_table,
    metric_tables,
    missed_table,
    summary_table,
)

LONGEST_LABEL_TABLE = 60


@dataclass(frozen=True)
class Section:
    """A part of a report.

    Attributes:
        title: Of the part.
        tables: First.
        pictures: After the tables.
    """

    title: str
    tables: list[Table] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)


def sections(comparison: Comparison, pictures: Sequence[Picture]) -> list[Section]:
    """Return the parts of a report that have something in them.

    Args:
        comparison: The comparison.
        pictures: All pictures; those that no part names stand in the first.
    """
    by_name = {picture.name: picture for picture in pictures}
    plan: list[tuple[str, list[Table | None], tuple[str, ...]]] = [
        ("Results", [summary_table(comparison), differences_table(comparison)], ("results", "differences", "costs")),
        ("Every metric", list(metric_tables(comparison)), ()),
        (
            "Labels",
            [_cut(label_table(comparison, name)) for name in ("average_precision", "f1", "tuned_f1")],
            ("labels",),
        ),
        ("Precision and recall", [], ("precision-recall",)),
        ("Model against model", [diversity_table(comparison)], ("errors",)),
        ("What all methods miss", [missed_table(comparison)], ()),
        ("What the models looked at", _looked_at(comparison), ("left-out", "shares", "label-shares")),
        ("Missing modalities", _missing(comparison), ("missing",)),
        ("Training", [chosen_table(comparison)], ("losses", "validation")),
    ]
    named = {name for _, _, names in plan for name in names}
    found = []
    for index, (title, tables, names) in enumerate(plan):
        own = [by_name[name] for name in names if name in by_name]
        if index == 0:
            own += [picture for picture in pictures if picture.name not in named]
        filled = [table for table in tables if table is not None]
        if filled or own:
            found.append(Section(title, filled, own))
    return found


def explained(comparison: Comparison) -> dict[str, Any]:
    """Return what each contender looked at, by its name, as far as that is known.

    Args:
        comparison: The comparison.
    """
    return {each["name"]: each["explanation"] for each in finished(comparison) if each.get("explanation")}


def with_missing(comparison: Comparison) -> dict[str, Any]:
    """Return what each contender reached with something missing, by its name, as far as that was tried.

    Args:
        comparison: The comparison.
    """
    return {each["name"]: each["variants"] for each in finished(comparison) if each.get("variants")}


def _looked_at(comparison: Comparison) -> list[Table | None]:
    summaries = explained(comparison)
    one = list(summaries.items())[:1]
    return [
        *(leave_one_out_table(each, name) for name, each in summaries.items()),
        faithfulness_table(summaries),
        *(sites_table(each, name) for name, each in one),
        *(labels_table(each, name) for name, each in one),
    ]


def _missing(comparison: Comparison) -> list[Table | None]:
    variants = with_missing(comparison)
    tables: list[Table | None] = []
    for metric in comparison["main_metrics"]:
        tables += [missing_table(variants, metric), subsets_table(variants, metric)]
    return tables


def _cut(table: Table | None) -> Table | None:
    if table is None or len(table.rows) <= LONGEST_LABEL_TABLE:
        return table
    note = f"{table.note} The {LONGEST_LABEL_TABLE} most frequent of {len(table.rows)} labels; labels.csv has all."
    return Table(table.title, table.columns, table.rows[:LONGEST_LABEL_TABLE], note, table.text_columns)
