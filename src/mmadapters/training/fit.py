"""One call from preprocessed rows to trained adapters: what the command line, the demo and the predictor share."""

from __future__ import annotations

import copy
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from peft import PeftModel, get_peft_model
from transformers import TrainerCallback, set_seed
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from mmadapters.adapters.config import MultimodalAdapterConfig
from mmadapters.classifier import TextClassifier
from mmadapters.data.collator import MultimodalCollator
from mmadapters.data.dataset import MultimodalDataset
from mmadapters.data.preprocessor import Preprocessor
from mmadapters.errors import ConfigurationError
from mmadapters.training.arguments import MultimodalTrainingArguments
from mmadapters.training.callbacks import EpochReport, QuietProgressCallback
from mmadapters.training.trainer import MultimodalAdapterTrainer


@dataclass(frozen=True)
class ModelSettings:
    """The frozen part and the head.

    Attributes:
        backbone: An alias (``minilm``), a local folder or the name of a model on the Hub.
        pooling: ``cls``, ``mean``, ``last`` or ``pooler``.
        head: ``linear`` or ``mlp``.
        head_dropout: Dropout of the head in training.
    """

    backbone: str = "minilm"
    pooling: str = "mean"
    head: str = "linear"
    head_dropout: float = 0.1


@dataclass(frozen=True)
class FitResult:
    """A trained model.

    Attributes:
        model: The PEFT model, in evaluation mode, with the best adapters and head.
        log: The Trainer's log: one dictionary per logged step or evaluation.
        best_metric: Value of the metric by which the best epoch was chosen, or None without validation split.
        seconds: Wall-clock time of the training, model loading excluded.
    """

    model: PeftModel
    log: list[dict[str, Any]]
    best_metric: float | None
    seconds: float


def build_model(preprocessor: Preprocessor, settings: ModelSettings, adapter: MultimodalAdapterConfig) -> PeftModel:
    """Return a new classifier with new adapters around a pre-trained encoder.

    Args:
        preprocessor: Gives problem type and labels.
        settings: Backbone, pooling and head.
        adapter: The adapters. Its modalities must be those of the preprocessor, in the same order.

    Raises:
        ConfigurationError: If the preprocessor has no labels or the modalities differ.
    """
    if preprocessor.labels is None:
        raise ConfigurationError("The preprocessor was fitted without a label column, so there is nothing to train on.")
    expected = [(modality.name, modality.feature_dim) for modality in preprocessor.modalities]
    given = [(modality.name, modality.feature_dim) for modality in adapter.modalities]
    if given and given != expected:
        raise ConfigurationError(
            f"The adapter's modalities are {given}, the data's are {expected}. Pass modalities=preprocessor.modalities."
        )
    classifier = TextClassifier.from_backbone(
        settings.backbone,
        problem_type=str(preprocessor.labels.problem_type),
        labels=[str(label) for label in preprocessor.labels.classes],
        pooling=settings.pooling,
        head=settings.head,
        head_dropout=settings.head_dropout,
    )
    config = copy.deepcopy(adapter)
    config.task_type = "SEQ_CLS"
    return get_peft_model(classifier, config)


def fit(
    preprocessor: Preprocessor,
    train: MultimodalDataset,
    validation: MultimodalDataset | None,
    *,
    settings: ModelSettings,
    adapter: MultimodalAdapterConfig,
    arguments: MultimodalTrainingArguments,
    callbacks: Sequence[TrainerCallback] = (),
    report: Callable[[str], None] | None = None,
) -> FitResult:
    """Train adapters and head.

    Args:
        preprocessor: Fitted on the training rows.
        train: The training rows.
        validation: The rows by which the best epoch is chosen; None trains for all epochs.
        settings: Backbone, pooling and head.
        adapter: The adapters.
        arguments: The training arguments. Without ``output_dir`` checkpoints go to a temporary folder.
        callbacks: Further callbacks of the Trainer.
        report: Called with a line for a person after each evaluation.
    """
    set_seed(arguments.seed)
    model = build_model(preprocessor, settings, adapter)
    problem_type = model.config.problem_type
    with tempfile.TemporaryDirectory(prefix="mmadapters-") as temporary:
        arguments = copy.copy(arguments)
        if arguments.needs_output_dir:
            arguments.output_dir = temporary
        trainer = MultimodalAdapterTrainer(
            model,
            arguments,
            problem_type=problem_type,
            labels=list(model.config.label2id),
            train_dataset=train,
            eval_dataset=validation,
            data_collator=MultimodalCollator(preprocessor.tokenizer, active_modalities(model, preprocessor)),
            callbacks=list(callbacks),
        )
        for printing in (PrinterCallback, ProgressCallback):
            trainer.remove_callback(printing)
        if not arguments.disable_tqdm:
            trainer.add_callback(QuietProgressCallback)
        if report is not None:
            trainer.add_callback(EpochReport(report))
        started = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - started
    return FitResult(model.eval(), trainer.state.log_history, trainer.state.best_metric, seconds)


def active_modalities(model: PeftModel, preprocessor: Preprocessor) -> list[Any]:
    """Return the preprocessor's modalities that the model's active adapter reads, in their order."""
    names = model.active_peft_config.modality_names
    return [modality for modality in preprocessor.modalities if modality.name in names]
