"""The paired bootstrap: metrics on draws are those of scikit-learn, intervals those of SciPy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import bootstrap
from sklearn.metrics import average_precision_score

from mmadapters.errors import DataError
from mmadapters.evaluation.bootstrap import BootstrapDraws, paired_intervals, resample_counts, resampled_metrics
from mmadapters.evaluation.metrics import IGNORED_LABEL, MULTI_LABEL, REGRESSION, SINGLE_LABEL, compute_metrics

LABELS = ["a", "b", "c", "d"]


def test_every_draw_has_as_many_rows_as_there_are() -> None:
    counts = resample_counts(7, 500, seed=3)
    assert counts.shape == (500, 7)
    assert (counts.sum(axis=1) == 7).all()
    assert (counts == resample_counts(7, 500, seed=3)).all()
    assert (counts != resample_counts(7, 500, seed=4)).any()
    assert counts.mean() == pytest.approx(1.0)
    # Each count is binomial (7, 1/7): variance 6/7.
    assert counts.var() == pytest.approx(6 / 7, rel=0.1)
    with pytest.raises(DataError, match="0 rows cannot be made"):
        resample_counts(0)


@pytest.mark.parametrize("ties", [False, True])
def test_multi_label_metrics_of_a_draw_are_those_of_the_rows_it_repeats(ties: bool) -> None:
    random = np.random.default_rng(0)
    scores = random.uniform(size=(40, 4))
    if ties:
        scores = scores.round(1)
    targets = random.integers(0, 2, size=(40, 4)).astype(np.float32)
    counts = np.concatenate([np.ones((1, 40), dtype=np.int32), resample_counts(40, 5)])
    found = resampled_metrics(MULTI_LABEL, scores, targets, counts)
    for draw, count in enumerate(counts):
        rows = np.repeat(np.arange(40), count)
        expected = compute_metrics(MULTI_LABEL, scores[rows], targets[rows], LABELS).values
        for name, values in found.items():
            assert values[draw] == pytest.approx(expected[name], abs=1e-12), name


def test_a_label_that_a_draw_lacks_is_left_out_of_its_macro_average() -> None:
    scores = np.array([[0.9, 0.1], [0.2, 0.8], [0.4, 0.3]])
    targets = np.array([[1, 0], [0, 1], [0, 0]])
    found = resampled_metrics(MULTI_LABEL, scores, targets, np.array([[2, 0, 1], [0, 0, 3]]))
    assert found["macro_average_precision"][0] == 1.0
    assert np.isnan(found["macro_average_precision"][1])
    assert np.isnan(found["micro_average_precision"][1])


def test_single_label_and_regression_metrics_of_a_draw() -> None:
    random = np.random.default_rng(0)
    probabilities = random.dirichlet(np.ones(4), size=30)
    targets = random.integers(0, 4, 30)
    counts = resample_counts(30, 4)
    found = resampled_metrics(SINGLE_LABEL, probabilities, targets, counts)
    values, truth = random.normal(size=30), random.normal(size=30)
    errors = resampled_metrics(REGRESSION, values, truth, counts)["mae"]
    for draw, count in enumerate(counts):
        rows = np.repeat(np.arange(30), count)
        expected = compute_metrics(SINGLE_LABEL, probabilities[rows], targets[rows], LABELS).values
        assert found["accuracy"][draw] == pytest.approx(expected["accuracy"])
        assert found["macro_f1"][draw] == pytest.approx(expected["macro_f1"])
        assert errors[draw] == pytest.approx(np.abs(values - truth)[rows].mean())


def test_the_interval_of_an_accuracy_is_scipy_s_and_the_normal_one() -> None:
    random = np.random.default_rng(1)
    targets = random.integers(0, 2, 400)
    right_first, right_second = random.random(400) < 0.8, random.random(400) < 0.7

    def scores(right: np.ndarray) -> np.ndarray:
        chosen = np.where(right, targets, 1 - targets)
        return np.eye(2)[chosen]

    interval = paired_intervals(SINGLE_LABEL, [scores(right_first)], [scores(right_second)], targets, resamples=4000)[
        "accuracy"
    ]
    differences = right_first.astype(float) - right_second.astype(float)
    assert interval.difference == pytest.approx(differences.mean())
    theirs = bootstrap(
        (right_first.astype(float), right_second.astype(float)),
        lambda a, b: a.mean() - b.mean(),
        paired=True,
        vectorized=False,
        n_resamples=4000,
        method="percentile",
        rng=np.random.default_rng(2),
    ).confidence_interval
    assert interval.low == pytest.approx(theirs.low, abs=0.004)
    assert interval.high == pytest.approx(theirs.high, abs=0.004)
    normal = 1.96 * differences.std() / 20
    assert interval.high - interval.low == pytest.approx(2 * normal, rel=0.06)


def test_the_interval_of_a_micro_average_precision_is_scipy_s() -> None:
    random = np.random.default_rng(2)
    targets = random.integers(0, 2, size=(60, 3))
    first = 0.5 * targets + random.uniform(size=(60, 3))
    second = 0.3 * targets + random.uniform(size=(60, 3))

    def difference(rows: np.ndarray) -> float:
        truth = targets[rows].ravel()
        return average_precision_score(truth, first[rows].ravel()) - average_precision_score(
            truth, second[rows].ravel()
        )

    interval = paired_intervals(MULTI_LABEL, [first], [second], targets, resamples=1000)["micro_average_precision"]
    theirs = bootstrap(
        (np.arange(60),),
        difference,
        vectorized=False,
        n_resamples=400,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    width = theirs.high - theirs.low
    assert interval.low == pytest.approx(theirs.low, abs=0.15 * width)
    assert interval.high == pytest.approx(theirs.high, abs=0.15 * width)


def test_seeds_are_averaged_within_a_draw_and_a_method_does_not_differ_from_itself() -> None:
    random = np.random.default_rng(3)
    truth = random.normal(size=50)
    seeds = [truth + random.normal(size=50), truth + 2 * random.normal(size=50)]
    draws = BootstrapDraws(REGRESSION, truth, resamples=200, seed=1)
    both = draws.metrics(seeds)["mae"]
    alone = [draws.metrics([seed])["mae"] for seed in seeds]
    assert both == pytest.approx((alone[0] + alone[1]) / 2)
    same = draws.intervals(draws.metrics(seeds), draws.metrics(seeds[::-1]))["mae"]
    assert (same.difference, same.low, same.high) == pytest.approx((0.0, 0.0, 0.0), abs=1e-12)
    with pytest.raises(DataError, match="no scores to draw from"):
        draws.metrics([])


def test_rows_of_a_class_that_training_lacks_are_not_drawn() -> None:
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.5, 0.5]])
    targets = np.array([0, 1, IGNORED_LABEL])
    found = BootstrapDraws(SINGLE_LABEL, targets, resamples=50).metrics([probabilities])
    assert found["accuracy"].tolist() == [1.0] * 51
