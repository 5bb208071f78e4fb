"""The Hugging Face Trainer for adapters and head."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Sampler, SequentialSampler
from transformers import EarlyStoppingCallback, EvalPrediction, SchedulerType, Trainer

from mmadapters.data.batching import longest_first
from mmadapters.data.stream_batches import StreamedBatches
from mmadapters.data.streaming import StreamedDataset
from mmadapters.errors import ConfigurationError, did_you_mean, listed
from mmadapters.evaluation.metrics import METRIC_NAMES, compute_metrics
from mmadapters.evaluation.scores import scores_from_logits
from mmadapters.training.arguments import MultimodalTrainingArguments
from mmadapters.training.checkpoints import Checkpoint
from mmadapters.training.ema import WeightAverage
from mmadapters.training.loaders import (
    RowsInOrder,
    budgeted_evaluation_loader,
    restored_order,
    row_lengths,
    training_loader,
)
from mmadapters.training.losses import StepLoss, inverse_frequency_weights, streamed_frequency_weights
from mmadapters.training.saving import ContinuedTraining, save_checkpoint
from mmadapters.training.schedules import schedule_options
from mmadapters.training.streamed import check_streamed, skip_unread
from mmadapters.training.target_scale import scale_of_rows
from mmadapters.training.tracking import use_tensorboard_logs

HEAD_NAMES = ("classifier", "score")
"""Parts of a parameter's path that make it one of the head's."""


class MultimodalAdapterTrainer(Trainer):
    """``transformers.Trainer`` that trains adapters and head, each at its own learning rate.

    Biases and LayerNorms are not decayed. The loss of a step is the mean over all its examples, however gradient
    accumulation cuts it. Rows of similar length share a batch; evaluation takes the longest first, and gives
    predictions and metrics in the order of the rows. Checkpoints hold adapters and head only, and the best of both is
    restored at the end.

    Args:
        model: A PEFT model around a ``TextClassifier``.
        args: The training arguments.
        problem_type: One of ``mmadapters.classifier.PROBLEM_TYPES``.
        labels: Label names in the order of the logits.
        kwargs: Further arguments of ``Trainer``: data sets, collator, callbacks.
    """

    args: MultimodalTrainingArguments
    compute_metrics: Callable[[EvalPrediction], dict[str, float]] | None
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
        check_streamed(kwargs.get("train_dataset"), kwargs.get("eval_dataset"), has_prefix_cache=False)
        args.for_run(problem_type, has_validation=kwargs.get("eval_dataset") is not None)
        self.problem_type = problem_type
        if "compute_metrics" not in kwargs:
            _check_metric_name(args, problem_type)
        self.labels = list(labels)
        weights = None
        if args.class_weights:
            weights = _class_weights(kwargs["train_dataset"], problem_type, len(labels))
        _, deviation = scale_of_rows(problem_type, kwargs.get("train_dataset"))
        self.step_loss = StepLoss(problem_type, weights, args.label_smoothing_factor, deviation)
        kwargs.setdefault("compute_loss_func", self.step_loss)
        kwargs.setdefault("compute_metrics", metrics_function(problem_type, labels))
        self.run_settings: dict[str, Any] = {}
        self.resumed_from: Checkpoint | None = None
        self.began = time.perf_counter()
        # Of multi-label targets the Trainer would say that it does not smooth them; the loss above does.
        smoothing, args.label_smoothing_factor = args.label_smoothing_factor, 0.0
        super().__init__(model=model, args=args, **kwargs)
        args.label_smoothing_factor = smoothing
        self.add_callback(ContinuedTraining(self))
        self.tensorboard = use_tensorboard_logs(self)
        self.average: WeightAverage | None = None
        if args.ema_decay is not None:
            self.average = WeightAverage(model, args.ema_decay)
            self.add_callback(self.average)
        if args.early_stopping_patience is not None:
            self.add_callback(EarlyStoppingCallback(args.early_stopping_patience))

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """Train as the Trainer does; TensorBoard's files are closed however that ends."""
        try:
            return super().train(*args, **kwargs)
        finally:
            if self.tensorboard is not None:
                self.tensorboard.close()

    def get_train_dataloader(self) -> DataLoader:
        """Return the loader of the training rows; see ``mmadapters.training.loaders``."""
        loader = None if self.train_dataset is None else training_loader(self)
        return super().get_train_dataloader() if loader is None else loader

    def get_eval_dataloader(self, eval_dataset: Any = None) -> DataLoader:
        """Return the loader of rows to evaluate, the longest first."""
        rows = self.eval_dataset if eval_dataset is None else eval_dataset
        rows = self.eval_dataset[rows] if isinstance(rows, str) else rows
        if rows is None or self.args.max_tokens_per_batch is None:
            return super().get_eval_dataloader(eval_dataset)
        return budgeted_evaluation_loader(self, rows)

    def get_test_dataloader(self, test_dataset: Any) -> DataLoader:
        """Return the loader of rows to predict, the longest first."""
        if self.args.max_tokens_per_batch is None:
            return super().get_test_dataloader(test_dataset)
        return budgeted_evaluation_loader(self, test_dataset)

    def _get_eval_sampler(self, eval_dataset: Any) -> Sampler | None:
        lengths = row_lengths(self, eval_dataset)
        if self.args.batch_eval_metrics or lengths is None:
            sized = eval_dataset is not None and hasattr(eval_dataset, "__len__")
            return SequentialSampler(eval_dataset) if sized and self.args.world_size <= 1 else None
        return RowsInOrder(longest_first(lengths))

    def evaluation_loop(
        self, dataloader: DataLoader, *args: Any, metric_key_prefix: str = "eval", **kwargs: Any
    ) -> Any:
        """Run the Trainer's loop over a loader of this class, and put what it gives into the order of the rows.

        The loss is the mean over all examples, however they were cut into batches.
        """
        lengths = None if self.args.batch_eval_metrics else row_lengths(self, dataloader.dataset)
        if lengths is None:
            return super().evaluation_loop(dataloader, *args, metric_key_prefix=metric_key_prefix, **kwargs)
        order = longest_first(lengths)
        compute = self.compute_metrics
        if compute is not None:
            self.compute_metrics = lambda prediction: compute(restored_order(prediction, order))
        try:
            output = super().evaluation_loop(dataloader, *args, metric_key_prefix=metric_key_prefix, **kwargs)
        finally:
            self.compute_metrics = compute
        in_order = restored_order(EvalPrediction(output.predictions, output.label_ids), order)
        predictions, labels = in_order.predictions, in_order.label_ids
        is_ours = isinstance(self.compute_loss_func, StepLoss) and isinstance(predictions, np.ndarray)
        if is_ours and isinstance(labels, np.ndarray):
            outputs = {"logits": torch.from_numpy(predictions).float()}
            output.metrics[f"{metric_key_prefix}_loss"] = float(
                self.compute_loss_func(outputs, torch.from_numpy(labels))
            )
        return output._replace(predictions=predictions, label_ids=labels)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log as the Trainer does; the mean training loss of all steps, also those before a training was resumed."""
        if "train_loss" in logs and hasattr(self, "_total_loss_scalar"):
            logs["train_loss"] = self._total_loss_scalar / max(self.state.global_step, 1)
        super().log(logs, start_time)

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Evaluate as the Trainer does, with ``ema_decay`` the averaged weights."""
        with nullcontext() if self.average is None else self.average.in_place():
            return super().evaluate(*args, **kwargs)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save as the Trainer does, with ``ema_decay`` the averaged weights; a checkpoint holds both."""
        if self.average is None:
            super().save_model(output_dir, _internal_call)
            return
        with self.average.in_place():
            super().save_model(output_dir, _internal_call)
        if _internal_call and output_dir is not None and self.args.should_save:
            self.average.save_live(output_dir)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        save_checkpoint(self, Path(self._get_output_dir(trial)))

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        if self.resumed_from is not None and self.resumed_from.stopped:
            # The Trainer would make one more step before it looks at this.
            self.control.should_training_stop = True
            return
        skip_unread(kwargs, self.args.ignore_data_skip)
        super()._run_epoch(*args, **kwargs)

    def num_examples(self, dataloader: DataLoader) -> int:
        """Return the number of rows that a loader goes through in an epoch, in all processes."""
        if isinstance(dataloader.dataset, StreamedBatches):
            return len(dataloader.dataset.rows)
        return super().num_examples(dataloader)

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """Make the optimiser: adapters and head, each with and without weight decay."""
        if self.optimizer is None:
            module = self.model if model is None else model
            optimizer_class, options = self.get_optimizer_cls_and_kwargs(self.args, module)
            self.optimizer = optimizer_class(parameter_groups(module, self.args), **options)
        return self.optimizer

    def create_scheduler(
        self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None
    ) -> torch.optim.lr_scheduler.LRScheduler:
        """Make the schedule of the learning rate; see ``mmadapters.training.schedules``."""
        given = self.args.lr_scheduler_kwargs
        self.args.lr_scheduler_kwargs = schedule_options(self.args)
        try:
            return super().create_scheduler(num_training_steps, optimizer)
        except (TypeError, ValueError) as error:
            raise ConfigurationError(
                f"lr_scheduler_type={SchedulerType(self.args.lr_scheduler_type).value} cannot be made with "
                f"lr_scheduler_kwargs={given}: {error}"
            ) from error
        finally:
            self.args.lr_scheduler_kwargs = given

    def _get_num_items_in_batch(self, batch_samples: list, device: torch.device) -> Any:
        if self.problem_type == "regression":
            # The Trainer leaves out labels that equal -100, which is an ordinary value here.
            batch_samples = [{**batch, "labels": torch.zeros_like(batch["labels"])} for batch in batch_samples]
        return super()._get_num_items_in_batch(batch_samples, device)


def _class_weights(rows: Any, problem_type: str, num_labels: int) -> Tensor:
    if isinstance(rows, StreamedDataset):
        return streamed_frequency_weights(rows)
    return inverse_frequency_weights(rows.labels, problem_type, num_labels)


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
