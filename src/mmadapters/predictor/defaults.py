"""What a training is like where nobody said it: by the number of rows."""

from __future__ import annotations

import math
from typing import Any

SMALL, LARGE = 1_000, 100_000
"""Training rows below and from which a training is another one than the library's own defaults."""

STREAMED_TOKENS = 50_000_000
"""Tokens of all texts from which on rows are tokenised while the model is trained, and not all before."""

STREAMED_BYTES = 64 << 20
"""Size of files from which on their rows are read while the model is trained."""

_CHARACTERS_A_TOKEN = 4
_ROWS_A_SECOND = 1_000
"""More than a small encoder trains on in a second on a CPU: MiniLM some 150 short texts on two cores."""
_ROWS_BETWEEN_EVALUATIONS = 100_000


def training_defaults(rows: int, has_validation: bool) -> dict[str, Any]:
    """Return training arguments that differ from the library's.

    Args:
        rows: Number of training rows.
        has_validation: Whether there are rows to choose the best epoch by.
    """
    if rows < SMALL:
        return _few_rows(rows)
    if rows < LARGE:
        return {}
    options: dict[str, Any] = {"num_train_epochs": 3.0, "per_device_train_batch_size": 64}
    if has_validation:
        steps = max(1, math.ceil(_ROWS_BETWEEN_EVALUATIONS / options["per_device_train_batch_size"]))
        options |= {"eval_strategy": "steps", "eval_steps": steps, "save_strategy": "steps", "save_steps": steps}
    return options


def reachable_rows(rows: int, limit: float | None) -> int:
    """Return how many rows of a table in memory are used at most: under a time limit a thousand for each second.

    More could not be trained on without a GPU, and going through them takes time. ``LARGE`` rows are always used.

    Args:
        rows: Number of all rows.
        limit: Seconds that a fit on a CPU may take; None for no limit, or for one on a GPU.
    """
    return rows if limit is None else min(rows, max(LARGE, int(_ROWS_A_SECOND * limit)))


def is_streamed(rows: int, characters_a_row: float, limited: bool = False) -> bool:
    """Return whether rows in memory are tokenised while the model is trained.

    Args:
        rows: Number of training rows.
        characters_a_row: Mean length of their texts.
        limited: Whether the time may not suffice to read all of them.
    """
    if limited and rows >= LARGE:
        return True
    return rows * characters_a_row / _CHARACTERS_A_TOKEN > STREAMED_TOKENS


def _few_rows(rows: int) -> dict[str, Any]:
    return {"num_train_epochs": 20.0, "per_device_train_batch_size": 16, "early_stopping_patience": 5}
