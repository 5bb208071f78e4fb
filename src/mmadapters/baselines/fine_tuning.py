"""Trains any model of a task with the adapters' Trainer: the same loss, batches, schedule and choice of the epoch."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from mmadapters.baselines.result import (
    MethodResult,
    as_rows,
    count_parameters,
    label_names,
    predicted_splits,
    scratch_folder,
)
from mmadapters.baselines.task_model import TaskModel
from mmadapters.data.collator import MultimodalCollator
from mmadapters.data.dataset import MultimodalDataset
from mmadapters.data.preprocessor import Preprocessor
from mmadapters.errors import ConfigurationError, DataError
from mmadapters.evaluation.evaluator import predict
from mmadapters.training.arguments import MultimodalTrainingArguments
from mmadapters.training.callbacks import EpochReport, QuietProgressCallback
from mmadapters.training.label_prior import prior_bias
from mmadapters.training.trainer import MultimodalAdapterTrainer

FULL_FINE_TUNING = {
    "learning_rate": 5e-5,
    "warmup_steps": 0.1,
    "head_learning_rate_multiplier": 10.0,
    "ema_decay": None,
}
"""Training options of methods that train the whole encoder; a run's own are made for adapters."""
FULL_FINE_TUNING_LENGTH = {"num_train_epochs": 30, "early_stopping_patience": 5}
"""Where a run names none: at such a learning rate adapters' 8 epochs of a small set are too few."""


class FineTuningTrainer(MultimodalAdapterTrainer):
    """The adapters' Trainer for a ``TaskModel``: what starts from nothing learns at the head's learning rate."""

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """Make the optimiser: pre-trained and new weights, each with and without weight decay."""
        if self.optimizer is None:
            module: Any = self.model if model is None else model
            optimizer_class, options = self.get_optimizer_cls_and_kwargs(self.args, module)
            self.optimizer = optimizer_class(fine_tuning_groups(module, self.args), **options)
        return self.optimizer


def fine_tuning_groups(model: TaskModel, args: MultimodalTrainingArguments) -> list[dict[str, Any]]:
    """Return the trainable parameters of a model in at most four groups.

    Args:
        model: What is trained.
        args: Gives learning rate, the multiplier for what is new, and weight decay.
    """
    new = {parameter for part in model.new_parts() for parameter in part.parameters()}
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for parameter in model.parameters():
        if parameter.requires_grad:
            groups.setdefault((parameter in new, parameter.dim() > 1), []).append(parameter)
    return [
        {
            "params": parameters,
            "lr": args.learning_rate * (args.head_learning_rate_multiplier if is_new else 1.0),
            "weight_decay": args.weight_decay if decays else 0.0,
        }
        for (is_new, decays), parameters in groups.items()
    ]


class EncoderFrozenFirst(TrainerCallback):
    """Keeps the encoder as it is for the first epochs, as MMBT's authors do.

    Args:
        epochs: How many.
        parts: What is frozen.
    """

    def __init__(self, epochs: int, parts: Sequence[nn.Module]) -> None:
        self.epochs = epochs
        self.parameters = [p for part in parts for p in part.parameters() if p.requires_grad]

    def on_epoch_begin(
        self, args: MultimodalTrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Freeze or thaw."""
        thawed = round(state.epoch or 0) >= self.epochs
        for parameter in self.parameters:
            parameter.requires_grad_(thawed)

    def on_train_end(
        self, args: MultimodalTrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Leave nothing frozen."""
        for parameter in self.parameters:
            parameter.requires_grad_(True)


@dataclass(frozen=True)
class Trained:
    """What a training gave.

    Attributes:
        log: The Trainer's; a number that is not finite is None.
        seconds: How long it took.
        chosen: See ``best_epoch``.
    """

    log: list[dict[str, Any]]
    seconds: float
    chosen: dict[str, Any]


def fine_tune(
    model: TaskModel,
    preprocessor: Preprocessor,
    data: Mapping[str, MultimodalDataset],
    arguments: MultimodalTrainingArguments,
    collator: MultimodalCollator,
    report: Callable[[str], None] | None = None,
    callbacks: Sequence[TrainerCallback] = (),
) -> Trained:
    """Train a model in place and leave it with the weights of its best epoch, in evaluation mode.

    Args:
        model: What is trained.
        preprocessor: Gives the label names.
        data: ``train`` and ``validation``.
        arguments: With an ``output_dir`` for checkpoints, which hold weights only.
        collator: Makes the batches.
        report: Called with a line for a person after each evaluation.
        callbacks: Further callbacks of the Trainer.

    Raises:
        ConfigurationError: If the training diverges.
    """
    arguments.save_only_model = True
    trainer = FineTuningTrainer(
        model,
        arguments,
        problem_type=model.problem_type,
        labels=label_names(preprocessor),
        train_dataset=data["train"],
        eval_dataset=data["validation"],
        data_collator=collator,
        callbacks=list(callbacks),
    )
    for printing in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(printing)
    if not arguments.disable_tqdm:
        trainer.add_callback(QuietProgressCallback)
    if report is not None:
        trainer.add_callback(EpochReport(report))
    started = time.perf_counter()
    if arguments.label_prior_start and model.problem_type != "regression":
        layer = model.output_layer()
        with torch.no_grad():
            layer.bias.copy_(prior_bias(np.asarray(data["train"].labels), trainer.step_loss, layer.out_features))
    try:
        trainer.train()
    except DataError as error:
        if all(bool(torch.isfinite(parameter).all()) for parameter in model.parameters()):
            raise
        raise diverged(arguments) from error
    seconds = time.perf_counter() - started
    log = finite_log(trainer.state.log_history)
    return Trained(log, seconds, best_epoch(log, arguments))


def diverged(arguments: MultimodalTrainingArguments) -> ConfigurationError:
    """Return the exception of a training whose weights are no numbers any more."""
    return ConfigurationError(
        f"The training diverged: weights are NaN or infinite. learning_rate={arguments.learning_rate:g} was used; "
        "lower it in the method's own section `training`."
    )


def finite_log(log: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return a log in which a number that is not finite is None, as JSON wants it."""
    return [
        {key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in entry.items()}
        for entry in log
    ]


def best_epoch(log: Sequence[Mapping[str, Any]], arguments: MultimodalTrainingArguments) -> dict[str, Any]:
    """Return by which validation metric the epoch was chosen, its value, and which epoch it was.

    Where the best weights are not restored (``load_best_model_at_end: false``) it is the last epoch.

    Args:
        log: The Trainer's.
        arguments: Of the training, after ``for_run``.
    """
    metric = str(arguments.metric_for_best_model).removeprefix("eval_")
    evaluated = [entry for entry in log if entry.get(f"eval_{metric}") is not None]
    if not evaluated:
        return {"metric": metric}
    sign = 1.0 if arguments.greater_is_better else -1.0
    restored = arguments.load_best_model_at_end
    best = max(evaluated, key=lambda entry: sign * entry[f"eval_{metric}"]) if restored else evaluated[-1]
    return {"metric": metric, "value": best[f"eval_{metric}"], "epoch": best.get("epoch")}


def fine_tuned_result(
    model: TaskModel,
    preprocessor: Preprocessor,
    data: Mapping[str, MultimodalDataset],
    arguments: MultimodalTrainingArguments,
    folder: Path,
    report: Callable[[str], None] | None = None,
    callbacks: Sequence[TrainerCallback] = (),
    *,
    measure: Callable[[TaskModel, Path], int],
) -> MethodResult:
    """Train a model, predict, measure, and leave no checkpoint behind.

    Args:
        model: What is trained.
        preprocessor: Made the data.
        data: The rows by split.
        arguments: Of the training; checkpoints go into ``folder``.
        folder: Of the run.
        report: Called with a line for a person.
        callbacks: Further callbacks of the Trainer.
        measure: Returns the bytes that have to be kept of the trained model.
    """
    collator = MultimodalCollator(preprocessor.tokenizer, preprocessor.modalities)
    trainable = count_parameters(model, trainable_only=True)
    with scratch_folder(folder, "checkpoints") as checkpoints:
        arguments.output_dir = str(checkpoints)
        trained = fine_tune(model, preprocessor, data, arguments, collator, report, callbacks)
    return MethodResult(
        logits=predicted_logits(model, data, collator, model.problem_type, arguments),
        trainable_parameters=trainable,
        parameters=count_parameters(model),
        file_bytes=measure(model, folder),
        seconds=trained.seconds,
        log=trained.log,
        settings=trained.chosen,
    )


def predicted_logits(
    model: nn.Module,
    data: Mapping[str, MultimodalDataset],
    collator: MultimodalCollator,
    problem_type: str,
    arguments: MultimodalTrainingArguments,
) -> dict[str, np.ndarray]:
    """Return a trained model's logits of validation and test rows, as ``MethodResult`` has them."""
    return {
        split: as_rows(
            predict(
                model,
                data[split],
                collator,
                problem_type,
                batch_size=arguments.per_device_eval_batch_size,
                max_tokens_per_batch=arguments.max_tokens_per_batch,
            ).logits,
            problem_type,
        )
        for split in predicted_splits(data)
    }
