"""Training arguments with the defaults that gated adapters need."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field

import torch
from transformers import TrainingArguments

from mmadapters.errors import ConfigurationError
from mmadapters.training.checkpoints import FEWEST_KEPT
from mmadapters.training.tracking import checked_trackers

BEST_METRIC = {
    "multi_label_classification": "micro_average_precision",
    "single_label_classification": "macro_f1",
    "regression": "rmse",
}
"""The validation metric by which the best epoch is chosen where none is named."""

LOWER_IS_BETTER = ("loss", "mae", "rmse")

NOT_FOR_TRAINING = ("seed", "remove_unused_columns", "label_names")
"""Arguments that are settled elsewhere: no options for a person who trains."""

LARGEST_SEED = 2**32 - 1
"""NumPy's."""


@dataclass
class MultimodalTrainingArguments(TrainingArguments):
    """``transformers.TrainingArguments`` with other defaults and a few more fields.

    Adapters want a larger learning rate than full fine-tuning, and the head, which starts from nothing, a larger one
    than the adapters. All fields of ``TrainingArguments`` are accepted.

    Attributes:
        learning_rate: Of the adapters.
        head_learning_rate_multiplier: The head's learning rate is this times ``learning_rate``.
        class_weights: Whether the loss weighs label c's positives (multi-label) or examples (single-label) by
            ``N / frequency`` on the training split, as the original Moviescope experiments did.
        linear_probe_start: Whether the head's last layer is fitted on the frozen features before training, as
            ``mmadapters.training.probe`` does; with None where the adapters read the text alone.
        label_prior_start: Whether the head's last bias starts at the labels' frequencies, as
            ``mmadapters.training.label_prior`` does, where no head is fitted.
        train_sampling_strategy: ``group_by_length`` (rows of similar length share a batch) or ``random``; the others
            are the Trainer's.
        max_tokens_per_batch: Most tokens of a device's batch, padding included, in training and evaluation; it takes
            the place of the batch sizes.
        checkpoint_steps: A checkpoint every so many steps, beside those of ``save_strategy``; a killed run goes on from
            the newest.
        save_total_limit: Newest checkpoints to keep beside the best; at least two, of which one is there if the other
            is damaged. None keeps all.
        ema_decay: Evaluation, checkpoints and the result have the exponential moving average of the trained weights
            with this decay a step, as ``mmadapters.training.ema`` makes it; with None those of the last step.
        tune_thresholds: Whether the probability from which on a label is predicted (multi-label) is tuned on the
            validation split, as ``mmadapters.evaluation.thresholds`` does, where a command saves the model; else 0.5.
        early_stopping_patience: Evaluations without improvement after which training stops; None never stops early.
        metric_for_best_model: Name of the validation metric; see ``BEST_METRIC`` for what is used without one.
        logging_dir: Where the files of ``report_to="tensorboard"`` go; without it a folder of its own in
            ``output_dir``, as the Trainer has it.

    Raises:
        ConfigurationError: If a value cannot be used.
        MissingDependencyError: If the package of a tracker in ``report_to`` is not installed.
    """

    output_dir: str | None = field(default=None, metadata={"help": "Where checkpoints go; else nowhere that stays."})
    learning_rate: float = field(default=3e-3, metadata={"help": "Learning rate of the adapters."})
    head_learning_rate_multiplier: float = field(
        default=3.0, metadata={"help": "The head's learning rate as a multiple of the adapters'."}
    )
    class_weights: bool = field(default=False, metadata={"help": "Weigh labels by N / frequency in the loss."})
    linear_probe_start: bool | None = field(
        default=None, metadata={"help": "Fit the head on frozen features first; null does so for adapters of the text."}
    )
    label_prior_start: bool = field(
        default=True, metadata={"help": "Start the head's bias at the labels' frequencies, where no head is fitted."}
    )
    train_sampling_strategy: str = field(
        default="group_by_length", metadata={"help": "Which rows share a training batch: of similar length, or any."}
    )
    max_tokens_per_batch: int | None = field(
        default=None, metadata={"help": "Most tokens of a batch, padding included, instead of a number of examples."}
    )
    checkpoint_steps: int | None = field(
        default=None, metadata={"help": "A checkpoint every so many steps, beside those of save_strategy."}
    )
    ema_decay: float | None = field(
        default=0.98, metadata={"help": "Decay a step of the weights' moving average; null uses the last weights."}
    )
    tune_thresholds: bool = field(default=True, metadata={"help": "Tune multi-label thresholds on validation rows."})
    early_stopping_patience: int | None = field(
        default=3, metadata={"help": "Evaluations without improvement before training stops."}
    )
    num_train_epochs: float = field(default=8.0, metadata={"help": "Most epochs."})
    per_device_train_batch_size: int = field(default=32, metadata={"help": "Examples a step and device."})
    per_device_eval_batch_size: int = field(default=64, metadata={"help": "Examples a batch in evaluation."})
    weight_decay: float = field(default=0.01, metadata={"help": "Of all weights but biases and LayerNorms."})
    warmup_steps: float = field(
        default=0.1, metadata={"help": "Steps of warm-up, or below 1 their share of all steps."}
    )
    eval_strategy: str = field(default="epoch", metadata={"help": "When to evaluate on the validation split."})
    save_strategy: str = field(default="epoch", metadata={"help": "When to save a checkpoint."})
    save_total_limit: int | None = field(default=2, metadata={"help": "Checkpoints to keep beside the best."})
    load_best_model_at_end: bool = field(default=True, metadata={"help": "Restore the best adapters and head."})
    logging_strategy: str = field(default="epoch", metadata={"help": "When to log the training loss."})
    metric_for_best_model: str | None = field(
        default=None, metadata={"help": "Validation metric by which the best epoch is chosen."}
    )
    greater_is_better: bool | None = field(default=None, metadata={"help": "Whether more of that metric is better."})
    ddp_find_unused_parameters: bool | None = field(
        default=False, metadata={"help": "Stays off: a missing modality's parameters get gradients of zero."}
    )
    remove_unused_columns: bool = field(default=False, metadata={"help": "Stays off: it would drop the modalities."})
    label_names: list[str] | None = field(default_factory=lambda: ["labels"], metadata={"help": "Label columns."})
    dataloader_pin_memory: bool = field(
        default_factory=torch.cuda.is_available, metadata={"help": "Pin memory; by default where there is a GPU."}
    )
    report_to: str | list[str] | None = field(default="none", metadata={"help": "Where to report metrics."})
    logging_dir: str | None = field(
        default=None, metadata={"help": "Where TensorBoard's files go; null uses a folder in output_dir."}
    )

    def __post_init__(self) -> None:
        problems = self._problems()
        if problems:
            raise ConfigurationError("MultimodalTrainingArguments: " + " ".join(problems))
        # TrainingArguments fills in "loss" where load_best_model_at_end is set and no metric is named.
        self.named_metric = self.metric_for_best_model
        if self.metric_for_best_model is not None and self.greater_is_better is None:
            self.greater_is_better = self.metric_for_best_model.removeprefix("eval_") not in LOWER_IS_BETTER
        if self.save_total_limit is not None:
            self.save_total_limit = max(self.save_total_limit, FEWEST_KEPT)
        # TrainingArguments would make a folder "trainer_output" where none is named.
        self.needs_output_dir = self.output_dir is None
        self.output_dir = self.output_dir or tempfile.gettempdir()
        try:
            super().__post_init__()
        except ValueError as error:
            raise ConfigurationError(f"MultimodalTrainingArguments: {error}") from error
        self.report_to = checked_trackers(self.report_to)

    def _problems(self) -> list[str]:
        problems = []
        if self.remove_unused_columns:
            problems.append(
                "remove_unused_columns=True would drop the modalities before they reach the model; leave it out."
            )
        if not self.head_learning_rate_multiplier > 0:
            problems.append(f"head_learning_rate_multiplier={self.head_learning_rate_multiplier!r} must be above 0.")
        if self.early_stopping_patience is not None and self.early_stopping_patience < 1:
            problems.append(f"early_stopping_patience={self.early_stopping_patience!r} must be at least 1, or null.")
        problems += [
            f"{name}={getattr(self, name)!r} must be at least 1, or null."
            for name in ("max_tokens_per_batch", "checkpoint_steps")
            if getattr(self, name) is not None and getattr(self, name) < 1
        ]
        if self.max_tokens_per_batch is not None and self.train_sampling_strategy not in ("group_by_length", "random"):
            problems.append(
                f"max_tokens_per_batch cannot be used with train_sampling_strategy={self.train_sampling_strategy!r}; "
                "leave one of them out."
            )
        if self.max_steps <= 0 and not self.num_train_epochs > 0:
            problems.append(f"num_train_epochs={self.num_train_epochs!r} must be above 0.")
        if not 0 <= self.label_smoothing_factor < 1:
            problems.append(f"label_smoothing_factor={self.label_smoothing_factor!r} must be at least 0 and below 1.")
        if self.ema_decay is not None and not 0 < self.ema_decay < 1:
            problems.append(f"ema_decay={self.ema_decay!r} must be above 0 and below 1, or null.")
        if not self.learning_rate >= 0:
            problems.append(f"learning_rate={self.learning_rate!r} must be 0 or more.")
        if not 0 <= self.seed <= LARGEST_SEED:
            problems.append(f"seed={self.seed!r} must be at least 0 and at most {LARGEST_SEED}.")
        problems += [
            f"{name}={getattr(self, name)!r} must be at least 1."
            for name in ("per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps")
            if getattr(self, name) < 1
        ]
        return problems

    def for_run(self, problem_type: str, has_validation: bool) -> None:
        """Settle what depends on the data: the metric, and no early stopping where there is no validation split.

        Args:
            problem_type: Decides the metric where none was named.
            has_validation: Whether there is a validation split.
        """
        if not has_validation:
            self.eval_strategy = "no"
            self.load_best_model_at_end = False
            self.early_stopping_patience = None
        self.metric_for_best_model = self.named_metric or BEST_METRIC[problem_type]
        self.greater_is_better = self.metric_for_best_model.removeprefix("eval_") not in LOWER_IS_BETTER
