"""Labels as arrays: what kind of problem they state, which classes there are, and how a row's labels are encoded."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from mmadapters.data.label_cells import (
    indicator_array,
    infer_problem_type,
    label_lists,
    label_text,
    quantities,
    rows_named,
    single_labels,
)
from mmadapters.data.label_statistics import Label, LabelStatistics
from mmadapters.data.schema import MULTI_LABEL, PROBLEM_TYPES, REGRESSION, SINGLE_LABEL
from mmadapters.errors import ConfigurationError, DataError, did_you_mean, listed
from mmadapters.features.cells import category_key

__all__ = ["IGNORED_LABEL", "Label", "LabelEncoder", "infer_problem_type", "rows_named"]

logger = logging.getLogger(__name__)

IGNORED_LABEL = -100
"""Encoded single label that losses and metrics leave out: the row's label is not among the classes."""

_SHOWN = 5


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
        return self.learn(LabelStatistics(self.problem_type, self.label_separator).add(values))

    def learn(self, statistics: LabelStatistics) -> LabelEncoder:
        """Take over problem type and classes from the statistics of all training rows.

        Args:
            statistics: Collected with this encoder's problem type and separator.

        Returns:
            The encoder itself.

        Raises:
            DataError: If only one distinct label exists.
        """
        self.classes = statistics.classes()
        if self.problem_type is None:
            logger.info("Problem type inferred from the labels: %s.", statistics.problem_type)
        self.problem_type = statistics.problem_type
        self._indicators = statistics.has_indicators
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
        encoded, unseen = self.encode(values)
        report_unseen(unseen)
        return encoded, unseen

    def encode(self, values: pd.Series | pd.DataFrame) -> tuple[np.ndarray, Counter[str]]:
        """Do as ``transform`` does, without a warning of labels that the training rows do not have."""
        unseen: Counter[str] = Counter()
        if isinstance(values, pd.DataFrame):
            encoded = indicator_array(values)
        elif self.problem_type == REGRESSION:
            encoded = quantities(values)
        elif self.problem_type == MULTI_LABEL:
            encoded = self._multi_hot(label_lists(values, self.label_separator), unseen)
        else:
            encoded = self._class_indices(single_labels(values), unseen)
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

    def _places(self) -> dict[str | None, int]:
        return {category_key(label): place for place, label in enumerate(self.classes)}

    def _multi_hot(self, rows: list[list[Any]], unseen: Counter[str]) -> np.ndarray:
        places = self._places()
        encoded = np.zeros((len(rows), len(self.classes)), dtype=np.float32)
        for row, labels in enumerate(rows):
            for label in {category_key(label): label for label in labels}.values():
                place = places.get(category_key(label))
                if place is None:
                    unseen[label_text(label)] += 1
                else:
                    encoded[row, place] = 1.0
        return encoded

    def _class_indices(self, labels: list[Any], unseen: Counter[str]) -> np.ndarray:
        places = self._places()
        encoded = np.array([places.get(category_key(label), IGNORED_LABEL) for label in labels], dtype=np.int64)
        unseen.update(label_text(label) for label, place in zip(labels, encoded, strict=True) if place == IGNORED_LABEL)
        return encoded


def report_unseen(unseen: Counter[str]) -> None:
    """Log a warning of labels that the training rows do not have.

    Args:
        unseen: How often each occurred.
    """
    if unseen:
        shown = ", ".join(f"'{label}' ({count})" for label, count in unseen.most_common(_SHOWN))
        more = f" and {len(unseen) - _SHOWN} more" if len(unseen) > _SHOWN else ""
        logger.warning("Labels that the training rows do not have are left out: %s%s.", shown, more)
