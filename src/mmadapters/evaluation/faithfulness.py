"""Do shares tell what matters? They are held against what a row's loss rises by without the modality."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import spearmanr

FEWEST_ROWS = 10
"""A correlation of fewer rows is not told."""


@dataclass(frozen=True)
class Faithfulness:
    """How well shares and effects agree.

    Attributes:
        by_modality: Spearman's rank correlation over rows, of a modality's share and of what the loss rises by without
            it; None where it is undefined.
        agreement: Share of the rows with several modalities in which the one with the largest share is also the one
            without which the loss rises most; None without such rows.
        chance: What ``agreement`` would be if the largest share were at random.
        rows: Rows that have several modalities.
    """

    by_modality: dict[str, float | None]
    agreement: float | None
    chance: float | None
    rows: int


def faithfulness(names: list[str], shares: np.ndarray, effects: np.ndarray, present: np.ndarray) -> Faithfulness:
    """Compare shares with effects.

    Args:
        names: The m modalities.
        shares: (N, m).
        effects: (N, m), what each row's loss rises by without the modality; NaN where the loss is unknown.
        present: Bool (N, m), whether the row has it.
    """
    known = present & np.isfinite(effects)
    by_modality = {name: _correlation(shares[known[:, k], k], effects[known[:, k], k]) for k, name in enumerate(names)}
    several = np.flatnonzero(known.sum(axis=1) > 1)
    if not len(several):
        return Faithfulness(by_modality, None, None, 0)
    own = known[several]
    largest = np.where(own, shares[several], -np.inf).argmax(axis=1)
    strongest = np.where(own, effects[several], -np.inf).argmax(axis=1)
    return Faithfulness(
        by_modality,
        float((largest == strongest).mean()),
        float((1.0 / own.sum(axis=1)).mean()),
        len(several),
    )


def _correlation(first: np.ndarray, second: np.ndarray) -> float | None:
    if len(first) < FEWEST_ROWS or np.ptp(first) == 0 or np.ptp(second) == 0:
        return None
    return float(spearmanr(first, second).statistic)
