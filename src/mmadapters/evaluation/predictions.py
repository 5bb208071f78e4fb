"""What a model says of rows, whatever runs it; nothing here loads PyTorch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from mmadapters.data.dataset import MultimodalDataset
    from mmadapters.data.preprocessor import Preprocessor


@dataclass(frozen=True)
class Predictions:
    """What a model says of a data set.

    Attributes:
        scores: Probabilities (N, C), or for a regression values (N,).
        logits: (N, C), float32.
        gates: (N, sites, 1 + m), the text's gate or contribution first, or None. A missing modality's is 0.
        pooled: (N, H), float32, what the head reads, or None.
    """

    scores: np.ndarray
    logits: np.ndarray
    gates: np.ndarray | None = None
    pooled: np.ndarray | None = None


class RowModel(Protocol):
    """A trained model that predicts rows: an ``Artefact``, or what was exported of one."""

    @property
    def preprocessor(self) -> Preprocessor:
        """Turns rows into a data set."""
        ...

    @property
    def problem_type(self) -> str:
        """One of ``mmadapters.classifier.PROBLEM_TYPES``."""
        ...

    @property
    def labels(self) -> list[str]:
        """The label names in the order of the logits."""
        ...

    @property
    def thresholds(self) -> tuple[float, ...] | None:
        """For each label the tuned probability from which on it is predicted, or None."""
        ...

    @property
    def decision_thresholds(self) -> tuple[float, ...]:
        """For each label the probability from which on it is predicted (multi-label)."""
        ...

    @property
    def predictor(self) -> Mapping[str, Any] | None:
        """Of a model that ``MultimodalPredictor`` trained: how raw media become features, as plain values."""
        ...

    def predict_dataset(
        self,
        dataset: MultimodalDataset,
        *,
        batch_size: int | None = None,
        max_tokens_per_batch: int | None = None,
        output_gates: bool = False,
        progress: bool = False,
    ) -> Predictions:
        """Predict all rows of a data set that the preprocessor made, in their order."""
        ...


def in_row_order(values: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Return values of rows that were taken in another order, in the order of the rows.

    Args:
        values: (N, …), of the row ``order[i]`` at place i.
        order: (N,) each row once.
    """
    restored = np.empty_like(values)
    restored[order] = values
    return restored


def decided(scores: np.ndarray, problem_type: str, labels: list[str], thresholds: tuple[float, ...]) -> list[Any]:
    """Return what is predicted for each row: a label, a list of labels, or a value.

    Args:
        scores: Probabilities (N, C), or values (N,).
        problem_type: How labels follow from them.
        labels: Label names in the order of the scores.
        thresholds: For each label the probability from which on it is predicted (multi-label).
    """
    if problem_type == "regression":
        return [float(value) for value in scores]
    if problem_type == "single_label_classification":
        return [labels[index] for index in scores.argmax(axis=1)]
    chosen = scores >= np.array(thresholds)
    return [[name for name, yes in zip(labels, row, strict=True) if yes] for row in chosen]
