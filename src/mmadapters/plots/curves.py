"""Pictures of curves: precision over recall, and losses and metrics over epochs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from mmadapters.evaluation.names import metric_title
from mmadapters.plots.picture import Picture
from mmadapters.plots.style import finished, looks, new_figure, picture_of, style

TRAINING_LOSS, VALIDATION_LOSS = "loss", "eval_loss"


def draw_precision_recall(comparison: Mapping[str, Any]) -> Picture | None:
    """Draw precision over recall of all decisions on the test rows.

    Args:
        comparison: The comparison.
    """
    contenders = [(index, each) for index, each in finished(comparison) if "precision" in each]
    if not contenders:
        return None
    with style("precision-recall"):
        figure, (axes,) = new_figure(9.0, 4.8)
        for index, contender in contenders:
            own = looks(index)
            axes.plot(
                comparison["recalls"],
                contender["precision"],
                color=own["color"],
                linestyle=own["linestyle"],
                marker=own["marker"],
                markevery=(2 + 3 * index % 10, 20),
                markersize=5,
                label=contender["name"].replace("$", r"\$"),
            )
        axes.set_xlabel("recall")
        axes.set_ylabel("precision")
        axes.set_xlim(0.0, 1.0)
        axes.set_ylim(0.0, 1.02)
        figure.legend(loc="outside right upper")
        return picture_of(
            figure,
            "precision-recall",
            "Precision and recall on the test rows",
            "All labels together (micro); at each recall the mean of the seeds' precisions.",
        )


def draw_losses(comparison: Mapping[str, Any]) -> Picture | None:
    """Draw training and validation loss over epochs.

    Args:
        comparison: The comparison.
    """
    contenders = [
        (index, each)
        for index, each in finished(comparison)
        if TRAINING_LOSS in each["curves"] or VALIDATION_LOSS in each["curves"]
    ]
    if not contenders:
        return None
    with style("losses"):
        figure, panels = new_figure(11.0, 3.8 + 0.22 * (-(-len(contenders) // 3)), 2)
        for axes, name, title in zip(
            panels, (TRAINING_LOSS, VALIDATION_LOSS), ("training loss", "validation loss"), strict=True
        ):
            for index, contender in contenders:
                _draw_curve(axes, index, contender, name)
            _epochs(axes)
            axes.set_ylabel(title)
        _legend(figure, panels)
        return picture_of(
            figure,
            "losses",
            "Losses",
            "Means over the seeds that reached the epoch; the band is from the lowest to the highest of them.",
        )


def draw_validation(comparison: Mapping[str, Any]) -> Picture | None:
    """Draw the metric by which epochs are chosen over epochs: the one that most methods have.

    Args:
        comparison: The comparison.
    """
    contenders = [(index, each) for index, each in finished(comparison) if each["curves"]]
    counted = Counter(name for _, each in contenders for name in _chosen_by(each) if name in each["curves"])
    if not counted:
        return None
    name = counted.most_common(1)[0][0]
    with style("validation"):
        figure, (axes,) = new_figure(9.0, 4.2)
        for index, contender in contenders:
            _draw_curve(axes, index, contender, name)
        _epochs(axes)
        axes.set_ylabel(f"validation {metric_title(name.removeprefix('eval_'))}")
        figure.legend(loc="outside right upper")
        return picture_of(
            figure,
            "validation",
            "Validation over epochs",
            "The metric by which the epoch is chosen. Means over the seeds that reached the epoch, and their range.",
        )


def _chosen_by(contender: Mapping[str, Any]) -> set[str]:
    return {f"eval_{chosen['metric']}" for chosen in contender["chosen"].values() if "metric" in chosen}


def _draw_curve(axes: Axes, index: int, contender: Mapping[str, Any], name: str) -> None:
    points = contender["curves"].get(name)
    if not points:
        return
    own = looks(index)
    epochs = [point["epoch"] for point in points]
    axes.fill_between(
        epochs, [p["low"] for p in points], [p["high"] for p in points], color=own["color"], alpha=0.15, linewidth=0
    )
    axes.plot(
        epochs,
        [point["mean"] for point in points],
        color=own["color"],
        linestyle=own["linestyle"],
        marker=own["marker"],
        markersize=5,
        label=contender["name"].replace("$", r"\$"),
    )


def _epochs(axes: Axes) -> None:
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _legend(figure: Any, panels: list[Axes]) -> None:
    named: dict[str, Any] = {}
    for axes in panels:
        handles, names = axes.get_legend_handles_labels()
        named |= dict(zip(names, handles, strict=True))
    figure.legend(list(named.values()), list(named), loc="outside lower center", ncols=3)
