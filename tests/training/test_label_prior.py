"""The head's start at the labels' frequencies: the constant outputs of the least training loss."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from test_training import adapter, arguments, data, settings_for  # noqa: F401

from mmadapters.classifier import IGNORED_LABEL
from mmadapters.evaluation.evaluator import predict
from mmadapters.training.fit import build_model, fit
from mmadapters.training.label_prior import constant_logits, start_from_label_prior
from mmadapters.training.losses import StepLoss
from mmadapters.training.probe import last_layer

N, C = 60, 4


def targets(problem_type: str) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    if problem_type == "multi_label_classification":
        return (torch.rand(N, C, generator=generator) < torch.tensor([0.05, 0.2, 0.5, 0.9])).float()
    return torch.multinomial(torch.tensor([0.1, 0.2, 0.3, 0.4]), N, replacement=True, generator=generator)


@pytest.mark.parametrize("problem_type", ["multi_label_classification", "single_label_classification"])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weighted", [False, True])
def test_no_other_constant_has_a_lower_loss(problem_type: str, smoothing: float, weighted: bool) -> None:
    labels = targets(problem_type)
    weights = torch.tensor([3.0, 1.0, 0.5, 2.0]) if weighted else None
    loss = StepLoss(problem_type, weights, smoothing)
    several = problem_type == "multi_label_classification"
    counts = labels.sum(0).numpy() if several else np.bincount(labels.numpy(), minlength=C)
    # Without the half examples, as of a thousand times as many rows, the minimum is that of the loss itself.
    found = constant_logits(counts * 1000, N * 1000, loss).requires_grad_()
    loss({"logits": found.expand(N, C)}, labels).backward()
    assert found.grad is not None
    assert float(found.grad.abs().max()) < 1e-4


def test_labels_of_all_or_no_rows_stay_finite() -> None:
    logits = constant_logits(np.array([0, 10]), 10, StepLoss("multi_label_classification"))
    np.testing.assert_allclose(torch.sigmoid(logits).numpy(), [0.5 / 11, 10.5 / 11])


def test_before_the_first_step_the_frequencies_are_predicted(data, tiny_backbone: Path) -> None:  # noqa: F811
    preprocessor, train, validation = data
    frequency = np.asarray(train.labels).mean(axis=0)
    scores = {}
    for start in (False, True):
        result = fit(
            preprocessor,
            train,
            validation,
            settings=settings_for(tiny_backbone),
            adapter=adapter(preprocessor),
            # A step too small to see: what is predicted is the start.
            arguments=arguments(num_train_epochs=1, learning_rate=1e-9, label_prior_start=start),
        )
        from mmadapters.data.collator import MultimodalCollator

        collator = MultimodalCollator(preprocessor.tokenizer, preprocessor.modalities)
        scores[start] = predict(result.model, train, collator, "multi_label_classification").scores
    assert np.abs(scores[True].mean(axis=0) - frequency).max() < 0.15
    assert np.abs(scores[True].mean(axis=0) - frequency).max() < np.abs(scores[False].mean(axis=0) - frequency).max()


@pytest.mark.parametrize("problem_type", ["single_label_classification", "regression"])
def test_unknown_labels_are_left_out_and_a_regression_starts_at_the_mean(
    data,  # noqa: F811
    tiny_backbone: Path,
    problem_type: str,
) -> None:
    preprocessor, train, _ = data
    model = build_model(preprocessor, settings_for(tiny_backbone), adapter(preprocessor))
    layer = last_layer(model)
    if problem_type == "regression":
        train.labels = np.linspace(2.0, 4.0, len(train)).astype(np.float32)
        assert start_from_label_prior(model, train, StepLoss(problem_type))
        np.testing.assert_allclose(layer.bias.detach().numpy(), 3.0, rtol=1e-6)
        return
    known = np.array([0] * 30 + [1] * 10)
    train.labels = np.concatenate([known, [IGNORED_LABEL] * (len(train) - 40)])
    assert start_from_label_prior(model, train, StepLoss(problem_type))
    share = torch.softmax(layer.bias.detach().double(), dim=0).numpy()
    half = 0.5 * layer.out_features
    np.testing.assert_allclose(share[:2], np.array([30.5, 10.5]) / (40 + half), rtol=1e-5)
