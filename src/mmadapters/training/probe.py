"""The linear-probe start: the head's last layer, fitted on the frozen features before anything is trained.

A head that starts from nothing sends noise into the adapters until it has learned. Fitted first, it starts as what
logistic regression on the same features would be (Kumar et al. 2022, Fine-Tuning can Distort Pretrained Features and
Underperform Out-of-Distribution, https://arxiv.org/abs/2202.10054).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from peft import PeftModel
from peft.utils.other import ModulesToSaveWrapper
from scipy.optimize import minimize
from torch import Tensor, nn
from transformers import TrainerCallback, TrainerControl, TrainerState

from mmadapters.adapters.config import MultimodalAdapterConfig
from mmadapters.classifier import IGNORED_LABEL, RegressionOutput
from mmadapters.data.dataset import MultimodalDataset
from mmadapters.data.streaming import StreamedDataset
from mmadapters.errors import ConfigurationError, DataError
from mmadapters.evaluation.evaluator import to_device
from mmadapters.evaluation.metrics import compute_metrics
from mmadapters.evaluation.scores import scores_from_logits
from mmadapters.training.losses import StepLoss

if TYPE_CHECKING:
    from mmadapters.training.arguments import MultimodalTrainingArguments
    from mmadapters.training.trainer import MultimodalAdapterTrainer

STRENGTHS = (1e-4, 3e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
"""The inverse regularisations C that are tried where there are validation rows."""
DEFAULT_STRENGTH = 0.01
"""C where there are none."""
MOST_ROWS = 20_000
"""Training rows that are encoded; of more, so many are drawn."""
MAX_ITERATIONS = 1000
PATIENCE = 3
"""Weaker regularisations are not tried after so many that were worse than the best."""


@dataclass(frozen=True)
class LinearProbe:
    """What was fitted.

    Attributes:
        strength: The inverse regularisation C.
        rows: Training rows that it was fitted on.
        metric: The validation metric by which C was chosen, or None without validation rows.
        validation_scores: That metric for each C; None where the validation rows have no such metric.
    """

    strength: float
    rows: int
    metric: str | None = None
    validation_scores: dict[float, float | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Choice:
    """How C is chosen.

    Attributes:
        metric: Name of a metric, or ``loss``.
        greater_is_better: Its direction.
        labels: Label names in the order of the logits.
    """

    metric: str
    greater_is_better: bool
    labels: Sequence[str]


class StartTakesPart(TrainerCallback):
    """Scores the model before its first step and saves it as checkpoint 0, so that the best epoch may be none.

    Args:
        trainer: Whose training it is.
    """

    def __init__(self, trainer: MultimodalAdapterTrainer) -> None:
        self.trainer = trainer

    def on_train_begin(
        self, args: MultimodalTrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Evaluate and save, unless a training is resumed or the best weights are not looked for."""
        if self.trainer.resumed_from is not None or not args.load_best_model_at_end:
            return
        self.trainer._determine_best_metric(metrics=self.trainer.evaluate(), trial=None)
        self.trainer._save_checkpoint(self.trainer.model, trial=None)


def starts_from_linear_probe(args: MultimodalTrainingArguments, adapter: MultimodalAdapterConfig) -> bool:
    """Return whether a training starts from a linear probe.

    Without a choice in the arguments it does where the adapters read the text alone. A head that is fitted before the
    adapters of other modalities have learned to let anything through leans on the text, and ends worse: see
    ``benchmarks/movies-probe-start``.

    Args:
        args: Their ``linear_probe_start`` decides if it is not None.
        adapter: The adapters.
    """
    return not adapter.modalities if args.linear_probe_start is None else args.linear_probe_start


def start_from_linear_probe(
    trainer: MultimodalAdapterTrainer, report: Callable[[str], None] | None = None
) -> LinearProbe:
    """Fit the head of a Trainer's model on the Trainer's rows, by its loss and its metric.

    Args:
        trainer: Before its training.
        report: Called with a line for a person.

    Raises:
        ConfigurationError, DataError: As ``fit_linear_probe``.
    """
    args = trainer.args
    choice = Choice(str(args.metric_for_best_model), bool(args.greater_is_better), trainer.labels)
    probe = fit_linear_probe(
        cast(PeftModel, trainer.model),
        cast("MultimodalDataset | StreamedDataset", trainer.train_dataset),
        cast("MultimodalDataset | None", trainer.eval_dataset),
        trainer.data_collator,
        trainer.step_loss,
        choice,
        batch_size=args.per_device_eval_batch_size,
        seed=args.seed,
    )
    if report is not None:
        value = probe.validation_scores.get(probe.strength)
        named = choice.metric.removeprefix("eval_").replace("_", " ")
        shown = "" if value is None else f", validation {named} {value:.4f}"
        report(f"  head fitted on the frozen features of {probe.rows} rows: C {probe.strength:g}{shown}")
    return probe


def fit_linear_probe(
    model: PeftModel,
    train: MultimodalDataset | StreamedDataset,
    validation: MultimodalDataset | None,
    collator: Callable[[list[dict[str, Any]]], dict[str, Any]],
    loss: StepLoss,
    choice: Choice,
    *,
    batch_size: int = 64,
    seed: int = 0,
) -> LinearProbe:
    """Fit the last layer of the active head on what enters it, and put the solution into its weights.

    Every row is encoded once in evaluation mode, with adapters and head as they are; what enters the last layer is
    standardised, and the mean training loss plus ``|W|² / (2 C N)`` is minimised by L-BFGS. The standardisation is
    folded into the weights. A label that all or none of the rows have gets its smoothed frequency.

    Args:
        model: A PEFT model around a ``TextClassifier``.
        train: The training rows with labels; of more than ``MOST_ROWS``, so many are drawn.
        validation: The rows by which C is chosen; without them it is ``DEFAULT_STRENGTH``.
        collator: Makes batches of them.
        loss: The loss of the training, with its class weights and label smoothing.
        choice: How C is chosen.
        batch_size: Rows a batch while encoding.
        seed: Of the rows that are drawn.

    Raises:
        ConfigurationError: If the model's head is none of a ``TextClassifier``, or features are NaN or infinite.
        DataError: If the rows have no labels.
    """
    layer = last_layer(model)
    rows = np.arange(len(train))
    if len(rows) > MOST_ROWS:
        rows = np.sort(np.random.default_rng(seed).choice(len(train), MOST_ROWS, replace=False))
    parts = [encode(model, layer, part, collator, of_part, batch_size) for part, of_part in _parts(train, rows)]
    features, labels = (torch.cat(values) for values in zip(*parts, strict=True))
    if loss.problem_type == "single_label_classification":
        features, labels = features[labels != IGNORED_LABEL], labels[labels != IGNORED_LABEL]
    if not len(labels):
        raise DataError("linear_probe_start: no training row has a label that is known. Give rows with labels.")
    mean, scale = features.mean(dim=0), features.std(dim=0, correction=0)
    scale = torch.where(scale > 1e-6, scale, 1.0)
    standardised = (features - mean) / scale
    held_out = None
    if validation is not None and len(validation):
        of_validation, targets = encode(model, layer, validation, collator, np.arange(len(validation)), batch_size)
        held_out = ((of_validation - mean) / scale, targets)
    best: tuple[float, float, Tensor] | None = None
    values: dict[float, float | None] = {}
    weights, worse = None, 0
    for strength in STRENGTHS if held_out is not None else (DEFAULT_STRENGTH,):
        weights = solve(standardised, labels, layer.out_features, loss, strength, start=weights)
        value = None if held_out is None else _validation_value(weights, *held_out, loss, choice)
        values[strength] = value
        gain = -np.inf if value is None else value if choice.greater_is_better else -value
        if best is None or gain > best[0] or (gain == best[0] == -np.inf and strength == DEFAULT_STRENGTH):
            best, worse = (gain, strength, weights), 0
        worse += gain < best[0]
        if worse == PATIENCE:
            break
    assert best is not None
    _, strength, weights = best
    coefficients = weights[:, :-1] / scale
    set_output(layer, weights[:, -1] - coefficients @ mean, coefficients)
    if held_out is None:
        return LinearProbe(strength, len(labels))
    return LinearProbe(strength, len(labels), choice.metric, values)


def _parts(
    train: MultimodalDataset | StreamedDataset, rows: np.ndarray
) -> Iterator[tuple[MultimodalDataset, np.ndarray]]:
    """Yield data sets in memory and which of their rows are wanted: of streamed rows some at a time."""
    if isinstance(train, StreamedDataset):
        for part in train.at(rows):
            yield part, np.arange(len(part))
    else:
        yield train, rows


def last_layer(model: PeftModel) -> nn.Linear:
    """Return the last layer of the head that the active adapter trains.

    Raises:
        ConfigurationError: If there is none.
    """
    head = getattr(model.get_base_model(), "classifier", None)
    if isinstance(head, ModulesToSaveWrapper):
        head = head.modules_to_save[head.active_adapters[0]] if head.active_adapters else head.original_module
    layer = getattr(head, "out", None)
    if not isinstance(layer, nn.Linear):
        raise ConfigurationError(
            "linear_probe_start and label_prior_start need the head of a mmadapters.TextClassifier; this model's is "
            f"{type(head).__name__}. Set both to false."
        )
    return layer


@torch.no_grad()
def set_output(layer: nn.Linear, bias: Tensor, weight: Tensor | None = None) -> None:
    """Have a last layer compute ``weight @ x + bias``; a regression's keeps these in its targets' deviations.

    Args:
        layer: The last layer of a head.
        bias: (C,), in the targets' own unit.
        weight: (C, D); without it the layer's stays.
    """
    mean, deviation = 0.0, 1.0
    if isinstance(layer, RegressionOutput):
        mean, deviation = layer.target_mean.item(), layer.target_deviation.item()
    layer.bias.copy_((bias - mean) / deviation)
    if weight is not None:
        layer.weight.copy_(weight / deviation)


def encode(
    model: nn.Module,
    layer: nn.Linear,
    dataset: MultimodalDataset,
    collator: Callable[[list[dict[str, Any]]], dict[str, Any]],
    rows: np.ndarray,
    batch_size: int,
) -> tuple[Tensor, Tensor]:
    """Return what enters a layer, float64 (N, D) on the CPU, and the rows' labels.

    No random number is drawn, so a training goes on as it would have.

    Args:
        model: In any mode, which is restored.
        layer: A layer of it.
        dataset: Has the rows.
        collator: Makes batches of them.
        rows: N positions.
        batch_size: Rows a batch; texts of like length share one.

    Raises:
        ConfigurationError: If a feature is NaN or infinite.
        DataError: If the rows have no labels.
    """
    if dataset.labels is None:
        raise DataError("linear_probe_start needs rows with labels.")
    device = next(model.parameters()).device
    order = rows[np.argsort(dataset.lengths[rows], kind="stable")]
    entered: list[Tensor] = []
    handle = layer.register_forward_pre_hook(lambda _, inputs: entered.append(inputs[0].double().cpu()))
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            for start in range(0, len(order), batch_size):
                batch = collator([dataset[int(row)] for row in order[start : start + batch_size]])
                batch.pop("labels", None)
                model(**to_device(batch, device))
    finally:
        handle.remove()
        model.train(was_training)
    features = torch.cat(entered)
    if not bool(torch.isfinite(features).all()):
        raise ConfigurationError(
            "linear_probe_start: what enters the head is NaN or infinite in some training or validation rows. Check "
            "the features, or use a backbone in float32."
        )
    labels = torch.as_tensor(np.asarray(dataset.labels)[order])
    return features, labels.long() if labels.ndim == 1 and not labels.is_floating_point() else labels.double()


def solve(
    features: Tensor,
    labels: Tensor,
    num_labels: int,
    loss: StepLoss,
    strength: float,
    start: Tensor | None = None,
) -> Tensor:
    """Return the weights (C, D + 1), intercepts last, that minimise the mean loss plus ``|W|² / (2 strength N)``.

    Args:
        features: (N, D), float64, standardised.
        labels: Multi-label (N, C), single-label (N,) without -100, or values (N,).
        num_labels: Number C of outputs.
        loss: Of the training.
        strength: Inverse regularisation; the intercepts are free of it.
        start: (C, D + 1) to start from; zeros without it.
    """
    n_rows, width = features.shape
    columns = _columns_to_fit(labels, num_labels, loss.problem_type)
    weighted = None if loss.class_weights is None else loss.class_weights.double()[columns]
    of_columns = StepLoss(loss.problem_type, weighted, loss.label_smoothing)
    targets = labels
    if loss.problem_type == "multi_label_classification":
        targets = labels[:, columns]
    elif loss.problem_type == "single_label_classification":
        targets = torch.searchsorted(columns, labels)

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        weights = torch.tensor(flat).view(-1, width + 1).requires_grad_()
        value = of_columns({"logits": features @ weights[:, :-1].T + weights[:, -1]}, targets, n_rows)
        value = value + weights[:, :-1].square().sum() / (2.0 * strength * n_rows)
        value.backward()
        assert weights.grad is not None
        return value.item(), weights.grad.numpy().ravel()

    solution = torch.zeros(num_labels, width + 1, dtype=torch.float64)
    if len(columns):
        first = (solution if start is None else start)[columns].numpy().ravel()
        options = {"maxiter": MAX_ITERATIONS, "maxfun": 2 * MAX_ITERATIONS, "ftol": 1e-10, "gtol": 1e-6}
        found = minimize(objective, first, jac=True, method="L-BFGS-B", options=options)
        solution[columns] = torch.as_tensor(found.x).view(-1, width + 1)
    others = np.setdiff1d(np.arange(num_labels), columns)
    if loss.problem_type == "multi_label_classification":
        smoothed = (labels[:, others].sum(dim=0) + 0.5) / (n_rows + 1.0)
        solution[others, -1] = torch.logit(smoothed)
    elif loss.problem_type == "single_label_classification":
        logits = features @ solution[columns, :-1].T + solution[columns, -1]
        solution[others, -1] = logits.logsumexp(dim=1).mean() + np.log(0.5 / (n_rows + 1.0))
    return solution


def _columns_to_fit(labels: Tensor, num_labels: int, problem_type: str) -> Tensor:
    """Return the labels that have rows on both sides, or the classes that have rows: the others have no minimum."""
    if problem_type == "multi_label_classification":
        frequency = labels.mean(dim=0)
        return torch.nonzero((frequency > 0) & (frequency < 1)).ravel()
    if problem_type == "single_label_classification":
        return torch.unique(labels)
    return torch.arange(num_labels)


def _validation_value(
    weights: Tensor, features: Tensor, labels: Tensor, loss: StepLoss, choice: Choice
) -> float | None:
    logits = features @ weights[:, :-1].T + weights[:, -1]
    name = choice.metric.removeprefix("eval_")
    if name == "loss":
        value = float(loss({"logits": logits}, labels))
        return value if np.isfinite(value) else None
    scores = scores_from_logits(logits.numpy(), loss.problem_type)
    return compute_metrics(loss.problem_type, scores, labels.numpy(), choice.labels).values.get(name)
