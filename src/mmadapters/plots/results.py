"""Pictures of the main metrics, their differences, and what they cost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmadapters.evaluation.names import lower_is_better, metric_title
from mmadapters.plots.picture import Picture
from mmadapters.plots.style import finished, looks, named_rows, new_figure, picture_of, style

ROW = 0.32
AROUND = 1.3
"""Inches of a row of a list, and of what stands around a list."""


def draw_results(comparison: Mapping[str, Any]) -> Picture | None:
    """Draw the main metrics on the test rows: the mean of each contender, and each seed.

    Args:
        comparison: The comparison.
    """
    contenders = finished(comparison)
    mains = [name for name in comparison["main_metrics"] if _has(contenders, name)]
    if not mains:
        return None
    with style("results"):
        figure, panels = new_figure(4.2 + 3.4 * len(mains), AROUND + ROW * len(contenders), len(mains), sharey=True)
        for axes, metric in zip(panels, mains, strict=True):
            for row, (index, contender) in enumerate(contenders):
                found = contender["metrics"]["test"].get(metric)
                if found is None:
                    continue
                own = looks(index)
                values = [value for value in found["values"] if value is not None]
                axes.plot(values, [row] * len(values), "|", color=own["color"], markersize=11, alpha=0.8)
                axes.plot(found["mean"], row, own["marker"], color=own["color"], markersize=7)
            axes.set_xlabel(metric_title(metric) + (" (lower is better)" if lower_is_better(metric) else ""))
        named_rows(panels[0], [contender["name"] for _, contender in contenders])
        return picture_of(
            figure,
            "results",
            "Main metrics on the test rows",
            "The large mark is the mean over seeds, each upright stroke one seed.",
        )


def draw_differences(comparison: Mapping[str, Any]) -> Picture | None:
    """Draw the differences to the reference with their intervals.

    Args:
        comparison: The comparison.
    """
    contenders = [(index, each) for index, each in finished(comparison) if each.get("differences")]
    if not contenders:
        return None
    mains = [name for name in comparison["main_metrics"] if any(name in each["differences"] for _, each in contenders)]
    with style("differences"):
        figure, panels = new_figure(4.2 + 3.4 * len(mains), AROUND + ROW * len(contenders), len(mains), sharey=True)
        for axes, metric in zip(panels, mains, strict=True):
            axes.axvline(0.0, color="#555555", linewidth=1.0)
            for row, (index, contender) in enumerate(contenders):
                found = contender["differences"].get(metric)
                if found is None:
                    continue
                own = looks(index)
                axes.plot([found["low"], found["high"]], [row, row], color=own["color"], linewidth=2.0)
                axes.plot(found["difference"], row, own["marker"], color=own["color"], markersize=7)
            axes.set_xlabel(f"difference in {metric_title(metric)}")
        named_rows(panels[0], [contender["name"] for _, contender in contenders])
        lower = " Left of 0 is better." if lower_is_better(mains[0]) else " Right of 0 is better."
        return picture_of(
            figure,
            "differences",
            f"Differences to {comparison['reference']}",
            f"Mark: the difference on the test rows; line: 95 % interval of the paired bootstrap.{lower}",
        )


def draw_costs(comparison: Mapping[str, Any]) -> Picture | None:
    """Draw the first main metric over trainable parameters, training time and memory.

    Args:
        comparison: The comparison.
    """
    metric = comparison["main_metrics"][0]
    contenders = [(index, each) for index, each in finished(comparison) if metric in each["metrics"]["test"]]
    if not contenders:
        return None
    costs = [
        ("trainable parameters", lambda each: each["trainable_parameters"], "log"),
        ("seconds of training (s)", lambda each: max(each["seconds"]["mean"], 1e-3), "log"),
        ("peak memory (MiB)", lambda each: each["peak_memory_bytes"]["mean"] / 2**20, "linear"),
    ]
    with style("costs"):
        lines = -(-len(contenders) // 3)
        figure, panels = new_figure(11.0, 3.6 + 0.22 * lines, len(costs), sharey=True)
        for axes, (title, cost, scale) in zip(panels, costs, strict=True):
            axes.set_xscale(scale)
            for index, contender in contenders:
                own = looks(index)
                axes.plot(
                    cost(contender),
                    contender["metrics"]["test"][metric]["mean"],
                    own["marker"],
                    color=own["color"],
                    markersize=8,
                    label=contender["name"].replace("$", r"\$"),
                )
            axes.set_xlabel(title)
            axes.margins(0.12)
        panels[0].set_ylabel(metric_title(metric))
        handles, names = panels[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=3)
        return picture_of(
            figure,
            "costs",
            f"{metric_title(metric)} and what it costs",
            "Means over seeds. Parameters and seconds on logarithmic axes, less than a millisecond as one; "
            "memory is that of the whole process.",
        )


def _has(contenders: list[tuple[int, dict[str, Any]]], metric: str) -> bool:
    return any(metric in contender["metrics"]["test"] for _, contender in contenders)
