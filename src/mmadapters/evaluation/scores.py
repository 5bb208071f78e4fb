"""From logits to what metrics and people read: probabilities, or values of a regression."""

from __future__ import annotations

import numpy as np
from scipy.special import expit, softmax


def scores_from_logits(logits: np.ndarray, problem_type: str) -> np.ndarray:
    """Return probabilities (N, C), or for a regression the predicted values (N,).

    Args:
        logits: (N, C); for a regression (N, 1).
        problem_type: ``multi_label_classification`` (a sigmoid per label), ``single_label_classification`` (a softmax)
            or ``regression``.
    """
    logits = logits.astype(np.float64)
    if problem_type == "multi_label_classification":
        return expit(logits)
    if problem_type == "single_label_classification":
        return softmax(logits, axis=-1)
    return logits.reshape(len(logits))
