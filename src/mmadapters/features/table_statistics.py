"""What a table encoder learns of the training rows, collected from one chunk of them after the other."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from mmadapters.errors import DataError
from mmadapters.features.cells import category_key
from mmadapters.features.table_columns import NO_NUMBER, category_keys, numeric_values, value_rows

logger = logging.getLogger(__name__)

MOST_DISTINCT = 1_000_000
"""Different categories of a column that are counted at a time."""


class TableStatistics:
    """Mean and standard deviation of numeric columns, and how many rows have each category, of rows in chunks.

    Counts are exact, and so are means and standard deviations up to rounding, however the rows are cut. Only a column
    of more than ``MOST_DISTINCT`` different categories has to forget: the rarest half of those counted so far go.

    Args:
        numeric: Numeric columns.
        categorical: Categorical columns.
        multi_valued: Multi-valued columns.
        value_separator: Text between the categories of a multi-valued cell.
    """

    def __init__(
        self, numeric: Sequence[str], categorical: Sequence[str], multi_valued: Sequence[str], value_separator: str
    ) -> None:
        self._numbers = {column: NumberStatistics() for column in numeric}
        self._categorical = {column: CategoryCounts() for column in categorical}
        self._multi_valued = {column: CategoryCounts() for column in multi_valued}
        self._separator = value_separator

    def add(self, frame: pd.DataFrame) -> TableStatistics:
        """Count some rows.

        Args:
            frame: Rows that have the columns.

        Returns:
            The statistics themselves.

        Raises:
            DataError: If a cell does not fit its column.
        """
        for column, numbers in self._numbers.items():
            numbers.add(numeric_values(frame, column, NO_NUMBER))
        for column, counts in self._categorical.items():
            counts.add(key for key in category_keys(frame, column) if key is not None)
        for column, counts in self._multi_valued.items():
            rows = (values for values in value_rows(frame, column, self._separator) if values is not None)
            keys = (key for values in rows for key in dict.fromkeys(map(category_key, values)))
            counts.add(key for key in keys if key is not None)
        return self

    def mean_and_std(self, column: str) -> tuple[float, float]:
        """Return mean and population standard deviation of a numeric column; 0 stands for a constant column.

        Raises:
            DataError: If its numbers are too large to be standardised.
        """
        numbers = self._numbers[column]
        if not numbers.count:
            logger.warning("Numeric column '%s' has no value in the training rows; its feature is always 0.", column)
            return 0.0, 0.0
        if numbers.lowest == numbers.highest:
            return numbers.lowest, 0.0
        mean, std = numbers.mean, numbers.std
        if not math.isfinite(mean) or not math.isfinite(std):
            raise DataError(
                f"The values of column '{column}' (from {numbers.lowest:g} to {numbers.highest:g}) are too large to be "
                "standardised. Take their logarithm or leave the column out."
            )
        return mean, std

    def categories(self, column: str, most: int, min_frequency: int) -> list[str]:
        """Return the most frequent categories of a column, ties in order of their text.

        Args:
            column: A categorical or multi-valued column.
            most: At most so many.
            min_frequency: Rows that a category must occur in.
        """
        counts = self._categorical.get(column) or self._multi_valued[column]
        if counts.forgotten:
            logger.warning(
                "Column '%s' has more than %d different categories: the rarest were forgotten on the way, and a "
                "category's count may be short by up to %d rows.",
                column,
                MOST_DISTINCT,
                counts.forgotten,
            )
        return counts.most_frequent(most, min_frequency)


class NumberStatistics:
    """Count, range, mean and standard deviation of numbers in chunks.

    Chunks are merged by the formulas of Chan, Golub and LeVeque (1979, Updating Formulae and a Pairwise Algorithm for
    Computing Sample Variances); one chunk alone gives what NumPy gives.

    Attributes:
        count: How many there were.
        lowest: The smallest.
        highest: The largest.
        mean: Their mean.
    """

    def __init__(self) -> None:
        self.count = 0
        self.lowest, self.highest = math.inf, -math.inf
        self.mean = 0.0
        self._squares = 0.0

    def add(self, values: np.ndarray) -> None:
        """Add numbers.

        Args:
            values: Float64 (N,); NaN is passed over.
        """
        numbers = values[~np.isnan(values)]
        if not len(numbers):
            return
        with np.errstate(over="ignore", invalid="ignore"):
            mean = numbers.mean()
            squares = np.add.reduce(np.square(numbers - mean))
            before, self.count = self.count, self.count + len(numbers)
            if before:
                difference = mean - self.mean
                squares += self._squares + difference * difference * (before * len(numbers) / self.count)
                mean = self.mean + difference * (len(numbers) / self.count)
        self.mean, self._squares = float(mean), float(squares)
        self.lowest = min(self.lowest, float(numbers.min()))
        self.highest = max(self.highest, float(numbers.max()))

    @property
    def std(self) -> float:
        """Population standard deviation."""
        return math.sqrt(self._squares / self.count)


class CategoryCounts:
    """How many rows have each category.

    Of more than ``MOST_DISTINCT`` categories the rarest half are forgotten (lossy counting, Manku and Motwani 2002), so
    that memory has a bound.

    Attributes:
        forgotten: How many rows of one category may have been forgotten.
    """

    def __init__(self) -> None:
        self.forgotten = 0
        self._counts: Counter[str] = Counter()

    def add(self, keys: Iterable[str]) -> None:
        """Count the categories of some rows, each once for a row that has it."""
        self._counts.update(keys)
        if len(self._counts) > MOST_DISTINCT:
            kept = self._counts.most_common(MOST_DISTINCT // 2)
            self.forgotten += kept[-1][1]
            self._counts = Counter(dict(kept))

    def most_frequent(self, most: int, min_frequency: int) -> list[str]:
        """Return at most so many categories that at least so many rows have, the most frequent first."""
        frequent = [key for key, count in self._counts.items() if count >= min_frequency]
        return sorted(frequent, key=lambda key: (-self._counts[key], key))[:most]
