"""Trains a small head on arrays for each of some settings, and keeps what the validation rows like best."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from transformers import set_seed

from mmadapters.errors import ConfigurationError, DataError
from mmadapters.evaluation.metrics import compute_metrics
from mmadapters.evaluation.scores import scores_from_logits
from mmadapters.training.arguments import LOWER_IS_BETTER, MultimodalTrainingArguments
from mmadapters.training.label_prior import prior_bias
from mmadapters.training.losses import StepLoss, inverse_frequency_weights
from mmadapters.training.target_scale import target_scale

EVALUATION_ROWS = 4096


@dataclass(frozen=True)
class HeadOptions:
    """Options of ``late_gmu`` and ``late_concat``; of those in the plural every combination is tried.

    Attributes:
        hidden_sizes: Widths of the head.
        learning_rates: Of AdamW.
        dropouts: Of inputs and hidden layer.
        weight_decays: Of weights, not of biases.
        batch_size: Examples a step.
        max_epochs: Most epochs of a combination.
        patience: Epochs without improvement on the validation rows after which a combination ends.
        text: Whether the text is read beside the modalities.
    """

    hidden_sizes: list[int] = field(default_factory=lambda: [128, 512])
    learning_rates: list[float] = field(default_factory=lambda: [3e-4, 3e-3])
    dropouts: list[float] = field(default_factory=lambda: [0.3, 0.6])
    weight_decays: list[float] = field(default_factory=lambda: [0.01])
    batch_size: int = 128
    max_epochs: int = 100
    patience: int = 10
    text: bool = True

    def __post_init__(self) -> None:
        ranges: list[tuple[str, Sequence[float], Callable[[float], bool], str]] = [
            ("hidden_sizes", self.hidden_sizes, lambda value: value >= 1, "at least 1"),
            ("learning_rates", self.learning_rates, lambda value: value > 0, "above 0"),
            ("dropouts", self.dropouts, lambda value: 0 <= value < 1, "at least 0 and below 1"),
            ("weight_decays", self.weight_decays, lambda value: value >= 0, "at least 0"),
            ("batch_size", [self.batch_size], lambda value: value >= 1, "at least 1"),
            ("max_epochs", [self.max_epochs], lambda value: value >= 1, "at least 1"),
            ("patience", [self.patience], lambda value: value >= 1, "at least 1"),
        ]
        problems = [
            f"{name}={getattr(self, name)!r}: give {'at least one value, each ' if name.endswith('s') else ''}{words}."
            for name, values, accepted, words in ranges
            if not values or not all(accepted(value) for value in values)
        ]
        if problems:
            raise ConfigurationError("Options of a late fusion: " + " ".join(problems))

    def combinations(self) -> list[dict[str, Any]]:
        """Return the settings to try."""
        names = ("hidden_size", "learning_rate", "dropout", "weight_decay")
        values = (self.hidden_sizes, self.learning_rates, self.dropouts, self.weight_decays)
        return [dict(zip(names, combination, strict=True)) for combination in itertools.product(*values)]


@dataclass(frozen=True)
class Split:
    """Inputs and targets of a head.

    Attributes:
        inputs: Float32 (N, D_i) each.
        targets: Encoded labels.
    """

    inputs: list[Tensor]
    targets: Tensor

    def __len__(self) -> int:
        return len(self.targets)


@dataclass(frozen=True)
class TrainedHead:
    """A head at its best epoch.

    Attributes:
        head: In evaluation mode.
        mean: Of a regression's targets, which the head predicts in deviations from it.
        deviation: Of a regression's targets.
        value: The validation metric.
        epoch: From 1.
        log: One entry an epoch.
        settings: The combination.
    """

    head: nn.Module
    mean: float
    deviation: float
    value: float
    epoch: int
    log: list[dict[str, Any]]
    settings: dict[str, Any]

    def logits(self, inputs: Sequence[Tensor]) -> np.ndarray:
        """Return logits (N, C), float32.

        Args:
            inputs: (N, D_i) each.
        """
        return head_logits(self.head, inputs) * self.deviation + self.mean


def search_head(
    build: Callable[[int, float], nn.Module],
    train: Split,
    validation: Split,
    options: HeadOptions,
    arguments: MultimodalTrainingArguments,
    problem_type: str,
    labels: Sequence[str],
    report: Callable[[str], None] | None = None,
) -> TrainedHead:
    """Train a head for each combination of the options, and return the best one at its best epoch.

    Args:
        build: Returns a new head for a hidden size and a dropout.
        train: The training rows.
        validation: The rows that choose epoch and combination.
        options: What to try.
        arguments: Seed, metric, class weights, label smoothing and device; ``for_run`` was called.
        problem_type: Of the task.
        labels: Label names in the order of the logits.
        report: Called with a line for a person.

    Raises:
        DataError: If the validation rows do not have the metric.
    """
    best: TrainedHead | None = None
    sign = -1.0 if str(arguments.metric_for_best_model).removeprefix("eval_") in LOWER_IS_BETTER else 1.0
    for settings in options.combinations():
        set_seed(arguments.seed)
        head = build(settings["hidden_size"], settings["dropout"]).to(arguments.device)
        trained = _train(head, settings, train, validation, options, arguments, problem_type, labels)
        if best is None or sign * trained.value > sign * best.value:
            best = trained
    assert best is not None
    if report is not None:
        named = str(arguments.metric_for_best_model).removeprefix("eval_").replace("_", " ")
        chosen = ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in best.settings.items())
        report(
            f"  best of {len(options.combinations())} settings: {chosen}; epoch {best.epoch}, validation {named} "
            f"{best.value:.4f}"
        )
    return best


def _train(
    head: nn.Module,
    settings: dict[str, Any],
    train: Split,
    validation: Split,
    options: HeadOptions,
    arguments: MultimodalTrainingArguments,
    problem_type: str,
    labels: Sequence[str],
) -> TrainedHead:
    loss_function = _loss(train, arguments, problem_type, len(labels))
    targets, mean, deviation = train.targets, *target_scale(problem_type, train.targets.cpu().numpy())
    if arguments.label_prior_start and problem_type != "regression":
        layer = cast(nn.Linear, head.out)
        with torch.no_grad():
            layer.bias.copy_(prior_bias(targets.cpu().numpy(), loss_function, layer.out_features))
    optimizer = _optimizer(head, settings)
    generator = torch.Generator().manual_seed(arguments.seed)
    metric = str(arguments.metric_for_best_model).removeprefix("eval_")
    sign = -1.0 if metric in LOWER_IS_BETTER else 1.0
    best: tuple[float, int, dict[str, Tensor]] | None = None
    log: list[dict[str, Any]] = []
    for epoch in range(1, options.max_epochs + 1):
        head.train()
        losses = []
        for rows in torch.randperm(len(train), generator=generator).split(options.batch_size):
            rows = rows.to(targets.device)
            wanted = (targets[rows] - mean) / deviation if problem_type == "regression" else targets[rows]
            loss = loss_function({"logits": head([values[rows] for values in train.inputs])}, wanted)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
        logits = head_logits(head, validation.inputs) * deviation + mean
        value = _validation_value(metric, logits, validation, problem_type, labels, loss_function)
        log.append({"epoch": epoch, "loss": float(np.mean(losses)), f"eval_{metric}": value})
        if best is None or sign * value > sign * best[0]:
            best = (value, epoch, copy.deepcopy(head.state_dict()))
        elif epoch - best[1] >= options.patience:
            break
    assert best is not None
    head.load_state_dict(best[2])
    return TrainedHead(head.eval(), mean, deviation, best[0], best[1], log, settings)


def _loss(train: Split, arguments: MultimodalTrainingArguments, problem_type: str, n_labels: int) -> StepLoss:
    weights = None
    if arguments.class_weights:
        weights = inverse_frequency_weights(train.targets.cpu().numpy(), problem_type, n_labels)
    return StepLoss(problem_type, weights, arguments.label_smoothing_factor)


def _optimizer(head: nn.Module, settings: dict[str, Any]) -> torch.optim.Optimizer:
    decayed = [parameter for parameter in head.parameters() if parameter.dim() > 1]
    others = [parameter for parameter in head.parameters() if parameter.dim() <= 1]
    groups = [
        {"params": decayed, "weight_decay": settings["weight_decay"]},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=settings["learning_rate"], fused=True)


def _validation_value(
    metric: str,
    logits: np.ndarray,
    validation: Split,
    problem_type: str,
    labels: Sequence[str],
    loss_function: StepLoss,
) -> float:
    if metric == "loss":
        return float(loss_function({"logits": torch.from_numpy(logits)}, validation.targets.cpu()))
    scores = scores_from_logits(logits, problem_type)
    values = compute_metrics(problem_type, scores, validation.targets.cpu().numpy(), labels).values
    if metric not in values:
        raise DataError(
            f"Epochs are chosen by {metric}, which the {len(validation)} validation rows do not have. Give validation "
            "rows with labels, or name another metric_for_best_model."
        )
    return values[metric]


def head_logits(head: nn.Module, inputs: Sequence[Tensor]) -> np.ndarray:
    """Return the logits (N, C) of a head in evaluation mode, float32.

    Args:
        head: Takes a list of (B, D_i).
        inputs: (N, D_i) each.
    """
    head.eval()
    with torch.inference_mode():
        parts = zip(*(values.split(EVALUATION_ROWS) for values in inputs), strict=True)
        return torch.cat([head(list(part)) for part in parts]).float().cpu().numpy()
