"""Curves of a comparison: precision over recall, and metrics over epochs of training."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from sklearn.metrics import precision_recall_curve

from mmadapters.evaluation.metrics import IGNORED_LABEL, MULTI_LABEL

RECALLS = np.linspace(0.0, 1.0, 101)
"""Where precision is read off."""


def precision_at_recalls(problem_type: str, scores: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Return the precision of all decisions together at ``RECALLS``, (101,).

    It is the precision at the highest threshold that reaches the recall; a single-label problem counts each class
    against the others.

    Args:
        problem_type: A classification.
        scores: Probabilities (N, C).
        targets: 0/1 (N, C), or class indices (N,).
    """
    if problem_type == MULTI_LABEL:
        truth = targets.astype(bool)
    else:
        known = targets != IGNORED_LABEL
        scores, truth = scores[known], np.eye(scores.shape[1], dtype=bool)[targets[known].astype(np.int64)]
    precision, recall, _ = precision_recall_curve(truth.ravel(), scores.ravel())
    # sklearn's recall falls; the last point, recall 0 and precision 1, belongs to no threshold.
    rising_recall, rising_precision = recall[:-1][::-1], precision[:-1][::-1]
    places = np.searchsorted(rising_recall, RECALLS - 1e-12, side="left")
    return rising_precision[np.minimum(places, len(rising_precision) - 1)]


def training_curves(logs: Sequence[Sequence[Mapping[str, Any]]]) -> dict[str, list[dict[str, float]]]:
    """Return what logs of several seeds have by epoch: the mean of each series, for ``loss``, ``eval_loss`` and others.

    Args:
        logs: The Trainer's log of each seed, or one entry an epoch.

    Returns:
        By the log's name of the series: ``epoch``, ``mean`` over the seeds that have the epoch, ``low``, ``high`` and
        ``n``. Entries without an epoch, times and speeds are left out.
    """
    collected: dict[str, dict[float, list[float]]] = {}
    for log in logs:
        for name, by_epoch in _series(log).items():
            for epoch, value in by_epoch.items():
                collected.setdefault(name, {}).setdefault(epoch, []).append(value)
    return {
        name: [
            {
                "epoch": epoch,
                "mean": float(np.mean(values)),
                "low": min(values),
                "high": max(values),
                "n": len(values),
            }
            for epoch, values in sorted(by_epoch.items())
        ]
        for name, by_epoch in collected.items()
    }


def _series(log: Sequence[Mapping[str, Any]]) -> dict[str, dict[float, float]]:
    found: dict[str, dict[float, float]] = {}
    for entry in log:
        epoch = entry.get("epoch")
        if epoch is None or "train_runtime" in entry:
            continue
        for name, value in entry.items():
            wanted = name == "loss" or (name.startswith("eval_") and not name.endswith(("_runtime", "_per_second")))
            if wanted and isinstance(value, int | float) and math.isfinite(value):
                found.setdefault(name, {})[round(float(epoch), 4)] = float(value)
    return found
