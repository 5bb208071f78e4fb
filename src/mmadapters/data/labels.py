"""Labels as arrays: what kind of problem they state, which classes there are, and how a row's labels are encoded."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd

from mmadapters.data.schema import MULTI_LABEL, PROBLEM_TYPES, REGRESSION, SINGLE_LABEL
from mmadapters.errors import ConfigurationError, DataError, did_you_mean, listed
from mmadapters.features.cells import category_key, is_missing, list_in_text, to_number

logger = logging.getLogger(__name__)

Label = str | int | float | bool
"""A class as it is given back by predictions: of the type that the training rows had, as far as JSON has it."""

IGNORED_LABEL = -100
"""Encoded single label that losses and metrics leave out: the row's label is not among the classes."""

MOST_INTEGER_CLASSES = 50
"""With more distinct whole numbers than this, numbers are taken as a quantity and not as classes."""

_FLOAT32_MAX = float(np.finfo(np.float32).max)
_SHOWN = 5
_DIGITS = {"0": 0.0, "false": 0.0, "1": 1.0, "true": 1.0}
_SEPARATORS = ("|", ";", ",")


class LabelEncoder:
    """The classes of the training rows, and the arrays that rows' labels become.

    ================  =====================================================  ==========================
    problem type      cells of the label column                              encoded
    ================  =====================================================  ==========================
    multi-label       a list, tuple, set or array of labels; a text with     float32 (N, C) of 0 and 1
                      ``label_separator``; a JSON list; or one column of 0
                      and 1 for each label
    single-label      a text, a number or a truth value                      int64 (N,), index of class
    regression        a number                                               float32 (N,)
    ================  =====================================================  ==========================

    Labels are compared as text that does not depend on the file type (``1``, ``1.0`` and ``"1"`` are one label). The
    classes are sorted, numbers by value and before texts; columns of 0 and 1 keep their order. A label that was not in
    the training rows is counted and left out of its row (multi-label), or encoded as -100 (single-label).

    Attributes:
        problem_type: One of the three, given or inferred by ``fit``.
        label_separator: Text between the labels of one cell, or None.
        classes: The C classes in the order of the encoded columns or indices; empty for regression.

    Raises:
        ConfigurationError: If the problem type is none of the three.
    """

    def __init__(self, problem_type: str | None = None, label_separator: str | None = None) -> None:
        if problem_type is not None and problem_type not in PROBLEM_TYPES:
            raise ConfigurationError(
                f"problem_type={problem_type!r} cannot be used. Accepted are {listed(PROBLEM_TYPES)}, or None to "
                f"infer it.{did_you_mean(str(problem_type), PROBLEM_TYPES)}"
            )
        self.problem_type = problem_type
        self.label_separator = label_separator
        self.classes: list[Label] = []
        self._indicators = False

    def fit(self, values: pd.Series | pd.DataFrame) -> LabelEncoder:
        """Learn problem type and classes from the labels of the training rows.

        Args:
            values: The label column, or the columns of 0 and 1 as a frame.

        Returns:
            The encoder itself.

        Raises:
            DataError: If a label is missing, a cell does not fit the problem type or only one distinct label exists.
        """
        if not len(values):
            raise DataError("Labels were learned from no rows. Give the rows of the training split.")
        if self.problem_type is None:
            self.problem_type = infer_problem_type(values, self.label_separator)
            logger.info("Problem type inferred from the labels: %s.", self.problem_type)
        self._indicators = isinstance(values, pd.DataFrame)
        self.classes = self._learned_classes(values)
        return self

    def transform(self, values: pd.Series | pd.DataFrame) -> tuple[np.ndarray, Counter[str]]:
        """Encode the labels of rows.

        Args:
            values: Label column, or columns of 0 and 1, of N rows.

        Returns:
            The encoded labels, as the table of the class says, and how often each label occurred that was not in the
            training rows.

        Raises:
            DataError: If a label is missing or a cell does not fit the problem type.
        """
        unseen: Counter[str] = Counter()
        if isinstance(values, pd.DataFrame):
            encoded = _indicator_array(values)
        elif self.problem_type == REGRESSION:
            encoded = _quantities(values)
        elif self.problem_type == MULTI_LABEL:
            encoded = self._multi_hot(_label_lists(values, self.label_separator), unseen)
        else:
            encoded = self._class_indices(_single_labels(values), unseen)
        _report_unseen(unseen)
        return encoded, unseen

    def decode(self, encoded: np.ndarray) -> list[Any]:
        """Return the labels that encoded rows stand for.

        Args:
            encoded: Array of N rows as ``transform`` gives it; for a multi-label problem any (N, C) array, non-zero
                where the row has the label.

        Returns:
            One entry a row: a list of classes (multi-label), a class or None for -100 (single-label), or a number.
        """
        if self.problem_type == MULTI_LABEL:
            return [[self.classes[place] for place in np.flatnonzero(row)] for row in encoded]
        if self.problem_type == SINGLE_LABEL:
            return [None if place == IGNORED_LABEL else self.classes[place] for place in encoded]
        return [float(value) for value in encoded]

    @property
    def names(self) -> list[str]:
        """The classes as texts."""
        return [str(label) for label in self.classes]

    @property
    def num_labels(self) -> int:
        """Number of outputs that a model needs: one for each class, or 1 for regression."""
        return len(self.classes) or 1

    def to_dict(self) -> dict[str, Any]:
        """Return what was learned as plain values, for JSON."""
        return {
            "problem_type": self.problem_type,
            "label_separator": self.label_separator,
            "classes": list(self.classes),
            "indicator_columns": self._indicators,
        }

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> LabelEncoder:
        """Return the encoder that ``to_dict`` described."""
        encoder = cls(state["problem_type"], state["label_separator"])
        encoder.classes = list(state["classes"])
        encoder._indicators = state["indicator_columns"]
        return encoder

    def _learned_classes(self, values: pd.Series | pd.DataFrame) -> list[Label]:
        if isinstance(values, pd.DataFrame):
            return _indicator_classes(values)
        if self.problem_type == REGRESSION:
            distinct = len(np.unique(_quantities(values)))
            classes: list[Label] = []
        else:
            several = self.problem_type == MULTI_LABEL
            rows = _label_lists(values, self.label_separator) if several else [[v] for v in _single_labels(values)]
            classes = _vocabulary(label for row in rows for label in row)
            distinct = len(classes)
        if distinct < 2:
            found = f"only the label {classes[0]!r}" if classes else "no two different labels"
            raise DataError(
                f"Label column '{values.name}' has {found} in the training rows; there is nothing to tell apart. "
                "Check the column and the split."
            )
        return classes

    def _places(self) -> dict[str | None, int]:
        return {category_key(label): place for place, label in enumerate(self.classes)}

    def _multi_hot(self, rows: list[list[Any]], unseen: Counter[str]) -> np.ndarray:
        places = self._places()
        encoded = np.zeros((len(rows), len(self.classes)), dtype=np.float32)
        for row, labels in enumerate(rows):
            for label in {category_key(label): label for label in labels}.values():
                place = places.get(category_key(label))
                if place is None:
                    unseen[_text(label)] += 1
                else:
                    encoded[row, place] = 1.0
        return encoded

    def _class_indices(self, labels: list[Any], unseen: Counter[str]) -> np.ndarray:
        places = self._places()
        encoded = np.array([places.get(category_key(label), IGNORED_LABEL) for label in labels], dtype=np.int64)
        unseen.update(_text(label) for label, place in zip(labels, encoded, strict=True) if place == IGNORED_LABEL)
        return encoded


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
    if any(_is_collection(value) for value in present) or all(_listed_in(value) is not None for value in present):
        return MULTI_LABEL
    if all(_is_number(value) for value in present):
        numbers = [float(value) for value in present]
        if not all(number.is_integer() for number in numbers) or len(set(numbers)) > MOST_INTEGER_CLASSES:
            return REGRESSION
        return SINGLE_LABEL
    _hint_at_separator([str(value) for value in present])
    return SINGLE_LABEL


def rows_named(index: Iterable[Hashable]) -> str:
    """Return rows of a frame for a message, for example ``rows 3, 8, 12, 14, 20 and 7 more``."""
    rows = [str(row) for row in index]
    more = f" and {len(rows) - _SHOWN} more" if len(rows) > _SHOWN else ""
    return f"{'row' if len(rows) == 1 else 'rows'} {', '.join(rows[:_SHOWN])}{more}"


def _is_collection(value: object) -> bool:
    return isinstance(value, (list, tuple, set, frozenset, np.ndarray))


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float, Decimal, np.integer, np.floating)) and not isinstance(value, bool)


def _text(label: object) -> str:
    return str(label).strip()


def _listed_in(value: object) -> list[Any] | None:
    return list_in_text(value) if isinstance(value, str) else None


def _require_labels(values: pd.Series, advice: str) -> None:
    missing = [row for row, value in values.items() if is_missing(value)]
    if missing:
        raise DataError(f"Label column '{values.name}' is missing in {rows_named(missing)}. {advice}")


def _label_lists(values: pd.Series, separator: str | None) -> list[list[Any]]:
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


def _labels_in(value: Any, separator: str | None) -> list[Any] | None:
    if isinstance(value, (set, frozenset)):
        return list(value)
    if _is_collection(value):
        return list(np.atleast_1d(value)) if isinstance(value, np.ndarray) else list(value)
    if separator is None or _text(value) == "[]":
        return _listed_in(value)
    if isinstance(value, dict):
        return None
    return str(value).split(separator)


def _single_labels(values: pd.Series) -> list[Any]:
    _require_labels(values, "Leave these rows out, or give each a label.")
    for row, value in values.items():
        if not pd.api.types.is_scalar(value):
            raise DataError(
                f"Label column '{values.name}' holds {value!r} in row {row}, but the problem type is {SINGLE_LABEL}. "
                f"Give one text or number a row, or use {MULTI_LABEL}."
            )
    return list(values)


def _quantities(values: pd.Series) -> np.ndarray:
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


def _indicator_array(frame: pd.DataFrame) -> np.ndarray:
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


def _indicator_classes(frame: pd.DataFrame) -> list[Label]:
    if not _indicator_array(frame).any():
        raise DataError(
            f"No training row has one of the labels {listed(frame.columns)}. Check the columns and the split."
        )
    return [str(column) for column in frame.columns]


def _vocabulary(labels: Iterable[Any]) -> list[Label]:
    spellings: dict[str, list[Any]] = {}
    for label in labels:
        spellings.setdefault(str(category_key(label)), []).append(label)
    everything = [label for given in spellings.values() for label in given]
    keys = sorted(spellings, key=_sort_key)
    if all(isinstance(label, (bool, np.bool_)) for label in everything):
        return [key == "true" for key in keys]
    if all(_is_number(label) for label in everything):
        return [int(key) if float(key).is_integer() else float(key) for key in keys]
    return [min(_text(label) for label in spellings[key]) for key in keys]


def _sort_key(key: str) -> tuple[bool, float, str]:
    number = to_number(key)
    return (True, 0.0, key) if number is None or np.isnan(number) else (False, number, key)


def _report_unseen(unseen: Counter[str]) -> None:
    if unseen:
        shown = ", ".join(f"'{label}' ({count})" for label, count in unseen.most_common(_SHOWN))
        more = f" and {len(unseen) - _SHOWN} more" if len(unseen) > _SHOWN else ""
        logger.warning("Labels that the training rows do not have are left out: %s%s.", shown, more)


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
