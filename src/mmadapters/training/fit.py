"""One call from preprocessed rows to trained adapters: what the command line, the demo and the predictor share."""

from __future__ import annotations

import copy
import math
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from peft import PeftModel, get_peft_model
from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, set_seed
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from mmadapters.adapters.config import MultimodalAdapterConfig
from mmadapters.backbones import load_encoder
from mmadapters.classifier import TextClassifier
from mmadapters.data.collator import MultimodalCollator
from mmadapters.data.dataset import MultimodalDataset
from mmadapters.data.preprocessor import Preprocessor
from mmadapters.data.streaming import StreamedDataset
from mmadapters.errors import ConfigurationError
from mmadapters.evaluation.evaluator import to_device
from mmadapters.training.arguments import MultimodalTrainingArguments
from mmadapters.training.callbacks import EpochReport, QuietProgressCallback
from mmadapters.training.label_prior import start_from_label_prior
from mmadapters.training.prefix_cache import PrefixCacheOptions, cached_prefix
from mmadapters.training.probe import (
    LinearProbe,
    StartTakesPart,
    start_from_linear_probe,
    starts_from_linear_probe,
)
from mmadapters.training.resuming import check_may_start, of_first_process, train_on
from mmadapters.training.run_settings import run_settings
from mmadapters.training.streamed import check_streamed
from mmadapters.training.target_scale import use_target_scale
from mmadapters.training.trainer import MultimodalAdapterTrainer

HEAD_DROPOUT = 0.5
"""Of the pooled vector, for adapters: see ``benchmarks/head-dropout``."""


@dataclass(frozen=True)
class ModelSettings:
    """The frozen part and the head.

    Attributes:
        backbone: An alias (``minilm``), a local folder or the name of a model on the Hub.
        pooling: ``cls``, ``mean``, ``last`` or ``pooler``.
        head: ``linear`` or ``mlp``.
        head_dropout: Dropout of the head in training; without a value ``HEAD_DROPOUT`` for adapters, and a
            ``TextClassifier``'s own default where the whole encoder learns.
    """

    backbone: str = "minilm"
    pooling: str = "mean"
    head: str = "linear"
    head_dropout: float | None = None


@dataclass(frozen=True)
class FitResult:
    """A trained model.

    Attributes:
        model: The PEFT model, in evaluation mode and full precision, with the best adapters and head.
        log: The Trainer's log: one dictionary per logged step or evaluation. A number that is not finite, such as the
            gradient norm of a step that mixed precision skipped, is None.
        best_metric: Value of the metric by which the best epoch was chosen, or None without validation split.
        seconds: Wall-clock time of the training, model loading excluded.
        linear_probe: What was fitted before the training, or None without ``linear_probe_start``.
    """

    model: PeftModel
    log: list[dict[str, Any]]
    best_metric: float | None
    seconds: float
    linear_probe: LinearProbe | None = None


def build_model(preprocessor: Preprocessor, settings: ModelSettings, adapter: MultimodalAdapterConfig) -> PeftModel:
    """Return a new classifier with new adapters around a pre-trained encoder.

    Args:
        preprocessor: Gives problem type and labels.
        settings: Backbone, pooling and head.
        adapter: The adapters. Its modalities must be those of the preprocessor, in the same order.

    Raises:
        ConfigurationError: If the preprocessor has no labels, the modalities differ, or texts may be longer than the
            encoder can take.
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
        head_dropout=HEAD_DROPOUT if settings.head_dropout is None else settings.head_dropout,
    )
    longest = position_limit(classifier.encoder)
    if longest is not None and preprocessor.max_length > longest:
        raise ConfigurationError(
            f"Texts are cut to max_length={preprocessor.max_length} tokens, but the backbone '{settings.backbone}' has "
            f"positions for {longest}. Set max_length (data.max_length in a run file) to at most {longest}."
        )
    config = copy.deepcopy(adapter)
    config.task_type = "SEQ_CLS"
    return get_peft_model(classifier, config)


def fit(
    preprocessor: Preprocessor,
    train: MultimodalDataset | StreamedDataset,
    validation: MultimodalDataset | None,
    *,
    settings: ModelSettings,
    adapter: MultimodalAdapterConfig,
    arguments: MultimodalTrainingArguments,
    callbacks: Sequence[TrainerCallback] = (),
    report: Callable[[str], None] | None = None,
    resume: bool = False,
    prefix_cache: PrefixCacheOptions | None = None,
) -> FitResult:
    """Train adapters and head.

    A training that was killed or interrupted is gone on with by ``resume=True`` and the same arguments, from the newest
    checkpoint in ``output_dir``; its weights and log are then those of a training without interruption, bit for bit.
    With an ``output_dir``, SIGTERM and SIGINT end a training after the step and a checkpoint.

    Args:
        preprocessor: Fitted on the training rows.
        train: The training rows, in memory or streamed.
        validation: The rows by which the best epoch is chosen, in memory; None trains for all epochs.
        settings: Backbone, pooling and head.
        adapter: The adapters.
        arguments: The training arguments. Without ``output_dir`` checkpoints go to a temporary folder.
        callbacks: Further callbacks of the Trainer.
        report: Called with a line for a person after each evaluation.
        resume: Whether to go on from the newest checkpoint that is not damaged; where there is none, from the start.
        prefix_cache: Where to keep what the layers below the first adapter make of the texts, to start every epoch
            there. These layers then run without dropout.

    Raises:
        ConfigurationError: If the model cannot be built (see ``build_model``), the training diverges, ``output_dir``
            has checkpoints of an unfinished run and ``resume`` is not given, that run has other settings, or rows are
            streamed together with a prefix cache.
        TrainingInterrupted: If a signal ended the training.
    """
    check_may_start(arguments, resume)
    check_streamed(train, validation, prefix_cache is not None)
    report = report if arguments.process_index == 0 else None
    set_seed(arguments.seed)
    model = build_model(preprocessor, settings, adapter)
    problem_type = model.config.problem_type
    collator = MultimodalCollator(preprocessor.tokenizer, active_modalities(model, preprocessor))
    started = time.perf_counter()
    with ExitStack() as stack:
        if prefix_cache is not None:
            parts = {"train": cast(MultimodalDataset, train)}
            if validation is not None:
                parts["validation"] = validation
            reload_encoder = partial(load_encoder, settings.backbone)
            model.to(arguments.device)
            prefixed = stack.enter_context(cached_prefix(model, prefix_cache, parts, collator, reload_encoder, report))
            train, validation = prefixed["train"], prefixed.get("validation")
        divergence = _DivergenceCheck(collator(_first_items(train, arguments.per_device_eval_batch_size)))
        temporary = stack.enter_context(tempfile.TemporaryDirectory(prefix="mmadapters-"))
        arguments = copy.copy(arguments)
        if arguments.needs_output_dir:
            arguments.output_dir = of_first_process(temporary)
        trainer = MultimodalAdapterTrainer(
            model,
            arguments,
            problem_type=problem_type,
            labels=list(model.config.label2id),
            train_dataset=train,
            eval_dataset=validation,
            data_collator=collator,
            callbacks=[divergence, *callbacks],
        )
        for printing in (PrinterCallback, ProgressCallback):
            trainer.remove_callback(printing)
        if not arguments.disable_tqdm:
            trainer.add_callback(QuietProgressCallback)
        if report is not None:
            trainer.add_callback(EpochReport(report))
        use_target_scale(model, train)
        probe = None
        if starts_from_linear_probe(arguments, adapter):
            probe = start_from_linear_probe(trainer, report)
            trainer.add_callback(StartTakesPart(trainer))
        elif arguments.label_prior_start:
            start_from_label_prior(model, train, trainer.step_loss)
        trainer.run_settings = run_settings(settings, adapter, arguments, train, validation, trainer.labels)
        train_on(trainer, resume, report)
        seconds = time.perf_counter() - started + (trainer.resumed_from.seconds if trainer.resumed_from else 0.0)
    # Mixed precision wraps forward for good; what is returned predicts as it will when it is loaded from disk.
    model = trainer.accelerator.unwrap_model(model, keep_fp32_wrapper=False)
    log = [_finite_entries(entry) for entry in trainer.state.log_history]
    return FitResult(model.eval(), log, trainer.state.best_metric, seconds, probe)


def _first_items(rows: MultimodalDataset | StreamedDataset, count: int) -> list[dict[str, Any]]:
    if isinstance(rows, StreamedDataset):
        return rows.first_items(count)
    return [rows[row] for row in range(min(len(rows), count))]


class _DivergenceCheck(TrainerCallback):
    """Ends a training at the first epoch after which loss, outputs or weights are no numbers any more.

    Args:
        batch: Training rows on which loss and outputs are looked at.
    """

    def __init__(self, batch: dict[str, Any]) -> None:
        self.batch = batch

    def on_epoch_end(
        self, args: MultimodalTrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Look at the model, before it is evaluated and saved."""
        model: nn.Module = kwargs["model"]
        was_training = model.training
        model.eval()
        with torch.no_grad():
            output = model(**to_device(self.batch, args.device))
        model.train(was_training)
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        if not all(bool(torch.isfinite(values).all()) for values in (output["loss"], output["logits"], *trained)):
            raise ConfigurationError(
                f"The training diverged in epoch {math.ceil(state.epoch or 0)}: loss, outputs or weights are NaN or "
                f"infinite. learning_rate={args.learning_rate:g} was given; lower it (the default is "
                f"{MultimodalTrainingArguments.learning_rate:g})."
            )


def _finite_entries(entry: dict[str, Any]) -> dict[str, Any]:
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in entry.items()
    }


def position_limit(encoder: nn.Module) -> int | None:
    """Return for how many tokens an encoder has learned positions, or None where it computes them for any number."""
    for name, module in encoder.named_modules():
        if name.rpartition(".")[2] == "position_embeddings" and isinstance(module, nn.Embedding):
            # RoBERTa and its kin count positions from the one behind the padding's.
            before = 0 if module.padding_idx is None else module.padding_idx + 1
            return module.num_embeddings - before
    return None


def active_modalities(model: PeftModel, preprocessor: Preprocessor) -> list[Any]:
    """Return the preprocessor's modalities that the model's active adapter reads, in their order."""
    names = model.active_peft_config.modality_names
    return [modality for modality in preprocessor.modalities if modality.name in names]
