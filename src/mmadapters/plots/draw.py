"""All pictures of a comparison."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmadapters.errors import MissingDependencyError
from mmadapters.plots.picture import Picture


def draw_pictures(comparison: Mapping[str, Any]) -> list[Picture]:
    """Return the pictures that a comparison has something for, in the order of the report.

    Args:
        comparison: What ``mmadapters.evaluation.comparison.compare_runs`` returned.

    Raises:
        MissingDependencyError: If matplotlib is not installed.
    """
    _require_matplotlib()
    from mmadapters.plots.curves import draw_losses, draw_precision_recall, draw_validation
    from mmadapters.plots.explanation import draw_label_shares, draw_left_out, draw_missing, draw_shares
    from mmadapters.plots.labels import draw_errors, draw_labels
    from mmadapters.plots.results import draw_costs, draw_differences, draw_results

    drawn = [
        draw(comparison)
        for draw in (
            draw_results,
            draw_differences,
            draw_costs,
            draw_labels,
            draw_precision_recall,
            draw_errors,
            draw_losses,
            draw_validation,
        )
    ]
    looked_at = {each["name"]: each["explanation"] for each in comparison["contenders"] if each.get("explanation")}
    variants = {each["name"]: each["variants"] for each in comparison["contenders"] if each.get("variants")}
    drawn += [draw_left_out(looked_at), draw_shares(looked_at)]
    drawn += [draw_label_shares(next(iter(looked_at.values())))] if looked_at else []
    drawn += [draw_missing(variants, comparison["main_metrics"][0])] if variants else []
    return [picture for picture in drawn if picture is not None]


def draw_explanation(content: Mapping[str, Any]) -> list[Picture]:
    """Return the pictures of one model's explanation.

    Args:
        content: A summary of ``mmadapters.evaluation.explanation_summary`` with ``variants``.

    Raises:
        MissingDependencyError: If matplotlib is not installed.
    """
    _require_matplotlib()
    from mmadapters.plots.explanation import draw_label_shares, draw_left_out, draw_missing, draw_shares

    summaries = {"model": content}
    drawn = [draw_left_out(summaries), draw_shares(summaries), draw_label_shares(content)]
    drawn.append(draw_missing({"model": content["variants"]}, content["main_metrics"][0]))
    return [picture for picture in drawn if picture is not None]


def _require_matplotlib() -> None:
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError(
            "Pictures are drawn by matplotlib, which is not installed, so the report has tables only. Install it with: "
            "pip install 'mmadapters[report]', and make the report again."
        ) from error
