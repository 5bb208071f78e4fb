"""What a cell of a label column says, and what kind of problem a label column states."""

from __future__ import annotations

import logging
from collections.abc import Hashable, Iterable, Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd

from mmadapters.data.schema import MULTI_LABEL, REGRESSION, SINGLE_LABEL
from mmadapters.errors import DataError
from mmadapters.features.cells import category_key, is_missing, list_in_text, to_number

logger = logging.getLogger(__name__)

MOST_INTEGER_CLASSES = 50
"""With more distinct whole numbers than this, numbers are taken as a quantity and not as classes."""

_FLOAT32_MAX = float(np.finfo(np.float32).max)
_SHOWN = 5
_DIGITS = {"0": 0.0, "false": 0.0, "1": 1.0, "true": 1.0}
_SEPARATORS = ("|", ";", ",")


def infer_problem_type(values: pd.Series | pd.DataFrame | Sequence[Any], label_separator: str | None = None) -> str:
    """Tell what kind of problem labels state. Missing cells are passed over; the first rule that fits decides.

    1. Several columns, a separator, any list-like cell, or texts that are all JSON lists: multi-label.
    2. Numbers (truth values are none) of which one is not whole, or with more than 50 distinct values: regression.
    3. Everything else, that is texts, truth values and few whole numbers: single-label.

    Raises:
        DataError: If every cell is missing.
    """
    if isinstance(values, pd.DataFrame) or label_separator is not None:
        return MULTI_LABEL
    present = [value for value in values if not is_missing(value)]
    if not present:
        raise DataError("The label column has no value in any row. Check its name.")
    problem_type = stated_problem(present)
    if problem_type == SINGLE_LABEL and not all(is_number(value) for value in present):
        _hint_at_separator([str(value) for value in present])
    return problem_type


def stated_problem(present: Sequence[Any]) -> str:
    """Return the problem that the cells of one column state, as ``infer_problem_type`` says.

    Args:
        present: The cells that are not missing.
    """
    if any(_is_collection(value) for value in present) or all(_listed_in(value) is not None for value in present):
        return MULTI_LABEL
    if all(is_number(value) for value in present):
        numbers = [float(value) for value in present]
        if not all(number.is_integer() for number in numbers) or len(set(numbers)) > MOST_INTEGER_CLASSES:
            return REGRESSION
    return SINGLE_LABEL


def rows_named(index: Iterable[Hashable]) -> str:
    """Return rows of a frame for a message, for example ``rows 3, 8, 12, 14, 20 and 7 more``."""
    rows = [str(row) for row in index]
    more = f" and {len(rows) - _SHOWN} more" if len(rows) > _SHOWN else ""
    return f"{'row' if len(rows) == 1 else 'rows'} {', '.join(rows[:_SHOWN])}{more}"


def label_lists(values: pd.Series, separator: str | None) -> list[list[Any]]:
    """Return each row's labels, missing entries of a list left out."""
    _require_labels(values, "Leave these rows out, or write [] for a row that has none of the labels.")
    rows = []
    for row, value in values.items():
        labels = _labels_in(value, separator)
        if labels is None or any(_is_collection(label) or isinstance(label, dict) for label in labels):
            raise DataError(
                f"Label column '{values.name}' holds {value!r} in row {row}. A row's labels are accepted as a list of "
                'texts or numbers, as a JSON list such as ["a", "b"], or as a text with the separator between labels '
                "named by label_separator."
            )
        rows.append([label for label in labels if not is_missing(label)])
    return rows


def single_labels(values: pd.Series) -> list[Any]:
    """Return each row's one label."""
    _require_labels(values, "Leave these rows out, or give each a label.")
    for row, value in values.items():
        if not pd.api.types.is_scalar(value):
            raise DataError(
                f"Label column '{values.name}' holds {value!r} in row {row}, but the problem type is {SINGLE_LABEL}. "
                f"Give one text or number a row, or use {MULTI_LABEL}."
            )
    return list(values)


def quantities(values: pd.Series) -> np.ndarray:
    """Return the numbers to predict as float32 (N,)."""
    numbers = [to_number(value) for value in values]
    for (row, value), number in zip(values.items(), numbers, strict=True):
        if number is None or abs(number) > _FLOAT32_MAX:
            raise DataError(
                f"Label column '{values.name}' holds {value!r} in row {row}, but the problem type is {REGRESSION}. "
                f"Give a number that float32 can hold, or use {SINGLE_LABEL}."
            )
    array = np.array(numbers, dtype=np.float32)
    if np.isnan(array).any():
        raise DataError(
            f"Label column '{values.name}' is missing or infinite in {rows_named(values.index[np.isnan(array)])}. "
            "Leave these rows out, or give each a number."
        )
    return array


def indicator_array(frame: pd.DataFrame) -> np.ndarray:
    """Return columns of 0 and 1, or truth values, as float32 (N, C)."""
    encoded = np.zeros(frame.shape, dtype=np.float32)
    for place, column in enumerate(frame.columns):
        series = frame[column]
        if pd.api.types.is_numeric_dtype(series):
            digits = series.to_numpy(dtype=np.float64, na_value=np.nan)
        else:
            digits = np.array([_DIGITS.get(category_key(value) or "", np.nan) for value in series])
        wrong = np.flatnonzero(~np.isin(digits, (0.0, 1.0)))
        if len(wrong):
            value, row = series.tolist()[wrong[0]], series.index[wrong[0]]
            raise DataError(
                f"Label column '{column}' holds {value!r} in row {row}. As one of "
                "several label columns it holds 1 where the row has the label and 0 where not."
            )
        encoded[:, place] = digits
    return encoded


def label_text(label: object) -> str:
    """Return a label as it is shown."""
    return str(label).strip()


def is_number(value: object) -> bool:
    """Tell whether a cell is a number; a truth value is none."""
    return isinstance(value, (int, float, Decimal, np.integer, np.floating)) and not isinstance(value, bool)


def _is_collection(value: object) -> bool:
    return isinstance(value, (list, tuple, set, frozenset, np.ndarray))


def _listed_in(value: object) -> list[Any] | None:
    return list_in_text(value) if isinstance(value, str) else None


def _require_labels(values: pd.Series, advice: str) -> None:
    missing = [row for row, value in values.items() if is_missing(value)]
    if missing:
        raise DataError(f"Label column '{values.name}' is missing in {rows_named(missing)}. {advice}")


def _labels_in(value: Any, separator: str | None) -> list[Any] | None:
    if isinstance(value, (set, frozenset)):
        return list(value)
    if _is_collection(value):
        return list(np.atleast_1d(value)) if isinstance(value, np.ndarray) else list(value)
    if separator is None or label_text(value) == "[]":
        return _listed_in(value)
    if isinstance(value, dict):
        return None
    return str(value).split(separator)


def _hint_at_separator(cells: list[str]) -> None:
    for separator in _SEPARATORS:
        holding = [cell for cell in cells if separator in cell]
        parts = {part.strip() for cell in cells for part in cell.split(separator)}
        if len(holding) * 4 >= len(cells) and len(parts) < len(set(cells)):
            logger.warning(
                "%d of %d labels hold %r, for example %r, and are taken as one label each. Set label_separator=%r if "
                "they are several labels.",
                len(holding),
                len(cells),
                separator,
                holding[0],
                separator,
            )
            return
