"""Prints a metrics report as tables."""

from __future__ import annotations

from collections.abc import Mapping

from mmadapters.cli.console import OUT, print_table


def print_report(title: str, report: object, unseen_labels: Mapping[str, int]) -> None:
    """Print metrics, the table per label, and what was left out.

    Args:
        title: Above the first table.
        report: A ``mmadapters.evaluation.metrics.MetricsReport``.
        unseen_labels: How often a label appeared that was not in the training split.
    """
    values: Mapping[str, float] = report.values  # type: ignore[attr-defined]
    print_table(title, ["metric", "value"], [[name, f"{value:.4f}"] for name, value in values.items()])
    per_label: list[dict] = report.per_label  # type: ignore[attr-defined]
    if per_label:
        columns = ["label", "support", "average_precision", "precision", "recall", "f1"]
        columns += [name for name in ("threshold", "tuned_f1") if name in per_label[0]]
        print_table("by label", columns, [[_cell(row[column]) for column in columns] for row in per_label])
        if "threshold" in per_label[0]:
            OUT.print("tuned_…: at the model's thresholds; F1, precision, recall and accuracy without it: at 0.5")
    without: list[str] = report.labels_without_positives  # type: ignore[attr-defined]
    if without:
        OUT.print(f"no positives, left out of macro averages: {', '.join(without)}")
    if unseen_labels:
        counted = ", ".join(f"{label} ({count})" for label, count in unseen_labels.items())
        OUT.print(f"labels that were not in the training split, ignored: {counted}")


def _cell(value: object) -> str:
    if value is None:
        return "–"
    return f"{value:.4f}" if isinstance(value, float) else str(value)
