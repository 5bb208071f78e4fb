"""Thresholds: the highest F1 on the validation rows, and nothing of their own for labels with few positives."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from mmadapters.errors import DataError
from mmadapters.evaluation.metrics import compute_metrics
from mmadapters.evaluation.thresholds import (
    FEWEST_POSITIVES,
    UNTUNED,
    tuned_thresholds,
    validation_thresholds,
    with_tuned_figures,
)

MULTI = "multi_label_classification"


def f1(scores: np.ndarray, truth: np.ndarray, threshold: float) -> float:
    predicted = scores >= threshold
    total = predicted.sum() + truth.sum()
    return 2.0 * (predicted & truth).sum() / total if total else 0.0


def drawn(seed: int, n: int = 100, labels: int = 3, share: float = 0.4) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    truth = random.random((n, labels)) < share
    # Rounded, so that scores are equal here and there.
    return np.round(np.clip(0.25 + 0.2 * truth + random.normal(0, 0.15, (n, labels)), 0, 1), 2), truth


@pytest.mark.parametrize("seed", range(5))
def test_no_threshold_has_a_higher_f1(seed: int) -> None:
    scores, truth = drawn(seed)
    thresholds = tuned_thresholds(scores, truth.astype(np.float32))
    grid = [*np.unique(scores), 1.1, *((a + b) / 2 for a, b in itertools.pairwise(np.unique(scores)))]
    for label, threshold in enumerate(thresholds):
        highest = max(f1(scores[:, label], truth[:, label], other) for other in grid)
        assert f1(scores[:, label], truth[:, label], threshold) == pytest.approx(highest)
        # Midway between two scores, so that rounding decides nothing.
        assert np.abs(scores[:, label] - threshold).min() > 1e-3


def test_labels_with_few_positives_have_the_common_threshold() -> None:
    scores, truth = drawn(0, labels=4)
    truth[:, 1], truth[:, 2] = False, False
    truth[: FEWEST_POSITIVES - 1, 1] = True
    thresholds = tuned_thresholds(scores, truth)
    assert thresholds[1] == thresholds[2]
    values = [f1(scores.ravel(), truth.ravel(), other) for other in np.linspace(0, 1, 401)]
    assert f1(scores.ravel(), truth.ravel(), thresholds[1]) == pytest.approx(max(values))
    assert thresholds[0] != thresholds[1]
    truth[FEWEST_POSITIVES - 1, 1] = True
    assert tuned_thresholds(scores, truth)[1] != thresholds[1]


def test_without_positives_nothing_is_tuned() -> None:
    scores, truth = drawn(0)
    assert tuned_thresholds(scores, np.zeros_like(truth)) == (UNTUNED,) * 3
    truth[:] = False
    truth[: FEWEST_POSITIVES // 3] = True
    assert tuned_thresholds(scores, truth) == (UNTUNED,) * 3


def test_of_equal_thresholds_the_one_nearest_to_the_common_one() -> None:
    # From 0.15 to 0.95 all rows are told apart; the label is the only one, and the common threshold starts at 0.5.
    scores = np.array([0.1] * 20 + [0.9] * 20)[:, None]
    truth = scores > 0.5
    assert tuned_thresholds(scores, truth) == pytest.approx((0.5,))
    # Predicting all: below the lowest score.
    assert tuned_thresholds(scores, np.ones_like(truth))[0] < 0.1


def test_what_cannot_be_tuned_on() -> None:
    for scores, targets in (((3, 2), (3,)), ((3,), (3,)), ((0, 2), (0, 2))):
        with pytest.raises(DataError, match="Thresholds cannot be tuned on scores"):
            tuned_thresholds(np.zeros(scores), np.zeros(targets))
    assert validation_thresholds("regression", np.zeros(3), np.zeros(3)) is None
    assert validation_thresholds(MULTI, np.zeros((3, 2)), None) is None
    assert validation_thresholds(MULTI, np.zeros((3, 2)), np.zeros((3, 2))) == (0.5, 0.5)


def test_figures_at_thresholds_stand_beside_those_at_half() -> None:
    scores, truth = drawn(3)
    labels, thresholds = ["a", "b", "c"], (0.2, 0.3, 0.9)
    plain = compute_metrics(MULTI, scores, truth.astype(int), labels)
    other = compute_metrics(MULTI, scores, truth.astype(int), labels, thresholds)
    both = with_tuned_figures(plain, scores, truth.astype(int), labels, thresholds)
    names = ("micro_f1", "macro_f1", "weighted_f1", "samples_f1", "accuracy")
    assert both.values == {**plain.values, **{f"tuned_{name}": other.values[name] for name in names}}
    assert both.values["tuned_micro_f1"] != both.values["micro_f1"]
    for row, at_half, tuned, threshold in zip(
        both.per_label, plain.per_label, other.per_label, thresholds, strict=True
    ):
        assert row == {
            **at_half,
            "threshold": threshold,
            "tuned_precision": tuned["precision"],
            "tuned_recall": tuned["recall"],
            "tuned_f1": tuned["f1"],
        }
