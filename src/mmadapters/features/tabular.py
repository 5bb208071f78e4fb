"""Table columns made into one feature vector a row, with statistics of the training rows only."""

from __future__ import annotations

import logging
import math
import re
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd

from mmadapters.errors import ConfigurationError, DataError, did_you_mean, listed

logger = logging.getLogger(__name__)

_INTEGER = re.compile(r"[+-]?[0-9]+")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[+-]?(inf|infinity|nan)", re.IGNORECASE)
_EXACT_INTEGERS = 2.0**53
_NO_NUMBER = "List the column under 'categorical', or clean its values."
_FLOAT32_MAX = float(np.finfo(np.float32).max)


class TabularEncoder:
    """Numeric and categorical columns as one vector a row.

    A numeric column gives two features: the value standardised by the mean and the (population) standard deviation of
    the rows it was fitted on, and ``<column>__missing``, which is 1 where there is no number. ``None``, ``NaN``, blank
    text and infinities count as missing; their standardised value is 0. A column that was constant, or missing
    throughout, in the fitted rows is always 0.

    A categorical column gives one feature ``<column>=<category>`` for each kept category, ``<column>__other`` for a
    value that is rare or was not seen, and ``<column>__missing``. Categories are compared as text in a form that does
    not depend on the file type: ``1``, ``1.0`` and ``"1"`` are one category, and so are ``True`` and ``"true"``.

    The number of features depends on the columns and the kept categories, never on where values are missing.

    Attributes:
        numeric: Numeric columns, in the given order.
        categorical: Categorical columns, in the given order; their features follow those of the numeric ones.
        max_categories: The most categories to keep for a column: the most frequent ones, ties in order of their text.
        min_frequency: Number of fitted rows that a category must occur in to be kept.

    Raises:
        ConfigurationError: If no column is given, one is given twice, or a limit is not a whole number of at least 1.
    """

    def __init__(
        self,
        numeric: Sequence[str] = (),
        categorical: Sequence[str] = (),
        max_categories: int = 50,
        min_frequency: int = 1,
    ) -> None:
        self.numeric = _column_names("numeric", numeric)
        self.categorical = _column_names("categorical", categorical)
        self.max_categories = _at_least_one("max_categories", max_categories)
        self.min_frequency = _at_least_one("min_frequency", min_frequency)
        self._check_columns_once()
        self._statistics: dict[str, tuple[float, float]] = {}
        self._categories: dict[str, list[str]] = {}
        self._fitted = False

    def fit(self, frame: pd.DataFrame) -> TabularEncoder:
        """Learn means, standard deviations and categories from the rows of a training split.

        Args:
            frame: Training rows; other columns are ignored.

        Returns:
            The encoder itself.

        Raises:
            DataError: If there are no rows, a column is absent or a numeric column holds something that is no number.
        """
        require_columns(frame, (*self.numeric, *self.categorical))
        if frame.empty:
            raise DataError("A table encoder was fitted on no rows. Give the rows of the training split.")
        self._statistics = {
            column: _mean_and_std(column, numeric_values(frame, column, _NO_NUMBER)) for column in self.numeric
        }
        self._categories = {column: self._frequent(_keys(frame, column)) for column in self.categorical}
        self._fitted = True
        return self

    def transform(self, frame: pd.DataFrame) -> np.ndarray:
        """Encode rows with what was learned from the training rows.

        Args:
            frame: N rows; N may be 0.

        Returns:
            Float32 array (N, D), columns named by ``feature_names``.

        Raises:
            DataError: If a column is absent or a numeric column holds something that is no number.
            ConfigurationError: If the encoder was not fitted.
        """
        self._require_fitted()
        require_columns(frame, (*self.numeric, *self.categorical))
        blocks = [self._numeric_block(frame, column) for column in self.numeric]
        blocks += [self._categorical_block(frame, column) for column in self.categorical]
        return np.concatenate(blocks, axis=1)

    @property
    def feature_names(self) -> list[str]:
        """Names of the D features, in the order of the array's columns."""
        self._require_fitted()
        names = [name for column in self.numeric for name in (column, f"{column}__missing")]
        for column in self.categorical:
            names += [f"{column}={category}" for category in self._categories[column]]
            names += [f"{column}__other", f"{column}__missing"]
        return names

    @property
    def feature_dim(self) -> int:
        """Number D of features."""
        return len(self.feature_names)

    def to_dict(self) -> dict[str, Any]:
        """Return settings and statistics as plain values; ``from_dict`` of their JSON encodes bit for bit the same."""
        self._require_fitted()
        return {
            "numeric": [
                {"column": column, "mean": self._statistics[column][0], "std": self._statistics[column][1]}
                for column in self.numeric
            ],
            "categorical": [
                {"column": column, "categories": list(self._categories[column])} for column in self.categorical
            ],
            "max_categories": self.max_categories,
            "min_frequency": self.min_frequency,
        }

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> TabularEncoder:
        """Return the fitted encoder that ``to_dict`` described."""
        encoder = cls(
            numeric=[entry["column"] for entry in state["numeric"]],
            categorical=[entry["column"] for entry in state["categorical"]],
            max_categories=state["max_categories"],
            min_frequency=state["min_frequency"],
        )
        encoder._statistics = {entry["column"]: (entry["mean"], entry["std"]) for entry in state["numeric"]}
        encoder._categories = {entry["column"]: list(entry["categories"]) for entry in state["categorical"]}
        encoder._fitted = True
        return encoder

    def _check_columns_once(self) -> None:
        columns = (*self.numeric, *self.categorical)
        if not columns:
            raise ConfigurationError(
                "A table encoder was given no column. List at least one under 'numeric' or 'categorical'."
            )
        for column, count in Counter(columns).items():
            if count > 1:
                raise ConfigurationError(
                    f"Column '{column}' is listed {count} times. List every column once, under either 'numeric' or "
                    "'categorical'."
                )

    def _require_fitted(self) -> None:
        if not self._fitted:
            raise ConfigurationError(
                "The table encoder has learned nothing yet. Call fit with the rows of the training split first."
            )

    def _frequent(self, keys: list[str | None]) -> list[str]:
        counts = Counter(key for key in keys if key is not None)
        frequent = [key for key, count in counts.items() if count >= self.min_frequency]
        return sorted(frequent, key=lambda key: (-counts[key], key))[: self.max_categories]

    def _numeric_block(self, frame: pd.DataFrame, column: str) -> np.ndarray:
        values = numeric_values(frame, column, _NO_NUMBER)
        mean, std = self._statistics[column]
        missing = np.isnan(values)
        block = np.zeros((len(values), 2), dtype=np.float32)
        if std > 0:
            with np.errstate(over="ignore"):
                standardised = (values[~missing] - mean) / std
            block[~missing, 0] = np.clip(standardised, -_FLOAT32_MAX, _FLOAT32_MAX)
        block[:, 1] = missing
        return block

    def _categorical_block(self, frame: pd.DataFrame, column: str) -> np.ndarray:
        categories = self._categories[column]
        places: dict[str | None, int] = {category: place for place, category in enumerate(categories)}
        places[None] = len(categories) + 1
        chosen = [places.get(key, len(categories)) for key in _keys(frame, column)]
        block = np.zeros((len(frame), len(categories) + 2), dtype=np.float32)
        block[np.arange(len(frame)), chosen] = 1.0
        return block


def is_missing(value: Any) -> bool:
    """Tell whether a cell holds nothing: ``None``, ``NaN``, ``NaT``, ``pd.NA`` or blank text."""
    if isinstance(value, str):
        return not value.strip()
    return value is None or (pd.api.types.is_scalar(value) and bool(pd.isna(value)))


def category_key(value: object) -> str | None:
    """Return the text by which a category is compared, or None where the cell is missing.

    A file's type decides whether a value arrives as ``1``, ``1.0``, ``"1"`` or ``True``, ``"True"``, ``"true"``;
    the key is the same for each of these.
    """
    if is_missing(value):
        return None
    text = str(value).strip()
    if text.lower() in ("true", "false"):
        return text.lower()
    return _number_key(text) if _NUMBER.fullmatch(text) else text


def to_number(value: object) -> float | None:
    """Return a cell as a number, ``nan`` where it is missing or infinite, or None where it is no number at all."""
    if is_missing(value):
        return math.nan
    if isinstance(value, (bool, int, float, Decimal, np.bool_, np.integer, np.floating)):
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
    elif isinstance(value, str) and (_NUMBER.fullmatch(value.strip()) or _NOT_FINITE.fullmatch(value.strip())):
        number = float(value)
    else:
        return None
    return number if math.isfinite(number) else math.nan


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


def _number_key(text: str) -> str:
    number = float(text)
    if number.is_integer() and abs(number) < _EXACT_INTEGERS:
        return str(int(number))
    if _INTEGER.fullmatch(text):
        return ("-" if text.startswith("-") else "") + text.lstrip("+-").lstrip("0")
    return repr(number) if math.isfinite(number) else text


def _number_in(column: str, row: Hashable, value: object, advice: str) -> float:
    number = to_number(value)
    if number is None:
        raise DataError(f"Column '{column}' holds {value!r} in row {row}, which is no number. {advice}")
    return number


def _keys(frame: pd.DataFrame, column: str) -> list[str | None]:
    for row, value in frame[column].items():
        if not pd.api.types.is_scalar(value):
            raise DataError(
                f"Categorical column '{column}' holds a {type(value).__name__} in row {row}. A category is one text, "
                "number or truth value; give arrays and lists as a vector modality."
            )
    return [category_key(value) for value in frame[column]]


def _mean_and_std(column: str, numbers: np.ndarray) -> tuple[float, float]:
    """Return mean and population standard deviation of the numbers there are; std 0 stands for a constant column."""
    present = numbers[~np.isnan(numbers)]
    if not len(present):
        logger.warning("Numeric column '%s' has no value in the training rows; its feature is always 0.", column)
        return 0.0, 0.0
    if present.min() == present.max():
        return float(present[0]), 0.0
    with np.errstate(over="ignore", invalid="ignore"):
        mean, std = float(present.mean()), float(present.std())
    if not math.isfinite(mean) or not math.isfinite(std):
        raise DataError(
            f"The values of column '{column}' (from {present.min():g} to {present.max():g}) are too large to be "
            "standardised. Take their logarithm or leave the column out."
        )
    return mean, std


def _column_names(setting: str, names: Sequence[str]) -> tuple[str, ...]:
    if isinstance(names, str):
        raise ConfigurationError(
            f"{setting}={names!r} is one text. Give a list of column names, for example {setting}=[{names!r}]."
        )
    for name in names:
        if not isinstance(name, str) or not name:
            raise ConfigurationError(f"{setting} lists {name!r}. A column is given by its name, a text.")
    return tuple(names)


def _at_least_one(setting: str, value: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ConfigurationError(f"{setting}={value!r} cannot be used. Give a whole number of at least 1.")
    return value
