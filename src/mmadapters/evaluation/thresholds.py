"""Thresholds of multi-label predictions, tuned for F1 on the validation split.

The threshold that maximises the F1 of calibrated probabilities is half of the F1 it reaches, so 0.5 is too high for
most labels (Lipton et al. 2014, Thresholding Classifiers to Maximize F1 Score, https://arxiv.org/abs/1402.1892).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from mmadapters.errors import DataError
from mmadapters.evaluation.metrics import MULTI_LABEL, MetricsReport, compute_metrics

UNTUNED = 0.5
"""The threshold where there is nothing to tune it on."""
FEWEST_POSITIVES = 20
"""Validation positives from which on a label has a threshold of its own."""
TUNED = "tuned_"
"""Before the names of figures at tuned thresholds."""
_AT_THRESHOLDS = ("micro_f1", "macro_f1", "weighted_f1", "samples_f1", "accuracy")


def tuned_thresholds(scores: np.ndarray, targets: np.ndarray) -> tuple[float, ...]:
    """Return for each label the probability from which on it is to be predicted.

    One threshold is tuned for the micro F1 of all labels together. A label with at least ``FEWEST_POSITIVES`` positives
    has its own, which maximises its F1; where several do, the one nearest to the common one. The other labels have the
    common one, which is ``UNTUNED`` if all labels together have too few positives. A threshold lies midway between two
    scores.

    Args:
        scores: Probabilities (N, C) of the validation rows.
        targets: 0/1 (N, C).

    Raises:
        DataError: If the shapes differ or there are no rows.
    """
    scores, truth = np.asarray(scores, dtype=np.float64), np.asarray(targets).astype(bool)
    if scores.ndim != 2 or scores.shape != truth.shape or not len(scores):
        raise DataError(
            f"Thresholds cannot be tuned on scores {scores.shape} and targets {truth.shape}. Accepted are two (N, C)."
        )
    common = UNTUNED
    if truth.sum() >= FEWEST_POSITIVES:
        common = _best_threshold(scores.ravel(), truth.ravel(), UNTUNED)
    return tuple(
        _best_threshold(scores[:, label], truth[:, label], common)
        if truth[:, label].sum() >= FEWEST_POSITIVES
        else common
        for label in range(scores.shape[1])
    )


def validation_thresholds(
    problem_type: str, scores: np.ndarray, targets: np.ndarray | None
) -> tuple[float, ...] | None:
    """Return the tuned thresholds of a multi-label problem, and None for another or without labels.

    Args:
        problem_type: Of the model.
        scores: Of the validation rows.
        targets: Their labels.
    """
    return tuned_thresholds(scores, targets) if problem_type == MULTI_LABEL and targets is not None else None


def with_tuned_figures(
    report: MetricsReport,
    scores: np.ndarray,
    targets: np.ndarray,
    labels: Sequence[str],
    thresholds: Sequence[float],
) -> MetricsReport:
    """Return a multi-label report with what thresholds decide beside what 0.5 decides, as ``tuned_…``.

    Args:
        report: At 0.5; its figures stay.
        scores: Probabilities (N, C).
        targets: 0/1 (N, C).
        labels: The C label names.
        thresholds: One per label.
    """
    tuned = compute_metrics(MULTI_LABEL, scores, targets, labels, thresholds)
    values = {f"{TUNED}{name}": tuned.values[name] for name in _AT_THRESHOLDS if name in tuned.values}
    rows = [
        {
            **at_half,
            "threshold": float(threshold),
            **{f"{TUNED}{name}": row[name] for name in ("precision", "recall", "f1")},
        }
        for at_half, row, threshold in zip(report.per_label, tuned.per_label, thresholds, strict=True)
    ]
    return replace(report, values={**report.values, **values}, per_label=rows)


def _best_threshold(scores: np.ndarray, truth: np.ndarray, preferred: float) -> float:
    """Return the threshold of the highest F1, of several the one nearest to ``preferred``."""
    order = np.argsort(-scores, kind="stable")
    ranked, hits = scores[order], np.cumsum(truth[order])
    # Predicting the first k rows: possible where the k-th score is above the next one.
    possible = np.append(ranked[:-1] > ranked[1:], True)
    f1 = 2.0 * hits / (np.arange(1, len(ranked) + 1) + truth.sum())
    below = np.append((ranked[:-1] + ranked[1:]) / 2.0, ranked[-1] / 2.0)
    best = np.flatnonzero(possible & (f1 >= f1[possible].max() - 1e-12))
    return float(below[best[np.argmin(np.abs(below[best] - preferred))]])
