"""Label smoothing in the loss of a step: its numbers, its place in a training, and no smoothing of numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from training_run import train
from transformers import TrainerCallback

from mmadapters.errors import ConfigurationError
from mmadapters.training.arguments import MultimodalTrainingArguments
from mmadapters.training.losses import StepLoss

MULTI, SINGLE, REGRESSION = "multi_label_classification", "single_label_classification", "regression"


def test_multi_label_targets_move_towards_a_half() -> None:
    logits, labels = torch.tensor([[2.0, -1.0], [0.0, 3.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    loss = StepLoss(MULTI, label_smoothing=0.2)({"logits": logits}, labels)
    p = torch.sigmoid(logits)
    smoothed = torch.tensor([[0.9, 0.1], [0.1, 0.9]])
    expected = -(smoothed * p.log() + (1 - smoothed) * (1 - p).log()).mean()
    torch.testing.assert_close(loss, expected)
    weighted = StepLoss(MULTI, torch.tensor([3.0, 1.0]), 0.2)({"logits": logits}, labels)
    positive = torch.tensor([3.0, 1.0])
    torch.testing.assert_close(weighted, -(positive * smoothed * p.log() + (1 - smoothed) * (1 - p).log()).mean())


def test_single_label_targets_are_spread_over_all_classes() -> None:
    logits, labels = torch.tensor([[2.0, -1.0, 0.5], [0.0, 3.0, 1.0], [9.0, 9.0, 9.0]]), torch.tensor([0, 2, -100])
    loss = StepLoss(SINGLE, label_smoothing=0.3)({"logits": logits}, labels)
    targets = 0.7 * F.one_hot(labels[:2], 3) + 0.1
    torch.testing.assert_close(loss, -(targets * logits[:2].log_softmax(dim=1)).sum(dim=1).mean())
    torch.testing.assert_close(StepLoss(SINGLE)({"logits": logits}, labels), F.cross_entropy(logits[:2], labels[:2]))


def test_batches_of_a_step_add_up() -> None:
    random = np.random.default_rng(0)
    logits = torch.tensor(random.normal(size=(6, 3)))
    for problem_type, labels in (
        (MULTI, torch.tensor(random.integers(0, 2, (6, 3)), dtype=torch.float64)),
        (SINGLE, torch.tensor([0, 1, -100, 2, 1, 0])),
    ):
        loss = StepLoss(problem_type, label_smoothing=0.1)
        terms = 18 if problem_type == MULTI else 5
        parts = [loss({"logits": logits[rows]}, labels[rows], terms) for rows in (slice(0, 4), slice(4, 6))]
        torch.testing.assert_close(sum(parts), loss({"logits": logits}, labels))


class FirstLoss(TrainerCallback):
    def __init__(self) -> None:
        self.losses: list[float] = []

    def on_log(self, args, state, control, logs=None, **kwargs) -> None:
        if "loss" in logs:
            self.losses.append(logs["loss"])


def test_a_training_uses_it(tiny_backbone: Path) -> None:
    found = {}
    for factor in (0.0, 0.5):
        noted = FirstLoss()
        train(
            tiny_backbone,
            None,
            callbacks=[noted],
            label_smoothing_factor=factor,
            learning_rate=0.0,
            max_steps=1,
            logging_strategy="steps",
            logging_steps=1,
            linear_probe_start=True,
        )
        found[factor] = noted.losses[0]
    # With the fitted head the loss is below that of a coin; smoothed targets cannot be met as well.
    assert found[0.0] < found[0.5] < np.log(2)


def test_what_cannot_be_smoothed() -> None:
    with pytest.raises(
        ConfigurationError, match=r"label_smoothing_factor=0.1 was given for a regression, which has no cl"
    ):
        StepLoss(REGRESSION, label_smoothing=0.1)
    for factor in (-0.1, 1.0):
        with pytest.raises(
            ConfigurationError, match=rf"label_smoothing_factor={factor} must be at least 0 and below 1"
        ):
            MultimodalTrainingArguments(label_smoothing_factor=factor, use_cpu=True)
    for decay in (0.0, 1.0):
        with pytest.raises(ConfigurationError, match=rf"ema_decay={decay} must be above 0 and below 1, or null"):
            MultimodalTrainingArguments(ema_decay=decay, use_cpu=True)
