"""Models of a task that are trained whole: an encoder with logits on top, and a loss."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from mmadapters.baselines.result import label_names
from mmadapters.classifier import TextClassifier, TextClassifierOutput, classification_loss
from mmadapters.data.preprocessor import Preprocessor
from mmadapters.errors import ConfigurationError
from mmadapters.training.fit import ModelSettings, position_limit
from mmadapters.training.target_scale import target_scale


class TaskModel(nn.Module, ABC):
    """A model of one task around a text encoder: logits, and the loss where there are labels.

    A regression is learned in standard deviations from the mean of the training rows, since no learning rate suits
    values of every size.

    As the adapters' head does, the last bias starts at the labels' frequencies (``label_prior_start``).

    Args:
        problem_type: Of the task.
        targets: (N,) values of the training rows, for a regression.
    """

    target_mean: Tensor
    target_deviation: Tensor

    def __init__(self, problem_type: str, targets: np.ndarray | None) -> None:
        super().__init__()
        self.problem_type = problem_type
        mean, deviation = target_scale(problem_type, targets)
        self.register_buffer("target_mean", torch.tensor(mean))
        self.register_buffer("target_deviation", torch.tensor(deviation))

    @abstractmethod
    def task_logits(self, *args: Any, **batch: Any) -> Tensor:
        """Return logits (B, C) of a batch without its labels."""

    @abstractmethod
    def new_parts(self) -> list[nn.Module]:
        """Return the modules that start from nothing, and learn at the head's learning rate."""

    @abstractmethod
    def encoder_parts(self) -> list[nn.Module]:
        """Return the pre-trained modules."""

    @abstractmethod
    def output_layer(self) -> nn.Linear:
        """Return the layer whose result is the logits."""

    def forward(self, labels: Tensor | None = None, **batch: Any) -> TextClassifierOutput:
        """Classify.

        Args:
            labels: As ``TextClassifier.forward`` takes them.
            batch: What the collator made: the tokenizer's outputs, ``modality_features`` and ``modality_mask``.
        """
        logits = self.task_logits(**batch) * self.target_deviation + self.target_mean
        loss = None if labels is None else classification_loss(logits, labels, self.problem_type)
        return TextClassifierOutput(loss=loss, logits=logits)


class FineTunedText(TaskModel):
    """A text encoder and its head, both trained.

    Args:
        text: Encoder, pooling and head.
        targets: (N,) values of the training rows, for a regression.
    """

    def __init__(self, text: TextClassifier, targets: np.ndarray | None = None) -> None:
        super().__init__(str(text.config.problem_type), targets)
        self.text = train_all(text)

    def task_logits(self, *args: Any, **batch: Any) -> Tensor:
        """Return logits (B, C)."""
        return self.text(**batch).logits

    def new_parts(self) -> list[nn.Module]:
        """Return the head."""
        return [self.text.classifier]

    def encoder_parts(self) -> list[nn.Module]:
        """Return the encoder."""
        return [self.text.encoder]

    def output_layer(self) -> nn.Linear:
        """Return the head's last layer."""
        return cast(nn.Linear, self.text.classifier.out)


def train_all(text: TextClassifier) -> TextClassifier:
    """Have all weights of encoder and head learn, but for a pooler that the pooling does not read."""
    text.requires_grad_(True)
    pooler = getattr(text.encoder, "pooler", None)
    if pooler is not None and text.config.pooling != "pooler":
        pooler.requires_grad_(False)
    return text


def text_classifier(model: ModelSettings, preprocessor: Preprocessor) -> TextClassifier:
    """Return the encoder with a newly drawn head for the task of a preprocessor.

    Args:
        model: Backbone, pooling and head.
        preprocessor: Gives problem type, labels and the length of texts.

    Raises:
        ConfigurationError: If texts may be longer than the encoder has positions for.
    """
    assert preprocessor.labels is not None
    text = TextClassifier.from_backbone(
        model.backbone,
        problem_type=str(preprocessor.labels.problem_type),
        labels=label_names(preprocessor),
        pooling=model.pooling,
        head=model.head,
        head_dropout=model.head_dropout,
    )
    longest = position_limit(text.encoder)
    if longest is not None and preprocessor.max_length > longest:
        raise ConfigurationError(
            f"Texts are cut to max_length={preprocessor.max_length} tokens, but the backbone '{model.backbone}' has "
            f"positions for {longest}. Set max_length (data.max_length in a run file) to at most {longest}."
        )
    return text
