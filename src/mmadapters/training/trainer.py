"""The Hugging Face Trainer for adapters and head."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import EarlyStoppingCallback, EvalPrediction, Trainer

from mmadapters.errors import ConfigurationError, did_you_mean, listed
from mmadapters.evaluation.metrics import METRIC_NAMES, compute_metrics
from mmadapters.evaluation.scores import scores_from_logits
from mmadapters.training.arguments import MultimodalTrainingArguments
from mmadapters.training.losses import StepLoss, inverse_frequency_weights

HEAD_NAMES = ("classifier", "score")
"""Parts of a parameter's path that make it one of the head's."""


class MultimodalAdapterTrainer(Trainer):
    """``transformers.Trainer`` that trains adapters and head, each at its own learning rate.

    Biases and LayerNorms are not decayed. The loss of a step is the mean over all its examples, however gradient
    accumulation cuts it. Checkpoints hold adapters and head only, and the best of both is restored at the end.

    Args:
        model: A PEFT model around a ``TextClassifier``.
        args: The training arguments.
        problem_type: One of ``mmadapters.classifier.PROBLEM_TYPES``.
        labels: Label names in the order of the logits.
        kwargs: Further arguments of ``Trainer``: data sets, collator, callbacks.
    """

    args: MultimodalTrainingArguments
    optimizer: torch.optim.Optimizer | None

    def __init__(
        self,
        model: nn.Module,
        args: MultimodalTrainingArguments,
        *,
        problem_type: str,
        labels: Sequence[str] = (),
        **kwargs: Any,
    ) -> None:
        if args.class_weights and kwargs.get("train_dataset") is None:
            raise ConfigurationError("class_weights=True needs a train_dataset, from which frequencies are counted.")
        args.for_run(problem_type, has_validation=kwargs.get("eval_dataset") is not None)
        self.problem_type = problem_type
        if "compute_metrics" not in kwargs:
            _check_metric_name(args, problem_type)
        weights = None
        if args.class_weights:
            weights = inverse_frequency_weights(kwargs["train_dataset"].labels, problem_type, len(labels))
        kwargs.setdefault("compute_loss_func", StepLoss(problem_type, weights))
        kwargs.setdefault("compute_metrics", metrics_function(problem_type, labels))
        super().__init__(model=model, args=args, **kwargs)
        if args.early_stopping_patience is not None:
            self.add_callback(EarlyStoppingCallback(args.early_stopping_patience))

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """Make the optimiser: adapters and head, each with and without weight decay."""
        if self.optimizer is None:
            module = self.model if model is None else model
            optimizer_class, options = self.get_optimizer_cls_and_kwargs(self.args, module)
            self.optimizer = optimizer_class(parameter_groups(module, self.args), **options)
        return self.optimizer

    def _get_num_items_in_batch(self, batch_samples: list, device: torch.device) -> Any:
        if self.problem_type == "regression":
            # The Trainer leaves out labels that equal -100, which is an ordinary value here.
            batch_samples = [{**batch, "labels": torch.zeros_like(batch["labels"])} for batch in batch_samples]
        return super()._get_num_items_in_batch(batch_samples, device)


def _check_metric_name(args: MultimodalTrainingArguments, problem_type: str) -> None:
    """Refuse a metric that no evaluation will compute, before an epoch is trained for nothing."""
    name = str(args.metric_for_best_model).removeprefix("eval_")
    accepted = ("loss", *METRIC_NAMES[problem_type])
    if args.load_best_model_at_end and name not in accepted:
        raise ConfigurationError(
            f"metric_for_best_model={args.metric_for_best_model!r} is no metric of {problem_type}. Accepted are "
            f"{listed(accepted)}.{did_you_mean(name, accepted)}"
        )


def parameter_groups(model: nn.Module, args: MultimodalTrainingArguments) -> list[dict[str, Any]]:
    """Return the trainable parameters in at most four groups: adapters and head, each with and without weight decay.

    Args:
        model: The model that is trained; what does not require gradients is left out.
        args: Gives learning rate, multiplier and weight decay.

    Raises:
        ConfigurationError: If nothing is trainable.
    """
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            is_head = any(part in HEAD_NAMES for part in name.split("."))
            decays = parameter.dim() > 1
            groups.setdefault((is_head, decays), []).append(parameter)
    if not groups:
        raise ConfigurationError(
            "No parameter of the model is trainable. Wrap it with peft.get_peft_model(model, "
            "MultimodalAdapterConfig(…)), or load an adapter with is_trainable=True."
        )
    return [
        {
            "params": parameters,
            "lr": args.learning_rate * (args.head_learning_rate_multiplier if is_head else 1.0),
            "weight_decay": args.weight_decay if decays else 0.0,
        }
        for (is_head, decays), parameters in groups.items()
    ]


def metrics_function(problem_type: str, labels: Sequence[str]) -> Callable[[EvalPrediction], dict[str, float]]:
    """Return what the Trainer calls after an evaluation: from logits and labels to metrics by name."""

    def compute(prediction: EvalPrediction) -> dict[str, float]:
        logits = prediction.predictions[0] if isinstance(prediction.predictions, tuple) else prediction.predictions
        scores = scores_from_logits(np.asarray(logits), problem_type)
        return compute_metrics(problem_type, scores, np.asarray(prediction.label_ids), labels).values

    return compute
