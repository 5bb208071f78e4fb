"""Columns of a table read as what they are listed as: numbers, categories, or several categories a cell."""

from __future__ import annotations

import reprlib
from collections.abc import Hashable, Iterable, Iterator
from typing import Any

import numpy as np
import pandas as pd

from mmadapters.errors import DataError, did_you_mean, listed
from mmadapters.features.cells import category_key, is_missing, to_number, values_in

NO_NUMBER = "List the column under 'categorical', or clean its values."
"""Advice for ``numeric_values`` where the column is one of a table."""


def numeric_values(frame: pd.DataFrame, column: str, advice: str) -> np.ndarray:
    """Return a numeric column as float64 (N,), NaN where it is missing or infinite.

    Args:
        frame: N rows that have the column.
        column: Name of the column.
        advice: What to change, for the message.

    Raises:
        DataError: If a cell is no number; it names column, row and value.
    """
    series = frame[column]
    if pd.api.types.is_numeric_dtype(series) and not pd.api.types.is_complex_dtype(series):
        numbers = series.to_numpy(dtype=np.float64, na_value=np.nan)
        return np.where(np.isfinite(numbers), numbers, np.nan)
    return np.array([_number_in(column, row, value, advice) for row, value in series.items()], dtype=np.float64)


def require_columns(frame: pd.DataFrame, columns: Iterable[str]) -> None:
    """Check that a frame has every column, and has it once.

    Raises:
        DataError: Naming the absent columns, the columns there are and the nearest name; or a column that the frame
            has more than once.
    """
    wanted = list(dict.fromkeys(columns))
    present = [str(column) for column in frame.columns]
    absent = [column for column in wanted if column not in frame.columns]
    if absent:
        noun = "column" if len(absent) == 1 else "columns"
        raise DataError(
            f"The rows have no {noun} {listed(absent)}. Their columns are {listed(present)}."
            f"{did_you_mean(absent[0], present)}"
        )
    repeated = [column for column in wanted if column in frame.columns[frame.columns.duplicated()]]
    if repeated:
        raise DataError(f"The rows have more than one column {listed(repeated)}. Rename or drop all but one.")


def category_keys(frame: pd.DataFrame, column: str) -> list[str | None]:
    """Return the key of each row's category (N,), None where it is missing.

    Raises:
        DataError: If a cell holds several values.
    """
    for row, value in frame[column].items():
        if not pd.api.types.is_scalar(value):
            raise DataError(
                f"Categorical column '{column}' holds a {type(value).__name__} in row {row}. A category is one text, "
                "number or truth value; list a column of several categories under 'multi_valued', and give vectors as "
                "a modality of their own."
            )
    return [category_key(value) for value in frame[column]]


def value_rows(frame: pd.DataFrame, column: str, separator: str) -> Iterator[list[Any] | None]:
    """Yield the values of each row's cell, blank ones among them, or None where the cell is missing.

    Raises:
        DataError: If a cell holds something else than categories.
    """
    for row, cell in frame[column].items():
        if is_missing(cell):
            yield None
            continue
        values = values_in(cell, separator)
        if values is None:
            raise DataError(
                f"Multi-valued column '{column}' holds {reprlib.repr(cell)} in row {row}. A cell is accepted as a "
                "list of texts, numbers or truth values, as a JSON list of them, or as text with the value_separator "
                f"{separator!r} between them."
            )
        yield values


def _number_in(column: str, row: Hashable, value: object, advice: str) -> float:
    number = to_number(value)
    if number is None:
        raise DataError(f"Column '{column}' holds {value!r} in row {row}, which is no number. {advice}")
    return number
