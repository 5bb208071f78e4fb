"""The loss of each row by itself, for comparing what a model says of it with and without something."""

from __future__ import annotations

import numpy as np
from scipy.special import log_softmax

from mmadapters.evaluation.metrics import IGNORED_LABEL, MULTI_LABEL, REGRESSION


def row_losses(problem_type: str, logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Return each row's loss, float64 (N,).

    Multi-label: binary cross-entropy, a mean over labels. Single-label: cross-entropy, NaN where the label is -100.
    Regression: squared error.

    Args:
        problem_type: Of the task.
        logits: (N, C); for a regression (N, 1) or (N,).
        targets: Encoded labels: (N, C), (N,) or values (N,).
    """
    logits = logits.astype(np.float64)
    if problem_type == REGRESSION:
        return (logits.reshape(len(targets)) - targets) ** 2
    if problem_type == MULTI_LABEL:
        # log(1 + exp(x)) - x y, without overflow.
        return (np.logaddexp(0.0, logits) - logits * targets).mean(axis=1)
    known = targets != IGNORED_LABEL
    losses = np.full(len(targets), np.nan)
    losses[known] = -log_softmax(logits[known], axis=1)[np.arange(known.sum()), targets[known].astype(int)]
    return losses
