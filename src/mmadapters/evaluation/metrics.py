"""Metrics of multi-label and single-label classification and of regression, as scikit-learn computes them.

Two policies, stated in every report. A label without positives in the split has no average precision and no recall: it
is left out of macro averages and listed. A row without any positive label has no ranking to score: it is left out of
the samples average precision and counted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from sklearn import metrics as skm

from mmadapters.errors import DataError, listed
from mmadapters.evaluation.average_precision import average_precisions

MULTI_LABEL = "multi_label_classification"
SINGLE_LABEL = "single_label_classification"
REGRESSION = "regression"
IGNORED_LABEL = -100

_AVERAGES = ("micro", "macro", "weighted")
METRIC_NAMES: dict[str, tuple[str, ...]] = {
    MULTI_LABEL: (
        *(f"{average}_average_precision" for average in (*_AVERAGES, "samples")),
        *(f"{average}_f1" for average in (*_AVERAGES, "samples")),
        "accuracy",
    ),
    SINGLE_LABEL: (
        "accuracy",
        *(f"{average}_f1" for average in _AVERAGES),
        *(f"{average}_average_precision" for average in _AVERAGES),
    ),
    REGRESSION: ("mae", "rmse", "r2"),
}
"""The metrics of each problem type."""
_DIMENSIONS = {MULTI_LABEL: (2, 2), SINGLE_LABEL: (2, 1), REGRESSION: (1, 1)}
"""Of scores and targets."""


@dataclass(frozen=True)
class MetricsReport:
    """What was measured on one split.

    Attributes:
        values: The metrics by name. A metric that is undefined on the split, such as R² of constant targets, is absent.
        per_label: For each label: ``label``, ``support`` (positives), ``average_precision``, ``precision``, ``recall``,
            ``f1``; None where undefined.
        n_examples: Rows that were scored.
        n_labels_scored: Labels with a positive.
        labels_without_positives: The labels left out of macro averages.
        n_ignored: Rows left out since their label was not in the training split.
        n_rows_without_positives: Rows left out of the samples average precision.
    """

    values: dict[str, float]
    per_label: list[dict[str, Any]] = field(default_factory=list)
    n_examples: int = 0
    n_labels_scored: int = 0
    labels_without_positives: list[str] = field(default_factory=list)
    n_ignored: int = 0
    n_rows_without_positives: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain values, for JSON."""
        return {
            "metrics": self.values,
            "n_examples": self.n_examples,
            "n_labels_scored": self.n_labels_scored,
            "labels_without_positives": self.labels_without_positives,
            "n_ignored": self.n_ignored,
            "n_rows_without_positives": self.n_rows_without_positives,
            "per_label": self.per_label,
        }


def compute_metrics(
    problem_type: str,
    scores: np.ndarray,
    targets: np.ndarray,
    labels: Sequence[str] = (),
    threshold: float | Sequence[float] = 0.5,
) -> MetricsReport:
    """Score predictions.

    Args:
        problem_type: Which of the three functions below is called.
        scores: Probabilities (N, C), or values (N,).
        targets: 0/1 (N, C), class indices (N,), or values (N,).
        labels: The C label names.
        threshold: For multi-label: the probability from which on a label is predicted, one or one per label.

    Raises:
        DataError: If the problem type is unknown, or scores and targets cannot be compared.
    """
    if problem_type == MULTI_LABEL:
        return multi_label_metrics(scores, targets, labels, threshold)
    if problem_type == SINGLE_LABEL:
        return single_label_metrics(scores, targets, labels)
    if problem_type == REGRESSION:
        return regression_metrics(scores, targets)
    raise DataError(
        f"problem_type={problem_type!r} is unknown. Accepted are {listed((MULTI_LABEL, SINGLE_LABEL, REGRESSION))}."
    )


def multi_label_metrics(
    scores: np.ndarray, targets: np.ndarray, labels: Sequence[str], threshold: float | Sequence[float] = 0.5
) -> MetricsReport:
    """Score multi-label predictions.

    Average precision and F1, each as micro, macro, weighted and samples average; ``accuracy`` is the share of rows
    whose labels are all right.

    Args:
        scores: Probabilities (N, C).
        targets: 0/1 (N, C).
        labels: The C label names.
        threshold: The probability from which on a label is predicted, one or one per label.

    Raises:
        DataError: If there are no rows or no labels, the shapes do not fit, a score is not finite, a target is neither
            0 nor 1, or the thresholds are not one or one per label.
    """
    scores, targets = _checked(MULTI_LABEL, scores, targets, labels)
    if not np.isin(targets, (0, 1)).all():
        raise DataError("The targets of a multi-label evaluation hold values other than 0 and 1.")
    truth = targets.astype(bool)
    predicted = scores >= _checked_threshold(threshold, len(labels))
    support = truth.sum(axis=0)
    scored = support > 0
    rows = truth.any(axis=1)
    per_label = _label_rows(labels, truth, scores, predicted)
    values = {}
    if scored.any():
        aps = np.array([row["average_precision"] for row, has in zip(per_label, scored, strict=True) if has])
        f1s = np.array([row["f1"] for row, has in zip(per_label, scored, strict=True) if has])
        values = {
            "micro_average_precision": skm.average_precision_score(truth.ravel(), scores.ravel()),
            "macro_average_precision": aps.mean(),
            "weighted_average_precision": np.average(aps, weights=support[scored]),
            "samples_average_precision": average_precisions(truth[rows], scores[rows]).mean(),
            "micro_f1": skm.f1_score(truth.ravel(), predicted.ravel(), zero_division=0),
            "macro_f1": f1s.mean(),
            "weighted_f1": np.average(f1s, weights=support[scored]),
            "samples_f1": _samples_f1(truth, predicted),
        }
    values["accuracy"] = (truth == predicted).all(axis=1).mean()
    return MetricsReport(
        _finite(values),
        per_label,
        n_examples=len(truth),
        n_labels_scored=int(scored.sum()),
        labels_without_positives=[name for name, has in zip(labels, scored, strict=True) if not has],
        n_rows_without_positives=int((~rows).sum()),
    )


def single_label_metrics(probabilities: np.ndarray, targets: np.ndarray, labels: Sequence[str]) -> MetricsReport:
    """Score single-label predictions: accuracy, F1, and average precision of each class against the rest.

    Args:
        probabilities: (N, C).
        targets: Class indices (N,); rows with -100 are left out and counted.
        labels: The C label names.

    Raises:
        DataError: If no row is left, the shapes do not fit, a probability is not finite, or an index is out of range.
    """
    probabilities, targets = _checked(SINGLE_LABEL, probabilities, targets, labels)
    known = targets != IGNORED_LABEL
    if not known.any():
        raise DataError("Not one row has a label that was in the training split, so there is nothing to score.")
    probabilities, targets = probabilities[known], class_indices(targets[known], len(labels))
    one_hot = np.eye(len(labels), dtype=int)[targets]
    predicted = probabilities.argmax(axis=1)
    chosen = np.eye(len(labels), dtype=bool)[predicted]
    support = one_hot.sum(axis=0)
    scored = support > 0
    per_label = _label_rows(labels, one_hot.astype(bool), probabilities, chosen)
    kept = [row for row, has in zip(per_label, scored, strict=True) if has]
    aps, f1s = np.array([row["average_precision"] for row in kept]), np.array([row["f1"] for row in kept])
    values = {
        "accuracy": skm.accuracy_score(targets, predicted),
        "micro_f1": skm.f1_score(targets, predicted, average="micro", zero_division=0),
        "macro_f1": f1s.mean(),
        "weighted_f1": np.average(f1s, weights=support[scored]),
        "micro_average_precision": skm.average_precision_score(one_hot.ravel(), probabilities.ravel()),
        "macro_average_precision": aps.mean(),
        "weighted_average_precision": np.average(aps, weights=support[scored]),
    }
    return MetricsReport(
        _finite(values),
        per_label,
        n_examples=len(targets),
        n_labels_scored=int(scored.sum()),
        labels_without_positives=[name for name, has in zip(labels, scored, strict=True) if not has],
        n_ignored=int((~known).sum()),
    )


def regression_metrics(predictions: np.ndarray, targets: np.ndarray) -> MetricsReport:
    """Score a regression: ``mae``, ``rmse`` and, where the targets differ, ``r2``.

    Args:
        predictions: (N,).
        targets: (N,).

    Raises:
        DataError: If there are no rows, the shapes differ, or a value is not finite.
    """
    predictions, targets = _checked(REGRESSION, predictions, targets, ())
    values = {
        "mae": skm.mean_absolute_error(targets, predictions),
        "rmse": math.sqrt(skm.mean_squared_error(targets, predictions)),
    }
    if len(targets) > 1 and np.ptp(targets) > 0:
        values["r2"] = skm.r2_score(targets, predictions)
    return MetricsReport(_finite(values), n_examples=len(targets))


def class_indices(targets: np.ndarray, n_classes: float = math.inf) -> np.ndarray:
    """Return class indices as whole numbers, -100 among them.

    Args:
        targets: (N,), of any number type.
        n_classes: How many classes there are, if that is known.

    Raises:
        DataError: If one is no index of a class.
    """
    targets = _numbers("Targets", targets)
    accepted = (targets >= 0) & (targets < n_classes) & (targets == np.floor(targets)) | (targets == IGNORED_LABEL)
    if not accepted.all():
        indices = "whole numbers from 0" if n_classes == math.inf else f"0 to {n_classes - 1}"
        raise DataError(f"A target is {targets[~accepted][0]:g}. Accepted are {indices}, and {IGNORED_LABEL}.")
    return targets.astype(np.int64)


def _checked(
    problem_type: str, scores: np.ndarray, targets: np.ndarray, labels: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Return both as float64. The scores of rows that are ignored may be anything."""
    scores, targets = _numbers("Scores", scores), _numbers("Targets", targets)
    expected = _DIMENSIONS[problem_type]
    if (scores.ndim, targets.ndim) != expected or targets.shape != scores.shape[: targets.ndim]:
        of_scores, of_targets = ("(N, C)" if n == 2 else "(N,)" for n in expected)
        raise DataError(
            f"Scores {scores.shape} and targets {targets.shape} do not fit. Accepted are {of_scores} and {of_targets}."
        )
    if scores.ndim == 2 and scores.shape[1] != len(labels):
        raise DataError(f"Scores {scores.shape} have {scores.shape[1]} columns, but {len(labels)} labels were named.")
    if scores.size == 0:
        raise DataError(f"There are no {'labels' if len(scores) else 'rows'} to score.")
    ignored = targets == IGNORED_LABEL if problem_type == SINGLE_LABEL else np.zeros(len(targets), dtype=bool)
    for name, array in (("Scores", scores), ("Targets", targets)):
        bad = ~np.isfinite(array).reshape(len(array), -1).all(axis=1) & ~ignored
        if bad.any():
            rows = np.flatnonzero(bad)[:10].tolist()
            raise DataError(f"{name} are NaN or infinite in the rows {rows}. Only finite numbers can be scored.")
    return scores, targets


def _numbers(name: str, values: Any) -> np.ndarray:
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"{name} hold something other than numbers. Accepted are arrays of numbers.") from error


def _checked_threshold(threshold: float | Sequence[float], n_labels: int) -> np.ndarray:
    thresholds = _numbers("Thresholds", threshold)
    if thresholds.shape not in ((), (n_labels,)) or np.isnan(thresholds).any():
        raise DataError(f"threshold={threshold!r} cannot be used. Accepted are a number, or {n_labels}: one per label.")
    return thresholds


def _label_rows(
    labels: Sequence[str], truth: np.ndarray, scores: np.ndarray, predicted: np.ndarray
) -> list[dict[str, Any]]:
    columns = zip(
        labels,
        average_precisions(truth.T, scores.T),
        truth.sum(axis=0).tolist(),
        (truth & predicted).sum(axis=0).tolist(),
        predicted.sum(axis=0).tolist(),
        strict=True,
    )
    return [_label_row(*column) for column in columns]


def _label_row(name: str, average_precision: float, support: int, hits: int, n_predicted: int) -> dict[str, Any]:
    return {
        "label": name,
        "support": support,
        "average_precision": float(average_precision) if support else None,
        "precision": hits / n_predicted if n_predicted else None,
        "recall": hits / support if support else None,
        "f1": 2 * hits / (support + n_predicted) if support else None,
    }


def _samples_f1(truth: np.ndarray, predicted: np.ndarray) -> float:
    """The mean over rows, 0 for a row without any true or predicted label."""
    hits, total = (truth & predicted).sum(axis=1), truth.sum(axis=1) + predicted.sum(axis=1)
    return float((2 * hits / np.maximum(total, 1)).mean())


def _finite(values: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in values.items() if math.isfinite(value)}
