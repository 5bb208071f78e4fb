"""Complementarity, curves and missed rows, against figures that were worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from mmadapters.errors import DataError
from mmadapters.evaluation.curves import RECALLS, precision_at_recalls, training_curves
from mmadapters.evaluation.diversity import (
    coincident_failure_diversity,
    complementarity,
    decisions,
    mean_failure_diversity,
    pairwise_complementarity,
    right_decisions,
)
from mmadapters.evaluation.metrics import IGNORED_LABEL, MULTI_LABEL, REGRESSION, SINGLE_LABEL
from mmadapters.evaluation.missed import missed_rows


def test_coincident_failure_diversity_by_hand() -> None:
    # Of 8 decisions none, one, two and three of the models fail in 2, 3, 2 and 1.
    failing = np.array([[0, 0, 1, 0, 0, 1, 1, 1], [0, 0, 0, 1, 0, 1, 0, 1], [0, 0, 0, 0, 1, 0, 1, 1]], dtype=bool)
    # (1 * 3/8 + 1/2 * 2/8 + 0 * 1/8) / (1 - 2/8)
    assert coincident_failure_diversity(~failing) == pytest.approx((3 / 8 + 1 / 8) / (6 / 8))
    assert coincident_failure_diversity(np.array([[True, False], [True, False]])) == 0.0
    assert coincident_failure_diversity(np.array([[True, False], [False, True]])) == 1.0
    assert coincident_failure_diversity(np.ones((2, 3), dtype=bool)) == 0.0
    with pytest.raises(DataError, match="at least two models"):
        coincident_failure_diversity(np.ones((1, 3), dtype=bool))


def test_two_multi_label_models_by_hand() -> None:
    targets = np.array([[1, 0], [1, 1]])
    first = np.array([[True, False], [False, False]])
    second = np.array([[False, False], [True, False]])
    found = complementarity(MULTI_LABEL, first, second, targets)
    assert (found.both_right, found.only_first_wrong, found.only_second_wrong, found.both_wrong) == (0.25,) * 4
    assert found.diversity == pytest.approx((1 * 2 / 4 + 0 * 1 / 4) / (3 / 4))
    assert found.union == 0.75
    # The union finds two of the three true labels and claims no other.
    assert found.union_f1 == pytest.approx(2 * 2 / (2 + 3))


def test_two_single_label_models_leave_unknown_classes_out() -> None:
    targets = np.array([0, 1, 2, IGNORED_LABEL])
    found = complementarity(SINGLE_LABEL, np.array([0, 1, 0, 0]), np.array([0, 2, 2, 1]), targets)
    assert (found.both_right, found.only_first_wrong, found.only_second_wrong) == pytest.approx((1 / 3,) * 3)
    assert (found.both_wrong, found.union, found.union_f1) == (0.0, 1.0, None)
    assert right_decisions(SINGLE_LABEL, np.array([0, 1, 0, 0]), targets).tolist() == [True, True, False]


def test_pairs_are_averaged_over_common_seeds() -> None:
    targets = np.array([0, 1])
    right, wrong = np.array([0, 1]), np.array([1, 0])
    predicted = {"a": {0: right, 1: right}, "b": {0: right, 1: wrong, 2: wrong}, "c": {3: right}}
    pairs = pairwise_complementarity(SINGLE_LABEL, predicted, targets)
    assert list(pairs) == [("a", "b")]
    assert pairs["a", "b"].both_right == 0.5
    assert pairs["a", "b"].only_second_wrong == 0.5
    assert mean_failure_diversity(SINGLE_LABEL, {name: predicted[name] for name in "ab"}, targets) == 0.5
    assert mean_failure_diversity(SINGLE_LABEL, predicted, targets) is None
    assert mean_failure_diversity(SINGLE_LABEL, {"a": {0: right}}, targets) is None


def test_decisions_use_the_thresholds() -> None:
    scores = np.array([[0.4, 0.6]])
    assert decisions(MULTI_LABEL, scores).tolist() == [[False, True]]
    assert decisions(MULTI_LABEL, scores, [0.3, 0.7]).tolist() == [[True, False]]
    assert decisions(SINGLE_LABEL, scores).tolist() == [1]
    with pytest.raises(DataError, match="no right and wrong"):
        decisions(REGRESSION, scores)


def test_missed_rows_by_hand() -> None:
    targets = np.array([[1, 0], [0, 1], [0, 0], [1, 1]])
    scores = [
        np.array([[0.4, 0.9], [0.2, 0.7], [0.9, 0.9], [0.1, 0.2]]),
        np.array([[0.3, 0.1], [0.1, 0.2], [0, 0], [0.3, 0]]),
    ]
    decided = [decisions(MULTI_LABEL, each) for each in scores]
    # Row 1 is found by the first model, row 2 has no label to find.
    assert missed_rows(MULTI_LABEL, scores, decided, targets) == [(3, 0.3), (0, 0.4)]
    classes = np.array([0, 1, IGNORED_LABEL, 1])
    chosen = [each.argmax(axis=1) for each in scores]
    assert missed_rows(SINGLE_LABEL, scores, chosen, classes) == []
    assert missed_rows(SINGLE_LABEL, scores[:1], chosen[:1], classes) == [(0, 0.4)]
    values = [np.array([1.0, 5.0]), np.array([2.0, 9.0])]
    assert missed_rows(REGRESSION, values, [], np.array([2.5, 6.0])) == [(1, 1.0), (0, 0.5)]


def test_precision_is_read_at_the_highest_threshold_that_reaches_a_recall() -> None:
    targets = np.array([[1], [0], [1], [1], [0]])
    scores = np.array([[0.9], [0.8], [0.7], [0.6], [0.5]])
    precision = precision_at_recalls(MULTI_LABEL, scores, targets)
    at = dict(zip(RECALLS.round(2).tolist(), precision.tolist(), strict=True))
    assert at[0.0] == at[0.33] == 1.0
    assert at[0.34] == at[0.66] == pytest.approx(2 / 3)
    assert at[0.67] == at[1.0] == 0.75
    classes = np.array([0, 1, IGNORED_LABEL])
    sure = np.array([[0.9, 0.1], [0.2, 0.8], [0.5, 0.5]])
    assert precision_at_recalls(SINGLE_LABEL, sure, classes).tolist() == [1.0] * 101


def test_training_curves_are_averaged_by_epoch() -> None:
    first = [
        {"loss": 2.0, "epoch": 1.0, "step": 4},
        {"eval_loss": 3.0, "eval_runtime": 9.0, "eval_samples_per_second": 1.0, "epoch": 1.0},
        {"loss": 1.0, "epoch": 2.0},
        {"train_runtime": 1.0, "epoch": 2.0, "train_loss": 1.5},
        {"probe": 1.0},
    ]
    second = [{"loss": 4.0, "epoch": 1}, {"eval_loss": None, "epoch": 1}]
    curves = training_curves([first, second])
    assert list(curves) == ["loss", "eval_loss"]
    assert curves["loss"] == [
        {"epoch": 1.0, "mean": 3.0, "low": 2.0, "high": 4.0, "n": 2},
        {"epoch": 2.0, "mean": 1.0, "low": 1.0, "high": 1.0, "n": 1},
    ]
    assert curves["eval_loss"] == [{"epoch": 1.0, "mean": 3.0, "low": 3.0, "high": 3.0, "n": 1}]
