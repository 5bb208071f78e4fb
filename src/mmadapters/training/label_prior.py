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
from mmadapters.training.probe import last_layer, set_output


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
        bias = _of_streamed(train, loss)
    else:
        bias = None if train.labels is None else prior_bias(np.asarray(train.labels), loss, layer.out_features)
    if bias is None:
        return False
    set_output(layer, bias)
    return True


def prior_bias(targets: np.ndarray, loss: StepLoss, n_outputs: int) -> Tensor:
    """Return the constant outputs of the least training loss, float64 (C,); (1,) for a regression.

    Args:
        targets: Encoded labels of the training rows: multi-label (N, C), single-label (N,), of which -100 is left out,
            or values (N,).
        loss: The loss of the training.
        n_outputs: Number C of outputs.
    """
    if loss.problem_type == "regression":
        return torch.tensor([float(np.mean(targets, dtype=np.float64))], dtype=torch.float64)
    if loss.problem_type == "multi_label_classification":
        return constant_logits(targets.sum(axis=0), len(targets), loss)
    known = targets[targets != IGNORED_LABEL]
    return constant_logits(np.bincount(known, minlength=n_outputs), len(known), loss)


def _of_streamed(train: StreamedDataset, loss: StepLoss) -> Tensor | None:
    if train.label_mean is not None:
        return torch.tensor([train.label_mean], dtype=torch.float64)
    if train.label_frequencies is None:
        return None
    return constant_logits(train.label_frequencies, train.labelled_rows, loss)


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
