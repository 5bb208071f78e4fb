"""From scores to what is predicted: for people and files, and as values of the labels' own types."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mmadapters.data.schema import MULTI_LABEL, REGRESSION
from mmadapters.evaluation.predictions import RowModel, decided

LABEL_JOINT = "|"
"""Between the labels of a row in a file."""


def decided_texts(artefact: RowModel, scores: np.ndarray) -> list[Any]:
    """Return what is predicted for each row: a label, labels with ``|`` between, or a value.

    Args:
        artefact: The model.
        scores: Probabilities (N, C), or values (N,).
    """
    found = _decided(artefact, scores, artefact.labels)
    return [LABEL_JOINT.join(labels) for labels in found] if artefact.problem_type == MULTI_LABEL else found


def decided_values(artefact: RowModel, scores: np.ndarray) -> list[Any]:
    """Return what is predicted for each row: a label as the training rows had it, a list of labels, or a value.

    Args:
        artefact: The model.
        scores: Probabilities (N, C), or values (N,).
    """
    return _decided(artefact, scores, class_values(artefact))


def class_values(artefact: RowModel) -> list[Any]:
    """Return the labels as the training rows had them, in the order of the scores; none for a regression.

    Args:
        artefact: The model.
    """
    if artefact.problem_type == REGRESSION:
        return []
    encoder = artefact.preprocessor.labels
    names = artefact.labels
    return list(encoder.classes) if encoder is not None and encoder.names == names else names


def _decided(artefact: RowModel, scores: np.ndarray, names: Sequence[Any]) -> list[Any]:
    return decided(scores, artefact.problem_type, list(names), artefact.decision_thresholds)
