"""The cells of a vector modality: what each row has of it, and how wide it is."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from mmadapters.data.dataset import Features, read_features, width_of
from mmadapters.data.files import ROOT
from mmadapters.data.label_cells import rows_named
from mmadapters.data.schema import VectorColumn
from mmadapters.errors import DataError
from mmadapters.features.table_columns import numeric_values


def first_width(frame: pd.DataFrame, source: VectorColumn) -> int | None:
    """Return the width of the first features that there are, or None where every row lacks the modality.

    Raises:
        DataError: If a cell up to there cannot be read.
    """
    return next((width_of(features) for features in _cells(frame, source) if features is not None), None)


def of_width(frame: pd.DataFrame, source: VectorColumn, feature_dim: int) -> Iterator[Features]:
    """Yield each row's features.

    Raises:
        DataError: If a cell cannot be read, or its features have another width.
    """
    for row, features in zip(frame.index, _cells(frame, source), strict=True):
        if features is not None and width_of(features) != feature_dim:
            raise DataError(
                f"Modality '{source.name}' has {width_of(features)} features in row {row} and {feature_dim} in the "
                "training rows. Make the features of all rows in the same way."
            )
        yield features


def _cells(frame: pd.DataFrame, source: VectorColumn) -> Iterator[Features]:
    """Yield each row's features of a vector modality."""
    if isinstance(source.column, tuple):
        yield from _joined(frame, source.name, source.column)
        return
    root = frame.attrs.get(ROOT, "")
    for row, cell in frame[source.column].items():
        yield read_features(cell, f"Modality '{source.name}', row {row}", root)


def _joined(frame: pd.DataFrame, name: str, columns: tuple[str, ...]) -> Iterator[Features]:
    """Yield the vector that several numeric columns make in each row; None where all of them are missing."""
    advice = f"Every column of the vector modality '{name}' has to hold numbers."
    numbers = np.stack([numeric_values(frame, column, advice) for column in columns], axis=1)
    missing = np.isnan(numbers)
    partly = missing.any(axis=1) & ~missing.all(axis=1)
    if partly.any():
        first = columns[int(np.flatnonzero(missing[partly][0])[0])]
        raise DataError(
            f"Modality '{name}' is missing or infinite in some of its columns (such as '{first}') in "
            f"{rows_named(frame.index[partly])}. Fill them, leave all of the row's columns empty, or give the columns "
            "as a table."
        )
    for vector, absent in zip(numbers, missing[:, 0], strict=True):
        yield None if absent else vector.astype(np.float32)
