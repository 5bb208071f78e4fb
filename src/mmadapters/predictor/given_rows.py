"""What people give as rows, made into data frames."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mmadapters.data.files import read_rows
from mmadapters.data.row_source import RowSource, row_source
from mmadapters.errors import DataError, listed
from mmadapters.predictor.defaults import STREAMED_BYTES

Rows = pd.DataFrame | Sequence[Mapping[str, Any]] | str | os.PathLike[str] | Any
"""A data frame, a list of dictionaries, the path of a CSV, JSONL or Parquet file, or what has ``to_pandas``; for a
training also what ``as_source`` takes."""

_ACCEPTED = (
    "Accepted are a pandas DataFrame, a list of dictionaries (one a row), an object with to_pandas() such as a "
    "datasets.Dataset, and the path of a CSV, JSONL or Parquet file."
)


def as_frame(rows: Any) -> pd.DataFrame:
    """Return rows as a data frame of its own, whose columns may be replaced.

    Args:
        rows: See ``Rows``; also an object with a method ``to_pandas``.

    Returns:
        N rows, at least one, with the index that they had.

    Raises:
        DataError: If they are something else, there are none, or a column is there twice.
    """
    if isinstance(rows, (str, os.PathLike)):
        frame = read_rows(rows)
    elif isinstance(rows, pd.DataFrame):
        frame = rows.copy(deep=False)
        frame.attrs = dict(rows.attrs)
    elif callable(getattr(rows, "to_pandas", None)):
        frame = rows.to_pandas()
    else:
        frame = pd.DataFrame(_records(rows))
    if not len(frame):
        raise DataError("There are no rows. Give a frame with at least one row.")
    frame.columns = pd.Index([str(column) for column in frame.columns])
    repeated = [name for name, count in Counter(frame.columns).items() if count > 1]
    if repeated:
        raise DataError(f"The rows have more than one column {listed(repeated)}. Rename or drop all but one.")
    return frame


def as_source(rows: Any) -> RowSource | None:
    """Return rows as a source where they are to be read while a model is trained, else None.

    Args:
        rows: Files of more than ``STREAMED_BYTES`` together, a folder, a pattern or a list of files; or an object that
            gives dictionaries each time that it is iterated and has no length, such as a ``datasets.IterableDataset``.

    Raises:
        DataError: If there is no such file, or the object can be gone through only once.
    """
    if isinstance(rows, (str, os.PathLike)):
        is_one = Path(rows).is_file() or Path(rows).suffix.lower() == ".json"
        if is_one and (not Path(rows).exists() or Path(rows).stat().st_size <= STREAMED_BYTES):
            return None
        return row_source(rows)
    if isinstance(rows, (list, tuple)) and rows and all(isinstance(each, (str, os.PathLike)) for each in rows):
        return row_source(rows)
    is_in_memory = isinstance(rows, (pd.DataFrame, Mapping)) or hasattr(rows, "__len__")
    return None if is_in_memory or not isinstance(rows, Iterable) else row_source(rows)


def with_labels(frame: pd.DataFrame, label: str | Sequence[str], labels: Any) -> pd.DataFrame:
    """Return rows with labels that were given apart, as scikit-learn gives them.

    Args:
        frame: N rows.
        label: Column that is to hold them, or several columns of 0 and 1; those that are there are replaced.
        labels: N labels: a series, list or array (N,), lists of labels, or 0 and 1 (N, C).

    Raises:
        DataError: If they are not N, or do not fit the columns.
    """
    if not hasattr(labels, "__len__"):
        labels = np.asarray(labels)
    if len(labels) != len(frame):
        raise DataError(f"{len(labels)} labels were given for {len(frame)} rows. Give one for each row.")
    labelled = frame.copy(deep=False)
    labelled.attrs = dict(frame.attrs)
    if not isinstance(label, str):
        table = np.asarray(labels)
        if table.ndim != 2 or table.shape[1] != len(label):
            raise DataError(f"Labels of the shape {table.shape} were given for {listed(label)}. Give 0 and 1, (N, C).")
        for place, column in enumerate(label):
            labelled[column] = table[:, place]
        return labelled
    values = _cells(labels)
    dtype = labels.dtype if isinstance(labels, (pd.Series, np.ndarray)) and len(labels.shape) == 1 else object
    labelled[label] = pd.Series(values, index=frame.index, dtype=dtype)
    return labelled


def _cells(labels: Any) -> list[Any]:
    """Return labels as cells of one column; a table of 0 and 1 as the names, or numbers, of the columns with 1."""
    table = labels.to_numpy() if isinstance(labels, pd.DataFrame) else labels
    if not isinstance(table, np.ndarray):
        return list(table)
    if table.ndim == 1 or table.shape[1] == 1:
        return list(table.reshape(-1).tolist())
    names = list(labels.columns) if isinstance(labels, pd.DataFrame) else list(range(table.shape[1]))
    return [[name for name, has in zip(names, row, strict=True) if has] for row in table]


def _records(rows: Any) -> list[dict[str, Any]]:
    if isinstance(rows, Mapping):
        raise DataError(f"One dictionary was given as rows. Give a list of them: [row]. {_ACCEPTED}")
    if not isinstance(rows, Sequence):
        raise DataError(f"A {type(rows).__name__} was given as rows. {_ACCEPTED}")
    for place, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise DataError(f"Row {place} is a {type(row).__name__}. {_ACCEPTED}")
    return [dict(row) for row in rows]
