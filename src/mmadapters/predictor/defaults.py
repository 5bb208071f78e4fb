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


def is_streamed(rows: int, characters_a_row: float) -> bool:
    """Return whether rows in memory are tokenised while the model is trained.

    Args:
        rows: Number of training rows.
        characters_a_row: Mean length of their texts.
    """
    return rows * characters_a_row / _CHARACTERS_A_TOKEN > STREAMED_TOKENS


def _few_rows(rows: int) -> dict[str, Any]:
    return {"num_train_epochs": 20.0, "per_device_train_batch_size": 16, "early_stopping_patience": 5}
