"""The loss of a training step: exact under gradient accumulation, and weighted by class on request."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmadapters.classifier import classification_loss
from mmadapters.data.streaming import StreamedDataset
from mmadapters.errors import ConfigurationError


class StepLoss:
    """A loss function for the Trainer, whose batches of one step are summed and divided by all their terms at once.

    Whatever the batch size and however the batches of a step are cut, the gradient is that of the step's mean loss.

    Args:
        problem_type: One of ``mmadapters.classifier.PROBLEM_TYPES``.
        class_weights: (C,) weights, or None.
        label_smoothing: Share of each target that is spread evenly, as ``classification_loss`` says.
        target_deviation: Standard deviation of a regression's training targets. Its loss is in their variance, so that
            it does not depend on the unit.

    Raises:
        ConfigurationError: If the labels of a regression are to be smoothed.
    """

    def __init__(
        self,
        problem_type: str,
        class_weights: Tensor | None = None,
        label_smoothing: float = 0.0,
        target_deviation: float = 1.0,
    ) -> None:
        if label_smoothing and problem_type == "regression":
            raise ConfigurationError(
                f"label_smoothing_factor={label_smoothing} was given for a regression, which has no classes. Leave it "
                "out."
            )
        self.problem_type = problem_type
        self.class_weights = class_weights
        self.label_smoothing = label_smoothing
        self.target_deviation = target_deviation

    def __call__(self, outputs: Any, labels: Tensor, num_items_in_batch: Tensor | int | None = None) -> Tensor:
        """Return the loss of one batch.

        Args:
            outputs: The model's output, with ``logits`` (B, C).
            labels: As ``TextClassifier.forward`` takes them.
            num_items_in_batch: Number of terms of all batches of the step; without it the batch's own.
        """
        loss = classification_loss(
            outputs["logits"],
            labels,
            self.problem_type,
            self.class_weights,
            normaliser=num_items_in_batch,
            label_smoothing=self.label_smoothing,
        )
        return loss if self.target_deviation == 1.0 else loss / self.target_deviation**2


def inverse_frequency_weights(labels: np.ndarray, problem_type: str, num_labels: int) -> Tensor:
    """Return ``N / frequency`` for each label on the training split, as float32 (C,).

    Args:
        labels: Multi-label 0/1 (N, C), or single-label integers (N,), -100 being ignored.
        problem_type: Multi-label or single-label classification.
        num_labels: Number C of labels.

    Raises:
        ConfigurationError: For regression, which has no classes.
    """
    if problem_type == "multi_label_classification":
        return weights_of_frequencies(labels.sum(axis=0), len(labels))
    if problem_type == "single_label_classification":
        known = labels[labels >= 0]
        return weights_of_frequencies(np.bincount(known, minlength=num_labels), len(known))
    return weights_of_frequencies(None, len(labels))


def streamed_frequency_weights(rows: StreamedDataset) -> Tensor:
    """Return ``N / frequency`` for each label of streamed rows, as float32 (C,); see ``inverse_frequency_weights``.

    Args:
        rows: The training rows.

    Raises:
        ConfigurationError: For regression, which has no classes.
    """
    return weights_of_frequencies(rows.label_frequencies, rows.labelled_rows)


def weights_of_frequencies(frequency: np.ndarray | None, n_examples: int) -> Tensor:
    """Return ``N / frequency``, as float32 (C,).

    Args:
        frequency: (C,) examples with each label; None for a regression.
        n_examples: Number N of examples with known labels.

    Raises:
        ConfigurationError: For regression, which has no classes.
    """
    if frequency is None:
        raise ConfigurationError("class_weights=True was given for a regression, which has no classes. Leave it out.")
    return torch.as_tensor(n_examples / np.maximum(frequency, 1), dtype=torch.float32)
