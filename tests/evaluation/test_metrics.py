"""Every metric on examples small enough to compute by hand, and what cannot change any of them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, f1_score

from mmadapters.errors import DataError
from mmadapters.evaluation.metrics import (
    METRIC_NAMES,
    MetricsReport,
    compute_metrics,
    multi_label_metrics,
    regression_metrics,
    single_label_metrics,
)
from mmadapters.evaluation.scores import scores_from_logits

MULTI, SINGLE, REGRESSION = "multi_label_classification", "single_label_classification", "regression"
LABELS = ["a", "b", "c", "d"]
repeatable = settings(derandomize=True, deadline=None, max_examples=50)

MULTI_TARGETS = np.array([[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]])
MULTI_SCORES = np.array([[0.9, 0.6, 0.1, 0.2], [0.4, 0.8, 0.3, 0.7], [0.5, 0.2, 0.05, 0.0], [0.3, 0.1, 0.2, 0.1]])

SINGLE_TARGETS = np.array([0, 0, 1, 2, -100, 1])
SINGLE_SCORES = np.array(
    [
        [0.7, 0.2, 0.1, 0.0],
        [0.4, 0.5, 0.1, 0.0],
        [0.1, 0.6, 0.2, 0.1],
        [0.2, 0.1, 0.4, 0.3],
        [0.9, 0.1, 0.0, 0.0],
        [0.3, 0.1, 0.2, 0.4],
    ]
)

AVERAGE_PRECISIONS = [f"{how}_average_precision" for how in ("micro", "macro", "weighted", "samples")]


def per_label(report: MetricsReport, what: str) -> list[Any]:
    return [row[what] for row in report.per_label]


def assert_same(one: MetricsReport, other: MetricsReport) -> None:
    assert one.values == pytest.approx(other.values, abs=1e-12)
    for row, same in zip(one.per_label, other.per_label, strict=True):
        assert row == pytest.approx(same, abs=1e-12)
    assert {**one.to_dict(), "metrics": 0, "per_label": 0} == {**other.to_dict(), "metrics": 0, "per_label": 0}


@st.composite
def multi_label_examples(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    rows, columns = draw(st.integers(1, 6)), draw(st.integers(2, 4))
    cells = st.tuples(st.integers(0, 8), st.booleans())
    drawn = draw(st.lists(cells, min_size=rows * columns, max_size=rows * columns))
    grid = np.array(drawn).reshape(rows, columns, 2)
    return grid[..., 0] / 8.0, grid[..., 1].astype(int)


@st.composite
def single_label_examples(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    rows = draw(st.integers(1, 8))
    scores = draw(
        st.lists(st.lists(st.integers(0, 8), min_size=3, max_size=3, unique=True), min_size=rows, max_size=rows)
    )
    targets = [0, *draw(st.lists(st.sampled_from([0, 1, 2, -100]), min_size=rows - 1, max_size=rows - 1))]
    return np.array(scores) / 8.0, np.array(targets)


def test_multi_label_metrics_by_hand() -> None:
    report = multi_label_metrics(MULTI_SCORES, MULTI_TARGETS, LABELS)
    assert report.values == pytest.approx(
        {
            "micro_average_precision": (1 + 1 + 3 / 6 + 4 / 15) / 4,
            "macro_average_precision": (5 / 6 + 1 + 1 / 4) / 3,
            "weighted_average_precision": (2 * 5 / 6 + 1 + 1 / 4) / 4,
            "samples_average_precision": (1 + 5 / 6 + 1 / 3) / 3,
            "micro_f1": 2 * 2 / (5 + 4),
            "macro_f1": (1 / 2 + 2 / 3 + 0) / 3,
            "weighted_f1": (2 * 1 / 2 + 2 / 3 + 0) / 4,
            "samples_f1": (2 / 3 + 1 / 2 + 0 + 0) / 4,
            "accuracy": 1 / 4,
        },
        abs=1e-12,
    )
    assert all(type(value) is float for value in report.values.values())


def test_the_table_of_labels_of_a_multi_label_problem() -> None:
    report = multi_label_metrics(MULTI_SCORES, MULTI_TARGETS, LABELS)
    assert per_label(report, "label") == LABELS
    assert per_label(report, "support") == [2, 1, 1, 0]
    assert per_label(report, "average_precision") == [pytest.approx(5 / 6), 1.0, 0.25, None]
    assert per_label(report, "precision") == [0.5, 0.5, None, 0.0]
    assert per_label(report, "recall") == [0.5, 1.0, 0.0, None]
    assert per_label(report, "f1") == [0.5, pytest.approx(2 / 3), 0.0, None]


def test_labels_and_rows_without_positives_are_left_out_and_said() -> None:
    report = multi_label_metrics(MULTI_SCORES, MULTI_TARGETS, LABELS)
    assert report.labels_without_positives == ["d"]
    assert (report.n_examples, report.n_labels_scored, report.n_rows_without_positives, report.n_ignored) == (
        4,
        3,
        1,
        0,
    )
    alone = multi_label_metrics(MULTI_SCORES[:, :3], MULTI_TARGETS[:, :3], LABELS[:3])
    for name in ("macro_average_precision", "weighted_average_precision", "macro_f1", "weighted_f1"):
        assert report.values[name] == pytest.approx(alone.values[name], abs=1e-12)
    assert alone.labels_without_positives == []


@pytest.mark.parametrize("threshold", [0.5, [0.5]])
def test_a_problem_with_one_label_has_every_metric(threshold: Any) -> None:
    scores, targets = np.array([[0.9], [0.7], [0.2], [0.1]]), np.array([[1], [0], [1], [0]])
    report = multi_label_metrics(scores, targets, ["a"], threshold)
    assert report.values == pytest.approx(
        {
            **dict.fromkeys(("micro_average_precision", "macro_average_precision"), (1 + 2 / 3) / 2),
            "weighted_average_precision": (1 + 2 / 3) / 2,
            "samples_average_precision": 1.0,
            **dict.fromkeys(("micro_f1", "macro_f1", "weighted_f1"), 1 / 2),
            "samples_f1": 1 / 4,
            "accuracy": 2 / 4,
        },
        abs=1e-12,
    )
    assert (report.n_labels_scored, report.n_rows_without_positives) == (1, 2)


def test_a_problem_with_one_class_has_every_metric() -> None:
    report = single_label_metrics(np.ones((3, 1)), np.array([0, -100, 0]), ["a"])
    assert set(report.values.values()) == {1.0}
    assert len(report.values) == 7


@pytest.mark.parametrize("threshold", [[0.5, 0.5], [0.5], [[0.5, 0.5, 0.5, 0.5]], [0.5] * 3 + [float("nan")], "half"])
def test_thresholds_are_one_or_one_for_each_label(threshold: Any) -> None:
    with pytest.raises(DataError, match="hreshold"):
        multi_label_metrics(MULTI_SCORES, MULTI_TARGETS, LABELS, threshold)


def test_without_labels_there_is_nothing_to_score() -> None:
    with pytest.raises(DataError, match="There are no labels to score"):
        multi_label_metrics(np.zeros((2, 0)), np.zeros((2, 0)), [])


@repeatable
@given(multi_label_examples())
def test_averages_of_f1_are_those_of_scikit_learn(example: tuple[np.ndarray, np.ndarray]) -> None:
    scores, targets = example
    values = multi_label_metrics(scores, targets, LABELS[: scores.shape[1]]).values
    for average in ("micro", "samples"):
        expected = f1_score(targets, scores >= 0.5, average=average, zero_division=0)
        assert values.get(f"{average}_f1", expected) == pytest.approx(expected, abs=1e-12)
    expected = average_precision_score(targets, scores, average="micro") if targets.any() else None
    assert values.get("micro_average_precision") == expected


def test_one_threshold_for_each_label() -> None:
    report = multi_label_metrics(MULTI_SCORES, MULTI_TARGETS, LABELS, threshold=(0.4, 0.7, 0.05, 0.75))
    assert per_label(report, "f1") == [pytest.approx(4 / 5), 1.0, pytest.approx(2 / 5), None]
    assert report.values["micro_f1"] == pytest.approx(2 * 4 / (8 + 4))
    assert report.values["macro_f1"] == pytest.approx((4 / 5 + 1 + 2 / 5) / 3)
    assert report.values["accuracy"] == 0.0
    at_half = multi_label_metrics(MULTI_SCORES, MULTI_TARGETS, LABELS)
    assert {name: report.values[name] for name in AVERAGE_PRECISIONS} == {
        name: at_half.values[name] for name in AVERAGE_PRECISIONS
    }


@pytest.mark.parametrize(("threshold", "accuracy"), [(0.5, 1.0), (0.5000001, 0.5)])
def test_a_score_at_the_threshold_is_a_prediction(threshold: float, accuracy: float) -> None:
    report = multi_label_metrics(np.array([[0.5, 0.0], [0.0, 0.0]]), np.array([[1, 0], [0, 0]]), ["a", "b"], threshold)
    assert report.values["accuracy"] == accuracy


def test_without_any_positive_only_the_accuracy_is_defined() -> None:
    report = multi_label_metrics(np.array([[0.1, 0.9], [0.2, 0.3]]), np.zeros((2, 2)), ["a", "b"])
    assert report.values == {"accuracy": 0.5}
    assert report.labels_without_positives == ["a", "b"]
    assert (report.n_labels_scored, report.n_rows_without_positives) == (0, 2)
    assert per_label(report, "precision") == [None, 0.0]


def test_single_label_metrics_by_hand() -> None:
    report = single_label_metrics(SINGLE_SCORES, SINGLE_TARGETS, LABELS)
    assert report.values == pytest.approx(
        {
            "accuracy": 3 / 5,
            "micro_f1": 3 / 5,
            "macro_f1": (2 / 3 + 1 / 2 + 1) / 3,
            "weighted_f1": (2 * 2 / 3 + 2 * 1 / 2 + 1) / 5,
            "micro_average_precision": 2 / 5 + 2 / 5 * 4 / 6 + 1 / 5 * 5 / 18,
            "macro_average_precision": (1 + 0.7 + 1) / 3,
            "weighted_average_precision": (2 * 1 + 2 * 0.7 + 1) / 5,
        },
        abs=1e-12,
    )


def test_the_table_of_labels_of_a_single_label_problem() -> None:
    report = single_label_metrics(SINGLE_SCORES, SINGLE_TARGETS, LABELS)
    assert per_label(report, "label") == LABELS
    assert per_label(report, "support") == [2, 2, 1, 0]
    assert per_label(report, "average_precision") == [1.0, pytest.approx(0.7), 1.0, None]
    assert per_label(report, "precision") == [1.0, 0.5, 1.0, 0.0]
    assert per_label(report, "recall") == [0.5, 0.5, 1.0, None]
    assert per_label(report, "f1") == [pytest.approx(2 / 3), 0.5, 1.0, None]
    assert report.labels_without_positives == ["d"]
    assert (report.n_examples, report.n_labels_scored, report.n_ignored, report.n_rows_without_positives) == (
        5,
        3,
        1,
        0,
    )


def test_rows_with_an_unknown_label_change_the_count_only() -> None:
    known = SINGLE_TARGETS != -100
    with_unknown = single_label_metrics(SINGLE_SCORES, SINGLE_TARGETS, LABELS)
    without = single_label_metrics(SINGLE_SCORES[known], SINGLE_TARGETS[known], LABELS)
    assert (with_unknown.values, with_unknown.per_label) == (without.values, without.per_label)
    assert (with_unknown.n_ignored, without.n_ignored) == (1, 0)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, object, np.int8])
def test_class_indices_may_be_of_any_number_type(dtype: Any) -> None:
    report = single_label_metrics(SINGLE_SCORES, SINGLE_TARGETS.astype(dtype), LABELS)
    assert report == single_label_metrics(SINGLE_SCORES, SINGLE_TARGETS, LABELS)


def test_scores_of_rows_with_an_unknown_label_may_be_anything() -> None:
    scores = SINGLE_SCORES.copy()
    scores[4] = np.nan
    assert single_label_metrics(scores, SINGLE_TARGETS, LABELS) == single_label_metrics(
        SINGLE_SCORES, SINGLE_TARGETS, LABELS
    )


def test_regression_metrics_by_hand() -> None:
    report = regression_metrics(np.array([1.0, 2.0, 4.0]), np.array([1.0, 3.0, 2.0]))
    assert report.values == pytest.approx({"mae": 1.0, "rmse": math.sqrt(5 / 3), "r2": 1 - 5 / 2}, abs=1e-12)
    assert (report.n_examples, report.per_label, report.labels_without_positives) == (3, [], [])


@pytest.mark.parametrize(
    ("predictions", "targets", "expected"),
    [
        ([1.0, 4.0], [2.0, 2.0], {"mae": 1.5, "rmse": math.sqrt(5 / 2)}),
        ([0.1, 0.1, 0.1], [0.1, 0.1, 0.1], {"mae": 0.0, "rmse": 0.0}),
        ([5.0], [3.0], {"mae": 2.0, "rmse": 2.0}),
    ],
)
def test_constant_targets_have_no_r2(
    predictions: list[float], targets: list[float], expected: dict[str, float]
) -> None:
    assert regression_metrics(np.array(predictions), np.array(targets)).values == pytest.approx(expected)


def test_the_problem_type_chooses_the_metrics() -> None:
    multi = compute_metrics(MULTI, MULTI_SCORES, MULTI_TARGETS, LABELS, threshold=0.7)
    assert multi == multi_label_metrics(MULTI_SCORES, MULTI_TARGETS, LABELS, threshold=0.7)
    single = compute_metrics(SINGLE, SINGLE_SCORES, SINGLE_TARGETS, LABELS)
    assert single == single_label_metrics(SINGLE_SCORES, SINGLE_TARGETS, LABELS)
    values = np.array([1.0, 2.0]), np.array([2.0, 0.0])
    assert compute_metrics(REGRESSION, *values) == regression_metrics(*values)


@pytest.mark.parametrize(
    ("problem_type", "scores", "targets"),
    [
        (MULTI, MULTI_SCORES, MULTI_TARGETS),
        (SINGLE, SINGLE_SCORES, SINGLE_TARGETS),
        (REGRESSION, np.array([1.0, 2.0]), np.array([2.0, 2.0])),
    ],
)
def test_a_report_survives_json(problem_type: str, scores: np.ndarray, targets: np.ndarray) -> None:
    report = compute_metrics(problem_type, scores, targets, LABELS)
    plain = report.to_dict()
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    assert plain["metrics"] == report.values
    assert plain["per_label"] == report.per_label
    assert plain["labels_without_positives"] == report.labels_without_positives


NAN, INF = float("nan"), float("inf")
NOT_FINITE = "NaN or infinite in the rows {}. Only finite numbers can be scored."


@pytest.mark.parametrize(
    ("problem_type", "scores", "targets", "message"),
    [
        (
            "multilabel",
            [[0.1]],
            [[1]],
            "problem_type='multilabel' is unknown. Accepted are 'multi_label_classification', "
            "'single_label_classification', 'regression'.",
        ),
        (MULTI, [[0.1, 0.2]], [[2, 0]], "The targets of a multi-label evaluation hold values other than 0 and 1."),
        (
            MULTI,
            [[0.1, 0.2]],
            [[1, 0, 0]],
            "Scores (1, 2) and targets (1, 3) do not fit. Accepted are (N, C) and (N, C).",
        ),
        (MULTI, [0.1, 0.2], [1, 0], "Scores (2,) and targets (2,) do not fit. Accepted are (N, C) and (N, C)."),
        (MULTI, [[0.1] * 3], [[1] * 3], "Scores (1, 3) have 3 columns, but 2 labels were named."),
        (MULTI, np.zeros((0, 2)), np.zeros((0, 2)), "There are no rows to score."),
        (MULTI, [[0.1, 0.2], [NAN, 0.1]], [[1, 0], [0, 1]], f"Scores are {NOT_FINITE.format([1])}"),
        (MULTI, [[0.1, 0.2], [0.1, 0.1]], [[NAN, 0], [0, 1]], f"Targets are {NOT_FINITE.format([0])}"),
        (MULTI, np.full((12, 2), NAN), np.ones((12, 2)), f"Scores are {NOT_FINITE.format(list(range(10)))}"),
        (
            SINGLE,
            [[0.1, 0.9]] * 2,
            [-100, -100],
            "Not one row has a label that was in the training split, so there is nothing to score.",
        ),
        (SINGLE, [[0.1, 0.9]] * 2, [0, 2], "A target is 2. Accepted are 0 to 1, and -100."),
        (SINGLE, [[0.1, 0.9]] * 2, [-1, 0], "A target is -1. Accepted are 0 to 1, and -100."),
        (SINGLE, [[0.1, 0.8, 0.1]], [0], "Scores (1, 3) have 3 columns, but 2 labels were named."),
        (SINGLE, [[0.5, 0.5]] * 3, [0, 1], "Scores (3, 2) and targets (2,) do not fit. Accepted are (N, C) and (N,)."),
        (
            SINGLE,
            [[0.5, 0.5]] * 2,
            [[0, 1]] * 2,
            "Scores (2, 2) and targets (2, 2) do not fit. Accepted are (N, C) and (N,).",
        ),
        (SINGLE, [[0.1, 0.9]] * 2, [0, 0.5], "A target is 0.5. Accepted are 0 to 1, and -100."),
        (SINGLE, [[0.1, 0.9]] * 2, [0, NAN], f"Targets are {NOT_FINITE.format([1])}"),
        (
            SINGLE,
            [[0.1, 0.9]] * 2,
            ["a", "b"],
            "Targets hold something other than numbers. Accepted are arrays of numbers.",
        ),
        (SINGLE, np.zeros((0, 2)), [], "There are no rows to score."),
        (
            SINGLE,
            [[NAN, 0.1]] + [[0.1, 0.9]] * 3 + [[0.1, INF]],
            [-100, -100, 0, 1, 1],
            f"Scores are {NOT_FINITE.format([4])}",
        ),
        (MULTI, [[0.1, -INF]], [[1, 0]], f"Scores are {NOT_FINITE.format([0])}"),
        (REGRESSION, [1.0, INF], [1.0, 2.0], f"Scores are {NOT_FINITE.format([1])}"),
        (REGRESSION, [1.0, 2.0], [-INF, 2.0], f"Targets are {NOT_FINITE.format([0])}"),
        (SINGLE, [[0.1, 0.9], [NAN, 0.1]], [0, 1], f"Scores are {NOT_FINITE.format([1])}"),
        (SINGLE, np.zeros((0, 2)), np.zeros(0, dtype=int), "There are no rows to score."),
        (REGRESSION, [1.0], [1.0, 2.0], "Scores (1,) and targets (2,) do not fit. Accepted are (N,) and (N,)."),
        (REGRESSION, [[1.0]], [[1.0]], "Scores (1, 1) and targets (1, 1) do not fit. Accepted are (N,) and (N,)."),
        (REGRESSION, [], [], "There are no rows to score."),
        (REGRESSION, [1.0, NAN], [1.0, 2.0], f"Scores are {NOT_FINITE.format([1])}"),
        (REGRESSION, [1.0, 2.0], [NAN, 2.0], f"Targets are {NOT_FINITE.format([0])}"),
    ],
)
def test_what_cannot_be_scored_is_refused(problem_type: str, scores: Any, targets: Any, message: str) -> None:
    with pytest.raises(DataError) as caught:
        compute_metrics(problem_type, np.array(scores), np.array(targets), ["a", "b"])
    assert str(caught.value) == message


@repeatable
@given(multi_label_examples(), st.randoms())
def test_the_order_of_rows_changes_no_multi_label_metric(example: tuple[np.ndarray, np.ndarray], random: Any) -> None:
    scores, targets = example
    order = random.sample(range(len(scores)), len(scores))
    labels = LABELS[: scores.shape[1]]
    assert_same(
        multi_label_metrics(scores, targets, labels), multi_label_metrics(scores[order], targets[order], labels)
    )


@repeatable
@given(single_label_examples(), st.randoms())
def test_the_order_of_rows_changes_no_single_label_metric(example: tuple[np.ndarray, np.ndarray], random: Any) -> None:
    scores, targets = example
    order = random.sample(range(len(scores)), len(scores))
    assert_same(
        single_label_metrics(scores, targets, LABELS[:3]),
        single_label_metrics(scores[order], targets[order], LABELS[:3]),
    )


@repeatable
@given(st.lists(st.tuples(st.integers(-50, 50), st.integers(-50, 50)), min_size=1, max_size=8), st.randoms())
def test_the_order_of_rows_changes_no_regression_metric(pairs: list[tuple[int, int]], random: Any) -> None:
    shuffled = random.sample(pairs, len(pairs))
    one, other = (regression_metrics(*np.array(rows, dtype=float).T) for rows in (pairs, shuffled))
    assert one.values == pytest.approx(other.values, abs=1e-9)


@repeatable
@given(multi_label_examples(), st.randoms())
def test_the_order_of_labels_changes_no_average(example: tuple[np.ndarray, np.ndarray], random: Any) -> None:
    scores, targets = example
    labels = LABELS[: scores.shape[1]]
    order = random.sample(range(len(labels)), len(labels))
    one = multi_label_metrics(scores, targets, labels)
    other = multi_label_metrics(scores[:, order], targets[:, order], [labels[place] for place in order])
    assert one.values == pytest.approx(other.values, abs=1e-12)
    assert sorted(one.labels_without_positives) == sorted(other.labels_without_positives)


@repeatable
@given(
    multi_label_examples(),
    st.sampled_from([np.exp, np.arctan, lambda s: s**3, lambda s: 100 * s - 7, lambda s: np.log(s + 0.001)]),
)
def test_average_precision_sees_the_ranking_only(
    example: tuple[np.ndarray, np.ndarray], increasing: Callable[[np.ndarray], np.ndarray]
) -> None:
    scores, targets = example
    labels = LABELS[: scores.shape[1]]
    one = multi_label_metrics(scores, targets, labels)
    other = multi_label_metrics(increasing(scores), targets, labels)
    for name in AVERAGE_PRECISIONS:
        assert one.values.get(name) == other.values.get(name)
    assert per_label(one, "average_precision") == per_label(other, "average_precision")


@repeatable
@given(multi_label_examples())
def test_every_metric_of_right_predictions_is_1(example: tuple[np.ndarray, np.ndarray]) -> None:
    targets = example[1]
    report = multi_label_metrics(targets.astype(float), targets, LABELS[: targets.shape[1]])
    share_with_positives = targets.any(axis=1).mean()
    expected = dict.fromkeys(report.values, 1.0) | {"samples_f1": share_with_positives}
    assert report.values == pytest.approx({name: expected[name] for name in report.values})


def test_logits_become_a_probability_for_each_label() -> None:
    scores = scores_from_logits(np.array([[0.0, math.log(3)], [-math.log(3), -2000.0]], dtype=np.float32), MULTI)
    assert scores.dtype == np.float64
    np.testing.assert_allclose(scores, [[0.5, 0.75], [0.25, 0.0]], atol=1e-7)


def test_logits_become_probabilities_of_classes() -> None:
    scores = scores_from_logits(np.array([[0.0, math.log(3)], [2000.0, 0.0]], dtype=np.float32), SINGLE)
    assert scores.dtype == np.float64
    np.testing.assert_allclose(scores, [[0.25, 0.75], [1.0, 0.0]], atol=1e-7)


@pytest.mark.parametrize("logits", [[[1.5], [-2.0]], [[3.0]]])
def test_logits_of_a_regression_are_its_values(logits: list[list[float]]) -> None:
    scores = scores_from_logits(np.array(logits, dtype=np.float32), REGRESSION)
    assert scores.dtype == np.float64
    assert scores.tolist() == [row[0] for row in logits]


@repeatable
@given(st.lists(st.lists(st.floats(-30, 30), min_size=3, max_size=3), min_size=1, max_size=4), st.floats(-30, 30))
def test_probabilities_of_classes_sum_to_1_whatever_is_added_to_all_logits(
    logits: list[list[float]], shift: float
) -> None:
    scores = scores_from_logits(np.array(logits), SINGLE)
    np.testing.assert_allclose(scores.sum(axis=1), 1.0, rtol=1e-12)
    np.testing.assert_allclose(scores_from_logits(np.array(logits) + shift, SINGLE), scores, rtol=1e-9)


@pytest.mark.parametrize("problem_type", METRIC_NAMES)
def test_every_metric_that_is_named_is_computed(problem_type: str) -> None:
    scores, targets, labels = {
        "multi_label_classification": (np.eye(3), np.eye(3), list("abc")),
        "single_label_classification": (np.eye(3), np.arange(3), list("abc")),
        "regression": (np.arange(3.0), np.arange(3.0), []),
    }[problem_type]
    assert set(compute_metrics(problem_type, scores, targets, labels).values) == set(METRIC_NAMES[problem_type])
