"""One training on prepared rows: schema, arguments by the number of rows, thresholds, and what is kept of it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from mmadapters.artefact import Artefact, training_record, training_settings
from mmadapters.backbones import load_tokenizer
from mmadapters.data.dataset import MultimodalDataset
from mmadapters.data.frame_rows import FrameRows
from mmadapters.data.preprocessor import Preprocessor
from mmadapters.data.row_source import RowSource
from mmadapters.data.schema import DatasetSchema, ModalitySource
from mmadapters.data.streaming import StreamedDataset
from mmadapters.data.vector_cells import first_width
from mmadapters.evaluation.evaluator import Predictions, evaluate, predict
from mmadapters.evaluation.thresholds import validation_thresholds
from mmadapters.features.store import FeatureStore
from mmadapters.predictor.column_plan import ColumnPlan
from mmadapters.predictor.defaults import is_streamed, training_defaults
from mmadapters.predictor.fit_settings import Clock, FitSettings, Fitted
from mmadapters.predictor.guessing import sample_of
from mmadapters.predictor.messages import Messages
from mmadapters.predictor.options import adapter_config, model_settings, training_arguments
from mmadapters.predictor.preparation import FORMAT_VERSION, RowPreparation
from mmadapters.predictor.time_limit import TimeLimit
from mmadapters.training.arguments import MultimodalTrainingArguments
from mmadapters.training.fit import fit


@dataclass(frozen=True)
class TrainingRows:
    """Rows that are prepared, and what is known of them.

    Attributes:
        train: The training rows, in memory or as a source.
        validation: Rows to choose the best epoch by, or None.
        plan: What the model reads.
        labels: A schema that knows the labels alone.
        preparation: What was done to the rows.
        stores: Open feature stores, by modality.
    """

    train: pd.DataFrame | RowSource
    validation: pd.DataFrame | None
    plan: ColumnPlan
    labels: DatasetSchema
    preparation: RowPreparation
    stores: Mapping[str, FeatureStore]


def train_on_rows(rows: TrainingRows, settings: FitSettings, clock: Clock, messages: Messages) -> Fitted:
    """Train, choose the best epoch and thresholds, and put together what predicts.

    Args:
        rows: The rows.
        settings: What the fit was told.
        clock: How much time there is.
        messages: Tells a person what happens.

    Raises:
        ConfigurationError: If an option cannot be used, or the time is over.
        DataError: If a row cannot be used.
    """
    rows = _without_empty_modalities(rows, messages)
    media = rows.preparation.media.with_fingerprints()
    preparation = RowPreparation(media, rows.preparation.numeric)
    model = model_settings(settings.backbone, settings.model)
    schema = _schema(rows, media.sources())
    tokenizer = load_tokenizer(model.backbone)
    train: MultimodalDataset | StreamedDataset
    if isinstance(rows.train, pd.DataFrame) and not _are_too_many(rows.train, rows.plan, clock):
        preprocessor = Preprocessor.fit(rows.train, schema, tokenizer, settings.max_length)
        train = preprocessor.transform(rows.train)
    else:
        source = FrameRows(rows.train) if isinstance(rows.train, pd.DataFrame) else rows.train
        messages.tell("The rows are tokenised while the model is trained; first they are gone through once")
        preprocessor, train = StreamedDataset.fit(
            source, schema, tokenizer, settings.max_length, seed=settings.seed, report=messages.tell
        )
    validation = None if rows.validation is None else preprocessor.transform(rows.validation)
    adapter = adapter_config(settings.adapter, preprocessor.modalities)
    defaults = training_defaults(len(train), validation is not None)
    arguments = training_arguments(settings.training, defaults, settings.seed, messages.progress)
    clock.require_time()
    limit = _time_limit(clock, arguments, 0 if validation is None else len(validation))
    messages.tell(_told(len(train), arguments))
    fitted = fit(
        preprocessor,
        train,
        validation,
        settings=model,
        adapter=adapter,
        arguments=arguments,
        callbacks=[] if limit is None else [limit],
        report=messages.tell if messages.verbose else None,
    )
    if limit is not None and limit.stopped:
        messages.tell("The time is over; the best weights so far are kept")
    artefact = Artefact(
        fitted.model,
        preprocessor,
        model,
        batch_size=arguments.per_device_eval_batch_size,
        max_tokens_per_batch=arguments.max_tokens_per_batch,
        predictor=_state(settings, rows.plan, preparation),
    )
    data: dict[str, MultimodalDataset | StreamedDataset] = {"train": train}
    predictions: dict[str, Predictions] = {}
    if validation is not None:
        data["validation"] = validation
        started = time.monotonic()
        artefact, measured = _measured(artefact, validation, arguments)
        # The record takes a pass for each modality, and its intervals as long as about two.
        if clock.has((len(preprocessor.modalities) + 2) * (time.monotonic() - started)):
            predictions["validation"] = measured
    record = training_record(artefact, data, predictions, training=training_settings(arguments, fitted))
    return Fitted(replace(artefact, record=record), preparation, fitted.log)


def _without_empty_modalities(rows: TrainingRows, messages: Messages) -> TrainingRows:
    """Leave out the modalities of which no training row has anything, since nothing could be learned of them."""
    if not isinstance(rows.train, pd.DataFrame):
        return rows
    media = rows.preparation.media
    empty = [
        recipe.modality
        for recipe in media.recipes
        if media.is_empty(recipe, rows.train[recipe.column], rows.stores[recipe.modality])
    ]
    empty += [vector.name for vector in rows.plan.vectors if first_width(rows.train, vector) is None]
    for name in empty:
        messages.tell(f"{name}: no training row has it, so the model does not read it")
    return replace(rows, plan=rows.plan.without(empty), preparation=rows.preparation.without_media(empty))


def _schema(rows: TrainingRows, media: list[ModalitySource]) -> DatasetSchema:
    plan = rows.plan
    return replace(
        rows.labels,
        text=plan.text if len(plan.text) > 1 else plan.text[0],
        modalities=(*media, *plan.tables, *plan.vectors),
        id=plan.id,
    )


def _are_too_many(frame: pd.DataFrame, plan: ColumnPlan, clock: Clock) -> bool:
    sample = sample_of(frame)
    characters = sum(len(str(cell)) for column in plan.text for cell in sample[column])
    return is_streamed(len(frame), characters / len(sample), clock.limit is not None)


def _time_limit(clock: Clock, arguments: MultimodalTrainingArguments, validation_rows: int) -> TimeLimit | None:
    if clock.deadline is None:
        return None
    rows_a_step = arguments.per_device_train_batch_size * arguments.gradient_accumulation_steps
    return TimeLimit(clock.deadline, rows_a_step, validation_rows)


def _told(rows: int, arguments: MultimodalTrainingArguments) -> str:
    epochs = (
        f"at most {arguments.num_train_epochs:g} epochs" if arguments.max_steps <= 0 else f"{arguments.max_steps} steps"
    )
    return (
        f"Training on {rows:,} rows: {epochs}, {arguments.per_device_train_batch_size} rows a step, learning rate "
        f"{arguments.learning_rate:g}"
    )


def _measured(
    artefact: Artefact, validation: MultimodalDataset, arguments: MultimodalTrainingArguments
) -> tuple[Artefact, Predictions]:
    """Return the model with what it reaches on the validation rows, and with thresholds tuned on them."""
    kind = artefact.problem_type
    predictions = predict(
        artefact.model,
        validation,
        artefact.collator,
        kind,
        batch_size=artefact.batch_size,
        max_tokens_per_batch=artefact.max_tokens_per_batch,
    )
    report = evaluate(predictions, validation, kind, artefact.labels)
    thresholds = None
    if arguments.tune_thresholds:
        thresholds = validation_thresholds(kind, predictions.scores, validation.labels)
    return replace(artefact, thresholds=thresholds, metrics={"validation": report.values}), predictions


def _state(settings: FitSettings, plan: ColumnPlan, preparation: RowPreparation) -> dict[str, Any]:
    """Return what a saved model keeps, beside its own, for rows as people have them."""
    return {
        "format_version": FORMAT_VERSION,
        "media": [recipe.to_dict() for recipe in preparation.media.recipes],
        "numeric": list(preparation.numeric),
        "parameters": dict(settings.parameters or {}),
    }
