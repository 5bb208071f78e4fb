"""What is learned of the labels of the training rows, collected from one chunk of them after the other."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from mmadapters.data.label_cells import (
    MOST_INTEGER_CLASSES,
    indicator_array,
    infer_problem_type,
    is_number,
    label_lists,
    label_text,
    quantities,
    single_labels,
    stated_problem,
)
from mmadapters.data.schema import MULTI_LABEL, REGRESSION, SINGLE_LABEL
from mmadapters.errors import DataError, listed
from mmadapters.features.cells import category_key, is_missing, to_number

Label = str | int | float | bool
"""A class as it is given back by predictions: of the type that the training rows had, as far as JSON has it."""


class LabelStatistics:
    """Problem type, classes and how many rows have each, of any number of rows in chunks.

    Memory grows with the number of different labels, not with the rows. The result does not depend on how the rows are
    cut into chunks, with one exception that is an error: where the problem type is inferred, rows that state a
    regression, or several labels a row, cannot be followed by rows with something else.

    Attributes:
        problem_type: As given, or as the rows so far state it; None before the first row.
        rows: Number of rows.
        has_indicators: Whether the labels are columns of 0 and 1.

    Args:
        problem_type: One of the three, or None to infer it.
        label_separator: Text between the labels of one cell, or None.
    """

    def __init__(self, problem_type: str | None = None, label_separator: str | None = None) -> None:
        self.problem_type = problem_type
        self.rows = 0
        self.has_indicators = False
        self._inferred = problem_type is None
        self._separator = label_separator
        self._name: object = None
        self._counts: dict[str, int] = {}
        self._texts: dict[str, str] = {}
        self._only_truth_values = True
        self._only_numbers = True
        self._lowest, self._highest = np.inf, -np.inf
        self._sum, self._squares = 0.0, 0.0

    def add(self, values: pd.Series | pd.DataFrame) -> LabelStatistics:
        """Count the labels of some rows.

        Args:
            values: Their label column, or their columns of 0 and 1 as a frame.

        Returns:
            The statistics themselves.

        Raises:
            DataError: If a label is missing or a cell does not fit the problem type.
        """
        if isinstance(values, pd.DataFrame):
            self._add_indicators(values)
        else:
            self._name = values.name
            if self._inferred:
                self.problem_type = self._inferred_with(values)
            self._add_column(values)
        self.rows += len(values)
        return self

    def classes(self) -> list[Label]:
        """Return the classes in the order that ``LabelEncoder`` describes; none for a regression.

        Raises:
            DataError: If there are no two different labels.
        """
        if self.has_indicators:
            if not any(self._counts.values()):
                raise DataError(
                    f"No training row has one of the labels {listed(self._counts)}. Check the columns and the split."
                )
            return list(self._counts)
        classes = [] if self.problem_type == REGRESSION else self._vocabulary()
        differ = self._lowest < self._highest if self.problem_type == REGRESSION else len(classes) > 1
        if not differ:
            found = f"only the label {classes[0]!r}" if classes else "no two different labels"
            raise DataError(
                f"Label column '{self._name}' has {found} in the training rows; there is nothing to tell apart. "
                "Check the column and the split."
            )
        return classes

    def mean(self) -> float | None:
        """Return the mean of the numbers of a regression, None for another problem."""
        return self._sum / self.rows if self.problem_type == REGRESSION and self.rows else None

    def deviation(self) -> float | None:
        """Return the standard deviation of the numbers of a regression, None for another problem."""
        mean = self.mean()
        return None if mean is None else deviation_of_sums(mean, self._squares, self.rows)

    def frequencies(self) -> np.ndarray | None:
        """Return the number of rows with each of ``classes()``, int64 (C,); None for a regression."""
        if self.problem_type == REGRESSION:
            return None
        if self.has_indicators:
            return np.array(list(self._counts.values()), dtype=np.int64)
        return np.array([self._counts[key] for key in self._sorted_keys()], dtype=np.int64)

    def _add_indicators(self, frame: pd.DataFrame) -> None:
        self.problem_type = self.problem_type or infer_problem_type(frame)
        self.has_indicators = True
        sums = indicator_array(frame).sum(axis=0, dtype=np.float64)
        for column, rows in zip(frame.columns, sums, strict=True):
            self._counts[str(column)] = self._counts.get(str(column), 0) + int(rows)

    def _add_column(self, values: pd.Series) -> None:
        if self.problem_type == REGRESSION:
            numbers = quantities(values)
            self._lowest = min(self._lowest, float(numbers.min()))
            self._highest = max(self._highest, float(numbers.max()))
            self._sum += float(numbers.sum(dtype=np.float64))
            self._squares += float(np.square(numbers, dtype=np.float64).sum())
        elif self.problem_type == MULTI_LABEL:
            for labels in label_lists(values, self._separator):
                self._count(labels)
        else:
            for label in single_labels(values):
                self._count([label])
        whole_numbers = self._inferred and self.problem_type == SINGLE_LABEL and self._only_numbers
        if whole_numbers and len(self._counts) > MOST_INTEGER_CLASSES:
            self._take_as_quantities()

    def _count(self, labels: list[Any]) -> None:
        """Count the labels of one row, each once."""
        keys = set()
        for label in labels:
            key, text = str(category_key(label)), label_text(label)
            keys.add(key)
            self._texts[key] = min(self._texts.get(key, text), text)
            self._only_truth_values = self._only_truth_values and isinstance(label, (bool, np.bool_))
            self._only_numbers = self._only_numbers and is_number(label)
        for key in keys:
            self._counts[key] = self._counts.get(key, 0) + 1

    def _take_as_quantities(self) -> None:
        """Take the whole numbers so far, which were counted as classes, as numbers of a regression."""
        self.problem_type = REGRESSION
        self._lowest, self._highest = min(map(float, self._counts)), max(map(float, self._counts))
        self._sum = sum(float(key) * rows for key, rows in self._counts.items())
        self._squares = sum(float(key) ** 2 * rows for key, rows in self._counts.items())
        self._counts, self._texts = {}, {}

    def _inferred_with(self, values: pd.Series) -> str:
        """Return the problem that the rows so far and some more state."""
        before = self.problem_type
        if before is None:
            return infer_problem_type(values, self._separator)
        present = [value for value in values if not is_missing(value)]
        if before == MULTI_LABEL or not present or not self._only_numbers:
            return before
        stated = stated_problem(present)
        if all(is_number(value) for value in present):
            if before == SINGLE_LABEL and stated == REGRESSION:
                self._take_as_quantities()
            return REGRESSION if before == REGRESSION else stated
        if before == REGRESSION:
            other = next(value for value in present if not is_number(value))
            raise DataError(
                f"Label column '{self._name}' holds {other!r} after {self.rows} rows of numbers that state a "
                f"{REGRESSION}. Set problem_type to '{REGRESSION}' or '{SINGLE_LABEL}', and give every row such a "
                "label."
            )
        return SINGLE_LABEL

    def _sorted_keys(self) -> list[str]:
        return sorted(self._counts, key=_sort_key)

    def _vocabulary(self) -> list[Label]:
        keys = self._sorted_keys()
        if self._only_truth_values:
            return [key == "true" for key in keys]
        if self._only_numbers:
            return [int(key) if float(key).is_integer() else float(key) for key in keys]
        return [self._texts[key] for key in keys]


def deviation_of_sums(mean: float, squares: float, count: int) -> float:
    """Return a standard deviation from sums; what rounding leaves of one that is far below the mean may be 0.

    Args:
        mean: Of the numbers.
        squares: Sum of their squares.
        count: How many there are.
    """
    return math.sqrt(max(squares / count - mean**2, 0.0))


def _sort_key(key: str) -> tuple[bool, float, str]:
    number = to_number(key)
    return (True, 0.0, key) if number is None or np.isnan(number) else (False, number, key)
