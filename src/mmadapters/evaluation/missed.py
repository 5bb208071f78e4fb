"""The rows that every model of a comparison gets wrong: where to look for wrong labels and what no model can see."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mmadapters.evaluation.metrics import IGNORED_LABEL, MULTI_LABEL, REGRESSION


def missed_rows(
    problem_type: str, scores: Sequence[np.ndarray], predicted: Sequence[np.ndarray], targets: np.ndarray
) -> list[tuple[int, float]]:
    """Return the rows that all models miss, the clearest misses first, each with a figure.

    Multi-label: rows with labels of which no model predicts one that is right; the figure is the highest probability
    that any model gives to a true label. Single-label: rows whose class no model predicts; the highest probability
    that any gives to it. Regression: all rows, by the smallest absolute error of any model, largest first.

    Args:
        problem_type: Of the task.
        scores: Of every model and seed, (N, C) or (N,).
        predicted: Decisions of the same models, see ``decisions``; not looked at for a regression.
        targets: 0/1 (N, C), class indices (N,) or values (N,).
    """
    if problem_type == REGRESSION:
        smallest = np.min([np.abs(each - targets) for each in scores], axis=0)
        return [(int(row), float(smallest[row])) for row in np.argsort(-smallest, kind="stable")]
    highest = np.max(scores, axis=0)
    if problem_type == MULTI_LABEL:
        truth = targets.astype(bool)
        found = np.any([each & truth for each in predicted], axis=(0, 2))
        missed = truth.any(axis=1) & ~found
        figures = np.where(truth, highest, -1.0).max(axis=1)
    else:
        known = targets != IGNORED_LABEL
        missed = known & ~np.any([each == targets for each in predicted], axis=0)
        figures = highest[np.arange(len(targets)), np.where(known, targets, 0)]
    rows = np.flatnonzero(missed)
    return [(int(row), float(figures[row])) for row in rows[np.argsort(figures[rows], kind="stable")]]
