"""Rows stacked into arrays: features with the masks that say what is there, and tokens; nothing here loads PyTorch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mmadapters.errors import DataError
from mmadapters.modality import Modality


def stack_features(modality: Modality, items: Sequence[dict[str, Any]]) -> tuple[np.ndarray, np.ndarray]:
    """Stack one modality's features of a batch.

    Args:
        modality: Its name and width D.
        items: B rows of a ``MultimodalDataset``.

    Returns:
        Float32 (B, D) and bool (B,), True where there are features; if a row has a sequence, (B, T, D) padded with
        zeros and (B, T).

    Raises:
        DataError: If features do not have the width of their modality.
    """
    rows = [_features(modality, item) for item in items]
    steps = max((len(row) for row in rows if row is not None and row.ndim == 2), default=None)
    features = np.zeros((len(rows), steps or 1, modality.feature_dim), dtype=np.float32)
    mask = np.zeros(features.shape[:2], dtype=bool)
    for place, row in enumerate(rows):
        if row is not None:
            sequence = np.atleast_2d(row)
            features[place, : len(sequence)] = sequence
            mask[place, : len(sequence)] = True
    return (features[:, 0], mask[:, 0]) if steps is None else (features, mask)


def pad_tokens(items: Sequence[dict[str, Any]], padding: Mapping[str, int], side: str = "right") -> dict[str, Any]:
    """Pad the tokens of a batch to its longest row.

    Args:
        items: B rows of a ``MultimodalDataset``.
        padding: For each of the tokenizer's outputs the value that stands at padding.
        side: ``right`` or ``left``.

    Returns:
        For each name in ``padding`` int64 (B, L).
    """
    batch = {}
    for name, value in padding.items():
        rows = [item[name] for item in items]
        length = max(map(len, rows))
        batch[name] = np.full((len(rows), length), value, dtype=np.int64)
        for place, row in enumerate(rows):
            valid = slice(length - len(row), None) if side == "left" else slice(len(row))
            batch[name][place, valid] = row
    return batch


def _features(modality: Modality, item: dict[str, Any]) -> np.ndarray | None:
    given = item.get("modality_features", {}).get(modality.name)
    if given is None:
        return None
    features = np.asarray(given)
    if features.ndim not in (1, 2) or features.shape[-1] != modality.feature_dim:
        raise DataError(
            f"Modality '{modality.name}' was given features of the shape {features.shape}. Accepted are "
            f"({modality.feature_dim},) and (steps, {modality.feature_dim})."
        )
    return features
