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
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError(
            "Pictures are drawn by matplotlib, which is not installed, so the report has tables only. Install it with: "
            "pip install 'mmadapters[report]', and make the report again with --report-only."
        ) from error
    from mmadapters.plots.curves import draw_losses, draw_precision_recall, draw_validation
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
    return [picture for picture in drawn if picture is not None]
