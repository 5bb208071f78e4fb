"""Paired bootstrap over rows: how far two models' metrics would differ on other rows of the same kind.

Rows are drawn with replacement, the same ones for every model, and a metric is computed on each draw (Efron and
Tibshirani 1993, An Introduction to the Bootstrap, chapter 13: percentile intervals). A draw is a vector of counts, so
that scores are sorted once and every draw is a few sums.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mmadapters.errors import DataError
from mmadapters.evaluation.metrics import IGNORED_LABEL, MULTI_LABEL, REGRESSION, SINGLE_LABEL

RESAMPLES = 2000
COVERAGE = 0.95
BOOTSTRAPPED = {
    MULTI_LABEL: ("micro_average_precision", "macro_average_precision"),
    SINGLE_LABEL: ("accuracy", "macro_f1"),
    REGRESSION: ("mae",),
}
"""The metrics that have intervals, by problem type; the first is the one that a comparison looks at first."""
FEWEST_RESAMPLES = 200
"""Below, percentiles of 2.5 % say little."""
MOST_DRAWN = 100_000_000
"""Scores times draws for the intervals of one model: some seconds."""
_NUMBERS_AT_ONCE = 4_000_000
"""Of a table of draws × scores, so that it takes tens of MB however many rows there are."""


@dataclass(frozen=True)
class Interval:
    """A difference of two metrics on the rows as they are, and where 95 % of the draws have it.

    Attributes:
        difference: On the rows as they are.
        low: The 2.5 % percentile over the draws.
        high: The 97.5 % percentile.
    """

    difference: float
    low: float
    high: float


@dataclass(frozen=True)
class MetricInterval:
    """A metric of one model on the rows as they are, and where 95 % of the draws have it.

    Attributes:
        value: On the rows as they are.
        low: The 2.5 % percentile over the draws.
        high: The 97.5 % percentile.
        resamples: Number of draws.
    """

    value: float
    low: float
    high: float
    resamples: int


def metric_intervals(
    problem_type: str, scores: np.ndarray, targets: np.ndarray, *, resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, MetricInterval]:
    """Return the intervals of one model's metrics of ``BOOTSTRAPPED``.

    The more rows and labels there are, the fewer draws are made, down to 200; where these would take too long, too,
    there are no intervals, which would be narrow.

    Args:
        problem_type: Of the task.
        scores: Probabilities (N, C), or values (N,).
        targets: As in ``compute_metrics``.
        resamples: Most draws.
        seed: Of the draws.

    Raises:
        DataError: If there is no row to score.
    """
    drawn = min(resamples, MOST_DRAWN // max(scores.size, 1))
    if drawn < min(resamples, FEWEST_RESAMPLES):
        return {}
    draws = BootstrapDraws(problem_type, targets, resamples=drawn, seed=seed)
    found = draws.metrics([scores])
    against_nothing = {name: np.zeros_like(values) for name, values in found.items()}
    return {
        name: MetricInterval(interval.difference, interval.low, interval.high, drawn)
        for name, interval in draws.intervals(found, against_nothing).items()
    }


def resample_counts(n_rows: int, resamples: int = RESAMPLES, seed: int = 0) -> np.ndarray:
    """Return how often each row is in each draw, int32 (resamples, n_rows); each draw has n_rows rows.

    Args:
        n_rows: Number of rows.
        resamples: Number of draws.
        seed: Of the draws.

    Raises:
        DataError: If there are no rows or no draws.
    """
    if n_rows < 1 or resamples < 1:
        raise DataError(f"{resamples} draws of {n_rows} rows cannot be made. Give at least one of both.")
    random = np.random.default_rng(seed)
    drawn = random.integers(0, n_rows, size=(resamples, n_rows))
    offsets = np.arange(resamples)[:, None] * n_rows
    counts = np.bincount((drawn + offsets).ravel(), minlength=resamples * n_rows)
    return counts.reshape(resamples, n_rows).astype(np.int32)


def scored_rows(problem_type: str, targets: np.ndarray) -> np.ndarray:
    """Return bool (N,): the rows that are scored; rows whose class the training split lacks are not.

    Args:
        problem_type: Of the task.
        targets: As in ``compute_metrics``.
    """
    return targets != IGNORED_LABEL if problem_type == SINGLE_LABEL else np.ones(len(targets), dtype=bool)


def resampled_metrics(
    problem_type: str, scores: np.ndarray, targets: np.ndarray, counts: np.ndarray
) -> dict[str, np.ndarray]:
    """Return the metrics of ``BOOTSTRAPPED`` on every draw, (B,) each; NaN where a draw does not define one.

    With counts of 1 they are those of ``compute_metrics``.

    Args:
        problem_type: Of the task.
        scores: Probabilities (N, C), or values (N,).
        targets: 0/1 (N, C), class indices (N,) or values (N,); all rows are scored.
        counts: (B, N), from ``resample_counts``.
    """
    if problem_type == MULTI_LABEL:
        truth = targets.astype(bool)
        n_labels = truth.shape[1]
        rows = np.repeat(np.arange(len(truth)), n_labels)
        by_label = np.stack(
            [_average_precision(scores[:, c], truth[:, c], np.arange(len(truth)), counts) for c in range(n_labels)]
        )
        return {
            "micro_average_precision": _average_precision(scores.ravel(), truth.ravel(), rows, counts),
            "macro_average_precision": _mean_of_defined(by_label),
        }
    if problem_type == SINGLE_LABEL:
        return _single_label(scores, targets.astype(np.int64), counts)
    return {"mae": counts @ np.abs(scores - targets) / counts.sum(axis=1)}


def paired_intervals(
    problem_type: str,
    candidate: list[np.ndarray],
    reference: list[np.ndarray],
    targets: np.ndarray,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, Interval]:
    """Return the intervals of candidate minus reference; within a draw a metric is averaged over a model's seeds.

    Args:
        problem_type: Of the task.
        candidate: Scores of each seed's model, (N, C) or (N,).
        reference: The same of the other model; the numbers of seeds may differ.
        targets: As in ``compute_metrics``.
        resamples: Number of draws.
        seed: Of the draws.

    Raises:
        DataError: If a side has no scores, or there is no row to score.
    """
    draws = BootstrapDraws(problem_type, targets, resamples=resamples, seed=seed)
    return draws.intervals(draws.metrics(candidate), draws.metrics(reference))


class BootstrapDraws:
    """The same draws for any number of models.

    Args:
        problem_type: Of the task.
        targets: As in ``compute_metrics``.
        resamples: Number of draws.
        seed: Of the draws.

    Raises:
        DataError: If there is no row to score.
    """

    def __init__(self, problem_type: str, targets: np.ndarray, resamples: int = RESAMPLES, seed: int = 0) -> None:
        self.problem_type = problem_type
        self._kept = scored_rows(problem_type, targets)
        self._targets = targets[self._kept]
        self._counts = resample_counts(len(self._targets), resamples, seed)

    def metrics(self, scores: list[np.ndarray]) -> dict[str, np.ndarray]:
        """Return each metric, averaged over seeds: (1 + B,), first on the rows as they are, then on every draw.

        Args:
            scores: Of each seed's model, (N, C) or (N,).

        Raises:
            DataError: If there are none.
        """
        if not scores:
            raise DataError("There are no scores to draw from. Give those of at least one seed.")
        once = np.ones((1, len(self._targets)), dtype=np.int32)
        counts = np.concatenate([once, self._counts])
        found = [resampled_metrics(self.problem_type, each[self._kept], self._targets, counts) for each in scores]
        return {name: np.mean([metrics[name] for metrics in found], axis=0) for name in found[0]}

    @staticmethod
    def intervals(candidate: dict[str, np.ndarray], reference: dict[str, np.ndarray]) -> dict[str, Interval]:
        """Return candidate minus reference for each metric that is defined on the rows as they are.

        Args:
            candidate: What ``metrics`` gave.
            reference: What it gave for the other model.
        """
        tail = (1.0 - COVERAGE) / 2.0
        found = {}
        for name, values in candidate.items():
            differences = values - reference[name]
            defined = differences[1:][np.isfinite(differences[1:])]
            if np.isfinite(differences[0]) and len(defined):
                low, high = np.quantile(defined, [tail, 1.0 - tail])
                found[name] = Interval(float(differences[0]), float(low), float(high))
        return found


def _average_precision(scores: np.ndarray, truth: np.ndarray, rows: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return the average precision on every draw, (B,), NaN where a draw has no positive; ties count as one step.

    Args:
        scores: (K,).
        truth: Bool (K,).
        rows: (K,): the row that each score belongs to.
        counts: (B, N).
    """
    order = np.argsort(-scores, kind="stable")
    ranked, hits = scores[order], np.flatnonzero(truth[order])
    if not len(hits):
        return np.full(len(counts), np.nan)
    # A positive is found together with all that have its score: look at the last of them.
    last = np.searchsorted(-ranked, -ranked[hits], side="right") - 1
    last_hit = np.searchsorted(hits, last, side="right") - 1

    def of_draws(part: np.ndarray) -> np.ndarray:
        # Draws side by side in memory: a step down the ranking is then one addition of whole rows.
        ranked_counts = np.take(np.ascontiguousarray(part.T), rows[order], axis=0)
        weights = ranked_counts[hits]
        selected = np.cumsum(ranked_counts, axis=0, dtype=np.int32, out=ranked_counts)[last]
        found = np.cumsum(weights, axis=0, dtype=np.int32)[last_hit]
        positives = weights.sum(axis=0)
        summed = (weights * (found / np.maximum(selected, 1))).sum(axis=0)
        return np.where(positives > 0, summed / np.maximum(positives, 1), np.nan)

    return _in_parts(of_draws, counts, len(scores))


def _single_label(probabilities: np.ndarray, targets: np.ndarray, counts: np.ndarray) -> dict[str, np.ndarray]:
    predicted, n_classes = probabilities.argmax(axis=1), probabilities.shape[1]
    one_hot = np.eye(n_classes)
    true, chosen = one_hot[targets], one_hot[predicted]
    hits, support, selected = counts @ (true * chosen), counts @ true, counts @ chosen
    f1 = np.where(support > 0, 2.0 * hits / np.maximum(support + selected, 1.0), np.nan)
    return {"accuracy": hits.sum(axis=1) / counts.sum(axis=1), "macro_f1": _mean_of_defined(f1.T)}


def _mean_of_defined(values: np.ndarray) -> np.ndarray:
    """Return the mean over the first axis without NaN; NaN where there is nothing else."""
    defined = np.isfinite(values)
    n = defined.sum(axis=0)
    return np.where(n > 0, np.where(defined, values, 0.0).sum(axis=0) / np.maximum(n, 1), np.nan)


def _in_parts(function: Callable[[np.ndarray], np.ndarray], counts: np.ndarray, width: int) -> np.ndarray:
    size = max(1, _NUMBERS_AT_ONCE // max(width, 1))
    return np.concatenate([function(counts[start : start + size]) for start in range(0, len(counts), size)])
