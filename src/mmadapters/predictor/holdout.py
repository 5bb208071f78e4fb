"""Which rows are held out of the training, to choose the best epoch and thresholds by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from mmadapters.data.label_cells import label_lists, quantities, single_labels
from mmadapters.data.schema import MULTI_LABEL, REGRESSION
from mmadapters.features.cells import category_key

FEWEST_ROWS = 20
"""With fewer rows in all, none is held out."""
BALANCED_ROWS = 100_000
"""Of more rows, labels are as frequent in both parts by chance."""

_QUANTILES = 10
_ROWS_A_SECOND = 10.0
"""Of a time limit: what a small encoder on two cores scores in a tenth of it."""


def holdout_size(rows: int, limit: float | None = None) -> int:
    """Return how many rows are held out: a fifth of few, a tenth of many, at most 10,000.

    Args:
        rows: Number of all rows.
        limit: Seconds that a fit may take, at most ten rows for each and a hundred at least; None for no limit.
    """
    if rows < FEWEST_ROWS:
        return 0
    most = 10_000.0 if limit is None else min(10_000.0, max(100.0, _ROWS_A_SECOND * limit))
    return int(min(max(0.1 * rows, min(0.2 * rows, 100.0)), most))


def held_out(labels: Sequence[Sequence[Any]], size: int, seed: int) -> np.ndarray:
    """Choose rows to hold out, so that each label is as frequent among them as in all.

    Rare labels are shared out first (Sechidis et al. 2011, On the Stratification of Multi-label Data,
    https://doi.org/10.1007/978-3-642-23808-6_10). Every label stays in at least one row that is not held out.

    Args:
        labels: For each of N rows what tells it from others: its labels, or the part of the range that its number is
            in.
        size: How many rows to choose.
        seed: Of what is left to chance.

    Returns:
        Bool (N,): whether a row is held out. Fewer than ``size`` are where labels would have no other row.
    """
    rows = len(labels)
    random = np.random.default_rng(seed)
    order = random.permutation(rows)
    chosen = np.zeros(rows, dtype=bool)
    if rows > BALANCED_ROWS:
        chosen[order[:size]] = True
    else:
        _share_out(labels, size, order, chosen)
    return _with_every_label_left(labels, chosen)


def telling_labels(values: pd.Series | pd.DataFrame, problem_type: str, separator: str | None) -> list[list[Any]]:
    """Return for each row what it is to be balanced by; see ``held_out``.

    Args:
        values: Label column, or columns of 0 and 1, of N rows.
        problem_type: Of the task.
        separator: Text between the labels of one cell, or None.

    Raises:
        DataError: If a label cannot be read.
    """
    if isinstance(values, pd.DataFrame):
        return [
            [name for name, cell in zip(values.columns, row, strict=True) if category_key(cell) in ("1", "true")]
            for row in values.itertuples(index=False)
        ]
    if problem_type == REGRESSION:
        numbers = quantities(values)
        edges = np.quantile(numbers, np.linspace(0, 1, _QUANTILES + 1)[1:-1])
        return [[int(part)] for part in np.searchsorted(edges, numbers)]
    if problem_type == MULTI_LABEL:
        return [list(dict.fromkeys(map(category_key, row))) for row in label_lists(values, separator)]
    return [[category_key(label)] for label in single_labels(values)]


def _share_out(labels: Sequence[Sequence[Any]], size: int, order: np.ndarray, chosen: np.ndarray) -> None:
    """Go through the labels from the rarest, and give each of its rows to the part that lacks more of it."""
    members: dict[Any, list[int]] = {}
    for row in order:
        for label in labels[row]:
            members.setdefault(label, []).append(int(row))
    share = size / len(labels)
    # Of each label and of all rows: what is still to be held out, and what is still to be kept.
    lacking = {label: [len(own) * share, len(own) * (1 - share)] for label, own in members.items()}
    room = [float(size), float(len(labels) - size)]
    done = np.zeros(len(labels), dtype=bool)
    for label in sorted(members, key=lambda each: (len(members[each]), str(each))):
        for row in members[label]:
            if done[row]:
                continue
            done[row] = True
            hold = [lacking[label][0], room[0]] > [lacking[label][1], room[1]]
            part = 0 if (hold and room[0] >= 1) or room[1] < 1 else 1
            chosen[row] = part == 0
            room[part] -= 1
            for other in labels[row]:
                lacking[other][part] -= 1
    # Rows without a label, and then any, fill up what is lacking.
    free = [row for row in order if not done[row]] + [row for row in order if done[row] and not chosen[row]]
    chosen[free[: max(0, size - int(chosen.sum()))]] = True


def _with_every_label_left(labels: Sequence[Sequence[Any]], chosen: np.ndarray) -> np.ndarray:
    """Take rows back whose label would otherwise have none outside."""
    kept = {label for row, own in enumerate(labels) if not chosen[row] for label in own}
    result = chosen.copy()
    for row in map(int, np.flatnonzero(chosen)):
        if not kept.issuperset(labels[row]):
            result[row] = False
            kept.update(labels[row])
    return result
