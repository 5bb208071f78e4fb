"""The head's start at the labels' frequencies: before the first step the model predicts them, whatever it reads.

A head that starts at one half for every label spends its first steps on learning that most labels are rare, through the
adapters too. Lin et al. 2017 (Focal Loss for Dense Object Detection, https://arxiv.org/abs/1708.02002) start the last
bias at the prior probability instead.
"""

from __future__ import annotations

import numpy as np
import torch
from peft import PeftModel
from torch import Tensor

from mmadapters.classifier import IGNORED_LABEL
from mmadapters.data.dataset import MultimodalDataset
from mmadapters.data.streaming import StreamedDataset
from mmadapters.training.losses import StepLoss
from mmadapters.training.probe import last_layer


def start_from_label_prior(model: PeftModel, train: MultimodalDataset | StreamedDataset, loss: StepLoss) -> bool:
    """Set the last bias of the active head to the constant outputs of the least training loss.

    Args:
        model: A PEFT model around a ``TextClassifier``.
        train: The training rows with labels. Of streamed rows the frequencies, or the mean, that were counted are used.
        loss: The loss of the training, with its class weights and label smoothing.

    Returns:
        Whether the bias was set.

    Raises:
        ConfigurationError: If the model's head is none of a ``TextClassifier``.
    """
    layer = last_layer(model)
    if isinstance(train, StreamedDataset):
        if train.label_mean is not None:
            bias = torch.tensor([train.label_mean], dtype=torch.float64)
        elif train.label_frequencies is None:
            return False
        else:
            bias = constant_logits(train.label_frequencies, train.labelled_rows, loss)
    elif train.labels is None:
        return False
    elif loss.problem_type == "regression":
        bias = torch.as_tensor(np.asarray(train.labels, dtype=np.float64).mean()).reshape(1)
    elif loss.problem_type == "multi_label_classification":
        bias = constant_logits(np.asarray(train.labels).sum(axis=0), len(train.labels), loss)
    else:
        known = np.asarray(train.labels)[np.asarray(train.labels) != IGNORED_LABEL]
        bias = constant_logits(np.bincount(known, minlength=layer.out_features), len(known), loss)
    with torch.no_grad():
        layer.bias.copy_(bias)
    return True


def constant_logits(frequency: np.ndarray, n_examples: int, loss: StepLoss) -> Tensor:
    """Return the logits (C,), float64, that have the least loss if they are the same for every row.

    Half an example is added on either side of each label, so that one that all or none of the rows have stays finite.

    Args:
        frequency: (C,) examples with each label.
        n_examples: Number N of examples with known labels.
        loss: Gives problem type, class weights and label smoothing.
    """
    counts = torch.as_tensor(np.asarray(frequency, dtype=np.float64))
    weights = torch.ones_like(counts) if loss.class_weights is None else loss.class_weights.double().cpu()
    smoothing = loss.label_smoothing
    if loss.problem_type == "multi_label_classification":
        share = (counts + 0.5) / (n_examples + 1.0) * (1.0 - smoothing) + smoothing / 2.0
        return torch.logit(share) + weights.log()
    share = (counts + 0.5) / (n_examples + 0.5 * len(counts)) * (1.0 - smoothing) + smoothing / len(counts)
    return (share * weights).log() - (share * weights).log().mean()
