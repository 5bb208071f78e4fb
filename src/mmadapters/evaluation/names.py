"""What tables and pictures call metrics."""

from __future__ import annotations

LOWER_IS_BETTER = ("mae", "rmse", "loss")
_ABBREVIATIONS = {"average precision": "AP", "f1": "F1", "mae": "MAE", "rmse": "RMSE", "r2": "R²"}


def metric_title(name: str) -> str:
    """Return a metric's name for people, for example ``micro AP`` or ``macro F1``.

    Args:
        name: As in a ``MetricsReport``.
    """
    title = name.replace("_", " ")
    for long, short in _ABBREVIATIONS.items():
        title = title.replace(long, short)
    return title


def lower_is_better(name: str) -> bool:
    """Return whether a smaller value of a metric is the better one.

    Args:
        name: As in a ``MetricsReport``.
    """
    return name.rpartition("_")[2] in LOWER_IS_BETTER
