"""Table columns made into one feature vector a row, with statistics of the training rows only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from mmadapters.errors import ConfigurationError, DataError
from mmadapters.features.cells import category_key
from mmadapters.features.table_columns import NO_NUMBER, category_keys, numeric_values, require_columns, value_rows
from mmadapters.features.table_statistics import TableStatistics

_FLOAT32_MAX = float(np.finfo(np.float32).max)
_LISTS = "'numeric', 'categorical' or 'multi_valued'"


class TabularEncoder:
    """Numeric, categorical and multi-valued columns as one vector a row.

    A numeric column gives two features: the value standardised by the mean and the (population) standard deviation of
    the rows it was fitted on, and ``<column>__missing``, which is 1 where there is no number. ``None``, ``NaN``, blank
    text and infinities count as missing; their standardised value is 0. A column that was constant, or missing
    throughout, in the fitted rows is always 0.

    A categorical column gives one feature ``<column>=<category>`` for each kept category, ``<column>__other`` for a
    value that is rare or was not seen, and ``<column>__missing``. Categories are compared as text in a form that does
    not depend on the file type: ``1``, ``1.0`` and ``"1"`` are one category, and so are ``True`` and ``"true"``.

    A multi-valued column has several categories in a row, such as the actors of a movie: a cell is a list, tuple, set
    or array of them, text with a separator between them, or text that is a JSON list. It gives the same features as a
    categorical column, of which any number may be 1: one for each kept category that the row has, ``<column>__other``
    where it has at least one that is rare or was not seen, and ``<column>__missing``. Order and repetition in a cell
    do not count; blank and missing entries are passed over. An empty list is not missing: the row has none of the
    categories, and all its features are 0.

    The number of features depends on the columns and the kept categories, never on where values are missing.

    Attributes:
        numeric: Numeric columns, in the given order.
        categorical: Categorical columns, in the given order; their features follow those of the numeric ones.
        multi_valued: Multi-valued columns, in the given order; their features come last.
        max_categories: The most categories to keep for a column: the most frequent ones, ties in order of their text.
        min_frequency: Number of fitted rows that a category must occur in to be kept.
        value_separator: Text between the categories of a multi-valued cell.

    Raises:
        ConfigurationError: If no column is given, one is given twice, a limit is not a whole number of at least 1, or
            the separator is no text or empty.
    """

    def __init__(
        self,
        numeric: Sequence[str] = (),
        categorical: Sequence[str] = (),
        max_categories: int = 50,
        min_frequency: int = 1,
        multi_valued: Sequence[str] = (),
        value_separator: str = "|",
    ) -> None:
        self.numeric = _column_names("numeric", numeric)
        self.categorical = _column_names("categorical", categorical)
        self.multi_valued = _column_names("multi_valued", multi_valued)
        self.max_categories = _at_least_one("max_categories", max_categories)
        self.min_frequency = _at_least_one("min_frequency", min_frequency)
        self.value_separator = _separator(value_separator)
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
            DataError: If there are no rows, a column is absent, or a cell does not fit its column: no number, several
                values where one is expected, or values that are no categories.
        """
        require_columns(frame, self.columns)
        if frame.empty:
            raise DataError("A table encoder was fitted on no rows. Give the rows of the training split.")
        return self.learn(self.statistics().add(frame))

    def statistics(self) -> TableStatistics:
        """Return statistics of no rows yet, for ``learn``: rows are added to them chunk by chunk."""
        return TableStatistics(self.numeric, self.categorical, self.multi_valued, self.value_separator)

    def learn(self, statistics: TableStatistics) -> TabularEncoder:
        """Take over means, standard deviations and categories from the statistics of all training rows.

        Args:
            statistics: Of ``statistics()``.

        Returns:
            The encoder itself.

        Raises:
            DataError: If the numbers of a column are too large to be standardised.
        """
        self._statistics = {column: statistics.mean_and_std(column) for column in self.numeric}
        self._categories = {
            column: statistics.categories(column, self.max_categories, self.min_frequency)
            for column in (*self.categorical, *self.multi_valued)
        }
        self._fitted = True
        return self

    def transform(self, frame: pd.DataFrame) -> np.ndarray:
        """Encode rows with what was learned from the training rows.

        Args:
            frame: N rows; N may be 0.

        Returns:
            Float32 array (N, D), columns named by ``feature_names``.

        Raises:
            DataError: If a column is absent or a cell does not fit its column, as in ``fit``.
            ConfigurationError: If the encoder was not fitted.
        """
        self._require_fitted()
        require_columns(frame, self.columns)
        features = np.zeros((len(frame), self.feature_dim), dtype=np.float32)
        fill: dict[str, Callable[[np.ndarray, pd.DataFrame, str], None]] = {
            **dict.fromkeys(self.numeric, self._fill_numeric),
            **dict.fromkeys(self.categorical, self._fill_categorical),
            **dict.fromkeys(self.multi_valued, self._fill_multi_valued),
        }
        start = 0
        for column in self.columns:
            end = start + len(self._categories.get(column, ())) + 2
            fill[column](features[:, start:end], frame, column)
            start = end
        return features

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that are read, in the order of their features."""
        return (*self.numeric, *self.categorical, *self.multi_valued)

    @property
    def feature_names(self) -> list[str]:
        """Names of the D features, in the order of the array's columns."""
        self._require_fitted()
        names = [name for column in self.numeric for name in (column, f"{column}__missing")]
        for column in (*self.categorical, *self.multi_valued):
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
            "categorical": self._described(self.categorical),
            "multi_valued": self._described(self.multi_valued),
            "max_categories": self.max_categories,
            "min_frequency": self.min_frequency,
            "value_separator": self.value_separator,
        }

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> TabularEncoder:
        """Return the fitted encoder that ``to_dict`` described, also in a version without multi-valued columns."""
        multi_valued = state.get("multi_valued", [])
        encoder = cls(
            numeric=[entry["column"] for entry in state["numeric"]],
            categorical=[entry["column"] for entry in state["categorical"]],
            max_categories=state["max_categories"],
            min_frequency=state["min_frequency"],
            multi_valued=[entry["column"] for entry in multi_valued],
            value_separator=state.get("value_separator", "|"),
        )
        encoder._statistics = {entry["column"]: (entry["mean"], entry["std"]) for entry in state["numeric"]}
        encoder._categories = {
            entry["column"]: list(entry["categories"]) for entry in (*state["categorical"], *multi_valued)
        }
        encoder._fitted = True
        return encoder

    def _check_columns_once(self) -> None:
        if not self.columns:
            raise ConfigurationError(f"A table encoder was given no column. List at least one under {_LISTS}.")
        for column, count in Counter(self.columns).items():
            if count > 1:
                raise ConfigurationError(
                    f"Column '{column}' is listed {count} times. List every column once, under {_LISTS}."
                )

    def _require_fitted(self) -> None:
        if not self._fitted:
            raise ConfigurationError(
                "The table encoder has learned nothing yet. Call fit with the rows of the training split first."
            )

    def _described(self, columns: Iterable[str]) -> list[dict[str, Any]]:
        return [{"column": column, "categories": list(self._categories[column])} for column in columns]

    def _fill_numeric(self, block: np.ndarray, frame: pd.DataFrame, column: str) -> None:
        values = numeric_values(frame, column, NO_NUMBER)
        mean, std = self._statistics[column]
        missing = np.isnan(values)
        if std > 0:
            with np.errstate(over="ignore"):
                standardised = (values[~missing] - mean) / std
            block[~missing, 0] = np.clip(standardised, -_FLOAT32_MAX, _FLOAT32_MAX)
        block[:, 1] = missing

    def _fill_categorical(self, block: np.ndarray, frame: pd.DataFrame, column: str) -> None:
        categories = self._categories[column]
        places: dict[str | None, int] = {category: place for place, category in enumerate(categories)}
        places[None] = len(categories) + 1
        chosen = [places.get(key, len(categories)) for key in category_keys(frame, column)]
        block[np.arange(len(frame)), chosen] = 1.0

    def _fill_multi_valued(self, block: np.ndarray, frame: pd.DataFrame, column: str) -> None:
        categories = self._categories[column]
        places = {category: place for place, category in enumerate(categories)}
        other, missing = len(categories), len(categories) + 1
        for row, values in enumerate(value_rows(frame, column, self.value_separator)):
            if values is None:
                block[row, missing] = 1.0
                continue
            for value in values:
                # A category is its own key, so that most values are found as they are.
                place = places.get(value)
                if place is None:
                    key = category_key(value)
                    if key is None:
                        continue
                    place = places.get(key, other)
                block[row, place] = 1.0


def _column_names(setting: str, names: Sequence[str]) -> tuple[str, ...]:
    if isinstance(names, str):
        raise ConfigurationError(
            f"{setting}={names!r} is one text. Give a list of column names, for example {setting}=[{names!r}]."
        )
    for name in names:
        if not isinstance(name, str) or not name:
            raise ConfigurationError(f"{setting} lists {name!r}. A column is given by its name, a text.")
    return tuple(names)


def _separator(value: str) -> str:
    if not isinstance(value, str) or not value:
        raise ConfigurationError(
            f"value_separator={value!r} cannot be used. Give the text between the values of a cell, such as '|'."
        )
    return value


def _at_least_one(setting: str, value: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ConfigurationError(f"{setting}={value!r} cannot be used. Give a whole number of at least 1.")
    return value
