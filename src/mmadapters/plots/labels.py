"""Pictures of single labels, and of errors that models share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from mmadapters.evaluation.names import metric_title
from mmadapters.plots.picture import Picture
from mmadapters.plots.style import finished, label_and_count, looks, named_rows, new_figure, picture_of, short, style

MOST_LABELS = 30
NAMED_IN_CELLS = 12
"""Contenders up to which a matrix has its numbers written in."""


def draw_labels(comparison: Mapping[str, Any]) -> Picture | None:
    """Draw average precision and F1 of each label, the most frequent on top.

    Args:
        comparison: The comparison.
    """
    contenders = finished(comparison)
    counts = comparison["label_counts"]
    if not contenders or not counts:
        return None
    order = sorted(range(len(counts)), key=lambda index: -counts[index])[:MOST_LABELS]
    f1 = "tuned_f1" if "tuned_f1" in contenders[0][1]["per_label"][0] else "f1"
    with style("labels"):
        lines = -(-len(contenders) // 3)
        figure, panels = new_figure(11.0, 1.6 + 0.34 * len(order) + 0.22 * lines, 2, sharey=True)
        for axes, name in zip(panels, ("average_precision", f1), strict=True):
            for place, (index, contender) in enumerate(contenders):
                own = looks(index)
                offset = 0.6 * ((place + 0.5) / len(contenders) - 0.5)
                rows = [contender["per_label"][label] for label in order]
                drawn = [(row[name], y + offset) for y, row in enumerate(rows) if row[name] is not None]
                if drawn:
                    axes.plot(
                        *zip(*drawn, strict=True),
                        own["marker"],
                        color=own["color"],
                        markersize=5,
                        label=contender["name"].replace("$", r"\$"),
                    )
            axes.set_xlabel(metric_title(name))
            axes.set_xlim(-0.02, 1.02)
            for y in range(1, len(order), 2):
                axes.axhspan(y - 0.5, y + 0.5, color="#F3F3F3", zorder=0)
        named_rows(panels[0], [label_and_count(comparison["labels"][label], counts[label]) for label in order], 44)
        handles, names = panels[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=3)
        cut = f" The {MOST_LABELS} most frequent of {len(counts)} labels." if len(counts) > MOST_LABELS else ""
        return picture_of(
            figure,
            "labels",
            "Labels by frequency",
            f"In brackets: training rows with the label. Means over seeds, test rows.{cut}",
        )


def draw_errors(comparison: Mapping[str, Any]) -> Picture | None:
    """Draw for every two contenders which share of the errors of either is an error of both.

    Args:
        comparison: The comparison.
    """
    found = comparison["diversity"]
    if not found or not found["pairs"]:
        return None
    names = [contender["name"] for _, contender in finished(comparison)]
    shared = np.full((len(names), len(names)), np.nan)
    np.fill_diagonal(shared, 1.0)
    for pair in found["pairs"]:
        first, second = names.index(pair["first"]), names.index(pair["second"])
        either = pair["both_wrong"] + pair["only_first_wrong"] + pair["only_second_wrong"]
        shared[first, second] = shared[second, first] = pair["both_wrong"] / either if either else np.nan
    with style("errors"):
        side = 2.2 + 0.55 * len(names)
        figure, (axes,) = new_figure(side + 2.0, side)
        image = axes.imshow(100 * shared, cmap="cividis", vmin=0, vmax=100)
        axes.grid(visible=False)
        axes.set_xticks(range(len(names)), [short(name, 28) for name in names], rotation=45, ha="right")
        axes.set_yticks(range(len(names)), [short(name, 28) for name in names])
        if len(names) <= NAMED_IN_CELLS:
            for row, column in zip(*np.nonzero(np.isfinite(shared)), strict=True):
                value = 100 * shared[row, column]
                colour = "#FFFFFF" if value < 55 else "#000000"
                axes.text(column, row, f"{value:.0f}", ha="center", va="center", color=colour)
        figure.colorbar(image, ax=axes, label="errors in common (%)", shrink=0.8)
        return picture_of(
            figure,
            "errors",
            "Errors in common",
            "Of the decisions on test rows that at least one of the two gets wrong, the share that both get wrong.",
        )
