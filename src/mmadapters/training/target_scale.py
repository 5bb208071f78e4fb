"""Mean and standard deviation of a regression's targets: a training works in these, whatever the targets' unit."""

from __future__ import annotations

import numpy as np
from peft import PeftModel

from mmadapters.classifier import RegressionOutput
from mmadapters.data.dataset import MultimodalDataset
from mmadapters.data.streaming import StreamedDataset
from mmadapters.training.probe import last_layer


def target_scale(problem_type: str, targets: np.ndarray | None) -> tuple[float, float]:
    """Return mean and standard deviation of a regression's targets; 0 and 1 of other problems, or without targets.

    Targets that are all the same have the deviation 1.

    Args:
        problem_type: Of the task.
        targets: (N,) values of the training rows.
    """
    if problem_type != "regression" or targets is None or not len(targets):
        return 0.0, 1.0
    return float(np.mean(targets, dtype=np.float64)), float(np.std(targets, dtype=np.float64)) or 1.0


def scale_of_rows(problem_type: str, rows: MultimodalDataset | StreamedDataset | None) -> tuple[float, float]:
    """Return what ``target_scale`` does of a data set; of streamed rows what was counted beforehand.

    Args:
        problem_type: Of the task.
        rows: The training rows, or None.
    """
    if isinstance(rows, StreamedDataset):
        return rows.label_mean or 0.0, rows.label_deviation or 1.0
    return target_scale(problem_type, getattr(rows, "labels", None))


def use_target_scale(model: PeftModel, train: MultimodalDataset | StreamedDataset) -> None:
    """Have the active head of a regression learn in standard deviations from the mean of the training targets.

    Args:
        model: A PEFT model; a head that is none of a ``TextClassifier`` for regression stays as it is.
        train: The training rows with labels.
    """
    layer = last_layer(model)
    if isinstance(layer, RegressionOutput):
        mean, deviation = scale_of_rows("regression", train)
        layer.target_mean.fill_(mean)
        layer.target_deviation.fill_(deviation)
