"""What two or more models get wrong together, and what one of them alone knows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from mmadapters.errors import DataError
from mmadapters.evaluation.metrics import IGNORED_LABEL, MULTI_LABEL, REGRESSION


@dataclass(frozen=True)
class Complementarity:
    """How two models' right and wrong decisions lie to each other. Shares of all decisions.

    Attributes:
        both_right: Both are right.
        only_first_wrong: The first alone is wrong.
        only_second_wrong: The second alone is wrong.
        both_wrong: Both are wrong.
        diversity: Coincident failure diversity of the two.
        union: Share of decisions that are right if always the better of the two is taken: 1 - ``both_wrong``.
        union_f1: Micro F1 of these decisions (multi-label only, else None).
    """

    both_right: float
    only_first_wrong: float
    only_second_wrong: float
    both_wrong: float
    diversity: float
    union: float
    union_f1: float | None


def decisions(problem_type: str, scores: np.ndarray, thresholds: Sequence[float] | None = None) -> np.ndarray:
    """Return what is predicted: bool (N, C) of a multi-label problem, one decision a row and label, or classes (N,).

    Args:
        problem_type: Not a regression.
        scores: Probabilities (N, C).
        thresholds: For multi-label, one per label; 0.5 where absent.

    Raises:
        DataError: If the problem is a regression, which has no right and wrong.
    """
    if problem_type == REGRESSION:
        raise DataError("A regression has no right and wrong decisions. Compare classifications, or absolute errors.")
    if problem_type == MULTI_LABEL:
        return scores >= (0.5 if thresholds is None else np.asarray(thresholds))
    return scores.argmax(axis=1)


def right_decisions(problem_type: str, predicted: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Return bool (D,): which decisions are right; rows whose class the training split lacks are left out.

    Args:
        problem_type: Not a regression.
        predicted: From ``decisions``.
        targets: 0/1 (N, C), or class indices (N,).
    """
    if problem_type == MULTI_LABEL:
        return (predicted == targets.astype(bool)).ravel()
    known = targets != IGNORED_LABEL
    return predicted[known] == targets[known]


def coincident_failure_diversity(right: np.ndarray) -> float:
    """Return the coincident failure diversity of L models: 0 if all fail together, 1 if every failure is one model's.

    ``CFD = 1 / (1 - p_0) · Σ_{n=1..L} (L - n) / (L - 1) · p_n``, where ``p_n`` is the share of decisions that exactly
    n models get wrong (Partridge and Krzanowski 1997, Software diversity: practical statistics for its measurement and
    exploitation). It is 0 where no model is ever wrong.

    Args:
        right: Bool (L, D), L at least 2.

    Raises:
        DataError: If there are fewer than two models or no decisions.
    """
    n_models = len(right)
    if right.ndim != 2 or n_models < 2 or right.shape[1] == 0:
        raise DataError(f"Diversity needs the decisions of at least two models, (L, D); given is {right.shape}.")
    failing = np.bincount((~right).sum(axis=0), minlength=n_models + 1) / right.shape[1]
    if failing[0] == 1.0:
        return 0.0
    weights = (n_models - np.arange(1, n_models + 1)) / (n_models - 1)
    return float((weights * failing[1:]).sum() / (1.0 - failing[0]))


def complementarity(problem_type: str, first: np.ndarray, second: np.ndarray, targets: np.ndarray) -> Complementarity:
    """Compare the decisions of two models.

    Args:
        problem_type: Not a regression.
        first: From ``decisions``.
        second: From ``decisions``.
        targets: 0/1 (N, C), or class indices (N,).
    """
    right = np.stack([right_decisions(problem_type, each, targets) for each in (first, second)])
    a, b = right
    union_f1 = None
    if problem_type == MULTI_LABEL:
        truth = targets.astype(bool).ravel()
        best = np.where(a | b, truth, ~truth)
        hits, total = int((best & truth).sum()), int(best.sum() + truth.sum())
        union_f1 = 2.0 * hits / total if total else None
    both_wrong = float((~a & ~b).mean())
    return Complementarity(
        both_right=float((a & b).mean()),
        only_first_wrong=float((~a & b).mean()),
        only_second_wrong=float((a & ~b).mean()),
        both_wrong=both_wrong,
        diversity=coincident_failure_diversity(right),
        union=1.0 - both_wrong,
        union_f1=union_f1,
    )


def mean_complementarity(found: Sequence[Complementarity]) -> Complementarity:
    """Return the mean over pairs of models, such as those of the same seed.

    Args:
        found: At least one.
    """
    unions = [each.union_f1 for each in found if each.union_f1 is not None]

    def mean(name: str) -> float:
        return float(np.mean([getattr(each, name) for each in found]))

    return Complementarity(
        both_right=mean("both_right"),
        only_first_wrong=mean("only_first_wrong"),
        only_second_wrong=mean("only_second_wrong"),
        both_wrong=mean("both_wrong"),
        diversity=mean("diversity"),
        union=mean("union"),
        union_f1=float(np.mean(unions)) if unions else None,
    )


def pairwise_complementarity(
    problem_type: str, predicted: Mapping[str, Mapping[int, np.ndarray]], targets: np.ndarray
) -> dict[tuple[str, str], Complementarity]:
    """Compare every two models, seed by seed, and average over the seeds that both have.

    Args:
        problem_type: Not a regression.
        predicted: By model and seed, from ``decisions``.
        targets: 0/1 (N, C), or class indices (N,).

    Returns:
        By pair; pairs without a common seed are absent.
    """
    found = {}
    for first, second in combinations(predicted, 2):
        common = [seed for seed in predicted[first] if seed in predicted[second]]
        if common:
            found[first, second] = mean_complementarity(
                [
                    complementarity(problem_type, predicted[first][seed], predicted[second][seed], targets)
                    for seed in common
                ]
            )
    return found


def mean_failure_diversity(
    problem_type: str, predicted: Mapping[str, Mapping[int, np.ndarray]], targets: np.ndarray
) -> float | None:
    """Return the coincident failure diversity of all models together, averaged over the seeds that all have.

    Args:
        problem_type: Not a regression.
        predicted: By model and seed, from ``decisions``.
        targets: 0/1 (N, C), or class indices (N,).
    """
    if len(predicted) < 2:
        return None
    common = set.intersection(*(set(seeds) for seeds in predicted.values()))
    values = [
        coincident_failure_diversity(
            np.stack([right_decisions(problem_type, seeds[seed], targets) for seeds in predicted.values()])
        )
        for seed in sorted(common)
    ]
    return float(np.mean(values)) if values else None
